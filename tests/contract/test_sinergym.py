"""Sinergym's buildings on the engine of `pyenergyplus-lbnl` (slow), in a separate environment.

pip install -e '.[dev]' sinergym -c deployments/sinergym/constraints.txt
python -m pytest -m slow tests/contract/test_sinergym.py
"""

import math
from contextlib import closing
from importlib.util import find_spec

import pytest

from drillyard.simulators.make import make_env
from drillyard.spec.learning import SimulatorSpec

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(find_spec("sinergym") is None, reason="Sinergym is not installed"),
]
BUILDINGS = [
    "demo",
    "5zone-hot-continuous",
    "office-mixed-continuous",
    "officegrid-hot-continuous",
    "radiant-stockholm-discrete",
    "shop-mixed-discrete",
    "smalldatacenter-hot-continuous",
    "warehouse-cool-continuous",
]


@pytest.mark.parametrize("name", BUILDINGS)
def test_a_building_of_sinergym_is_stepped_by_its_usual_id(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # Sinergym writes beside it
    with closing(make_env(SimulatorSpec(id=f"Eplus-{name}-v1"))) as env:
        env.action_space.seed(1)
        env.reset(seed=1)
        steps = [env.step(env.action_space.sample()) for _ in range(100)]
    assert all(math.isfinite(reward) for _, reward, *_ in steps)
    assert len({info["total_power_demand"] for *_, info in steps}) > 1


@pytest.mark.parametrize(("name", "energy"), [("demo", 1.0), ("5zone-hot-continuous", 1e-4)])
def test_its_linear_reward_is_that_of_the_older_system(name, energy, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    violations = 0
    with closing(make_env(SimulatorSpec(id=f"Eplus-{name}-v1"))) as env:
        names = env.unwrapped.observation_variables
        env.action_space.seed(1)
        env.reset(seed=1)
        for _ in range(100):
            observation, reward, *_ = env.step(env.action_space.sample())
            states = dict(zip(names, map(float, observation), strict=True))
            room, power = states["air_temperature"], states["HVAC_electricity_demand_rate"]
            outside = max(20.0 - room, 0.0) + max(room - 23.5, 0.0)  # winter: it is January
            violations += outside > 0
            assert reward == pytest.approx(-0.5 * energy * power - 0.5 * outside, rel=1e-4)
    assert violations, "no step of these shows the term of comfort"
