"""A cancelled flow run of a composite waits for its stages, whatever fails meanwhile."""

from __future__ import annotations

import logging
import threading
from types import SimpleNamespace
from typing import Any

import pytest

from drillyard.driver.outcome import Kind, Outcome
from drillyard.errors import Stopped, StoreUnavailable
from drillyard_flows import experiment, stages
from drillyard_flows.request import Request

PATIENCE_S = 30.0


class Driven:
    """Stages at work until they are asked to stop, which fails for one of them."""

    def __init__(self) -> None:
        self.asked = threading.Event()
        self.ended = False

    def open(self) -> list[str]:
        return ["train"]

    def run(self) -> Outcome:
        assert self.asked.wait(PATIENCE_S)
        self.ended = True
        return Outcome(Kind.STOPPED, Stopped("the flow was cancelled"))

    def stop(self, reason: str, drain: bool = False) -> None:
        self.asked.set()
        raise StoreUnavailable("no answer")

    def cancelled(self) -> None:
        """As its own mailbox: no other command gave an order."""

    @property
    def mailbox(self) -> Driven:
        return self


def test_it_waits_for_its_stages(monkeypatch):
    driven = Driven()

    def interrupted(graph: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(experiment, "get_run_logger", lambda: logging.getLogger("test"))
    monkeypatch.setattr(stages, "stages_of_request", lambda *_: driven)
    monkeypatch.setattr(experiment, "present_graph", interrupted)
    loaded: Any = SimpleNamespace()
    with pytest.raises(KeyboardInterrupt):
        experiment._staged(loaded, Request(file="whole.yaml"))
    assert driven.ended
