"""What Sinergym expects of an installation of EnergyPlus."""

import os
import sys

import pytest

from drillyard.simulators.energyplus.sinergym import offer_dictionary


@pytest.fixture
def eppy(tmp_path, monkeypatch):
    files = tmp_path / "eppy" / "resources" / "iddfiles"
    files.mkdir(parents=True)
    for version in ("8_9_0", "9_0_1", "9_2_0"):
        (files / f"Energy+V{version}.idd").write_text(version)
    (tmp_path / "eppy" / "__init__.py").touch()
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "eppy", raising=False)
    monkeypatch.setenv("DRILLYARD_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("EPLUS_PATH", raising=False)


def test_it_finds_the_dictionary_of_the_newest_version(eppy):
    for _ in range(2):
        offer_dictionary()
        with open(os.path.join(os.environ["EPLUS_PATH"], "Energy+.idd")) as file:
            assert file.read() == "9_2_0"
        del os.environ["EPLUS_PATH"]


def test_an_installation_that_the_user_names_is_kept(eppy, monkeypatch):
    monkeypatch.setenv("EPLUS_PATH", "/mine")
    offer_dictionary()
    assert os.environ["EPLUS_PATH"] == "/mine"
