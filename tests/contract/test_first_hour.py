"""From a simulator that nobody changed to a trained agent, with what the scaffold says alone."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from tests.helpers.patience import PATIENCE_S

BIN = Path(sys.executable).parent
TANK = Path(__file__).parents[2] / "experiments" / "tank" / "tank.py"


def typed(line: str, folder: Path) -> str:
    done = subprocess.run(
        line,
        shell=True,
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
        env={**os.environ, "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}"},
    )
    assert done.returncode == 0, f"{line}\n{done.stdout}{done.stderr}"
    return done.stdout


def test_an_hour_in_a_minute(tmp_path):
    shutil.copy(TANK, tmp_path / "boiler.py")
    said = typed("drillyard new simulator my-boiler --from boiler.py", tmp_path)
    steps = re.findall(r"(?m)^  ((?:drillyard|python) .*)$", said.partition("then:")[2])
    assert [line.split()[1] for line in steps] == ["check", "run", "-m"]
    checked, ran, tested = (typed(line, tmp_path) for line in steps)
    assert "my-boiler: can be run" in checked and "level went from" in checked
    assert "t0001-s1  SUCCEEDED" in ran and " passed" in tested
    (accepted,) = tmp_path.glob("drillyard-runs/my-boiler/runs/t0001-s1/train.accepted.json")
    assert json.loads(accepted.read_text())["summary"]["steps"] >= 16_384
    assert (tmp_path / "boiler.py").read_bytes() == TANK.read_bytes()
