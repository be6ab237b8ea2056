"""``plan`` of a composite in stages: what each of them would rent."""

import json
from pathlib import Path

import pytest

from tests.helpers.command_line import called

FILE = Path(__file__).parents[3] / "experiments" / "served.yaml"


def test_each_stage_has_its_own_machines_and_price(tmp_path):
    done = called(["plan", str(FILE), "--json"], tmp_path, {})
    assert done.returncode == 0, done.stderr
    plan = json.loads(done.stdout)
    assert {name: (s["experiment"], s["machines"]) for name, s in plan["stages"].items()} == {
        "numbers": ("served.numbers", 1),
        "app": ("served.app", 1),
        "benchmark": ("served.benchmark", 2),
    }
    assert list(tmp_path.iterdir()) == [], "nothing was created"


@pytest.mark.heavy
def test_each_stage_shows_its_places_and_those_that_it_does_not_use(tmp_path):
    (tmp_path / "turns.yaml").write_text(
        "name: turns\nworkload: composite\nbackend: [local, ssh]\n"
        "backends: {ssh: {hosts: ['127.0.0.1:9'], connect_timeout_s: 1}}\n"
        "children:\n"
        "  - {name: first, workload: mock, outputs: {score: {metric: score}}}\n"
        "  - {name: second, workload: mock, backend: [ssh, local], after: [first]}\n"
    )
    done = called(["plan", "turns.yaml", "--json"], tmp_path, {})
    assert done.returncode == 0, done.stderr + done.stdout
    for stage in json.loads(done.stdout)["stages"].values():
        used = {place["backend"]: place["used"] for place in stage["places"]}
        assert used == {"local": True, "ssh": False}
        assert stage["places"][1]["why_not"]
