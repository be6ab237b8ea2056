"""Collecting results from a folder, pooling them, and writing them as tables."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
import math

import numpy as np
import pytest
from scipy import stats

from drillyard import results as r
from drillyard.errors import NotFound
from drillyard.mailbox import Mailbox
from drillyard.mailbox.records import Accepted, DriverRecord, Phase
from drillyard.results import formatting, model
from drillyard.results.cost_and_time import worked_s
from drillyard.results.policies import Evaluated, over_seeds, scores
from drillyard.statistics import METHOD
from tests.helpers.fixtures_store import STEPS, T0, open_box, write_experiment
from tests.helpers.records import accepted, driver_of_process

SUMMARY = {"mean_return": 10.0, "std_return": 1.0, "n_episodes": 20, "ci95": [9.5, 10.6]}


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    """A finished experiment that nobody changes."""
    return write_experiment(tmp_path_factory.mktemp("store"))


def episodes(box: Mailbox, run: str, policy: str) -> list[float]:
    data = json.loads(r.accepted_file(box, run, Phase.EVALUATE, "evaluation/episodes.json"))
    return [e["return"] for e in data if e["policy"] == policy]


def test_two_seeds_have_a_range_and_no_interval(done):
    # An interval over the episodes of both says nothing about training, and may leave out both.
    box = done
    found = r.collect(box)
    agent = found.policies[0]
    both = episodes(box, "t0001-s1", "agent") + episodes(box, "t0001-s2", "agent")
    assert agent.policy == "agent"
    assert agent.mean_return == pytest.approx(np.mean(both))
    assert agent.interval is None
    assert formatting.over(agent, 2) == "range of 2 seeds: 71.80 to 72.70"
    assert "reaches a mean return of 72.25 (range of 2 seeds: 71.80 to 72.70)" in r.verdict(found)
    assert agent.n_episodes == 80
    assert set(agent.seeds) == {1, 2}
    assert agent.std_return == pytest.approx(np.std(both, ddof=1))


def test_every_type_of_the_results_is_public():
    types = {name for name, value in vars(model).items() if dataclasses.is_dataclass(value)}
    assert "PolicyScore" in types <= set(r.__all__)


def test_baselines_come_once_with_an_interval_over_episodes(done):
    box = done
    found = r.collect(box)
    assert [p.policy for p in found.policies] == ["agent", "p-controller", "hold", "random"]
    hold = next(p for p in found.baselines if p.policy == "hold")
    own = episodes(box, "t0001-s1", "hold")
    assert (hold.mean_return, hold.n_episodes) == (pytest.approx(np.mean(own)), 40)
    assert hold.interval is not None
    written = box.accepted("t0001-s1", Phase.EVALUATE)
    assert written is not None
    assert [hold.interval.low, hold.interval.high] == written.summary["policies"]["hold"]["ci95"]
    assert hold.by_option["Cref_signal"].keys() == {"1", "2", "3", "4"}


@pytest.mark.parametrize(
    ("n", "over"), [(1, "episodes"), (2, None), (3, "seeds"), (4, "seeds"), (5, "seeds")]
)
def test_the_number_of_seeds_decides_the_interval(n, over):
    means = [{**SUMMARY, "mean_return": 10.0 + seed} for seed in range(n)]
    (agent,) = scores(Evaluated(1, seed, {"agent": s}) for seed, s in enumerate(means))
    assert (agent.interval.over if agent.interval else None) == over
    if agent.interval is not None:
        assert agent.interval.low < agent.mean_return < agent.interval.high


def test_an_interval_over_seeds_is_never_nearer_than_that_of_student():
    values = [10.0, 12.0, 17.0]
    found = over_seeds(values)
    low, high = stats.t.interval(0.95, 2, np.mean(values), stats.sem(values))
    assert found is not None
    assert found.low == pytest.approx(low)
    assert found.high > high  # the values reach further upwards


@pytest.mark.parametrize("n", [3, 5, 6, 10, 20])
def test_an_interval_over_seeds_holds_the_truth_as_often_as_it_says(n):
    rng, held = np.random.default_rng(n), 0
    for _ in range(400):
        found = over_seeds(rng.normal(70, 3, n).tolist())
        assert found is not None
        held += found.low <= 70 <= found.high
    assert held / 400 >= 0.93


def test_seeds_are_taken_whole_not_inside_the_lessons_values():
    # Each agent is evaluated at four values of the lesson, and seed effects are common to them:
    # taking the values as groups would halve the width.
    values = [60.0, 65.0, 70.0, 75.0, 80.0]
    found = over_seeds(values)
    assert found is not None
    wanted = stats.t.interval(0.95, 4, np.mean(values), stats.sem(values))
    assert (found.low, found.high) == pytest.approx(wanted, abs=1e-3)


def one(trial: int, level: float, role: str, n: int = 3) -> list[Evaluated]:
    return [
        Evaluated(
            trial, seed, {"agent": {"mean_return": level + seed, "n_episodes": 5}}, role=role
        )
        for seed in range(n)
    ]  # type: ignore[arg-type]


def test_a_trial_that_a_search_ranked_has_no_interval_and_its_run_again_has():
    found = scores([*one(1, 10, "searched"), *one(2, 20, "searched"), *one(3, 19, "confirms")])
    assert [p.trial for p in found if p.interval is not None] == [3]
    assert [p.trial for p in found] == [2, 3, 1]
    assert scores(one(1, 10, "searched"))[0].interval is not None  # nothing was chosen


def test_the_lines_of_a_list_hold_at_once():
    alone = scores(one(1, 10, "listed"))[0].interval
    several = scores([*one(1, 10, "listed"), *one(2, 20, "listed")])[0].interval
    assert alone is not None and several is not None
    assert several.among == 2
    assert several.high - several.low > 1.3 * (alone.high - alone.low)


def of_a_search(folder, again: float) -> str:
    """The sentence about two trials and the winner's second run."""
    found = r.collect(write_experiment(folder))
    trials = [*one(1, 10, "searched"), *one(2, 20, "searched"), *one(3, again, "confirms")]
    return r.verdict(dataclasses.replace(found, policies=(*scores(trials), *found.baselines)))


def test_the_sentence_about_a_search_says_what_its_best_is_worth(tmp_path):
    said = of_a_search(tmp_path, again=18)
    assert said.startswith("Of 2 trials, agent t0002 has the highest mean return, 21.00 (range of")
    assert "which is optimistic because it was chosen by this number; run again it" in said
    assert "it reaches 19.00 (95 % interval over seeds" in said and "not worse" not in said


def test_a_number_that_held_is_not_called_optimistic(tmp_path):
    said = of_a_search(tmp_path, again=22)
    assert "optimistic" not in said and ", by which it was chosen; run again it reaches 23" in said
    assert "which is not worse" in said


def test_one_episode_has_no_interval():
    (agent,) = scores(
        [Evaluated(1, 1, {"agent": {"mean_return": 3.0, "std_return": 0.0, "n_episodes": 1}})]
    )
    assert agent.interval is None


def test_several_trials_have_a_line_each():
    one = {"mean_return": 1.0, "std_return": 1.0, "n_episodes": 5}
    two = {**one, "mean_return": 2.0}
    found = scores([Evaluated(1, 1, {"agent": one}), Evaluated(2, 1, {"agent": two}, label="dqn")])
    assert [(p.policy, p.trial) for p in found] == [("agent t0002 (dqn)", 2), ("agent t0001", 1)]


def test_runs_curves_phases_and_cost(done):
    found = r.collect(done)
    assert found.status == "SUCCEEDED"
    assert found.ended_at == T0 + 131
    first, second = found.runs
    assert (first.run, first.step, first.total, first.attempts) == ("t0001-s1", STEPS, STEPS, 1)
    assert (first.resumes, second.resumes) == (0, 1)
    assert first.best is not None
    assert first.mean_return == pytest.approx(found.policies[0].seeds[1])
    curve = found.curves[0]
    assert len(curve.training) == 100
    assert curve.training[-1][0] == STEPS
    assert first.best["mean_return"] == pytest.approx(max(v for _, v in curve.evaluation))
    times = {p.phase: p for p in found.phases}
    assert " ".join(times) == "prepare provision setup train evaluate store teardown"
    assert (times["train"].count, times["train"].longest_s) == (2, pytest.approx(102.0))
    (cost,) = found.costs
    assert (cost.seconds, cost.total, cost.gone, cost.workers) == (128.0, 0.0, True, 2)


def test_an_unfinished_experiment_shows_what_there_is(tmp_path):
    found = r.collect(write_experiment(tmp_path, seeds=(1, 2, 3), finished=1))
    assert found.status == "RUNNING"
    assert [x.status for x in found.runs] == ["SUCCEEDED", "RUNNING", "READY"]
    running = found.runs[1]
    assert (running.step, running.eta_s, running.phase) == (40_000, 13.2, "train")
    assert running.heartbeat_age_s is not None
    assert found.runs[2].step == 0
    assert len(found.curves) == 2
    assert "1 of 3 runs have finished" in r.verdict(found)


PRUNED = ("SUCCEEDED", "PRUNED", "FAILED")


def test_a_pruned_run_is_finished(tmp_path):
    found = r.collect(write_experiment(tmp_path, seeds=(1, 2, 3), finished=3))
    runs = (dataclasses.replace(x, status=s) for x, s in zip(found.runs, PRUNED, strict=True))
    pruned = dataclasses.replace(found, runs=tuple(runs))
    assert "2 of 3 runs have finished" in r.verdict(pruned)


def test_a_failed_experiment_says_why(tmp_path):
    found = r.collect(write_experiment(tmp_path, finished=0, failed=2))
    assert found.status == "FAILED"
    assert found.policies == ()
    assert "NaN at step 1,204" in found.runs[0].message
    assert found.runs[0].hint == "look at the simulator's reward"
    assert "2 of 2 runs failed" in r.verdict(found)


def test_an_experiment_without_runs(tmp_path):
    box = write_experiment(tmp_path, "empty", seeds=(1,), finished=0)
    for info in list(box.store.list(box.key(""))):
        if not info.key.endswith("experiment.json"):
            box.store.delete(info.key)
    found = r.collect(box)
    assert (found.status, found.runs, found.policies) == ("PENDING", (), ())
    assert r.verdict(found) == "Nothing has run yet."
    assert json.loads(found.to_json())["runs"] == []


def test_no_such_experiment(tmp_path):
    with pytest.raises(NotFound):
        r.collect(open_box(tmp_path, "nothing"))


def test_a_damaged_part_is_a_warning_and_the_rest_is_shown(tmp_path):
    box = write_experiment(tmp_path)
    box.store.put(box.key("runs/t0001-s1/evaluate.accepted.json"), b"{ torn")
    box.store.put(box.key("timings/1.json"), b"[]]")
    stream = "runs/t0001-s2/attempts/train-1/streams/train/000000000000.jsonl"
    box.store.put(box.key(stream), b"not json\n")
    found = r.collect(box)
    assert len(found.warnings) == 3
    places = {w.split(":")[0].split(" ")[0] for w in found.warnings}
    assert places == {"t0001-s1", "t0001-s2", "timings/1.json"}
    assert [c.run for c in found.curves] == ["t0001-s1"]
    assert found.policies[0].seeds.keys() == {2}


def test_json_has_everything_and_no_nan(done):
    found = r.collect(done)
    read = json.loads(found.to_json(), parse_constant=lambda c: pytest.fail(c))
    assert read["policies"][0]["interval"] is None
    assert read["policies"][1]["interval"]["over"] == "episodes"
    assert read["runs"][1]["resumes"] == 1
    assert read["schema_version"] == 1
    assert read["curves"][0]["training"][0] == [600, pytest.approx(found.curves[0].training[0][1])]


def test_the_plain_table_lines_up_and_is_ascii(done):
    found = r.collect(done)
    text = r.policies_grid(found).plain()
    lines = text.splitlines()
    assert text.isascii()
    assert "2 min 11 s in all" in lines[0]
    column = lines[1].index("mean return") + len("mean return")
    means = [line[:column].split()[-1] for line in lines[3:]]
    assert means == ["72.25", "61.13", "23.65", "10.39"]
    assert "range of 2 seeds: 71.80 to 72.70" in lines[3]
    assert "2 x 60,000" in lines[3]


def test_csv_has_full_precision_and_no_formulas(done):
    found = r.collect(done)
    rows = list(csv.DictReader(io.StringIO(r.policies_csv(found))))
    assert float(rows[0]["mean_return"]) == found.policies[0].mean_return
    assert rows[1]["baseline"] == "1"
    runs = list(csv.DictReader(io.StringIO(r.runs_csv(found, top=1))))
    assert [x["run"] for x in runs] == ["t0001-s2"]


@pytest.mark.parametrize(
    ("level", "words_in"),
    [
        (71.0, "p-controller (61.13); 5 seeds show a failure of one in ten with 41 % probability"),
        (50.0, "below the best baseline, p-controller (61.13)."),
        (59.7, "; the difference is not clear (p = 0.185)."),
    ],
)
def test_the_verdict_is_honest(tmp_path, level, words_in):
    box = write_experiment(tmp_path, level=level, seeds=(1, 2, 3, 4, 5))
    assert words_in in r.verdict(r.collect(box))


@pytest.mark.parametrize("seeds", [(1, 2), (1, 2, 3), (1, 2, 3, 4)])
def test_few_seeds_decide_nothing(tmp_path, seeds):
    said = r.verdict(r.collect(write_experiment(tmp_path, seeds=seeds)))
    assert f"from {len(seeds)} seeds it is open whether that is more than chance" in said


def test_an_interval_that_was_recorded_by_another_rule_says_so():
    (before,) = scores([Evaluated(1, 1, {"agent": SUMMARY})])
    (now,) = scores([Evaluated(1, 1, {"agent": {**SUMMARY, "ci95_method": METHOD}})])
    assert before.interval is not None and now.interval is not None
    assert (before.interval.method, now.interval.method) == ("Student's t", METHOD)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (74.312, "74.31"),
        (0.0, "0"),
        (-1204.4, "-1,204"),
        (0.000312, "0.0003"),
        (1.5e-7, "1.500e-07"),
        (1e20, "1.000e+20"),
        (None, "-"),
        (math.nan, "-"),
    ],
)
def test_numbers_are_written_for_people(value, text):
    assert formatting.number(value) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.04, "0.0 s"),
        (9.96, "10 s"),
        (59.6, "1 min 00 s"),
        (187, "3 min 07 s"),
        (3600, "1 h 00 min"),
        (90_000, "1 d 01 h"),
        (None, "-"),
    ],
)
def test_durations(seconds, text):
    assert formatting.duration(seconds) == text


def test_a_negative_zero_is_zero():
    assert formatting.fixed(-0.001, 2) == "0.00"
    assert formatting.fixed(-1.5, 1) == "-1.5"


def test_a_terminal_of_80_columns_breaks_no_line(done):
    from rich.console import Console

    def shown(width: int) -> list[str]:
        out = io.StringIO()
        Console(file=out, width=width).print(r.policies_grid(r.collect(done)).rich(width))
        return [line.rstrip() for line in out.getvalue().splitlines()]

    narrow, wide = shown(80), shown(160)
    agent = [line for line in narrow if "range of 2 seeds: 71.80 to 72.70" in line]
    assert len(agent) == 1 and len(narrow) == len(wide)
    assert not any("steps/s" in line for line in narrow)  # the table of runs has it
    assert any("steps/s" in line for line in wide)


def test_the_time_in_all_leaves_out_what_lies_between_two_commands():
    def driver(number: int, began: float, ended: float | None, seen: float) -> DriverRecord:
        return driver_of_process(number=number, started_at=began, written_at=seen, ended_at=ended)

    def phase(began: float, ended: float) -> Accepted:
        return accepted(manifest_sha256="", started_at=began, ended_at=ended)

    # The first was killed at 30; its run went on to 50. A day later somebody typed it again.
    drivers = [driver(1, 0.0, None, 30.0), driver(2, 86_400.0, 86_405.0, 86_405.0)]
    runs = {"t0001-s1": {Phase.TRAIN: phase(10.0, 50.0)}}
    assert worked_s(drivers, runs) == 55.0


def test_a_seed_that_was_removed_from_the_file_is_shown_apart_and_counts_in_nothing(tmp_path):
    mailbox = write_experiment(tmp_path, seeds=(1, 2, 3))
    record = mailbox.experiment_record()
    alone = r.collect(write_experiment(tmp_path / "other", seeds=(1, 2)))
    mailbox.write(
        "experiment.json", record.model_copy(update={"spec": {**record.spec, "seeds": [1, 2]}})
    )
    found = r.collect(mailbox)
    assert [run.run for run in found.runs] == ["t0001-s1", "t0001-s2"]
    assert [run.run for run in found.removed] == ["t0001-s3"]
    assert found.agents[0].seeds == alone.agents[0].seeds
    assert {curve.run for curve in found.curves} == {"t0001-s1", "t0001-s2"}
    assert "The seed of t0001-s3 was removed." in r.verdict(found)
    rows = {row[0]: row[1] for row in r.runs_grid(found).rows}
    assert rows["t0001-s3"] == "SUCCEEDED, seed removed" and rows["t0001-s1"] == "SUCCEEDED"
    assert "removed" not in r.verdict(alone)
    # It has failed: nothing of what the file asks for has.
    failed = write_experiment(tmp_path / "failed", seeds=(1, 2, 3), finished=2, failed=1)
    failed.write("experiment.json", record.model_copy(update={"spec": found.spec}))
    assert r.collect(failed).status == "SUCCEEDED"
