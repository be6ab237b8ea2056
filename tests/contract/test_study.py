"""Whole studies on this machine: every trial once, whatever is killed; failed ones stay so."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

import drillyard
from drillyard.backend import open_backend
from drillyard.errors import ConfigError, IdentityChanged, RunFailed
from drillyard.leases.ledger import Ledger
from drillyard.mailbox import Mailbox, open_store
from drillyard.mailbox.records import Phase
from drillyard.mailbox.status import Status
from drillyard.mailbox.ticket_states import ticket_states
from tests.helpers.processes import run_process
from tests.helpers.searches import LEVEL, study_file

RUNNER = Path(__file__).parents[1] / "helpers" / "study_runner.py"


@pytest.fixture(autouse=True)
def _home(tmp_path, monkeypatch):
    monkeypatch.setenv("DRILLYARD_HOME", str(tmp_path / "home"))


def write(folder: Path, study: dict[str, Any], **more: Any) -> Path:
    kinds = {"type": "categorical", "values": ["a", "b"], "default": "a"}
    return study_file(folder, study, {**LEVEL, "kind": kinds}, **more)


def run(folder: Path, study: dict[str, Any], **more: Any) -> Mailbox:
    path = write(folder, study, **more)
    drillyard.run(path, store=folder / "runs", flow=False, report=False)
    return Mailbox(open_store(str(folder / "runs")), "s")


def nothing_rented(mailbox: Mailbox) -> bool:
    backend = open_backend("local", {})
    ours = {e.lease.lease_id for e in Ledger(mailbox).entries()}
    return not any(lease.lease_id in ours for lease in backend.leases())


def killed_again_and_again(folder: Path, trials: int, kills: int, seed: int) -> Mailbox:
    """A study whose driver is killed at random moments; the mailbox after its end."""
    path = write(
        folder,
        {"chooser": "tpe", "trials": trials, "confirm": 0},
        mock={"range": [0, 100], "duration_s": 0.05},
        seeds=[1],
    )
    mailbox = Mailbox(open_store(str(folder / "runs")), "s")
    chance = random.Random(seed)
    command = [sys.executable, str(RUNNER), str(path), str(folder / "runs")]
    killed = 0
    for _ in range(kills):
        chosen, drivers = len(mailbox.trials()[0]), len(mailbox.drivers())
        with open(folder / "out.txt", "a") as out:
            child = subprocess.Popen(command, stdout=out, stderr=out, env=dict(os.environ))
        # While it starts, soon after it has taken over, or after its next choice.
        moment, deadline = chance.randrange(6), time.monotonic() + 30
        while moment and child.poll() is None and time.monotonic() < deadline:
            if len(mailbox.drivers()) > drivers and (
                moment < 5 or len(mailbox.trials()[0]) > chosen
            ):
                break
            time.sleep(0.02)
        time.sleep(chance.uniform(0.0, 0.4))
        child.send_signal(signal.SIGKILL)
        killed += child.wait() == -signal.SIGKILL
    done = run_process(command)
    assert done.returncode == 0, done.stdout + done.stderr
    # Who comes after the last trial has nothing to do, and may be gone before he is killed.
    print(f"{killed} of {kills} drivers were killed")
    assert killed > kills // 2
    return mailbox


def each_trial_once(mailbox: Mailbox, trials: int) -> None:
    records, outcomes, _ = mailbox.trials()
    assert [r.number for r in records] == list(range(1, trials + 1))
    assert {o.status for o in outcomes.values()} == {Status.SUCCEEDED}
    assert set(outcomes) == set(range(1, trials + 1))
    assert len({json.dumps(r.assignment, sort_keys=True) for r in records}) == trials
    runs = [r.run for r in mailbox.runs()]
    assert sorted(runs) == [f"t{n:04d}-s1" for n in range(1, trials + 1)]
    for record in records:
        accepted = mailbox.accepted(f"t{record.number:04d}-s1", Phase.EVALUATE)
        score = accepted.summary["metrics"]["score"]
        assert outcomes[record.number].values == {"evaluate/score": score}
    from optuna import load_study
    from optuna.trial import TrialState

    path = mailbox.store.path(mailbox.key("memory.db"))  # type: ignore[attr-defined]
    from drillyard.studies.factory import memory_name

    memory = load_study(study_name=memory_name(mailbox), storage=f"sqlite:///{path}")
    told = [t for t in memory.trials if t.state is TrialState.COMPLETE]
    assert len(told) == trials
    assert not [t for t in memory.trials if t.state in (TrialState.RUNNING, TrialState.WAITING)]
    assert nothing_rented(mailbox)


def test_a_driver_killed_at_random_moments_loses_and_repeats_no_trial(tmp_path):
    each_trial_once(killed_again_and_again(tmp_path, trials=10, kills=2, seed=1), 10)


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_fifty_kills_in_a_study_of_forty_trials(tmp_path):
    each_trial_once(killed_again_and_again(tmp_path, trials=40, kills=50, seed=2), 40)


def test_the_same_file_goes_on_to_more_trials_and_then_does_nothing(tmp_path):
    run(tmp_path, {"chooser": "random", "trials": 3, "confirm": 1})
    mailbox = run(tmp_path, {"chooser": "random", "trials": 5, "confirm": 1})
    records, outcomes, _ = mailbox.trials()
    search = [r for r in records if r.search]
    assert [r.chooser for r in search] == ["defaults", "random", "random", "random", "random"]
    state = mailbox.study_state()
    best = min(search, key=lambda r: outcomes[r.number].values["evaluate/score"])
    assert (state.phase, state.chosen, state.best) == ("over", 5, best.number)
    confirming = [r for r in records if r.of == best.number]
    assert [r.number for r in confirming] == [state.confirmed]
    assert confirming[0].assignment == best.assignment
    assert not set(confirming[0].seeds) & set(best.seeds)
    drivers = len(mailbox.drivers())
    run(tmp_path, {"chooser": "random", "trials": 5, "confirm": 1})
    assert mailbox.drivers()[drivers].outcome == "complete"
    assert len(mailbox.trials()[0]) == len(records)


def test_a_failed_trial_stays_failed_and_too_many_stop_the_study(tmp_path):
    fails = {
        "workload": "script",
        "mock": None,
        "script": {
            "run": [
                """python -c "import sys; sys.exit('$kind' == 'b')" """,
                """python -c "print('score', $level)" """,
            ],
            "results": {"stdout": r"(\w+) ([\d.]+)"},
        },
    }
    grid = {"chooser": "grid", "grid": {"level": [0.25, 0.75]}, "confirm": 0}
    mailbox = run(tmp_path, grid, **fails)
    _, outcomes, _ = mailbox.trials()
    assert sorted(o.status.value for o in outcomes.values()) == ["FAILED"] * 2 + ["SUCCEEDED"] * 2
    attempts = list(mailbox.claims())
    run(tmp_path, grid, **fails)
    assert list(mailbox.claims()) == attempts
    path = write(tmp_path, {**grid, "max_failures": 1}, name="strict", **fails)
    with pytest.raises(RunFailed, match="trials have failed"):
        drillyard.run(path, store=tmp_path / "runs", flow=False, report=False)
    assert nothing_rented(Mailbox(open_store(str(tmp_path / "runs")), "strict"))


def test_cycles_that_were_begun_may_not_change(tmp_path):
    cycles = [{"level": 0.1}, {"level": 0.2}]
    mailbox = run(tmp_path, {"chooser": "manual", "cycles": cycles})
    with pytest.raises(IdentityChanged, match="cycles"):
        run(tmp_path, {"chooser": "manual", "cycles": [{"level": 0.1}, {"level": 0.3}]})
    run(tmp_path, {"chooser": "manual", "cycles": [*cycles, {"level": 0.3}]})
    _, outcomes, _ = mailbox.trials()
    assert [round(o.values["evaluate/score"], 6) for _, o in sorted(outcomes.items())] == [
        0.5,
        2.0,
        4.5,
    ]


def test_only_some_of_a_list_then_the_others(tmp_path):
    def done(**only: Any) -> dict[str, int]:
        listed = [
            {"label": name, "values": {"level": level}}
            for name, level in (("low", 0.1), ("middle", 0.5), ("high", 0.9))
        ]
        mailbox = run(tmp_path, {"chooser": "list", "experiments": listed, **only}, seeds=[1])
        records, outcomes, _ = mailbox.trials()
        assert {o.status for o in outcomes.values()} == {Status.SUCCEEDED}
        return {r.label: r.number for r in records}

    assert done(only=["high"]) == {"high": 1}
    assert done() == {"high": 1, "low": 2, "middle": 3}
    with pytest.raises(ConfigError, match="not a listed experiment") as caught:
        done(only=["hihg"])
    assert "high" in str(caught.value.hint) and "numbers from 1 to 3" in str(caught.value.allowed)


def test_seeds_that_are_added_to_the_file_of_a_list_are_run(tmp_path):
    listed = [{"label": "a", "values": {"level": 0.1}}, {"label": "b", "values": {"level": 0.9}}]
    study = {"chooser": "list", "experiments": listed}

    def scored(seeds: list[int]) -> tuple[dict[str, list[str]], dict[str, int | None]]:
        mailbox = run(tmp_path, study, seeds=seeds)
        records, outcomes, _ = mailbox.trials()
        attempts = {ticket: s.attempt for ticket, s in ticket_states(mailbox).items()}
        by_seed = {r.label: outcomes[r.number].by_seed["evaluate/score"] for r in records}
        return {label: sorted(values) for label, values in by_seed.items()}, attempts

    first = scored([1])
    assert first[0] == {"a": ["1"], "b": ["1"]}
    second = scored([1, 2])
    assert second[0] == {"a": ["1", "2"], "b": ["1", "2"]}
    assert first[1].items() <= second[1].items(), "what was finished was not repeated"
    assert scored([1, 2]) == second


def test_a_budget_stops_the_study_and_is_shown(tmp_path):
    budget = {"plateau": {"trials": 3, "min_delta": 1000}}
    mailbox = run(tmp_path, {"chooser": "random", "trials": 50, "budget": budget, "confirm": 0})
    state = mailbox.study_state()
    assert state is not None and state.stopped is not None
    assert "plateau" in state.stopped
    assert 4 <= state.chosen < 10
    assert state.budgets["plateau"]["used"] >= 3


def test_bad_trials_are_given_up_at_a_step_and_stay_so(tmp_path):
    levels = [0.1, 0.15, 0.9, 0.95, 0.2]
    slow = {
        "mock": {"range": [0, 100], "duration_s": 2.0, "points": 40},
        "seeds": [1],
        "resources": {"workers": 2},
    }
    study = {
        "chooser": "manual",
        "cycles": [{"level": v} for v in levels],
        "max_failures": 1,
        "pruner": {"type": "median", "startup_trials": 2},
    }
    mailbox = run(tmp_path, study, **slow)
    _, outcomes, _ = mailbox.trials()
    status = {levels[n - 1]: o.status for n, o in outcomes.items()}
    assert status[0.9] is Status.PRUNED and status[0.95] is Status.PRUNED
    assert {status[v] for v in (0.1, 0.15)} == {Status.SUCCEEDED}
    pruned = outcomes[3]
    assert pruned.pruned_at is not None and pruned.pruned_at < 40
    assert "worse than the median" in pruned.message
    assert mailbox.accepted("t0003-s1", Phase.TRAIN) is None
    state = mailbox.study_state()
    assert state is not None and state.failed == 0 and state.pruned >= 2
    attempts = list(mailbox.claims())
    run(tmp_path, study, **slow)
    assert list(mailbox.claims()) == attempts


def test_a_trial_that_loses_seed_against_seed_spares_its_other_seeds(tmp_path):
    mailbox = run(
        tmp_path,
        {
            "chooser": "manual",
            "cycles": [{"level": 0.1}, {"level": 0.9}],
            "pruner": {"type": "wilcoxon", "p": 0.2},
        },
        mock={"range": [0, 100], "noise": 0.01, "duration_s": 0.6},
        seeds=list(range(1, 9)),
        resources={"workers": 1},
    )
    _, outcomes, _ = mailbox.trials()
    assert [outcomes[n].status for n in (1, 2)] == [Status.SUCCEEDED, Status.PRUNED]
    assert "seed against seed" in outcomes[2].message
    begun = {t.split(".")[0] for t, _, _ in mailbox.claims() if t.startswith("t0002")}
    assert 3 <= len(begun) < 8


def test_seeds_are_added_until_the_two_best_are_told_apart(tmp_path):
    def compared(name: str, levels: list[float]) -> tuple[str, list[int]]:
        study = {
            "chooser": "manual",
            "cycles": [{"level": v} for v in levels],
            "auto": {"start": 3, "most": 6},
        }
        path = write(
            tmp_path, study, name=name, seeds="auto", mock={"range": [0, 100], "noise": 0.03}
        )
        drillyard.run(path, store=tmp_path / "runs", flow=False, report=False)
        mailbox = Mailbox(open_store(str(tmp_path / "runs")), name)
        state = mailbox.study_state()
        assert state is not None and state.seeds_rule is not None
        records, outcomes, more = mailbox.trials()
        assert all(len(o.by_seed["evaluate/score"]) >= 3 for o in outcomes.values())
        added = [len(more[r.number].seeds) if r.number in more else 0 for r in records]
        return state.seeds_rule, added

    rule, added = compared("far", [0.1, 0.9])
    assert "decided after 3 seeds" in rule and added == [0, 0]
    rule, added = compared("near", [0.5, 0.5001, 0.9])
    assert "not decided at the cap of 6 seeds" in rule and added == [3, 3, 0]


def test_a_search_that_is_written_in_place(tmp_path):
    """The shipped study with a small budget: trials differ in its fields, and it has a page."""
    file = Path(__file__).parents[2] / "experiments" / "tuning.yaml"
    loaded = drillyard.load(
        file,
        train={"steps": "512"},
        study={"trials": 3, "confirm": 0, "pruner": None},
        evaluate={"episodes": 1, "every": None},
        tracking={"mlflow": None},
    )
    drillyard.run(loaded, store=tmp_path / "runs", flow=False)

    mailbox = Mailbox(open_store(str(tmp_path / "runs")), "tuning")
    trials = [trial.assignment for trial in mailbox.trials()[0]]
    assert len(trials) == 3
    assert all(t.keys() == {"learning_rate", "batch_size", "gamma"} for t in trials)
    assert len({json.dumps(t, sort_keys=True) for t in trials}) == 3
    assert trials[0]["learning_rate"] == 1e-3  # the preset's
    page = (tmp_path / "runs" / "tuning" / "report" / "index.html").read_text()
    assert "learning_rate" in page and "t0003" in page
