"""Faults of the emulated clouds that need no cloud."""

from __future__ import annotations

import importlib
import random
import time
from pathlib import Path

import pytest

from drillyard.cli.main import main
from drillyard_emulators.azure.rehearsal import AzureRehearsal
from drillyard_emulators.faults import Fault, merged, trouble
from drillyard_emulators.gcp.compute.world import World
from drillyard_emulators.gcp.gcs.objects import Conditions, Storage
from drillyard_emulators.gcp.rehearsal import GcpRehearsal
from drillyard_emulators.http.clock import EmulatedClock
from drillyard_emulators.http.faults import FaultRule, Faults
from drillyard_emulators.http.wire import ConnectionLost, Refusal, Request, Response
from drillyard_emulators.rehearsal import Account

REQUEST = Request("GET", "storage.googleapis.com", "/b/x", {}, "", {}, b"", None)
ROOT = Path(__file__).parents[3]


def answers(faults: Faults) -> bool:
    """Whether the emulated service answers a call now."""
    try:
        return faults.around(lambda request: Response(200))(REQUEST).status == 200
    except ConnectionLost:
        return False


def test_an_outage_begins_once_lasts_and_ends(monkeypatch):
    now = 1000.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    faults, seed = Faults(), 7
    faults.add(FaultRule.model_validate(trouble(Fault("outage", "60"), "storage", seed)))
    before = random.Random(seed).randrange(10, 100)
    assert [answers(faults) for _ in range(before)] == [True] * before
    assert [answers(faults) for _ in range(5)] == [False] * 5
    now += 59.0
    assert not answers(faults)
    now += 1.0
    assert [answers(faults) for _ in range(300)] == [True] * 300
    assert faults.rules()[0]["played"] == 6


def test_slow_calls_take_3_to_30_seconds(monkeypatch):
    slept: list[float] = []
    monkeypatch.setattr(time, "sleep", slept.append)
    faults = Faults(seed=1)
    faults.add(FaultRule.model_validate(trouble(Fault("slow", "0.5"), "storage", 0)))
    assert all(answers(faults) for _ in range(200))
    assert 60 < len(slept) < 140
    assert 3.0 <= min(slept) < 6.0 and 27.0 < max(slept) <= 30.0


def test_an_object_takes_one_change_a_second_if_so_asked():
    clock = EmulatedClock(speed=0.0, start=1000.0)
    storage = Storage(clock)
    storage.create({"name": "lab-bucket"})
    storage.writes_per_s = 1.0

    def write(name: str) -> None:
        storage.write("lab-bucket", name, b"1", {}, Conditions())

    write("heartbeat")
    write("another")  # the limit is of one object, not of the bucket
    with pytest.raises(Refusal) as refused:
        write("heartbeat")
    assert refused.value.status == 429 and "rate limit for object mutation" in str(refused.value)
    with pytest.raises(Refusal):
        storage.delete("lab-bucket", "heartbeat", None, Conditions())
    clock.advance(1.0)
    write("heartbeat")


def test_lists_of_all_zones_reach_none_for_a_while():
    world = World.__new__(World)  # only its physics counts here
    module = importlib.import_module("drillyard_emulators.gcp.compute.model")
    world.physics = module.Physics(unreachable_lists=2, unreachable=["zones/z"])
    world.lock = importlib.import_module("threading").RLock()
    places = ["zones/a", "zones/b"]
    assert [world.unreachable(places) for _ in range(3)] == [places, places, ["zones/z"]]


def test_faults_of_one_kind_are_asked_for_together():
    calls = [
        ("physics", {"a": [1], "b": 1}),
        ("project", {"denied": ["x"]}),
        ("fault", {"match": "m"}),
        ("physics", {"a": [2], "b": 2}),
        ("project", {"denied": ["y"]}),
    ]
    assert merged(calls) == [  # type: ignore[arg-type]
        ("fault", {"match": "m"}),
        ("physics", {"a": [1, 2], "b": 2}),
        ("project", {"denied": ["x", "y"]}),
    ]


@pytest.mark.parametrize("rehearsal", [GcpRehearsal, AzureRehearsal])
def test_the_page_names_every_fault(rehearsal):
    page = (ROOT / "docs" / "how-to" / "rehearse.md").read_text("utf-8")
    assert [name for name in rehearsal.kinds if f"`{name}=" not in page] == []


class _Played:
    """Stands in for an emulated cloud on which one of two faults met nothing."""

    def behave(self, physics: object) -> None: ...

    def arguments(self) -> list[str]:
        return []

    def env(self) -> dict[str, str]:
        return {}

    def account(self, patience_s: float) -> Account:
        return Account(faults=[("preempt=1", 0), ("no-groups=1", 2)])

    def close(self) -> None: ...


@pytest.mark.parametrize("words", [[], ["--json"]])
def test_a_fault_that_met_nothing_is_named_at_the_end(monkeypatch, capsys, words):
    """Also to people whose script reads the account."""
    monkeypatch.setattr("drillyard_emulators.rehearsal.rehearsal_of", lambda *_: _Played())
    monkeypatch.setattr("drillyard_emulators.commands._run", lambda *_, **__: 0)
    file = str(ROOT / "experiments" / "mock.yaml")
    faults = ["--fault", "preempt=1", "--fault", "no-groups=1"]
    assert main(["rehearse", file, "--on", "gcp", *faults, *words]) == 0
    (said,) = [line for line in capsys.readouterr().err.splitlines() if "warning" in line]
    assert "fault preempt=1 was played 0 times" in said
