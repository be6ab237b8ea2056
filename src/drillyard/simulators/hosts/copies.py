"""The copies that one host has for one training: started, stepped together, ended."""

from __future__ import annotations

import contextlib
import multiprocessing
import multiprocessing.context
import signal
import time
from collections.abc import Iterable, Mapping
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from typing import Any, NamedTuple

import numpy as np

from drillyard.documents.json_types import JsonObject
from drillyard.errors import RunFailed
from drillyard.simulators.hosts import frames, troubles
from drillyard.simulators.hosts.packed_steps import STEP, StepWriter, is_packed

_END_S = 2.0
_CHECK = "`drillyard check` steps the simulator and shows where it breaks"
_BODY = "drillyard.simulators.hosts.copy_process"


class _Copy(NamedTuple):
    number: int
    process: BaseProcess
    pipe: Connection
    steps: StepWriter


def context() -> multiprocessing.context.BaseContext:
    """How copies are started: "fork" would keep the connection to the learner open in each."""
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")
    found = multiprocessing.get_context("forkserver")
    found.set_forkserver_preload([_BODY])
    return found


def warm_up() -> None:
    """Begin to import what copies need, so that they start sooner."""
    if context().get_start_method() == "forkserver":
        from multiprocessing import forkserver

        forkserver.ensure_running()


class Raised(Exception):
    """A copy raised, or its process ended.

    Args:
        content: The error, see ``troubles``.
    """

    def __init__(self, content: JsonObject) -> None:
        super().__init__(str(content.get("message")))
        self.content = content


class Copies:
    """Copies in processes side by side.

    Args:
        order: ``simulator``, ``copies`` (their indices), ``seed`` and ``streams``.

    Raises:
        Raised: A copy could not be made.
    """

    def __init__(self, order: Mapping[str, Any]) -> None:
        self._copies: list[_Copy] = []
        self._steps = 0
        self._actions: tuple[np.dtype[Any], tuple[int, ...]] | None = None
        how = context()
        from drillyard.simulators.hosts.copy_process import main

        try:
            for number in order["copies"]:
                ours, theirs = how.Pipe()
                arguments = (theirs, order["simulator"], number, order["seed"], order["streams"])
                process = how.Process(target=main, args=arguments, daemon=True)  # type: ignore[attr-defined]
                process.start()
                theirs.close()
                self._copies.append(_Copy(number, process, ours, StepWriter()))
            self.about: list[JsonObject] = self._answers(range(len(self._copies)), "made")
        except BaseException:
            self.close()
            raise

    def reset(self, seeds: list[int | None], options: list[dict[str, Any]]) -> dict[str, Any]:
        """Begin all copies."""
        bodies = list(zip(seeds, options, strict=True))
        answers = self._asked("reset", bodies)
        return {"o": _stacked(answers), "i": _infos(answers, "i")}

    def step(self, actions: np.ndarray) -> dict[str, Any]:
        """Step all copies; those whose episode ended are begun again."""
        self._steps += 1
        self._tell_layout(actions)
        for place in range(len(self._copies)):
            self._send(place, STEP + actions[place].tobytes())
        answers = self._answers(range(len(self._copies)), "done")
        return {
            "o": _stacked(answers),
            "r": np.array([a["r"] for a in answers], np.float64),
            "d": np.array([a["d"] for a in answers], bool),
            "t": np.array([a["t"] for a in answers], bool),
            "i": _infos(answers, "i"),
            "j": _infos(answers, "j"),
        }

    def _tell_layout(self, actions: np.ndarray) -> None:
        """Say once what the bytes of an action are."""
        layout = (actions.dtype, actions.shape[1:])
        if layout == self._actions:
            return
        self._actions = layout
        about = {"type": actions.dtype.str, "shape": list(actions.shape[1:])}
        for place in range(len(self._copies)):
            self._send(place, frames.encode("layout", about))

    def ask(self, kind: str, bodies: Mapping[int, Any]) -> list[Any]:
        """Ask some copies something else.

        Args:
            kind: ``call`` or ``attribute``.
            bodies: Place of a copy on this host -> what to ask.
        """
        for place, body in bodies.items():
            self._send(place, frames.encode(kind, body))
        return self._answers(bodies, "done")

    def close(self) -> None:
        """End the processes, also those that no longer answer."""
        for copy in self._copies:
            copy.pipe.close()
        deadline = time.monotonic() + _END_S
        for copy in self._copies:
            copy.process.join(max(0.0, deadline - time.monotonic()))
            if copy.process.is_alive():
                copy.process.kill()
                copy.process.join()
        self._copies.clear()

    def _asked(self, kind: str, bodies: list[Any]) -> list[Any]:
        for place, body in enumerate(bodies):
            self._send(place, frames.encode(kind, body))
        return self._answers(range(len(bodies)), "done")

    def _send(self, place: int, frame: bytes) -> None:
        with contextlib.suppress(OSError):  # a copy that has ended is noticed by its answer
            self._copies[place].pipe.send_bytes(frame)

    def _answers(self, places: Iterable[int], wanted: str) -> list[Any]:
        """The answers of some copies; all of them are read, so that the next question is new.

        They are read one after the other: a step needs them all, and waiting for whoever is first
        costs a system call for each copy and answer.
        """
        found: dict[int, Any] = {}
        raised: dict[int, JsonObject] = {}
        for place in places:
            copy = self._copies[place]
            try:
                data = copy.pipe.recv_bytes()
            except (EOFError, OSError):
                raised[place] = troubles.to_json(self._ended(place))
                continue
            if is_packed(data):
                found[place] = copy.steps.read(data)
                continue
            kind, body = frames.decode(data)
            if kind != wanted:
                raised[place] = body
                continue
            found[place] = body
            if isinstance(body, dict) and "o" in body and "r" in body:
                copy.steps.heard(body)
        if raised:
            raise Raised(raised[min(raised)])
        return [found[place] for place in places]

    def _ended(self, place: int) -> RunFailed:
        copy = self._copies[place]
        copy.process.join(_END_S)
        code = copy.process.exitcode
        how = f"code {code}"
        if code is not None and code < 0:
            with contextlib.suppress(ValueError):
                how = signal.Signals(-code).name
        when = f"its step {self._steps}" if self._steps else "its start"
        return RunFailed(
            f"the process of copy {copy.number} ended with {how} at {when}", hint=_CHECK
        )


def _stacked(answers: list[Any]) -> dict[str, np.ndarray]:
    first = answers[0]["o"]
    return {key: np.stack([answer["o"][key] for answer in answers]) for key in first}


def _infos(answers: list[Any], key: str) -> dict[int, Any]:
    return {place: a[key] for place, a in enumerate(answers) if a.get(key)}
