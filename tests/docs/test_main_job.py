"""The main job, by its own command, as a new user sees it."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from tests.conftest import BIN
from tests.helpers.processes import run_process

pytestmark = pytest.mark.heavy


def test_what_the_main_job_prints(finished_cstr):
    """The table has agent and baselines, says how sure each is, and the report is where it says.

    Two seeds have their range. The two controllers do the same in every episode of a signal, so
    that nothing about their means is left to chance.
    """
    output = (finished_cstr.parent / "output.txt").read_text()
    assert "Traceback" not in output
    rows: dict[str, tuple[float, str, str]] = {}
    for line in output.splitlines():
        match = re.match(r"(agent|hold|random|p-controller) +(-?[\d.]+) +(.+?)  +(\S.*)", line)
        if match:
            rows[match[1]] = (float(match[2]), match[3], match[4])
    assert set(rows) == {"agent", "hold", "random", "p-controller"}, output
    assert [rows[name][1] for name in ("agent", "hold", "p-controller")] == ["-"] * 3, output
    for name, text in (("agent", rows["agent"][2]), ("random", rows["random"][1])):
        ends = re.search(r"(-?[\d.]+) to (-?[\d.]+)", text)
        assert ends and float(ends[1]) <= rows[name][0] <= float(ends[2]), output
    assert rows["agent"][2].startswith("range of 2 seeds: "), output
    assert rows["agent"][0] > 60 > rows["hold"][0], "the agent has learnt to run the reactor"
    report = re.search(r"report: +(\S+)", output)
    assert report, output
    page = Path(report[1]).read_text()
    assert f"{rows['agent'][0]:.2f}" in page


def test_the_numbers_are_the_same_everywhere(finished_cstr):
    """`results --json` says what the table said, and the evaluation files add up to it."""
    done = run_process(
        [str(BIN / "drillyard"), "results", "cstr-ppo", "--json", "--store", str(finished_cstr)],
        check=True,
    )
    found = json.loads(done.stdout)
    returns = []
    for run in ("t0001-s1", "t0001-s2"):
        path = finished_cstr / "cstr-ppo" / "runs" / run / "evaluation" / "episodes.json"
        episodes = json.loads(path.read_text())
        returns += [e["return"] for e in episodes if e["policy"] == "agent"]
    agent = next(p for p in found["policies"] if p["policy"] == "agent")
    assert abs(sum(returns) / len(returns) - agent["mean_return"]) < 1e-9


def test_what_people_look_for_is_there(finished_cstr):
    """Files of a run under the names that other tools expect."""
    run = finished_cstr / "cstr-ppo" / "runs" / "t0001-s1"
    for name in (
        "policy/best_model.zip",
        "policy/final_model.zip",
        "policy/policy.safetensors",
        "policy/spaces.json",
        "metrics.csv",
        "progress.csv",
        "monitor.csv",
        "platform.json",
        "evaluation/episodes.csv",
    ):
        assert (run / name).stat().st_size > 0, name
    assert list((run / "tensorboard").glob("events.out.tfevents.*"))
    assert (finished_cstr / "mlflow.db").exists()


def test_nothing_is_left_running(finished_cstr):
    """Teardown is confirmed by the provider's own listing: here, the process table."""
    from drillyard.system.processes import marked
    from drillyard_backends.local import LocalBackend

    leases = {p.parent.name for p in finished_cstr.glob("cstr-ppo/leases/*/gone.json")}
    assert leases
    assert not [lease for lease in leases if list(marked(lease))]
    assert not leases & {lease.lease_id for lease in LocalBackend().leases()}
