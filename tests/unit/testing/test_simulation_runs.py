"""Several processes of the simulation go on after a failure of one, and say so."""

from __future__ import annotations

import itertools
import json
import subprocess

from tests.simulation import campaign

DONE = {"schedules": 3, "steps": [5, 6, 7], "seconds": 1.0, "counts": {"kill": 1}, "failed": None}


def test_both_processes_of_a_run_go_on_after_a_failure_of_one(monkeypatch, capsys):
    asked: list[int] = []
    clock = itertools.count()
    monkeypatch.setattr(campaign.time, "monotonic", lambda: next(clock) * 0.001)

    def run(words, **_):
        seed = int(words[words.index("--seed-from") + 1])
        asked.append(seed)
        failed = {1: 4, 10_000_001: None}.get(seed)
        if seed == 5:
            return subprocess.CompletedProcess(words, -9, stdout="")
        return subprocess.CompletedProcess(words, 0, stdout=json.dumps({**DONE, "failed": failed}))

    monkeypatch.setattr(campaign.subprocess, "run", run)
    assert campaign.side_by_side(1, 60.0, 2) == 1
    said = capsys.readouterr().out
    assert sorted(asked) == [1, 5, 1_000_005, 10_000_001], "behind each that failed"
    assert "failed: python -m tests.simulation --seed 4; others follow" in said
    assert "a process ended with -9, from seed 5 on; others follow" in said
    assert "9 schedules, 54 steps" in said and "2 of 9 schedules failed" in said
