"""A rollout with a functional simulator and the update from it, as one compiled program.

What is drawn at random comes from outside: noise of the actions from torch's generator and orders
of minibatches from NumPy's, which barriers seed, and the simulator's keys, which are part of its
state. So a program is a function of what a checkpoint keeps.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from gymnasium import spaces
from stable_baselines3.common.vec_env import VecEnv, VecNormalize

from drillyard.learners.jax_engine import lanes, normalising, programs
from drillyard.learners.jax_engine.host import noise
from drillyard.learners.jax_engine.likelihood import choose
from drillyard.learners.jax_engine.network import Head
from drillyard.learners.jax_engine.observations import compiled_features
from drillyard.learners.jax_engine.programs import Numbers, Program, forward
from drillyard.simulators.functional.copies import FunctionalEnv
from drillyard.simulators.functional.program import Copies, Outcome, advance, anywhere
from drillyard.simulators.functional.protocol import FunctionalSimulator, Tree
from drillyard.system import turns

if TYPE_CHECKING:
    from drillyard.learners.jax_engine.core import Core
    from drillyard.learners.types import Space


class Played(NamedTuple):
    """What the host needs of a rollout; leading axes: steps, copies."""

    outcome: Outcome
    """``last`` and ``info`` are left out, because nothing reads them."""
    seen: Tree
    """Observations after each step, as the simulator gave them."""
    rewards: jax.Array
    """With the wrapper ``normalize``, and with the expected value after a time limit."""
    actions: jax.Array
    judged: jax.Array
    """Values, log-probabilities, advantages, (3, steps, copies)."""


class Result(NamedTuple):
    """What one call of a program gives."""

    state: jax.Array
    """See ``Weights.state``."""
    steps: jax.Array
    metrics: jax.Array
    copies: Copies
    scale: normalising.Scale | None
    played: Played


Call: TypeAlias = Callable[..., Result]
Key: TypeAlias = tuple[Program, FunctionalSimulator, int | None, normalising.Settings | None, int]
"""Everything that a program is compiled from."""
_calls: dict[Key, Call] = {}
"""The programs of this process: models with the same simulator share them."""


def base_of(venv: VecEnv) -> FunctionalEnv | None:
    """The functional simulator under the layers of a model, None if there is none."""
    while hasattr(venv, "venv"):
        venv = venv.venv
    return venv if isinstance(venv, FunctionalEnv) else None


class Fused:
    """The compiled rollouts and updates of one model.

    Args:
        core: The networks.
        venv: The copies, with the layers that the model has around them.
        n_steps: Steps of a rollout.
        gamma: The discount.
        gae_lambda: The lambda of the source of ``programs._judge``.
    """

    def __init__(
        self, core: Core, venv: VecEnv, n_steps: int, gamma: float, gae_lambda: float
    ) -> None:
        base = base_of(venv)
        assert base is not None
        self.base, self._core, self._n_steps = base, core, n_steps
        self._discounts = np.array([gamma, gae_lambda], np.float32)
        self._normalize = venv if isinstance(venv, VecNormalize) else None
        self._settings = normalising.read(self._normalize)
        member = turns.current()
        self.together = 1 if member is None else member.turns.room
        """Trainings whose rollouts and updates are one call of a program, see ``lanes``."""

    def __call__(self, program: Program, order: np.ndarray, now: Numbers) -> Result:
        """Play a rollout and learn from it.

        Args:
            program: A result of ``Core.program``.
            order: Rows of each minibatch, (minibatches, rows).
            now: Coefficients.
        """
        core, weights = self._core, self._core.weights
        weights.adopt()
        head = core.network.head
        drawn = noise(head, (self._n_steps, self.base.num_envs, head.outputs))
        given = (
            weights.state,
            weights.steps,
            self.base.copies,
            normalising.capture(self._normalize, self._settings),
            self.base.upcoming(self._n_steps),
            drawn,
            order,
            np.array(now, np.float32),
            self._discounts,
        )
        key = (program, self.base.simulator, self.base.limit, self._settings, self.together)
        member = turns.current()
        if member is None:
            return self._run(key, given)
        shapes = (drawn.shape, order.shape)

        def work(parts: Sequence[Any]) -> list[Result]:
            return lanes.split(self._run(key, lanes.stack(parts, self.together)), len(parts))

        result: Result = member.meet((key, shapes), given, work)
        return result

    def _run(self, key: Key, given: tuple[Any, ...]) -> Result:
        with jax.enable_x64(self.base.simulator.double):
            if key not in _calls:
                _calls[key] = self._compile(key[0])
            result: Result = jax.tree.map(np.asarray, _calls[key](*given))
        return result

    def keep(self, result: Result) -> None:
        """Let simulators and normalisation continue from a result; the weights stay."""
        self.base.take(result.copies, np.asarray(result.copies.begun))
        if result.scale is not None and self._normalize is not None:
            normalising.restore(self._normalize, result.scale)

    def _compile(self, program: Program) -> Call:
        axis = None if self.together == 1 else lanes.AXIS
        run = _Rollout(program, self.base, self._settings, axis).run
        compiled: Call = jax.jit(run if axis is None else jax.vmap(run, axis_name=axis))
        return compiled


class _Rollout:
    """What one call computes: the steps of a rollout, and the update from them.

    Args:
        program: The networks and the update.
        base: The copies; only what never changes is read.
        settings: Those of the normalisation.
        axis: The name of the axis of lanes; None without.
    """

    def __init__(
        self,
        program: Program,
        base: FunctionalEnv,
        settings: normalising.Settings | None,
        axis: str | None,
    ) -> None:
        self._program, self._settings, self._axis = program, settings, axis
        self._simulator, self._limit, self._action = base.simulator, base.limit, base.action_space
        self._features = compiled_features(base.observation_space)

    def run(
        self,
        saved: jax.Array,
        steps: jax.Array,
        copies: Copies,
        scale: normalising.Scale | None,
        upcoming: Tree,
        drawn: jax.Array,
        order: jax.Array,
        numbers: jax.Array,
        discounts: jax.Array,
    ) -> Result:
        """Plays and learns; see ``Fused.__call__`` for what is given."""
        parameters = self._program.network.unflatten(saved[0])
        (copies, scale), (rows, actions, rewards, outcome, seen) = jax.lax.scan(
            lambda state, noise: self._step(parameters, upcoming, discounts, state, noise),
            (copies, scale),
            drawn,
        )
        last = self._look(scale, copies.observation)
        going = jnp.where(outcome.dones, 0, 1).astype(jnp.float32)
        judged = programs._judge(
            self._program,
            saved[0],
            jnp.concatenate([rows, last[None]]),
            actions,
            jnp.stack([rewards, going]),
            discounts,
        )
        count = rewards.size
        # In the order of `Core.batch`: advantages, returns, log-probabilities, values.
        expected, likely, advantages = (each.reshape(-1) for each in judged)
        state, steps, metrics = programs._learn(
            self._program,
            saved,
            steps,
            rows.reshape(count, -1),
            actions.reshape(count, -1),
            jnp.stack([advantages, advantages + expected, likely, expected]),
            order,
            numbers,
        )
        played = Played(outcome, seen, rewards, actions, judged)
        return Result(state, steps, metrics, copies, scale, played)

    def _look(self, scale: normalising.Scale | None, observation: Tree) -> jax.Array:
        return self._features(normalising.see(self._settings, scale, observation))

    def _step(
        self,
        parameters: dict[str, jax.Array],
        upcoming: Tree,
        discounts: jax.Array,
        state: tuple[Copies, normalising.Scale | None],
        noise: jax.Array,
    ) -> tuple[tuple[Copies, normalising.Scale | None], Any]:
        network, (copies, scale) = self._program.network, state
        rows = self._look(scale, copies.observation)
        outputs = forward(network, parameters, rows, "actor")
        actions = choose(network.head, outputs, parameters, noise)
        taken = _given(actions, self._action, network.head)
        copies, outcome = advance(
            self._simulator, copies, taken, upcoming, self._limit, self._axis
        )
        scale, rewards = normalising.take(
            self._settings, scale, copies.observation, outcome.rewards, outcome.dones
        )
        cut = outcome.truncated & ~outcome.terminated
        after = jax.lax.cond(
            anywhere(cut, self._axis),
            lambda: forward(network, parameters, self._look(scale, outcome.last), "critic")[:, 0],
            lambda: jnp.zeros(len(cut), jnp.float32),
        )
        rewards = rewards.astype(jnp.float32)
        rewards = rewards + discounts[0] * jnp.where(cut, after, 0)
        seen = jax.tree.map(
            lambda last, new: jnp.where(_over(outcome.dones, last), last, new),
            outcome.last,
            copies.observation,
        )
        kept = outcome._replace(last=(), info={})
        return (copies, scale), (rows, actions, rewards, kept, seen)


def _over(dones: jax.Array, leaf: jax.Array) -> jax.Array:
    return dones.reshape(-1, *(1,) * (leaf.ndim - 1))


def _given(actions: jax.Array, space: Space, head: Head) -> jax.Array:
    """Actions as the simulator takes them: a Box is clipped, and each has its shape."""
    shaped = actions.reshape(-1, *(space.shape or ()))
    if isinstance(space, spaces.Box):
        return jnp.clip(shaped, space.low, space.high)
    return shaped.astype(jnp.int32)
