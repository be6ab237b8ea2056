"""Replays the episode in which a simulator failed, from its record alone.

The replay is exact where the simulator draws only from its own generator and does not remember
earlier episodes: then each reward is the recorded one, bit by bit. The first that is not is named.
"""

from __future__ import annotations

import bdb
import pdb
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from drillyard.errors import CorruptObject, UserError
from drillyard.mailbox.failed_episode import FailedEpisode
from drillyard.simulators.make import make_env
from drillyard.simulators.make_copies import make_vec
from drillyard.simulators.plain import PlainEnv
from drillyard.simulators.sb3_vec_env import VectorisedEnv
from drillyard.simulators.state import load_rng
from drillyard.simulators.state_json import from_json
from drillyard.simulators.types import Env, Observation
from drillyard.simulators.wrappers import LessonWrapper, layers, load_layer_state
from drillyard.spec.learning import SimulatorSpec
from drillyard.spec.simulator.wrapper_catalogue import VEC_WRAPPERS
from drillyard.system.episode_memory import RESET, Entry, entries, unpacked
from drillyard.system.redaction import redact
from drillyard.system.user_code import place


@dataclass(frozen=True)
class Row:
    """A step that was replayed."""

    episode: int
    step: int
    action: np.ndarray
    reward: Any
    observation: Observation
    states: Mapping[str, float] = field(default_factory=dict)
    """``state_…`` of the simulator's ``info``: its values by name, in its own units."""


def _named(info: Mapping[str, Any]) -> dict[str, float]:
    return {
        name.removeprefix("state_"): float(value)
        for name, value in info.items()
        if name.startswith("state_") and isinstance(value, int | float | np.number)
    }


@dataclass
class Replayed:
    """What a replay showed."""

    rows: list[Row] = field(default_factory=list)
    """The steps of the wanted episode."""
    compared: int = 0
    """Number of rewards that are equal to the recorded ones."""
    difference: str = ""
    """The first reward that is not; empty if there is none."""
    error: str = ""
    """What the simulator raised, or returned."""
    where: str = ""
    """File and line of it in the user's source."""
    at: tuple[int, int] | None = None
    """Episode and step of the error."""
    reproduced: bool | None = None
    """Whether the simulator failed as it was recorded; None if the step was not replayed."""


class Recording:
    """The record of a failed episode, read.

    Args:
        record: From the mailbox.

    Raises:
        CorruptObject: It is damaged.
    """

    def __init__(self, record: FailedEpisode) -> None:
        self.record, self.start, self.about = record, record.start, record.about
        try:
            self.entries: list[Entry] = list(entries(record.start, unpacked(record.steps)))
            self.spec = SimulatorSpec.model_validate(record.about["simulator"])
            self.copy = int(str(self.about["copy"]))
            self.together = int(str(self.about["together"]))
            self.first = int(str(self.start["episode"]))
            self.begun = int(str(self.start["length"]))
            self._dtype = np.dtype(str(self.start["dtype"]))
            self._shape = tuple(from_json(self.start["shape"]))
        except (KeyError, TypeError, ValueError) as error:
            raise CorruptObject(f"the record of the failed episode is damaged: {error}") from error

    @property
    def last(self) -> int:
        """Number of the episode that failed."""
        return self.first + sum(entry.kind == RESET for entry in self.entries)

    @property
    def recorded(self) -> int:
        """The last step of that episode whose action is recorded; 0: its reset."""
        step = self.begun
        for entry in self.entries:
            step = 0 if entry.kind == RESET else step + 1
        return step

    @property
    def failed_at(self) -> int:
        """The step of that episode that failed; 0: its reset."""
        return self.recorded if self.record.step is None else self.record.step

    @property
    def whole(self) -> bool:
        """Whether every action is recorded."""
        return self.recorded >= self.failed_at

    def action(self, entry: Entry) -> np.ndarray:
        """The action of a step."""
        return np.frombuffer(entry.action, self._dtype).reshape(self._shape).copy()


def replay(recording: Recording, episode: int, to: int, debug: bool = False) -> Replayed:
    """Replay a recorded episode.

    Args:
        recording: The record.
        episode: Its number, from ``recording.first`` to ``recording.last``.
        to: The last step to replay; 0: only the reset.
        debug: Stop in the debugger just before that step.

    Raises:
        UserError: The simulator cannot be brought to where the record begins.
    """
    if recording.together:
        return _Together(recording, to, debug).run()
    return _Single(recording, episode, to, debug).run()


class _Replay:
    """What both kinds of replay share."""

    def __init__(self, recording: Recording, episode: int, to: int, debug: bool) -> None:
        self.recording, self.episode, self.to, self.debug = recording, episode, to, debug
        self.found = Replayed()

    def compare(self, entry: Entry, reward: np.ndarray | None, at: tuple[int, int]) -> None:
        """Compare a reward with that in the entry after its step."""
        if reward is None or self.found.difference:
            return
        then = np.frombuffer(entry.rewards, np.float64)
        if np.array_equal(then.astype(reward.dtype), reward, equal_nan=True):
            self.found.compared += 1
            return
        copy = int(np.flatnonzero(then != reward)[0])
        self.found.difference = (
            f"the reward of step {at[1]} of episode {at[0]} is {reward[copy]!r} here and was "
            f"{then[copy]!r}"
        )

    def failed(self, error: BaseException, at: tuple[int, int]) -> None:
        """Keep what was raised, and whether it is what was recorded."""
        before = str(error).partition(", at step")[0].partition(" at step")[0]
        foreign = getattr(error, "message", None) is None
        text = f"{type(error).__name__}: {error}" if foreign else str(error)
        short = f"{type(error).__name__}: {error}" if foreign else before
        self.found.error, self.found.where = redact(text), place(error) or ""
        self.found.at = at
        record = self.recording.record
        due = at[1] == self.recording.failed_at and at[0] == self.recording.last
        self.found.reproduced = due and (not record.message or redact(short) in record.message)

    def look(self, observation: Observation, at: tuple[int, int]) -> None:
        """Notice an observation that is not finite, as learners do."""
        parts = observation.items() if isinstance(observation, dict) else [("", observation)]
        for key, part in parts:
            array = np.asarray(part)
            if array.dtype.kind == "f" and not np.isfinite(array).all():
                bad = array[~np.isfinite(array)][0]
                what = f"observation {key!r}" if key else "observation"
                self.found.error, self.found.at = f"the simulator returned {bad} as {what}", at
                self.found.reproduced = f"{bad} as {what}" in self.recording.record.message
                return


class _Single(_Replay):
    """A copy with steps of its own."""

    def run(self) -> Replayed:
        recording, about = self.recording, self.recording.about
        env = make_env(
            recording.spec,
            copy=recording.copy,
            training=bool(about["training"]),
            streams=int(str(about["streams"])),
        )
        try:
            self._run(env)
        except bdb.BdbQuit:
            pass
        finally:
            env.close()
        return self.found

    def _run(self, env: Env) -> None:
        recording, found = self.recording, self.found
        at, reward = (recording.first, recording.begun), None
        if not self._begin(env, at):
            return
        for entry in recording.entries:
            self.compare(entry, reward, at)
            reset = entry.kind == RESET
            coming = (at[0] + 1, 0) if reset else (at[0], at[1] + 1)
            if coming > (self.episode, self.to):
                return
            at = coming
            with self._watched(env, "reset" if reset else "step", at):
                try:
                    if reset:
                        observation, info = env.reset()
                        action, reward = np.zeros(0), None
                    else:
                        action = recording.action(entry)
                        given = action if action.ndim else action[()]
                        observation, value, _, _, info = env.step(given)
                        reward = np.array([float(value)])
                except bdb.BdbQuit:
                    raise
                except (Exception, SystemExit) as error:
                    self.failed(error, at)
                    return
            if at[0] == self.episode:
                shown = None if reward is None else float(reward[0])
                found.rows.append(Row(*at, action, shown, observation, _named(info)))
        if at == (recording.last, recording.failed_at):
            found.reproduced = False
            if found.rows:
                self.look(found.rows[-1].observation, at)

    def _begin(self, env: Env, at: tuple[int, int]) -> bool:
        """Bring the simulator to where the record begins; False if that reset failed."""
        start = self.recording.start
        for layer in layers(env):
            if isinstance(layer, LessonWrapper):
                layer.lesson = from_json(start["lesson"])
        options: Any = start.get("options")
        if "seed" in start:
            seed: Any = start["seed"]
            with self._watched(env, "reset", at):
                return self._first(env, seed, options, at)
        last: Any = start.get("last_seed")
        env.reset(seed=last)
        inner, states = layers(env)[1:], from_json(start["layers"])
        names = [type(layer).__name__ for layer in inner]
        if names != [state["layer"] for state in states]:
            raise UserError(
                "the simulator is made of other layers than when it failed: "
                f"{', '.join(names)}, not {', '.join(s['layer'] for s in states)}",
                hint="replay it with the versions of that time; `drillyard results` shows them",
            )
        generator = from_json(start["generator"])
        if generator is not None:
            load_rng(env.unwrapped.np_random, generator)
        for layer, saved in zip(inner, states, strict=True):
            if saved["state"] is not None:
                load_layer_state(layer, saved["state"])
        if at[1]:
            return True
        with self._watched(env, "reset", at):
            return self._first(env, None, options, at)

    def _first(self, env: Env, seed: int | None, options: Any, at: tuple[int, int]) -> bool:
        try:
            observation, _ = env.reset(seed=seed, options=options)
        except bdb.BdbQuit:
            raise
        except (Exception, SystemExit) as error:
            self.failed(error, at)
            return False
        if at[0] == self.episode:
            self.found.rows.append(Row(*at, np.zeros(0), None, observation))
        return True

    @contextmanager
    def _watched(self, env: Env, call: str, at: tuple[int, int]) -> Iterator[None]:
        base: Any = layers(env)[-1]
        owner = base.simulator if isinstance(base, PlainEnv) else base
        with _in_debugger(owner, call, self.debug and at == (self.episode, self.to)):
            yield


class _Together(_Replay):
    """Copies that share their steps; what is counted are the steps of all."""

    def __init__(self, recording: Recording, to: int, debug: bool) -> None:
        super().__init__(recording, recording.last, to, debug)

    def run(self) -> Replayed:
        recording, found = self.recording, self.found
        kept = [w for w in recording.spec.wrappers if w.name not in VEC_WRAPPERS]
        spec = recording.spec.model_copy(update={"wrappers": kept})
        venv: Any = make_vec(
            spec,
            recording.together,
            0,
            how="vectorised",
            streams=int(str(recording.about["streams"])),
        )
        assert isinstance(venv, VectorisedEnv)
        venv.reset()
        venv.set_lesson(from_json(recording.start["lesson"]))
        venv.load_state(from_json(recording.start["all"]))
        at, reward = (recording.first, recording.begun), None
        for entry in recording.entries:
            self.compare(entry, reward, at)
            if at[1] + 1 > self.to:
                return found
            at = (at[0], at[1] + 1)
            stop = self.debug and at[1] == self.to
            try:
                with _in_debugger(venv.simulator, "step", stop):
                    actions = recording.action(entry)
                    observation, reward, *_ = venv.step(actions)
            except bdb.BdbQuit:
                return found
            except (Exception, SystemExit) as error:
                self.failed(error, at)
                return found
            found.rows.append(Row(*at, actions, reward, observation))
        if at[1] == recording.failed_at:
            found.reproduced = False
            if found.rows:
                self.look(found.rows[-1].observation, at)
        return found


class _Debugger(pdb.Pdb):
    """Knows whether the user quit; ``runcall`` returns None then, as a simulator also can."""

    left = False

    def set_quit(self) -> None:
        """Note that the user quits."""
        self.left = True
        super().set_quit()


@contextmanager
def _in_debugger(owner: Any, call: str, wanted: bool) -> Iterator[None]:
    """Calls a method of the simulator under the debugger, which stops at its first line."""
    if not wanted:
        yield
        return
    original = getattr(owner, call)

    def debugged(*args: Any, **kwargs: Any) -> Any:
        debugger = _Debugger()
        result = debugger.runcall(original, *args, **kwargs)
        if debugger.left:
            raise bdb.BdbQuit
        return result

    setattr(owner, call, debugged)
    try:
        yield
    finally:
        delattr(owner, call)
