"""Presets: one for every simulator of Gymnasium, and each does what is stated of it."""

from __future__ import annotations

import re

import gymnasium as gym
import pytest

from drillyard.documents.json_types import as_number, as_object
from drillyard.spec.load import load
from drillyard.spec.presets import Preset, statement, table
from drillyard.statistics.intervals import mean_interval
from tests.benchmarks.presets import measure

FAMILIES = ("classic_control", "box2d", "toy_text", "mujoco")
CHEAP = "blackjack/ppo"


def preset(name: str) -> Preset:
    return next(entry for entry in table() if entry["name"] == name)


def newest_of_gymnasium() -> list[str]:
    """The newest version of each simulator that Gymnasium itself brings."""
    found: dict[str, int] = {}
    for spec in gym.registry.values():
        module = spec.entry_point if isinstance(spec.entry_point, str) else ""
        family = re.match(r"gymnasium\.envs\.(\w+)", module)
        if family and family[1] in FAMILIES and spec.version is not None:
            found[spec.name] = max(spec.version, found.get(spec.name, 0))
    return [f"{name}-v{version}" for name, version in sorted(found.items())]


def test_every_simulator_of_gymnasium_has_a_preset():
    worlds = newest_of_gymnasium()
    assert len(worlds) >= 27 and "Ant-v5" in worlds
    presets = {simulator for entry in table() for simulator in entry["when"]["simulators"]}
    assert [world for world in worlds if world not in presets] == []


@pytest.mark.parametrize("entry", table(), ids=lambda entry: entry["name"])
def test_a_name_runs_what_was_measured(entry, tmp_path, monkeypatch):
    """`drillyard run NAME` has the budget, the seeds and the arguments of its statement."""
    monkeypatch.setenv("DRILLYARD_HOME", str(tmp_path))
    spec = load(entry["name"]).spec
    said, values = statement(entry), entry["values"]
    assert spec.train is not None and f"{spec.train.steps:,} steps" in said
    assert spec.learner is not None and spec.evaluate is not None
    assert spec.learner.preset == entry["name"]
    assert spec.learner.args.items() >= as_object(as_object(values["learner"])["args"]).items()
    assert spec.resources.threads == 1  # the number of threads changes numbers
    engine = spec.learner.engine
    assert (f"with engine: {engine}" in said) == (engine != "sb3"), (engine, said)
    if entry["measured"] is None:
        assert said.startswith("not measured")
    else:
        assert f"over {len(spec.seeds)} seeds" in said
        assert f"{spec.evaluate.episodes} episodes each" in said
        assert re.search(r"\(95 % interval -?[\d.]+ to -?[\d.]+\)|\(no interval\)", said)


def test_the_long_training_beats_the_controller_of_the_reactor():
    """Over five seeds, with the interval of the difference above 0."""
    found = preset("cstr/ppo-long")["measured"]
    assert found is not None and len(found["means"]) == 5
    controller = as_number(found["beside"]["p-controller"])
    assert controller == pytest.approx(85.8, abs=0.1)
    difference = mean_interval([mean - controller for mean in found["means"]])
    assert difference is not None and difference[0] > 0


@pytest.mark.slow  # three trainings of a minute
def test_a_preset_reaches_again_what_is_stated(tmp_path, monkeypatch):
    monkeypatch.setenv("DRILLYARD_HOME", str(tmp_path))
    entry = preset(CHEAP)
    assert entry["measured"] is not None
    stated = mean_interval(entry["measured"]["means"])
    again = measure(entry, tmp_path)["agent"]
    assert stated is not None
    assert stated[0] <= sum(again) / len(again) <= stated[1]
