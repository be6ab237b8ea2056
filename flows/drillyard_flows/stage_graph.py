"""The stages of a composite as bodies that a flow shows. Imports no Prefect."""

from __future__ import annotations

from collections.abc import Sequence

from drillyard.driver.bodies import Bodies, Body
from drillyard.errors import RunFailed, Stopped
from drillyard.mailbox.stage_records import StageState

SERVES = " serves"
"""Behind the name of a service: the time between being ready and being stopped."""


class Graph:
    """Turns the states of stages into bodies, once each."""

    def __init__(self) -> None:
        self.bodies = Bodies()
        self.after: dict[str, list[str]] = {}
        """Key of a body -> keys of the bodies before it."""
        self._open: dict[str, Body] = {}
        self._seen: dict[str, str] = {}

    def update(self, states: Sequence[StageState]) -> None:
        """Offers what began, and ends what ended.

        Args:
            states: All stages, in the order of the file.
        """
        for state in states:
            before = self._seen.get(state.name, "waiting")
            if state.status == before:
                continue
            self._seen[state.name] = state.status
            began = before in ("running", "serving")
            if state.status in ("running", "serving") and not began:
                self._offer(state.name, state.after)
            if state.status == "serving":
                self._end(state.name, state)
                self._offer(state.name + SERVES, [state.name])
            elif state.ended:
                for key in (state.name, state.name + SERVES):
                    self._end(key, state)

    def close(self) -> None:
        """Ends the list; safe to call again."""
        for key in list(self._open):
            self._open.pop(key).future.set_exception(RunFailed("it was not decided"))
        self.bodies.close()

    def _offer(self, key: str, after: list[str]) -> None:
        self.after[key] = list(after)
        self._open[key] = body = Body("stage", key)
        self.bodies.offer(body)

    def _end(self, key: str, state: StageState) -> None:
        body = self._open.pop(key, None)
        if body is None:
            return
        if state.status in ("succeeded", "serving"):
            body.future.set_result(None)
        elif state.status == "stopped":
            body.future.set_exception(Stopped(state.message or "stopped"))
        else:
            body.future.set_exception(RunFailed(state.message or state.status))
