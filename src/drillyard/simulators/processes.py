"""Copies in processes of their own, side by side on several cores.

Stable-Baselines3's ``SubprocVecEnv``, which lets an exception in a copy end that copy's process
with a traceback, and the training with ``EOFError``. Here it is raised in the training, and the
error of a process that dies names its copy, its step and its signal.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from multiprocessing.reduction import ForkingPickler

import gymnasium as gym
import numpy as np
from stable_baselines3.common.vec_env import SubprocVecEnv
from stable_baselines3.common.vec_env.base_vec_env import (
    VecEnvIndices,
    VecEnvObs,
    VecEnvStepReturn,
)

from drillyard.errors import ProcessKilled, RunFailed
from drillyard.simulators.horizon import horizon
from drillyard.simulators.hosts import troubles
from drillyard.simulators.state import SavedStack
from drillyard.simulators.streams import SeededCopies, seed_globals
from drillyard.simulators.types import (
    Action,
    Env,
    Info,
    Layer,
    Observation,
    Options,
    ResetResult,
    StepResult,
)
from drillyard.system import step_marker
from drillyard.system.operating_system import KILL, end_with_parent, oom_kills

_LOOK_S = 0.2
"""Time between two checks of a process that has not answered yet."""
_PLAIN = (bool, int, float, str, bytes, type(None), np.generic, np.ndarray)


class ProcessesEnv(SeededCopies, SubprocVecEnv):  # type: ignore[misc]
    """One process for each copy; forked, so that Python does not start again.

    Args:
        makers: Functions that each make one copy, called in its process.
        streams: Version of the random numbers, see ``streams``.
    """

    remotes: tuple[Connection, ...] | list[_Line]

    def __init__(self, makers: list[Callable[[], Env]], streams: int = 1) -> None:
        self.streams = streams
        self._steps = 0
        self.closed = False
        try:
            super().__init__([partial(_brought, make) for make in makers], "fork")
            self._raise(self.env_method("unmade"))
            # Barriers depend on it, so that it must not depend on how copies are stepped.
            self.max_episode_steps: int | None = self.env_method("longest", indices=[0])[0]
        except BaseException as error:
            self.close()
            if isinstance(error, EOFError):  # at the first request, which goes to the first copy
                raise RunFailed(
                    "the process of copy 0 ended while it was made", hint=troubles.CHECK
                ) from error
            raise

    def get_attr(self, attr_name: str, indices: VecEnvIndices = None) -> list[object]:
        """Returns an attribute of the copies; Stable-Baselines3's constructor calls this first."""
        if not isinstance(self.remotes, list):
            # From here on: the constructor would wait forever for a copy that died.
            self.remotes = [
                _Line(remote, process, copy, lambda: self._steps)
                for copy, (remote, process) in enumerate(
                    zip(self.remotes, self.processes, strict=True)
                )
            ]
        values: list[object] = super().get_attr(attr_name, indices)
        return values

    def reset(self) -> VecEnvObs:
        """Begin all copies.

        Raises:
            RunFailed: A process died.
            Exception: What a copy raised.
        """
        observations = super().reset()
        self._raise(self.reset_infos)
        return observations

    def step_async(self, actions: np.ndarray) -> None:
        """Sends the actions to all copies."""
        self._steps += 1
        super().step_async(actions)

    def step_wait(self) -> VecEnvStepReturn:
        """Step; raises as ``reset`` does."""
        observations, rewards, dones, infos = super().step_wait()
        self._raise(infos)
        self._raise(self.reset_infos)
        # As `DummyVecEnv` returns them, so that the training is the same, digit by digit.
        return observations, rewards.astype(np.float32), dones, list(infos)

    def _raise(self, infos: Iterable[Info]) -> None:
        for info in infos:
            if "raised" in info:
                raise info.pop("raised")

    def load_state(self, copies: list[SavedStack]) -> list[str]:
        """Continues from a state; returns how the replay of each copy differs (``load_stack``)."""
        lines = self._get_target_remotes(None)
        for line, saved in zip(lines, copies, strict=True):
            line.send(("env_method", ("load_stack", (saved,), {})))
        return [line.recv() for line in lines]

    def close(self) -> None:
        """Ends the processes, also those that no longer answer."""
        if self.closed:
            return
        self.waiting = False  # an answer that is under way is not waited for
        for remote in self.remotes:
            with contextlib.suppress(OSError, RunFailed, ProcessKilled):
                remote.send(("close", None))
        for process in self.processes:
            process.join(2.0)
            if process.is_alive():
                process.kill()
                process.join()
        for remote in self.remotes:
            remote.close()
        self.closed = True


class _Line:
    """A pipe to a copy whose errors name the copy."""

    def __init__(
        self, pipe: Connection, process: BaseProcess, copy: int, step: Callable[[], int]
    ) -> None:
        self._pipe, self._process, self._copy, self._step = pipe, process, copy, step
        self._oom_kills = oom_kills()

    def send(self, message: object) -> None:
        with self._explained():
            self._pipe.send(message)

    def recv(self) -> object:
        with self._explained():
            # The other copies have inherited its end of the pipe, which therefore stays open.
            while not self._pipe.poll(_LOOK_S):
                if not self._process.is_alive() and not self._pipe.poll():
                    raise EOFError
            return self._pipe.recv()

    def close(self) -> None:
        self._pipe.close()

    @contextlib.contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except (EOFError, ConnectionError) as error:
            when = step_marker.of(self._copy) or f"its step {self._step()}"
            raise troubles.ended(self._process, self._copy, when, self._oom_kills) from error


class _Courier(Layer):
    """In the copy's process: returns the copy's exceptions and state."""

    def __init__(self, env: Env) -> None:
        super().__init__(env)
        self._seen: Observation | None = None

    def longest(self) -> int | None:
        return horizon(self.env)

    def unmade(self) -> dict[str, Exception]:
        return {"raised": self.env.error} if isinstance(self.env, _Unmade) else {}

    def reset(self, *, seed: int | None = None, options: Options | None = None) -> ResetResult:
        if seed is not None:
            # All copies were forked with the generators of one process.
            seed_globals(seed)
        try:
            self._seen, info = self.env.reset(seed=seed, options=options)
        except Exception as error:
            return self._nothing(), {"raised": troubles.portable(error)}
        return self._seen, sendable(info)

    def step(self, action: Action) -> StepResult:
        try:
            result = self.env.step(action)
        except Exception as error:
            return self._nothing(), 0.0, False, False, {"raised": troubles.portable(error)}
        self._seen = result[0]
        return *result[:4], sendable(result[4])

    def _nothing(self) -> Observation:
        return self.observation_space.sample() if self._seen is None else self._seen


class _Unmade(Env):
    """Takes the place of a copy that could not be made, and keeps the error."""

    observation_space = action_space = gym.spaces.Discrete(1)

    def __init__(self, error: Exception) -> None:
        self.error = error


def _brought(make: Callable[[], Env]) -> Env:
    # It would not notice: sibling processes hold both ends of its pipe open too.
    end_with_parent(KILL)
    try:
        return _Courier(make())
    except Exception as error:
        return _Courier(_Unmade(troubles.portable(error)))


def sendable(info: Info) -> Info:
    """Returns what can be sent of an ``info``: without a lock, a socket or a local class.

    Args:
        info: What a simulator returned.
    """
    lost = [key for key, value in info.items() if not _is_sendable(value)]
    return {key: value for key, value in info.items() if key not in lost} if lost else info


def _is_sendable(value: object) -> bool:
    plain = isinstance(value, _PLAIN) and not getattr(value, "dtype", np.dtype(float)).hasobject
    if plain:
        return True  # nearly all values of nearly all simulators, at each step
    try:
        ForkingPickler.dumps(value)
    except Exception:  # an object of the simulator's author may raise anything
        return False
    return True
