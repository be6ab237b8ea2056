"""``drillyard list points``: the names of a model with their units."""

import json

import pytest

from drillyard.cli.main import main
from tests.fmus import write_fmu

pytestmark = pytest.mark.heavy  # compiles a model


def test_the_variables_of_an_fmu_are_listed(tmp_path, capsys):
    file = write_fmu(tmp_path / "tank.fmu")
    assert main(["list", "points", str(file), "--json"]) == 0
    rows = {row["name"]: row for row in json.loads(capsys.readouterr().out)}
    assert rows["pump.voltage"]["kind"] == "input" and rows["pump.voltage"]["unit"] == "V"
    assert (rows["level"]["low"], rows["level"]["high"]) == (0.0, 2.0)
    assert rows["outlet"]["kind"] == "tunable parameter"
    assert main(["list", "points", str(file), "--like", "VOLT"]) == 0
    assert capsys.readouterr().out.count("pump.voltage") == 1
    assert main(["list", "points", str(file), "--like", "xyz"]) == 0
    assert "no name with 'xyz'" in capsys.readouterr().out


def test_a_file_that_is_not_a_model_is_refused(tmp_path, capsys):
    (tmp_path / "text.fmu").write_text("hello")
    assert main(["list", "points", str(tmp_path / "text.fmu")]) == 2
    assert "cannot be read as an FMU" in capsys.readouterr().err
