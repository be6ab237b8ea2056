"""The plants that are ready to be trained on, and the controllers that they have today."""

import json
import sys
import zipfile
from contextlib import closing
from pathlib import Path

import pytest

from drillyard.agents.baselines import make_baseline
from drillyard.simulators.make import make_env
from drillyard.spec.load import load

EXPERIMENTS = Path(__file__).parents[3] / "experiments"
SOURCES = Path(__file__).parents[2] / "fmus" / "tanks"


def test_the_shipped_tanks_are_made_of_the_sources_that_can_be_read():
    with zipfile.ZipFile(EXPERIMENTS / "tanks" / "tanks.fmu") as archive:
        shipped = {name: archive.read(name).decode() for name in archive.namelist()}
    assert shipped == {
        "modelDescription.xml": (SOURCES / "modelDescription.xml").read_text(),
        "sources/tanks.c": (SOURCES / "tanks.c").read_text(),
    }


@pytest.mark.parametrize(
    "file",
    [file for file in sorted(EXPERIMENTS.glob("*/*.yaml")) if file.parent.name != "parameters"],
    ids=lambda file: file.stem,
)
def test_each_example_in_a_folder_can_be_read(file):
    assert load(file).spec.simulator is not None


def returned(policy, env, options):
    env.reset(seed=1, options=options)
    policy.reset(1, options)
    observation, total, over = env.reset(seed=1, options=options)[0], 0.0, False
    while not over:
        observation, reward, terminated, truncated, _ = env.step(policy.act(observation))
        total, over = total + reward, terminated or truncated
    return total


@pytest.mark.heavy
@pytest.mark.parametrize("name", ["tanks", "heat-pump"])
def test_the_controller_of_today_is_better_than_none(name, monkeypatch, fmu):
    file = EXPERIMENTS / name / f"{name}.yaml"
    monkeypatch.setattr(sys, "path", [*sys.path, str(file.parent)])
    spec = load(file).spec
    assert len(spec.seeds) == 3
    ends = [
        {key: given[end] for key, given in spec.simulator.lesson.items()} for end in ("min", "max")
    ]
    with closing(make_env(spec.simulator)) as env:
        for options in ends:
            today, hold = (make_baseline(b, env) for b in spec.baselines[:2])
            assert returned(today, env, options) > returned(hold, env, options) + 1, options


def test_a_heat_pump_continues_from_its_state(monkeypatch):
    monkeypatch.setattr(sys, "path", [*sys.path, str(EXPERIMENTS / "heat-pump")])
    from heat_pump import HeatPump

    house, other = HeatPump(), HeatPump()
    house.reset({"mean": -5.0})
    for _ in range(20):
        house.step({"speed": 0.7})
    other.load_state(json.loads(json.dumps(house.state())))
    assert other.step({"speed": 0.2}) == house.step({"speed": 0.2})
