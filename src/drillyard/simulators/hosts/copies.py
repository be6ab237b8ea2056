"""The copies that one host has for one training: started, stepped together, ended."""

from __future__ import annotations

import contextlib
import multiprocessing
import multiprocessing.context
import time
from collections.abc import Iterable, Mapping
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from drillyard.documents.json_types import JsonObject
from drillyard.errors import ProcessKilled, RunFailed
from drillyard.simulators.hosts import frames, troubles
from drillyard.simulators.hosts.messages import Messages
from drillyard.simulators.hosts.packed_steps import STEP, RowReader, is_packed
from drillyard.system.operating_system import oom_kills, start_context

if TYPE_CHECKING:
    from drillyard.simulators.hosts.copy_thread import CopyThread

_END_S = 2.0
_BODY = "drillyard.simulators.hosts.copy_process"


class _Rows(NamedTuple):
    """Answers of one layout."""

    layout: list[Any]
    reader: RowReader
    together: frames.Template
    """What the learner is sent for all copies of the host."""


class _Copy(NamedTuple):
    number: int
    process: BaseProcess | CopyThread
    pipe: Connection | CopyThread
    messages: Messages | CopyThread


def context() -> multiprocessing.context.BaseContext:
    """How copies are started: "fork" would keep the connection to the learner open in each."""
    methods = start_context("forkserver")
    if methods.get_start_method() == "forkserver":
        methods.set_forkserver_preload([_BODY])
    return methods


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
    """Copies in processes side by side, or in threads.

    Args:
        order: ``simulator``, ``copies`` (their indices), ``seed`` and ``streams``; ``threads``:
            whether the simulator can be in threads.
    """

    def __init__(self, order: Mapping[str, Any]) -> None:
        self._copies: list[_Copy] = []
        self._steps = 0
        self._oom_kills = oom_kills()
        self._actions: tuple[np.dtype[Any], tuple[int, ...]] | None = None
        """Type and shape that the copies know."""
        self._rows: dict[int, _Rows] = {}
        """Place of a copy -> its rows."""
        self._order = order

    def make(self) -> list[JsonObject]:
        """Start the processes; returns what each copy says about itself.

        Raises:
            Raised: A copy could not be made; then none is left.
        """
        begin = self._thread if self._order.get("threads") else self._process
        try:
            for number in self._order["copies"]:
                self._copies.append(begin(number))
            return self._heard(range(len(self._copies)))
        except BaseException:
            self.close()
            raise

    def _process(self, number: int) -> _Copy:
        from drillyard.simulators.hosts.copy_process import main

        order, how = self._order, context()
        ours, theirs = how.Pipe()
        arguments = (theirs, order["simulator"], number, order["seed"], order["streams"])
        process = how.Process(target=main, args=arguments, daemon=True)  # type: ignore[attr-defined]
        process.start()
        theirs.close()
        return _Copy(number, process, ours, Messages(ours))

    def _thread(self, number: int) -> _Copy:
        from drillyard.simulators.hosts.copy_thread import CopyThread

        order = self._order
        copy = CopyThread(order["simulator"], number, order["seed"], order["streams"])
        return _Copy(number, copy, copy, copy)

    def reset(self, seeds: list[int | None], options: list[dict[str, Any]]) -> dict[str, Any]:
        """Begin all copies."""
        bodies = list(zip(seeds, options, strict=True))
        answers = self.ask("reset", dict(enumerate(bodies)))
        return {"o": _stacked(answers), "i": _infos(answers, "i")}

    def step(self, actions: np.ndarray) -> bytes:
        """Step all copies; those whose episode ended are begun again.

        Returns:
            The frame for the learner: ``rows`` (``packed_steps``), or ``done``.
        """
        self._steps += 1
        places = range(len(self._copies))
        kind = (actions.dtype, actions.shape[1:])
        if kind == self._actions:
            raw = memoryview(actions.tobytes())
            size = len(raw) // len(places)
            for place in places:
                self._send(place, STEP + raw[place * size : (place + 1) * size])
        else:
            for place in places:
                self._send(place, frames.encode("step", actions[place : place + 1]))
        answers = self._heard(places)
        self._actions = kind
        rows = self._rows[0]
        if any(type(a) is not bytes or self._rows[p] is not rows for p, a in enumerate(answers)):
            dones = [self._done(*numbered) for numbered in enumerate(answers)]
            return frames.encode("done", _together(dones))
        size = rows.reader.size
        if all(len(answer) == size for answer in answers):
            return rows.together.fill(b"".join(answers))
        tails = {
            place: np.frombuffer(answer, np.uint8, offset=size)
            for place, answer in enumerate(answers)
            if len(answer) > size
        }
        joined = b"".join([answer[:size] for answer in answers])
        return frames.encode("rows", _body(rows.layout, joined, tails))

    def _note(self, place: int, layout: list[Any]) -> None:
        """Take the layout of a copy's next answers."""
        for known in self._rows.values():
            if known.layout == layout:
                self._rows[place] = known
                return
        reader = RowReader(layout)
        body = _body(layout, bytes(reader.size * len(self._copies)), {})
        self._rows[place] = _Rows(layout, reader, frames.Template("rows", body))

    def _done(self, place: int, answer: Any) -> dict[str, Any]:
        """One answer of answers that have no common layout."""
        if isinstance(answer, dict):
            return answer
        reader = self._rows[place].reader
        tail = answer[reader.size :]
        done = reader.read(answer[: reader.size], {0: tail} if tail else {})
        return {
            "o": {key: array[0] for key, array in done["o"].items()},
            **{key: done[key][0] for key in ("r", "d", "t")},
            **{key: done[key].get(0) for key in ("i", "j")},
        }

    def ask(self, kind: str, bodies: Mapping[int, Any]) -> list[Any]:
        """Ask some copies something else.

        Args:
            kind: ``reset``, ``call`` or ``attribute``.
            bodies: Place of a copy on this host -> what to ask.
        """
        for place, body in bodies.items():
            self._send(place, frames.encode(kind, body))
        return self._heard(bodies)

    def kill(self) -> None:
        """Let whoever waits for an answer wait no longer; safe in another thread."""
        for copy in list(self._copies):
            copy.process.kill()

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

    def _send(self, place: int, message: bytes) -> None:
        with contextlib.suppress(OSError):  # a copy that has ended is noticed by its answer
            self._copies[place].messages.send(message)

    def _heard(self, places: Iterable[int]) -> list[Any]:
        """The answers of some copies; all of them are read, so that the next question is new.

        They are read from the last, which was asked last and is mostly the slowest: the others
        are there by then, and this process wakes up once for all of them.

        Returns:
            The content of each; of a packed step its bytes.

        Raises:
            Raised: A copy raised, or has ended; the first of them.
        """
        answers: dict[int, Any] = {}
        raised: dict[int, JsonObject] = {}
        for place in sorted(places, reverse=True):
            try:
                answers[place] = data = self._copies[place].messages.receive()
            except (EOFError, OSError):
                raised[place] = troubles.to_json(self._ended(place))
                continue
            if is_packed(data):
                continue
            kind, answers[place] = frames.decode(data)
            if kind == "raised":
                raised[place] = answers[place]
            elif kind == "stepped":
                self._note(place, answers[place].pop("layout"))
        if raised:
            raise Raised(raised[min(raised)])
        return [answers[place] for place in places]

    def _ended(self, place: int) -> RunFailed | ProcessKilled:
        copy = self._copies[place]
        when = f"its step {self._steps}" if self._steps else "its start"
        return troubles.ended(copy.process, copy.number, when, self._oom_kills)


def _body(layout: list[Any], rows: bytes, tails: Mapping[int, np.ndarray]) -> object:
    """The content of the frame ``rows``."""
    return {"layout": layout, "rows": np.frombuffer(rows, np.uint8), "tails": tails}


def _together(dones: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "o": _stacked(dones),
        "r": np.array([a["r"] for a in dones], np.float64),
        "d": np.array([a["d"] for a in dones], bool),
        "t": np.array([a["t"] for a in dones], bool),
        "i": _infos(dones, "i"),
        "j": _infos(dones, "j"),
    }


def _stacked(answers: list[Any]) -> dict[str, np.ndarray]:
    first = answers[0]["o"]
    return {key: np.stack([answer["o"][key] for answer in answers]) for key in first}


def _infos(answers: list[Any], key: str) -> dict[int, Any]:
    return {place: a[key] for place, a in enumerate(answers) if a.get(key)}
