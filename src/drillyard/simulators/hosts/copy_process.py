"""One copy of a simulator in a process of its own, on a host.

Started with "spawn" or "forkserver", so that it works on Windows too and inherits no connection.
It answers messages over a pipe, one at a time: steps (``packed_steps``), and the frames ``step``,
``reset``, ``call``, ``attribute``.
"""

from __future__ import annotations

import gc
import hashlib
import os
import signal
import sys
from multiprocessing.connection import Connection
from typing import Any

import gymnasium as gym
import numpy as np

from drillyard.documents.json_types import JsonObject
from drillyard.documents.space_text import space_text
from drillyard.errors import SimulatorError
from drillyard.simulators.hosts import frames, troubles
from drillyard.simulators.hosts.messages import Messages
from drillyard.simulators.hosts.packed_steps import RowWriter, StepReader, is_packed
from drillyard.simulators.make import make_env
from drillyard.simulators.streams import seed_globals
from drillyard.simulators.types import Env, Observation
from drillyard.spec.learning import SimulatorSpec
from drillyard.system.operating_system import KILL, end_with_parent


def main(pipe: Connection, simulator: JsonObject, copy: int, seed: int, streams: int) -> None:
    """Body of the process: make the copy, and answer until the pipe ends.

    Args:
        pipe: To the host.
        simulator: ``simulator:`` of the experiment, as JSON.
        copy: Index of the copy among all copies of the training.
        seed: Seed of the run.
        streams: Version of the random numbers.
    """
    end_with_parent(KILL)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the host
    messages = Messages(pipe)
    try:
        server = CopyServer(SimulatorSpec.model_validate(simulator), copy, seed, streams)
    except BaseException as error:
        messages.send(frames.encode("raised", troubles.to_json(error)))
        return
    messages.send(frames.encode("made", server.about()))
    gc.freeze()  # what is there stays; a collection would touch all of it
    try:
        while True:
            messages.send(server.reply(messages.receive()))
    except (EOFError, ConnectionError):
        server.env.close()
    finally:
        # Threads of a simulator must not keep its process alive.
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(0)


class CopyServer:
    """A copy that answers messages.

    Args:
        spec: The simulator.
        copy: See ``main``.
        seed: See there.
        streams: See there.
        alone: Whether it is the only copy of this process.
    """

    def __init__(
        self, spec: SimulatorSpec, copy: int, seed: int, streams: int, alone: bool = True
    ) -> None:
        self._alone = alone
        self.env: Env = make_env(spec, copy=copy, seed=seed, streams=streams)
        self._actions, self._answers = StepReader(), RowWriter()

    def about(self) -> JsonObject:
        """What the learner compares before the first step."""
        return {
            "observation": described(self.env.observation_space),
            "action": described(self.env.action_space),
        }

    def reply(self, data: bytes) -> bytes:
        """The bytes that answer a message; an exception of the simulator is a frame, too."""
        try:
            try:
                if is_packed(data):
                    return self._answers.answer(self._step(self._actions.action(data)))
                kind, body = frames.decode(data)
                if kind == "step":
                    return self._answers.answer(self._step(self._actions.first(body)))
                return frames.encode("done", self._done(kind, body))
            except frames.FrameError as error:
                raise SimulatorError(
                    f"{error}, which cannot be sent to the learner",
                    field="simulator.id",
                    allowed="numbers, texts, arrays, and lists and dicts of them",
                    hint="turn it into numbers in the simulator, or delete it from `info` in a "
                    "wrapper",
                ) from None
        except (Exception, SystemExit) as error:
            return frames.encode("raised", troubles.to_json(error))

    def _done(self, kind: str, body: Any) -> object:
        if kind == "reset":
            return self._reset(body)
        if kind == "call":
            name, args, kwargs = body
            return self.env.get_wrapper_attr(_public(name))(*args, **kwargs)
        if kind == "attribute":
            return self.env.get_wrapper_attr(_public(body))
        raise ValueError(f"a copy does not understand {kind!r}")

    def _reset(self, body: Any) -> object:
        seed, options = body
        if seed is not None and self._alone:
            seed_globals(seed)
        observation, info = self.env.reset(seed=seed, **({"options": options} if options else {}))
        return {"o": _parts(observation), "i": info}

    def _step(self, action: np.ndarray) -> dict[str, Any]:
        # As `DummyVecEnv` passes it: an array, or a number where the space has no axis.
        observation, reward, terminated, truncated, info = self.env.step(action[0])
        done = bool(terminated or truncated)
        answer: dict[str, Any] = {
            "r": float(reward),
            "d": done,
            "t": bool(truncated and not terminated),
        }
        if done:
            info["terminal_observation"] = observation
            observation, answer["j"] = self.env.reset()
        return answer | {"o": _parts(observation), "i": info}


def _parts(observation: Observation) -> dict[str, np.ndarray]:
    """The arrays of an observation by key; without keys, by the empty text."""
    if isinstance(observation, dict):
        return {key: np.asarray(value) for key, value in observation.items()}
    return {"": np.asarray(observation)}


def _public(name: str) -> str:
    if name.startswith("_"):
        raise AttributeError(f"{name} of a copy on another machine cannot be used")
    return name


def described(space: gym.Space[Any]) -> str:
    """A space as text; two spaces are the same exactly if their texts are."""
    if isinstance(space, gym.spaces.Dict):
        return f"Dict({', '.join(f'{k}: {described(s)}' for k, s in space.items())})"
    if isinstance(space, gym.spaces.Box):
        bounds = hashlib.sha256(space.low.tobytes() + space.high.tobytes()).hexdigest()[:12]
        low, high = float(space.low.min()), float(space.high.max())
        return f"Box({low:g} to {high:g}, {space.shape}, {space.dtype}, bounds {bounds})"
    return space_text(space)
