"""Records what is needed to replay the current episode of a simulator.

An episode begins in one of three ways:

* A seeded reset. Its seed and its options are recorded.
* Any other reset. The states of all layers that have one are recorded, and of a simulator without
  ``state()`` its generator (Gymnasium's ``np_random``). A simulator that draws from anything else,
  or that remembers an earlier episode, can be replayed approximately only; a replay compares each
  reward and says so.
* In the middle of an episode, after a resume. All layers have a state then.

To read the state at each reset would cost too much where episodes are short. So it is read at most
once a second, and never more often than one two-hundredth of the time allows; other resets are
recorded as steps of the same list.
"""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING, Any

import numpy as np

from drillyard.documents.json_types import JsonObject
from drillyard.simulators.state import rng_state
from drillyard.simulators.state_json import to_json
from drillyard.simulators.wrappers import layer_state
from drillyard.spec.learning import SimulatorSpec
from drillyard.system import episode_memory
from drillyard.system.episode_memory import RESET, STEP, EpisodeMemory

if TYPE_CHECKING:
    from drillyard.simulators.types import Action, Env, Options

EVERY_S = 1.0
"""Shortest time between two readings of the state."""
PART = 200
"""A reading is followed by this many times its duration without one."""
log = logging.getLogger(__name__)


class EpisodeRecorder:
    """Records the episodes of one copy, or of copies that share a step.

    Args:
        about: What a replay needs to make the simulator again, see ``recorder``.
    """

    def __init__(self, about: JsonObject) -> None:
        self._about, together = about, int(str(about["together"]))
        self._values = f"{8 * together}s" if together else "d"
        self._memory: EpisodeMemory | None = None
        self._dtype, self._shape = "", [0]
        self._action = 0
        self._begun: JsonObject = {}
        self._typed = False
        self._lesson: object = None
        self._due = 0.0
        self.wanted = True
        """The next step needs a beginning: nothing is recorded yet, or it was interrupted."""
        self._broken = False

    # -- where an episode begins --------------------------------------------------------------

    def seeded(
        self, seed: int | None, options: Options | None, episode: int, lesson: object
    ) -> None:
        """Record a reset that determines everything that follows.

        Args:
            seed: Its seed.
            options: Its options.
            episode: Number of the episode, from 1.
            lesson: The one that resets draw from.
        """
        self._lesson = lesson
        try:
            start: JsonObject = {"seed": seed, "options": options, "lesson": to_json(lesson)}
        except ValueError as error:
            self._give_up(error)
            return
        self._begin(start, episode, 0)
        self._due = time.monotonic() + EVERY_S

    def due(self, lesson: object) -> bool:
        """Whether a reset without a seed needs a new beginning.

        Args:
            lesson: The one that the reset draws from.
        """
        memory = self._memory
        return (
            self.wanted
            or lesson is not self._lesson
            or memory is None
            or time.monotonic() >= self._due
            or memory.used > 0.5
        )

    def begin(
        self,
        layers: list[Env],
        seed: int | None,
        episode: int,
        length: int,
        lesson: object,
        options: Options | None = None,
    ) -> None:
        """Record the state of all layers as a beginning.

        Args:
            layers: Those around the simulator, and the simulator as the last one.
            seed: Seed of the copy's last seeded reset.
            episode: Number of the episode, from 1.
            length: Steps of the episode so far; 0 for a reset that is about to be done.
            lesson: The one that resets draw from.
            options: Those of the reset.
        """
        began = time.monotonic()
        try:
            states = [
                {"layer": type(layer).__name__, "state": to_json(layer_state(layer))}
                for layer in layers
            ]
            generator = None
            if states[-1]["state"] is None:
                random = getattr(layers[-1], "_np_random", None)
                generator = to_json(rng_state(random)) if random is not None else None
        except Exception as error:
            self._give_up(error)
            return
        start: JsonObject = {
            "layers": [*states],
            "generator": generator,
            "lesson": to_json(lesson),
            "last_seed": seed,
            "options": options,
        }
        self._lesson = lesson
        self._begin(start, episode, length)
        self._spent(began)

    def begin_all(self, state: Any, lesson: object, steps: int) -> None:
        """Record the state of copies that share a step.

        Args:
            state: The state of all copies.
            lesson: The one that resets draw from.
            steps: How often they were stepped.
        """
        began = time.monotonic()
        try:
            start: JsonObject = {"all": to_json(state), "lesson": to_json(lesson)}
        except Exception as error:
            self._give_up(error)
            return
        self._lesson = lesson
        self._begin(start, 1, steps)
        self._spent(began)

    def _begin(self, start: JsonObject, episode: int, length: int) -> None:
        if self._broken:
            return
        self._begun = {**start, "episode": episode, "length": length}
        self._write()

    def _write(self) -> None:
        self._typed = False
        start: JsonObject = {**self._begun, "dtype": self._dtype, "shape": [*self._shape]}
        try:
            if self._memory is None:
                self._memory = EpisodeMemory(self._about, self._values, self._action)
            self._memory.begin(start, self._values, self._action)
        except (OSError, TypeError, ValueError) as error:
            self._give_up(error)
            return
        self.wanted = False

    def _spent(self, began: float) -> None:
        now = time.monotonic()
        self._due = now + max(EVERY_S, PART * (now - began))

    def _give_up(self, error: Exception) -> None:
        """Recording is a help: its failure must not end a training."""
        self._broken, self.wanted = True, False
        if self._memory is not None:
            self._memory.forget()
        log.info("episodes of copy %s are not recorded: %s", self._about["copy"], error)

    # -- each step ----------------------------------------------------------------------------

    def step(self, action: Action, rewards: float | bytes) -> None:
        """Record a step that is about to be done.

        Args:
            action: Its action.
            rewards: Those of the step before.
        """
        memory = self._memory
        if memory is None or self._broken:
            return
        if not self._typed:
            self._type(action)
        try:
            data = action.tobytes()  # type: ignore[union-attr]
        except AttributeError:
            data = np.asarray(action).tobytes()
        if len(data) != self._action:
            memory.forget()
            self._due = 0.0  # the next reset begins anew
        elif not memory.add(STEP, rewards, data):
            self._due = 0.0

    def reset(self, rewards: float) -> None:
        """Record a reset without a seed, as a step.

        Args:
            rewards: Reward of the step before.
        """
        if self._memory is not None and not self._broken:
            self._typed = self._memory.add(RESET, rewards, b"") and self._typed

    def _type(self, action: Action) -> None:
        """The type of the actions is known from the first one after a beginning."""
        array = np.asarray(action)
        dtype, shape = array.dtype.str, list(array.shape)
        if (dtype, shape) != (self._dtype, self._shape):
            self._dtype, self._shape, self._action = dtype, shape, array.nbytes
            self._write()
        self._typed = True

    def fail(self, step: int) -> None:
        """The simulator failed.

        Args:
            step: Step of the episode, from 1; 0 in a reset.
        """
        if self._memory is not None:
            self._memory.fail(step)

    def close(self) -> None:
        """Delete the record, unless the simulator failed."""
        if self._memory is not None:
            self._memory.close()
            self._memory = None


def recorder(
    spec: SimulatorSpec, copy: int, training: bool, streams: int, together: int = 0
) -> EpisodeRecorder | None:
    """A recorder, or None in a process that keeps no episodes.

    Args:
        spec: The simulator part of an experiment.
        copy: Index of the copy; the first one if several share the step.
        training: Whether the copy trains a policy.
        streams: Version of the random numbers.
        together: Number of copies that share the step; 0: this copy has steps of its own.
    """
    if not episode_memory.kept():
        return None
    return EpisodeRecorder(
        {
            "simulator": spec.model_dump(mode="json"),
            "copy": copy,
            "training": training,
            "streams": streams,
            "together": together,
        }
    )
