"""Experiments that drillyard writes for an FMU."""

from __future__ import annotations

import os
from contextlib import closing
from dataclasses import replace

import pytest

from drillyard.authoring.scaffold.fmu import _names, around_fmu
from drillyard.errors import (
    DrillyardError,
    UserError,
)
from drillyard.simulators.fmu.description import read_model
from drillyard.simulators.make import make_env
from drillyard.spec.load import load
from tests.helpers.tanks import played

pytestmark = pytest.mark.heavy  # compiles models


def test_an_experiment_that_was_written_for_a_model_is_complete(fmu, libraries):
    name = fmu(name="My Tank.fmu")
    written = around_fmu(libraries / name)
    assert written.module.name == "my-tank.yaml"
    text = written.module.read_text()
    for line in (
        'level: {min: 0, max: 2, unit: "m"}  # Height of the water',
        'pump_voltage: {min: 0, max: 10, unit: "V"}  # Voltage of the pump',
        'pump_voltage: "pump.voltage"',
        "step_s: 5  # s, the step of the model's own experiment",
        "max_episode_steps: 100  # the model's own experiment: 500 s",
        "resets: [level, area, outlet]",
        "#   area: {min: 0.9, max: 1.1}  # the model's own is 1 m2, Area of the tank",
    ):
        assert line in text
    assert {what.partition(":")[0] for _, what in written.parts} == {"flow", "overflows", "error"}
    simulator = load(written.module).spec.simulator
    with closing(make_env(simulator)) as env:
        env.reset(seed=1, options={"area": 2.0})
        assert played(env, 2)
    with pytest.raises(UserError, match="already exists"):
        around_fmu(libraries / name)
    # A person removes the marks before the lesson.
    head, _, rest = text.partition("  # lesson:\n")
    lesson, _, tail = rest.partition("learner:")
    lines = "".join(f"  {line[4:]}\n" for line in lesson.splitlines())
    written.module.write_text(f"{head}  lesson:\n{lines}learner:{tail}")
    assert set(load(written.module).spec.simulator.lesson) == {"level", "area", "outlet"}


@pytest.mark.parametrize(
    ("change", "line"),
    [
        (("Voltage of the pump", "Voltage&#10;seeds: [9]"), '"V"}  # Voltage seeds: [9]'),
        (('"V"', '"&quot;H2O"'), r'max: 10, unit: "\"H2O"}'),
        (('min="0" max="10"', 'min="0" max="10.1234567"'), "{min: 0, max: 10.1234567, unit"),
    ],
    ids=["line in a description", "quote in a unit", "digits of a range"],
)
def test_words_and_ranges_of_the_model_keep_the_experiment_valid(fmu, libraries, change, line):
    path = libraries / fmu(name="words.fmu", change=change)
    written = around_fmu(path).module
    try:
        assert line in written.read_text()
        make_env(load(written).spec.simulator).close()
    finally:
        written.unlink()


def test_a_written_experiment_has_a_unit_only_where_the_model_has_one(fmu, libraries):
    path = libraries / fmu(name="plain.fmu", change=(' unit="m3/s"', ""))
    written = around_fmu(path).module
    text = written.read_text()
    written.unlink()
    (flow,) = (line for line in text.splitlines() if line.strip().startswith("flow:"))
    assert "unit" not in flow and 'unit: "1"' not in text
    (outlet,) = (line for line in text.splitlines() if "#   outlet:" in line)
    assert "the model's own is 0.01" in outlet and "0.01 1" not in outlet


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ({"files": {"binaries/linux64/tank.so": "MZ"}}, "other.fmu cannot be started"),
        ({"files": {"../../evil.txt": "x"}}, "an entry outside its folder"),
        ({}, "no binary for this system"),
    ],
    ids=["library of another system under this one's name", "path outside", "no binary"],
)
def test_nothing_is_written_for_a_model_that_cannot_be_loaded(
    fmu, libraries, monkeypatch, how, words
):
    path = libraries / fmu(name="other.fmu", **how)
    if not how:
        monkeypatch.setattr("fmpy.platform", "linux32")
        monkeypatch.setattr("fmpy.platform_tuple", "x86-linux")
        monkeypatch.setenv("PATH", "")
    before = os.getcwd()
    with pytest.raises(DrillyardError, match=words) as refusal:
        around_fmu(path)
    assert "\n" not in refusal.value.message and refusal.value.hint
    assert not (libraries / "other.yaml").exists() and os.getcwd() == before


def test_a_model_that_crashes_in_the_trial_is_written_as_isolated(fmu, libraries):
    path = libraries / fmu("CRASHES_AT=4", name="fragile.fmu")
    text = around_fmu(path).module.read_text()
    assert "isolate: true  # the model ended its process in a trial" in text
    assert "level: {min: 0, max: 2" in text


def test_names_in_a_written_experiment_are_different_and_can_be_read_by_a_reward(fmu):
    level = read_model(fmu()).variables["level"]
    written = {"a.b": "a_b", "a_b": "a_b_", "class": "_class", "1x": "_1x", "time.": "time_"}
    assert _names(replace(level, name=name) for name in written) == written


def test_unit_and_range_come_from_the_type_of_a_variable(fmu):
    own = '<Real unit="m" min="0" max="2" start="1"/>'
    name = fmu(name="typed.fmu", change=(own, '<Real declaredType="Height" start="1"/>'))
    level = read_model(name).variables["level"]
    assert (level.unit, level.low, level.high) == ("m", 0.0, 2.0)


def test_an_enumeration_has_the_range_of_its_items(fmu):
    name = fmu(name="modes.fmu", change=("<Integer/>", '<Enumeration declaredType="Mode"/>'))
    mode = read_model(name).variables["overflows"]
    assert (mode.type, mode.low, mode.high) == ("Enumeration", 1.0, 3.0)


def test_an_unsigned_number_begins_at_zero(fmu):
    name = fmu(source="tank3", name="unsigned.fmu", change=("<Int32 ", "<UInt32 "))
    assert read_model(name).variables["overflows"].low == 0.0
