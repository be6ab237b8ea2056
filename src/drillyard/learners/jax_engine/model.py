"""PPO and A2C of Stable-Baselines3; ``Core`` computes their rollouts and updates.

Constructor arguments, schedules, the loop over rollouts, callbacks, logged names, networks and
their first weights are the code of Stable-Baselines3. Only ``collect_rollouts`` and ``train`` are
replaced. Random numbers come from torch's generator (actions) and from NumPy's (orders of
minibatches, drawn as Stable-Baselines3 draws them), which barriers seed.

Read against stable_baselines3 2.9 and jax 0.10.
"""

from __future__ import annotations

from importlib.metadata import version
from typing import TYPE_CHECKING, NamedTuple

import jax
import numpy as np
import stable_baselines3 as sb3
import torch
from gymnasium import spaces
from stable_baselines3.common.utils import explained_variance

from drillyard.documents.json_types import JsonObject
from drillyard.errors import UserError
from drillyard.learners.jax_engine import ends, programs
from drillyard.learners.jax_engine.core import Core, backend
from drillyard.learners.jax_engine.fused import Fused, Result, base_of
from drillyard.learners.jax_engine.programs import MinibatchMetrics, Numbers, Program
from drillyard.spec.algorithms import engines

if TYPE_CHECKING:
    from stable_baselines3.common.buffers import RolloutBuffer
    from stable_baselines3.common.callbacks import BaseCallback
    from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm
    from stable_baselines3.common.vec_env import VecEnv


class Update(NamedTuple):
    """What is computed from a rollout."""

    program: Program
    order: np.ndarray
    """Rows of each minibatch, (minibatches, rows)."""
    now: Numbers


class _Compiled:
    """The part that both share; it comes before the algorithm's class in the bases."""

    ratios = False
    _core: Core
    _fused: Fused | None
    _done: tuple[Update, Result] | None = None
    """The update of a rollout that was computed with it, until ``train`` applies it."""

    def _setup_model(self: OnPolicyAlgorithm) -> None:
        super()._setup_model()  # type: ignore[misc]
        self._core = Core(self, self.ratios)
        self._fused = None
        if base_of(self.env) is not None:
            self._fused = Fused(self._core, self.env, self.n_steps, self.gamma, self.gae_lambda)

    def _excluded_save_params(self) -> list[str]:
        return [*super()._excluded_save_params(), "_core", "_fused", "_done"]  # type: ignore[misc]

    @property
    def backend(self) -> str:
        """Where it computes: ``cpu`` or ``cuda``. The policy itself remains on the CPU."""
        return backend()

    def platform(self) -> dict[str, str | int]:
        """See ``exactness.platform_of``."""
        kind = "cpu" if backend() == "cpu" else jax.devices()[0].device_kind
        facts: dict[str, str | int] = {"device": kind}
        facts |= {"jax": version("jax"), "jaxlib": version("jaxlib")}
        if self._fused is not None:
            facts["runs_per_process"] = self._fused.together
        return facts

    def described(self) -> JsonObject:
        """The parameters that ``sb3_build.describe`` does not find as in PyTorch's models."""
        acts = "jax" if self._core.acts_on_device or self._fused else "numpy"
        more: JsonObject = {}
        if self._fused is not None:
            more["simulator_version"] = self._fused.base.simulator.version
            if self._fused.together > 1:
                more["runs_per_process"] = self._fused.together
        return {"engine": engines.JAX, "device": backend(), "acts_with": acts, **more}

    def collect_rollouts(
        self: OnPolicyAlgorithm,
        env: VecEnv,
        callback: BaseCallback,
        rollout_buffer: RolloutBuffer,
        n_rollout_steps: int,
    ) -> bool:
        """Play a rollout as Stable-Baselines3 does; values are computed only at its end."""
        if self._fused is not None:
            return bool(self._collect_fused(callback, rollout_buffer))
        core, box = self._core, isinstance(self.action_space, spaces.Box)
        rollout_buffer.reset()
        callback.on_rollout_start()
        core.begin()
        n_steps, cut = 0, []
        while n_steps < n_rollout_steps:
            actions = clipped_actions = core.act(n_steps, self._last_obs)
            if box:
                low, high = self.action_space.low, self.action_space.high
                clipped_actions = np.clip(actions, low, high)
            new_obs, rewards, dones, infos = env.step(clipped_actions)
            self.num_timesteps += env.num_envs
            callback.update_locals(locals())
            if not callback.on_step():
                return False
            self._update_info_buffer(infos, dones)
            for copy in np.flatnonzero(dones):
                info = infos[copy]
                last = info.get("terminal_observation")
                if last is not None and info.get("TimeLimit.truncated", False):
                    cut.append((n_steps, copy, last))
            self._note(rollout_buffer, n_steps, actions, rewards)
            n_steps += 1
            self._last_obs, self._last_episode_starts = new_obs, dones
        if cut:
            steps, copies, ends = zip(*cut, strict=True)
            rollout_buffer.rewards[steps, copies] += self.gamma * core.expect(ends)
        core.judge(rollout_buffer, new_obs, dones)
        callback.update_locals(locals())
        callback.on_rollout_end()
        return True

    def _collect_fused(
        self: OnPolicyAlgorithm, callback: BaseCallback, buffer: RolloutBuffer
    ) -> bool:
        """Play a rollout and compute its update, which ``train`` applies, in one program."""
        fused, begin, n_envs = self._fused, self.num_timesteps, self.n_envs
        buffer.reset()
        callback.on_rollout_start()
        after = begin + self.n_steps * n_envs
        update = self._plan(1.0 - after / self._total_timesteps)
        result = fused(*update)
        played = result.played
        steps = [*ends.told(fused.base, played)]
        fused.keep(result)
        for each in steps:
            self.num_timesteps = begin + (each.step + 1) * n_envs
            callback.update_locals({**locals(), **each._asdict()})
            if not callback.on_step():
                return False
            self._update_info_buffer(each.infos, each.dones)
        buffer.rewards[:] = played.rewards
        buffer.actions[:] = played.actions.reshape(buffer.actions.shape)
        buffer.episode_starts[0] = self._last_episode_starts
        buffer.episode_starts[1:] = played.outcome.dones[:-1]
        buffer.values[:], buffer.log_probs[:], buffer.advantages[:] = played.judged
        np.add(buffer.advantages, buffer.values, out=buffer.returns)
        buffer.pos, buffer.full = self.n_steps, True
        normalize = self.get_vec_normalize_env()
        self._last_obs = fused.base.seen()
        if normalize is not None:
            normalize.old_obs = self._last_obs
            self._last_obs = normalize.normalize_obs(self._last_obs)
        self._last_episode_starts = played.outcome.dones[-1]
        self._done = update, result
        callback.update_locals(locals())
        callback.on_rollout_end()
        return True

    def _learned(self: OnPolicyAlgorithm) -> tuple[Update, MinibatchMetrics]:
        """The update that follows the rollout, and its metrics."""
        self._update_learning_rate(self.policy.optimizer)
        if self._done is None:
            update = self._plan(self._current_progress_remaining)
            return update, self._core.learn(update.program, self.rollout_buffer, *update[1:])
        (update, result), self._done = self._done, None
        self._core.weights.update(result.state, result.steps)
        return update, programs.taken(result.metrics)

    def _note(
        self: OnPolicyAlgorithm,
        buffer: RolloutBuffer,
        step: int,
        actions: np.ndarray,
        rewards: np.ndarray,
    ) -> None:
        """``RolloutBuffer.add`` without copies; values and log-probabilities are added later."""
        if isinstance(buffer.observations, dict):
            for key, rows in buffer.observations.items():
                rows[step] = self._last_obs[key].reshape(rows[step].shape)
        else:
            rows = buffer.observations
            rows[step] = self._last_obs.reshape(rows[step].shape)
        buffer.actions[step] = actions.reshape(buffer.actions[step].shape)
        buffer.rewards[step] = rewards
        buffer.episode_starts[step] = self._last_episode_starts

    def _numbers(self: OnPolicyAlgorithm, progress: float, **more: float) -> Numbers:
        rate = self.lr_schedule(progress)
        return Numbers(rate, self.ent_coef, self.vf_coef, self.max_grad_norm, **more)

    def _record_policy(self: OnPolicyAlgorithm) -> None:
        buffer = self.rollout_buffer
        explained = explained_variance(buffer.values.reshape(-1), buffer.returns.reshape(-1))
        self.logger.record("train/explained_variance", explained)
        if hasattr(self.policy, "log_std"):
            self.logger.record("train/std", torch.exp(self.policy.log_std).mean().item())


class PPO(_Compiled, sb3.PPO):  # type: ignore[misc]
    """Proximal policy optimisation."""

    ratios = True

    def train(self) -> None:
        """All epochs over the rollout in one compiled call."""
        update, metrics = self._learned()
        per_epoch = self.rollout_buffer.rewards.size // self.batch_size
        epochs = -(-len(metrics.loss) // per_epoch)
        self._n_updates += epochs
        self._record(metrics, metrics.approx_kl[(epochs - 1) * per_epoch :])
        self.logger.record("train/n_updates", self._n_updates, exclude="tensorboard")
        self.logger.record("train/clip_range", update.now.clip_range)
        if update.program.clip_values:
            self.logger.record("train/clip_range_vf", update.now.clip_range_vf)

    def _plan(self, progress: float) -> Update:
        clip_vf = None if self.clip_range_vf is None else self.clip_range_vf(progress)
        program = self._core.program(
            normalize_advantage=self.normalize_advantage,
            clip_values=clip_vf is not None,
            limit_kl=self.target_kl is not None,
        )
        numbers = self._numbers(
            progress,
            clip_range=self.clip_range(progress),
            clip_range_vf=clip_vf or 0.0,
            target_kl=self.target_kl or 0.0,
        )
        return Update(program, self._order(self.rollout_buffer.rewards.size), numbers)

    def _order(self, rows: int) -> np.ndarray:
        """The rows of all minibatches, as ``RolloutBuffer.get`` draws them.

        Stable-Baselines3 counts the steps of the first copy before those of the second; rows here
        are ordered by step.
        """
        drawn = np.stack([np.random.permutation(rows) for _ in range(self.n_epochs)])
        copy, step = np.divmod(drawn, self.n_steps)
        order: np.ndarray = (step * self.n_envs + copy).astype(np.int32)
        return order.reshape(-1, self.batch_size)

    def _record(self, metrics: MinibatchMetrics, last_epoch: np.ndarray) -> None:
        for name, values in (
            ("entropy_loss", metrics.entropy_loss),
            ("policy_gradient_loss", metrics.policy_loss),
            ("value_loss", metrics.value_loss),
            ("approx_kl", last_epoch),
            ("clip_fraction", metrics.clip_fraction),
        ):
            self.logger.record(f"train/{name}", float(np.mean(values, dtype=np.float64)))
        self.logger.record("train/loss", float(metrics.loss[-1]))
        self._record_policy()


class A2C(_Compiled, sb3.A2C):  # type: ignore[misc]
    """Advantage actor-critic."""

    def train(self) -> None:
        """One step of the optimiser over the whole rollout."""
        _, metrics = self._learned()
        self._n_updates += 1
        self.logger.record("train/n_updates", self._n_updates, exclude="tensorboard")
        for name in ("entropy_loss", "policy_loss", "value_loss"):
            self.logger.record(f"train/{name}", float(getattr(metrics, name)[-1]))
        self._record_policy()

    def _plan(self, progress: float) -> Update:
        order = np.arange(self.rollout_buffer.rewards.size, dtype=np.int32)[None]
        program = self._core.program(normalize_advantage=self.normalize_advantage)
        return Update(program, order, self._numbers(progress))


CLASSES: dict[str, type[OnPolicyAlgorithm]] = {"ppo": PPO, "a2c": A2C}


def algorithm(name: str, device: str) -> type[OnPolicyAlgorithm]:
    """The class of an algorithm; it also sets the device of JAX.

    Args:
        name: ``ppo`` or ``a2c``.
        device: ``cpu`` or ``cuda``.

    Raises:
        UserError: JAX finds no GPU.
    """
    if device == "cpu":
        jax.config.update("jax_platforms", "cpu")
    elif backend() == "cpu":
        raise UserError(
            f"resources.device is cuda, and jax {version('jax')} finds no GPU here",
            hint="pip install 'jax[cuda13]' (jax[cuda12] with a driver older than 580), or set "
            "resources.device: cpu",
        )
    return CLASSES[name]
