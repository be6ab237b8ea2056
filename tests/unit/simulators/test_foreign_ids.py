"""Gymnasium ids of another package: it is imported where it is, and named where it is not."""

import sys

import gymnasium as gym
import pytest

from drillyard.errors import ConfigError
from drillyard.simulators.make import make_env
from drillyard.spec.learning import SimulatorSpec

BUILDING = SimulatorSpec(id="Eplus-5zone-hot-continuous-v1")


def test_a_package_that_is_missing_is_named_with_the_line_that_installs_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "sinergym", None)
    with pytest.raises(ConfigError) as caught:
        make_env(BUILDING)
    assert caught.value.field == "simulator.id"
    assert str(caught.value.hint).startswith("pip install 'sinergym>=3.6' (Python 3.12")


def test_a_package_that_is_there_registers_its_ids(tmp_path, monkeypatch):
    (tmp_path / "sinergym.py").write_text(
        "import gymnasium\n"
        f"gymnasium.register({BUILDING.id!r}, 'drillyard.simulators.building:BuildingEnv')\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "sinergym", raising=False)
    try:
        env = make_env(BUILDING)
        assert env.observation_space.shape == (10,)
        env.close()
    finally:
        sys.modules.pop("sinergym", None)
        gym.registry.pop(BUILDING.id, None)


def test_a_package_that_breaks_when_it_is_imported_is_nobodys_bug_of_ours(tmp_path, monkeypatch):
    (tmp_path / "sinergym.py").write_text("print('for a newer Python\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "sinergym", raising=False)
    with pytest.raises(ConfigError, match="cannot be imported: SyntaxError"):
        make_env(BUILDING)
