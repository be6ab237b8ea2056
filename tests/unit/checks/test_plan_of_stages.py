"""``plan`` of a composite in stages: what each of them would rent."""

from __future__ import annotations

import json
from pathlib import Path

from tests.helpers.command_line import called

FILE = Path(__file__).parents[3] / "experiments" / "served.yaml"


def test_each_stage_has_its_own_machines_and_price(tmp_path: Path) -> None:
    done = called(["plan", str(FILE), "--json"], tmp_path, {})
    assert done.returncode == 0, done.stderr
    plan = json.loads(done.stdout)
    assert {name: (s["experiment"], s["machines"]) for name, s in plan["stages"].items()} == {
        "numbers": ("served.numbers", 1),
        "app": ("served.app", 1),
        "benchmark": ("served.benchmark", 2),
    }
    assert list(tmp_path.iterdir()) == [], "nothing was created"
