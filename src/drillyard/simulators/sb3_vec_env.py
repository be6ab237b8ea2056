"""A vectorised simulator as the VecEnv that Stable-Baselines3 trains on."""

from __future__ import annotations

import numpy as np
from gymnasium.utils.seeding import np_random

from drillyard.errors import RunFailed, SimulatorError
from drillyard.simulators.batch_protocol import VectorSimulator, first
from drillyard.simulators.episode_recorder import EpisodeRecorder
from drillyard.simulators.far_outside import FarOutside
from drillyard.simulators.shared_copies import SharedCopies
from drillyard.simulators.state import State, load_rng, rng_state
from drillyard.simulators.types import Batch, Info, Options
from drillyard.spec.simulator.lessons import Lesson
from drillyard.system import step_marker

_GIVEN = (("rewards", "f"), ("terminated", "b"), ("truncated", "b"))
"""The results of a step, and numpy's letters of their allowed types."""


class VectorisedEnv(SharedCopies):
    """Copies that share one step; the same numbers as as many single ones in a row.

    Lessons and the sums of episodes are those of ``LessonWrapper`` and ``EpisodeMonitor``.

    Args:
        simulator: The copies.
        n: How many.
        lesson: See ``SharedCopies``; so are the others.
        declared: See there.
        horizon: See there.
        seed: See there.
        streams: See there.
        recorder: Records the steps; None: they are not recorded.
    """

    key = form = "vectorised"

    def __init__(
        self,
        simulator: VectorSimulator,
        n: int,
        lesson: Lesson,
        declared: type,
        horizon: int | None,
        seed: int,
        streams: int = 1,
        recorder: EpisodeRecorder | None = None,
    ) -> None:
        spaces = simulator.observation_space, simulator.action_space
        super().__init__(n, lesson, declared, spaces, horizon, seed, streams)
        self._simulator = simulator
        self._drawn: list[Options] = [{} for _ in range(n)]
        self._returns, self._lengths = np.zeros(n), np.zeros(n, np.int64)
        self._actions = np.zeros(0)
        self._far = FarOutside(simulator.observation_space, declared.__name__)
        self._steps = 0
        self._recorder = recorder
        self._rewards = bytes(8 * n)

    def reset(self) -> Batch:
        """Begin all copies, with the seeds of ``seed`` where it was called."""
        for copy, seed in enumerate(self._seeds):
            if seed is not None:
                self._simulator.rngs[copy], _ = np_random(seed)
                self._lesson_seeds[copy], self._episodes[copy] = seed, 0
            self._begin(copy)
        self._reset_seeds()
        self._reset_options()
        if self._recorder is not None:
            self._recorder.wanted = True
        return self._simulator.observe()

    def step_async(self, actions: np.ndarray) -> None:
        """Take the actions, (n, *shape of an action)."""
        self._actions = actions

    def step_wait(self) -> tuple[Batch, np.ndarray, np.ndarray, list[Info]]:
        """Step; copies whose episode ended are begun again."""
        if self._recorder is not None:
            if self._recorder.due(self._lesson):
                self._recorder.begin_all(self.state(), self._lesson, self._steps)
            self._recorder.step(self._actions, self._rewards)
        self._steps += 1
        at = (0, self._steps, self._lesson_seeds[0], self.num_envs)
        step_marker.enter(*at)
        try:
            rewards, terminated, truncated = self._stepped(at)
        except (Exception, SystemExit) as error:
            self.failed(0)
            step_marker.note(error, *at)
            raise
        finally:
            step_marker.leave(0)
        if self._recorder is not None:
            self._rewards = np.asarray(rewards, np.float64).tobytes()
        self._returns += rewards
        self._lengths += 1
        dones = terminated | truncated
        infos: list[Info] = [{} for _ in range(self.num_envs)]
        if not dones.any():
            seen = self._simulator.observe()
            self._far.look(seen)
            return seen, rewards.astype(np.float32), dones, infos
        last = self._simulator.observe()
        self._must_be_finite(last, np.flatnonzero(dones))
        for copy in (int(c) for c in np.flatnonzero(dones)):
            infos[copy] = self._simulator.info(copy) | {
                "TimeLimit.truncated": bool(truncated[copy] and not terminated[copy]),
                "terminal_observation": first(last, copy),
                "episode": {"r": float(self._returns[copy]), "l": int(self._lengths[copy])},
            }
            if self._drawn[copy]:
                infos[copy]["lesson"] = self._drawn[copy]
            self._begin(copy)
        return self._simulator.observe(), rewards.astype(np.float32), dones, infos

    def _must_be_finite(self, last: Batch, copies: np.ndarray) -> None:
        """Refuses last observations that are not finite; learners look at all others.

        Raises:
            RunFailed: With the copy.
        """
        for part in last.values() if isinstance(last, dict) else [last]:
            if part.dtype.kind == "f" and not np.isfinite(part[copies]).all():
                copy = next(int(c) for c in copies if not np.isfinite(part[c]).all())
                raise RunFailed(
                    "the simulator returned a last observation that is not finite, at "
                    f"{self.failed(copy)}",
                    hint="`drillyard check` steps the simulator and shows where it breaks",
                )

    @property
    def simulator(self) -> VectorSimulator:
        """The copies."""
        return self._simulator

    def failed(self, copy: int) -> str:
        """Keep the record of these steps; returns where a copy is."""
        if self._recorder is not None:
            self._recorder.fail(self._steps)
        length, seed = int(self._lengths[copy]), self._lesson_seeds[copy]
        return step_marker.place(copy, length, seed, episode=int(self._episodes[copy]))

    def _stepped(self, at: tuple[int, int, int, int]) -> tuple[np.ndarray, ...]:
        """Steps the simulator, and refuses what numpy would convert silently.

        Raises:
            SimulatorError: Not three arrays with one number or boolean for each copy.
        """
        given, n = self._simulator.step(self._actions), self.num_envs
        if isinstance(given, tuple) and len(given) == len(_GIVEN):
            wrong = [
                f"{name} {_shown(value)}"
                for value, (name, kinds) in zip(given, _GIVEN, strict=True)
                if getattr(value, "shape", None) != (n,) or value.dtype.kind not in kinds
            ]
        else:
            wrong = [f"{len(given)} values" if isinstance(given, tuple) else _shown(given)]
        if wrong:
            raise SimulatorError(
                f"{self._declared.__name__}, all copies at once: step gave {', '.join(wrong)} "
                f"at {step_marker.place(*at)}",
                allowed=f"rewards (float), terminated and truncated (bool), ({n},) each",
            )
        return given

    def _begin(self, copy: int) -> None:
        self._drawn[copy] = self._draw(copy, int(self._episodes[copy]))
        self._episodes[copy] += 1
        self._returns[copy], self._lengths[copy] = 0.0, 0
        self._simulator.begin(copy, self._drawn[copy])

    def state(self) -> State:
        """Everything that the next steps depend on."""
        return {
            "simulator": self._simulator.state(),
            "rngs": [rng_state(rng) for rng in self._simulator.rngs],
            "lesson_seeds": list(self._lesson_seeds),
            "episodes": self._episodes.tolist(),
            "drawn": [dict(drawn) for drawn in self._drawn],
            "returns": self._returns.copy(),
            "lengths": self._lengths.copy(),
        }

    def load_state(self, state: State) -> None:
        """See ``SharedCopies``."""
        self._must_have_all(state["rngs"])
        for rng, saved in zip(self._simulator.rngs, state["rngs"], strict=True):
            load_rng(rng, saved)
        self._simulator.load_state(state["simulator"])
        self._lesson_seeds = list(state["lesson_seeds"])
        self._episodes = np.array(state["episodes"], np.int64)
        self._drawn = [dict(drawn) for drawn in state["drawn"]]
        self._returns = np.array(state["returns"], np.float64)
        self._lengths = np.array(state["lengths"], np.int64)
        if self._recorder is not None:
            self._recorder.wanted = True

    def close(self) -> None:
        """Delete a record that is not needed; nothing else is open."""
        if self._recorder is not None:
            self._recorder.close()

    def has_attr(self, attr_name: str) -> bool:
        """Whether the class of one copy declares it; copies have no methods of their own."""
        value = getattr(self._declared, attr_name, None)
        return value is not None and not callable(value)


def _shown(value: object) -> str:
    """Describes an array by shape and type, anything else by its type."""
    if isinstance(value, np.ndarray):
        return f"{value.shape} of {value.dtype}"
    return type(value).__name__
