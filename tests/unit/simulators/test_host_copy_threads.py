"""Copies in threads of their host: the same answers, and no thread that stays."""

from __future__ import annotations

import threading
import time
from typing import Any

import numpy as np
import pytest

from drillyard.simulators.external import External
from drillyard.simulators.hosts import copies, frames
from drillyard.simulators.hosts.copies import Copies, Raised
from drillyard.simulators.hosts.copy_process import CopyServer
from drillyard.simulators.hosts.copy_thread import thread_safe
from drillyard.simulators.make import make_env
from drillyard.spec.learning import SimulatorSpec
from tests.helpers.patience import until

WORLD = "tests.helpers.hosted_worlds:"
ACTIONS = np.linspace(-1, 1, 12, dtype=np.float32).reshape(3, 2, 2)
"""Three steps of two copies."""
STATE = ("stack_state", (), {})


def spec(name: str, **more: Any) -> SimulatorSpec:
    return SimulatorSpec.model_validate({"id": f"{WORLD}{name}", **more})


def made(name: str, **more: Any) -> Copies:
    simulator = spec(name, **more).model_dump(mode="json", by_alias=True)
    order = {"simulator": simulator, "copies": [3, 4], "seed": 7, "streams": 2, "threads": True}
    return Copies(order)


def no_thread_is_left() -> None:
    def there() -> list[str]:
        return [t.name for t in threading.enumerate() if t.name.startswith("copy-")]

    until(lambda: not there(), what="the end of the threads")


def asked(server: CopyServer, kind: str, body: Any) -> Any:
    return frames.decode(server.reply(frames.encode(kind, body)))[1]


def test_they_are_stepped_as_copies_in_processes_are():
    both = made("Threads")
    alone = [CopyServer(spec("Threads"), number, 7, 2) for number in (3, 4)]
    assert both.make() == [server.about() for server in alone]
    begun = both.reset([1, 2], [{}, {}])
    theirs = [asked(server, "reset", (seed, {})) for seed, server in enumerate(alone, 1)]
    assert [o.tobytes() for o in begun["o"][""]] == [one["o"][""].tobytes() for one in theirs]
    for actions in ACTIONS:
        both.step(actions)
        for place, server in enumerate(alone):
            server.reply(frames.encode("step", actions[place : place + 1]))
    states = both.ask("call", {0: STATE, 1: STATE})
    assert [repr(state) for state in states] == [repr(asked(s, "call", STATE)) for s in alone]
    both.close()
    no_thread_is_left()


@pytest.mark.parametrize(("name", "words"), [("Fails", "the tank is empty"), ("None_", "None_")])
def test_what_one_raises_is_told_and_the_others_end(name, words):
    both = made(name)
    with pytest.raises(Raised) as raised:
        both.make()
        both.reset([1, 2], [{}, {}])
        for _ in range(30):
            both.step(ACTIONS[0])
    assert words in str(raised.value)
    both.close()
    no_thread_is_left()


def test_one_that_hangs_is_waited_for_no_longer_than_a_limit(monkeypatch, caplog):
    monkeypatch.setattr(copies, "_END_S", 0.2)
    both = made("WaitsInThreads", args={"wait_s": 1.5})
    both.make()
    both.reset([1, 2], [{}, {}])
    threading.Timer(0.2, both.kill).start()
    began = time.monotonic()
    with pytest.raises(Raised):
        both.step(ACTIONS[0])
    both.close()
    assert time.monotonic() - began < 1.4
    assert "copy 3 still hangs in its simulator" in caplog.text
    no_thread_is_left()


def test_only_a_simulator_that_says_so_is_in_threads():
    plain = {
        "observes": {"x": {"min": -1, "max": 1}},
        "acts": {"push": {"min": -1, "max": 1}},
        "reward": {"near": "-abs(x)"},
    }
    for name, more, expected in (
        ("Threads", {}, True),
        ("Silent", {}, False),
        ("PlainThreads", {"agent": plain}, True),
    ):
        env = make_env(spec(name, wrappers=["normalize"], **more))
        assert thread_safe(env) is expected
        env.close()
    assert External.thread_safe, "each copy waits for a process of its own"
