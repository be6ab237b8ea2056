"""Copies in processes of their own, side by side on several cores.

Stable-Baselines3's ``SubprocVecEnv``, which lets an exception in a copy end that copy's process
with a traceback, and the training with ``EOFError``. Here it is raised where it belongs, and a
process that dies is named with its copy, its step and its signal.
"""

from __future__ import annotations

import contextlib
import signal
import traceback
from collections.abc import Callable
from functools import partial
from typing import Any

import gymnasium as gym
import numpy as np
from stable_baselines3.common.vec_env import SubprocVecEnv

from drillyard.errors import DrillyardError, RunFailed
from drillyard.simulators.state import State
from drillyard.simulators.streams import SeededCopies, seed_globals
from drillyard.simulators.wrappers import (
    Env,
    LessonWrapper,
    StepResult,
    is_silent,
    layers,
    load_stack,
    stack_state,
)
from drillyard.system import step_marker
from drillyard.system.processes import end_with_parent

_LOOK_S = 0.2
"""Between two looks at a process that has not answered yet."""
_CHECK = "`drillyard check` steps the simulator and shows where it breaks"


class ProcessesEnv(SeededCopies, SubprocVecEnv):  # type: ignore[misc]
    """As many processes as copies; forked, so that they need no second start of Python.

    Args:
        makers: Makes one copy each, called in its process.
        streams: Version of the random numbers, see ``streams``.
    """

    remotes: Any

    def __init__(self, makers: list[Callable[[], Env]], streams: int = 1) -> None:
        self.streams = streams
        self._steps = 0
        self.closed = False
        try:
            super().__init__([partial(_brought, make) for make in makers], "fork")
            self._raise(self.env_method("unmade"))
        except BaseException as error:
            self.close()
            if isinstance(error, EOFError):  # at the first question, which the first copy is asked
                raise RunFailed(
                    "the process of copy 0 ended while it was made", hint=_CHECK
                ) from error
            raise

    def get_attr(self, attr_name: str, indices: Any = None) -> list[Any]:
        """Of the copies; Stable-Baselines3's constructor asks for one, as the first of all."""
        if not isinstance(self.remotes, list):
            # From here on: it waits without end for a copy that died while it was made.
            self.remotes = [
                _Line(remote, process, copy, lambda: self._steps)
                for copy, (remote, process) in enumerate(
                    zip(self.remotes, self.processes, strict=True)
                )
            ]
        found: list[Any] = super().get_attr(attr_name, indices)
        return found

    def reset(self) -> Any:
        """Begin all copies.

        Raises:
            RunFailed: A process died.
            Exception: What a copy raised.
        """
        observations = super().reset()
        self._raise(self.reset_infos)
        return observations

    def step_async(self, actions: Any) -> None:
        """Tell all copies."""
        self._steps += 1
        super().step_async(actions)

    def step_wait(self) -> Any:
        """Step; raises as ``reset`` does."""
        observations, rewards, dones, infos = super().step_wait()
        self._raise(infos)
        self._raise(self.reset_infos)
        # As `DummyVecEnv` has them: the same training, digit by digit.
        return observations, rewards.astype(np.float32), dones, list(infos)

    def _raise(self, infos: Any) -> None:
        for info in infos:
            if "raised" in info:
                raise info.pop("raised")

    def silent_layers(self) -> list[str]:
        """Names of the layers that cannot be frozen."""
        return self.env_method("silent_layers", indices=0)[0]  # type: ignore[no-any-return]

    def state(self) -> State:
        """Everything that the next steps of all copies depend on."""
        return {"copies": self.env_method("stack_state")}

    def load_state(self, copies: list[Any]) -> None:
        """Go on from a state."""
        for copy, saved in enumerate(copies):
            self.env_method("load_stack", saved, indices=copy)

    def set_lesson(self, lesson: Any) -> None:
        """Draw from another lesson from the next episode on."""
        self.env_method("set_lesson", lesson)

    def close(self) -> None:
        """End the processes, also those that do not answer any more."""
        if self.closed:
            return
        self.waiting = False  # an answer that is under way is not waited for
        for remote in self.remotes:
            with contextlib.suppress(OSError, RunFailed):
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
    """A pipe to a copy that says what became of it."""

    def __init__(self, pipe: Any, process: Any, copy: int, step: Callable[[], int]) -> None:
        self._pipe, self._process, self._copy, self._step = pipe, process, copy, step

    def send(self, message: Any) -> None:
        with self._told():
            self._pipe.send(message)

    def recv(self) -> Any:
        with self._told():
            # The other copies have inherited its end of the pipe, which therefore stays open.
            while not self._pipe.poll(_LOOK_S):
                if not self._process.is_alive() and not self._pipe.poll():
                    raise EOFError
            return self._pipe.recv()

    def close(self) -> None:
        self._pipe.close()

    @contextlib.contextmanager
    def _told(self) -> Any:
        try:
            yield
        except (EOFError, ConnectionError) as error:
            self._process.join(2.0)
            code = self._process.exitcode
            how = f"code {code}"
            if code is not None and code < 0:
                with contextlib.suppress(ValueError):
                    how = signal.Signals(-code).name
            raise RunFailed(
                f"the process of copy {self._copy} ended with {how} at "
                f"{step_marker.of(self._copy) or f'its step {self._step()}'}",
                hint=_CHECK,
            ) from error


class _Courier(gym.Wrapper[Any, Any, Any, Any]):
    """In the copy's process: brings home what the copy raises, and its state."""

    def __init__(self, env: Env) -> None:
        super().__init__(env)
        self._seen: Any = None

    def unmade(self) -> dict[str, Exception]:
        return {"raised": self.env.error} if isinstance(self.env, _Unmade) else {}

    def reset(self, **given: Any) -> tuple[Any, dict[str, Any]]:
        if given.get("seed") is not None:
            # All copies were forked with the generators of one process.
            seed_globals(int(given["seed"]))
        try:
            self._seen, info = self.env.reset(**given)
        except Exception as error:
            return self._nothing(), {"raised": _portable(error)}
        return self._seen, info

    def step(self, action: Any) -> StepResult:
        try:
            found = self.env.step(action)
        except Exception as error:
            return self._nothing(), 0.0, False, False, {"raised": _portable(error)}
        self._seen = found[0]
        return found

    def _nothing(self) -> Any:
        return self.observation_space.sample() if self._seen is None else self._seen

    def silent_layers(self) -> list[str]:
        return [type(layer).__name__ for layer in layers(self.env) if is_silent(layer)]

    def stack_state(self) -> list[Any]:
        return stack_state(self.env)

    def load_stack(self, saved: list[Any]) -> None:
        load_stack(self.env, saved)

    def set_lesson(self, lesson: Any) -> None:
        for layer in layers(self.env):
            if isinstance(layer, LessonWrapper):
                layer.lesson = lesson


class _Unmade(gym.Env[Any, Any]):
    """Stands where a copy would, until it is asked why there is none."""

    observation_space = action_space = gym.spaces.Discrete(1)

    def __init__(self, error: Exception) -> None:
        self.error = error


def _brought(make: Callable[[], Env]) -> Env:
    # It would not notice: its brothers hold both ends of its pipe open too.
    end_with_parent(signal.SIGKILL)
    try:
        return _Courier(make())
    except Exception as error:
        return _Courier(_Unmade(_portable(error)))


def _portable(error: Exception) -> Exception:
    """Ours travel whole; of others the words and the place, whatever they hold."""
    if isinstance(error, DrillyardError):
        return error
    last = traceback.extract_tb(error.__traceback__)[-1]
    made = RunFailed(
        f"the simulator raised {type(error).__name__}: {error}",
        hint=f"look at {last.filename}, line {last.lineno}, in {last.name}",
    )
    for note in getattr(error, "__notes__", ()):  # step, copy and seed
        made.add_note(note)
    return made
