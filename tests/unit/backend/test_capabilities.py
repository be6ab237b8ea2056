"""Capabilities are found by what a backend has; nothing is asked for by the name of a member."""

import re
from pathlib import Path

import pytest

from drillyard.backend import Delays, delays_of
from drillyard.backend.capabilities import CAPABILITIES
from drillyard.registry import load
from drillyard.runs.workload import HandsRunsOn, SpreadsRuns
from tests.helpers.paid_backend import PaidBackend
from tests.helpers.tiny_backend import ThreadBackend

CORE = Path(__file__).parents[3] / "src"
HAS = {
    "local": {"HasSettings"},
    "dask": {"HasSettings", "HasDelays", "TendsLeases"},
    "ssh": {"HasSettings", "NeedsExtra"},
    "azure": {
        "HasSettings",
        "NeedsExtra",
        "HasDelays",
        "ProvidesStore",
        "HasConsole",
        "CanBeIdle",
        "ExplainsLosses",
        "ExplainsWaits",
        "FindsLeases",
        "HasAlternatives",
        "HasMachineTypes",
        "PricesEgress",
        "TendsLeases",
        "PacksRuns",
        "RefreshesPrices",
    },
    "gcp": {
        "HasSettings",
        "NeedsExtra",
        "HasDelays",
        "ProvidesStore",
        "HasConsole",
        "HasClock",
        "ExplainsWaits",
        "TendsLeases",
        "ProtectsLeases",
        "SimulatesPreemption",
        "HasMachineTypes",
        "PricesEgress",
        "PacksRuns",
        "RefreshesPrices",
    },
}


@pytest.mark.parametrize("kind", HAS)
def test_what_each_backend_can_do(kind):
    factory = load("backends", kind)
    found = {one.__name__ for one in CAPABILITIES if isinstance(factory, one)}
    assert found == HAS[kind]


def test_the_core_asks_by_protocols_alone():
    asked = re.compile(r"(getattr|hasattr)\((backend|factory|workload|learner|load\()")
    found = [p for p in CORE.rglob("*.py") if asked.search(p.read_text())]
    assert found == []


def test_a_backend_without_capabilities_is_waited_for_no_longer():
    assert delays_of(ThreadBackend()) == Delays(0.0, 0.0, 0.0)
    PaidBackend.reset()
    PaidBackend.listing_lag_s = 7.0
    assert delays_of(PaidBackend()) == Delays(listing_lag_s=7.0)
    PaidBackend.reset()


def test_what_workloads_can_do():
    made = {kind: load("workloads", kind)() for kind in ("rl", "mock", "script", "composite")}
    assert {k for k, one in made.items() if isinstance(one, SpreadsRuns)} == {"rl"}
    assert {k for k, one in made.items() if isinstance(one, HandsRunsOn)} == {"rl", "mock"}
