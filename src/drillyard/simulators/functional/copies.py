"""Copies of a functional simulator as the VecEnv that a model of Stable-Baselines3 holds."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import jax
import numpy as np

from drillyard.errors import CorruptObject
from drillyard.simulators.batch_protocol import first
from drillyard.simulators.functional import program
from drillyard.simulators.functional.program import Copies
from drillyard.simulators.functional.protocol import FunctionalSimulator, Tree
from drillyard.simulators.shared_copies import SharedCopies
from drillyard.simulators.state import State
from drillyard.simulators.types import Action, Batch, Info, Observation, Options
from drillyard.spec.simulator.lessons import Lesson
from drillyard.system import step_marker

if TYPE_CHECKING:
    import gymnasium as gym


class FunctionalEnv(SharedCopies):
    """Copies whose steps are one compiled function.

    ``engine: jax`` takes ``copies`` and ``upcoming``, compiles the steps of a whole rollout with
    its update, and gives the new ``copies`` back. Otherwise the host calls ``step``.

    Args:
        simulator: What they are copies of.
        n: How many.
        lesson: See ``SharedCopies``; so are the others.
        declared: See there.
        spaces: See there.
        horizon: See there.
        limit: Time limit in steps; None for the simulator's own alone.
        seed: See there.
        streams: See there.
    """

    key, form = "functional", "compiled"

    def __init__(
        self,
        simulator: FunctionalSimulator,
        n: int,
        lesson: Lesson,
        declared: type,
        spaces: tuple[gym.Space[Observation], gym.Space[Action]],
        horizon: int | None,
        limit: int | None,
        seed: int,
        streams: int = 1,
    ) -> None:
        super().__init__(n, lesson, declared, spaces, horizon, seed, streams)
        self.simulator, self.limit = simulator, limit
        self._drawn: list[list[Options]] = [[] for _ in range(n)]
        """Options of the episode under way, and of those after it that were drawn already."""
        self._window: list[np.ndarray] = []
        """Parameters of the latter, (copies, episodes, …), as the leaves of a tree."""
        self._actions = np.zeros(0)
        self._step: Callable[..., Any] | None = None
        self._copies: Copies | None = None

    # -- what a compiled rollout takes and gives ----------------------------------------------

    @property
    def copies(self) -> Copies:
        """The state of all copies, as NumPy or JAX arrays."""
        assert self._copies is not None
        return self._copies

    def set_lesson(self, lesson: Lesson) -> None:
        """Uses another lesson from the next episodes on, and forgets those that were drawn."""
        self._lesson, self._window = lesson, []
        self._drawn = [drawn[:1] for drawn in self._drawn]

    def upcoming(self, episodes: int) -> Tree:
        """Parameters of the next episodes of each copy, (copies, episodes, …).

        Without a lesson all episodes are alike, and there is one.

        Args:
            episodes: As many as could begin.
        """
        rows = episodes if self._lesson else 1
        example = self.simulator.params(self._drawn[0][0])
        leaves, shape = jax.tree.flatten(example)
        if not self._window or self._window[0].shape[1] != rows:
            self._drawn = [drawn[:1] for drawn in self._drawn]
            size = (self.num_envs, rows)
            self._window = [np.zeros((*size, *np.shape(x)), np.asarray(x).dtype) for x in leaves]
            for copy in range(self.num_envs):
                self._fill(copy, rows)
        return shape.unflatten(self._window)

    def _fill(self, copy: int, missing: int) -> None:
        """Draw the last episodes of a copy's row."""
        rows, drawn = self._window[0].shape[1], self._drawn[copy]
        for row in range(rows - missing, rows):
            drawn.append(self._draw(copy, int(self._episodes[copy]) + row))
            params = jax.tree.leaves(self.simulator.params(drawn[-1]))
            for column, value in zip(self._window, params, strict=True):
                column[copy, row] = value

    def take(self, copies: Copies, dones: np.ndarray) -> None:
        """Continue with the result of steps.

        Args:
            copies: After the steps.
            dones: How many episodes of each copy ended, (copies,).
        """
        self._copies = jax.tree.map(np.asarray, copies)._replace(begun=np.zeros_like(dones))
        self._episodes += dones
        if not self._lesson:
            return  # all episodes are alike
        for copy in map(int, np.flatnonzero(dones)):
            gone = min(int(dones[copy]), self._window[0].shape[1])
            del self._drawn[copy][:gone]
            for column in self._window:
                column[copy, :-gone] = column[copy, gone:].copy()
            self._fill(copy, gone)

    def end(self, copy: int, number: int, step: Any, last: Observation) -> Info:
        """``info`` of an episode's last step.

        Args:
            copy: Whose episode.
            number: Episodes of this copy that ended before it since ``upcoming``.
            step: Its returns, lengths, terminated and truncated, for all copies.
            last: Its last observation.
        """
        info: Info = {
            "TimeLimit.truncated": bool(step.truncated[copy] and not step.terminated[copy]),
            "terminal_observation": last,
            "episode": {"r": float(step.returns[copy]), "l": int(step.lengths[copy])},
        }
        if self._lesson:
            info["lesson"] = self._drawn[copy][number]
        return info

    # -- VecEnv -------------------------------------------------------------------------------

    def reset(self) -> Batch:
        """Begin all copies, with the seeds of ``seed`` where it was called."""
        seeds = np.zeros(self.num_envs, np.uint32)
        for copy, seed in enumerate(self._seeds):
            if seed is not None:
                self._lesson_seeds[copy] = seed
            seeds[copy] = self._lesson_seeds[copy] & 0xFFFF_FFFF
            self._drawn[copy] = [self._draw(copy, 0)]
        self._episodes[:], self._window = 1, []
        self._reset_seeds()
        self._reset_options()
        with jax.enable_x64(self.simulator.double):
            first = _stacked([self.simulator.params(drawn[0]) for drawn in self._drawn])
            begin = jax.jit(lambda seeds, params: program.begin(self.simulator, seeds, params))
            self._copies = jax.tree.map(np.asarray, begin(seeds, first))
        return self.seen()

    def seen(self) -> Batch:
        """The observations of all copies, in the types of their space."""
        return _like(self.copies.observation, self.observation_space)

    def step_async(self, actions: np.ndarray) -> None:
        """Take the actions, (n, *shape of an action)."""
        self._actions = actions

    def step_wait(self) -> tuple[Batch, np.ndarray, np.ndarray, list[Info]]:
        """Step; copies whose episode ended are begun again."""
        with jax.enable_x64(self.simulator.double):
            if self._step is None:
                self._step = program.stepper(self.simulator, self.limit)
            copies, outcome = self._step(self.copies, self._actions, self.upcoming(1))
            outcome = jax.tree.map(np.asarray, outcome)
        dones = np.asarray(outcome.dones)
        infos: list[Info] = [{} for _ in range(self.num_envs)]
        last = _like(outcome.last, self.observation_space)
        for copy in map(int, np.flatnonzero(dones)):
            named = {name: float(value[copy]) for name, value in outcome.info.items()}
            infos[copy] = named | self.end(copy, 0, outcome, first(last, copy))
        self.take(copies, dones.astype(np.int32))
        return self.seen(), outcome.rewards.astype(np.float32), dones, infos

    def failed(self, copy: int) -> str:
        """Where a copy is."""
        length = int(self.copies.lengths[copy])
        episode = int(self._episodes[copy])
        return step_marker.place(copy, length, self._lesson_seeds[copy], episode=episode)

    def state(self) -> State:
        """Everything that the next steps depend on."""
        leaves = jax.tree.leaves(self.copies)
        return {
            "version": self.simulator.version,
            "leaves": [np.array(leaf) for leaf in leaves],
            "lesson_seeds": list(self._lesson_seeds),
            "episodes": self._episodes.copy(),
            "drawn": [dict(drawn[0]) for drawn in self._drawn],
        }

    def load_state(self, state: State) -> None:
        """See ``SharedCopies``."""
        self._must_have_all(state["lesson_seeds"])
        if state["version"] != self.simulator.version:
            raise CorruptObject(
                f"the checkpoint is of version {state['version']} of the functional form of "
                f"{self._declared.__name__}, and this is version {self.simulator.version}"
            )
        if self._copies is None:
            self.reset()
        leaves, shape = jax.tree.flatten(self.copies)
        if [np.shape(leaf) for leaf in leaves] != [np.shape(leaf) for leaf in state["leaves"]]:
            raise CorruptObject("the checkpoint's simulators have another state")
        pairs = zip(state["leaves"], leaves, strict=True)
        self._copies = shape.unflatten([np.asarray(new, old.dtype) for new, old in pairs])
        self._lesson_seeds = list(state["lesson_seeds"])
        self._episodes = np.array(state["episodes"], np.int64)
        self._drawn, self._window = [[dict(drawn)] for drawn in state["drawn"]], []

    def close(self) -> None:
        """Nothing is open."""


def _stacked(trees: list[Tree]) -> Tree:
    """One tree with a new leading axis."""
    return jax.tree.map(lambda *leaves: np.stack(leaves), *trees)


def _like(observation: Tree, space: gym.Space[Observation]) -> Batch:
    """Observations of all copies in the types of a space, as arrays of their own."""
    parts = getattr(space, "spaces", None)
    if isinstance(parts, dict):
        return {key: np.array(observation[key], parts[key].dtype) for key in parts}
    return np.array(observation, space.dtype)
