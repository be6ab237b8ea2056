"""The study section of a report: what it shows, and that its comparisons are right."""

from __future__ import annotations

import csv
import dataclasses
import sys

import pytest

from drillyard.mailbox import Mailbox
from drillyard.mailbox.file import FileStore
from drillyard.mailbox.mailbox import run_id
from drillyard.mailbox.records import Phase, RunRecord
from drillyard.report import build, html, render
from drillyard.report import study as report_study
from drillyard.report.comparison.trials import compare
from drillyard.report.study import section
from drillyard.results import collect, formatting
from drillyard.results.model import RunResult
from drillyard.results.trials import StudyResults, collect_trials
from drillyard.studies import importances as told
from tests.helpers.records import accepted
from tests.helpers.study_store import METRIC, write_bench, write_list, write_search


@pytest.fixture(scope="module")
def search(tmp_path_factory):
    return write_search(tmp_path_factory.mktemp("search"), 12)


@pytest.fixture(scope="module")
def drawn(search):
    """The part of its page that is about the search, with all pictures."""
    return section(search, collect_trials(search))


def test_the_page_of_a_search(search):
    made = build(search)
    assert made.local is not None
    text = made.local.read_text()
    study = collect_trials(search)
    best, again = study.best, study.confirmed
    assert best is not None
    assert again is not None
    for value in (best, again):
        assert formatting.number(value.values[METRIC]) in text
    for title in (
        "Optimisation history",
        "Parameter importances",
        "Slices",
        "Parallel coordinates",
        "Interquartile mean",
        "Performance profile",
        "Probability of improvement",
    ):
        assert f"<h3>{title}</h3>" in text
    assert "mathdefault" not in text
    rows = list(csv.DictReader((made.local.parent / "study_history.csv").read_text().splitlines()))
    assert len(rows) == 13
    assert float(rows[0][METRIC]) == study.trials[0].values[METRIC]


@pytest.mark.heavy
def test_importances_are_optunas_find_what_matters_and_load_nothing_here(search, monkeypatch):
    study = collect_trials(search)
    for quick in (False, True):
        question = told._Question(study.views, study.objectives, study.spec, quick)
        pairs = told._told(question)["importances"]
        with monkeypatch.context() as without:
            without.setitem(sys.modules, "optuna", None)  # an import of it here would fail
            found = told.importances(study.views, study.objectives, study.spec, quick)
        assert [list(pair) for pair in found.items()] == pairs
        assert next(iter(found)) == "level"
        assert sum(found.values()) == pytest.approx(1.0)


def test_algorithms_over_simulators_on_one_scale(tmp_path):
    mailbox = write_bench(tmp_path, {"ppo": (90, 9), "a2c": (40, 2)})
    found = compare(mailbox, collect_trials(mailbox))
    assert found is not None
    assert found.names == ("ppo", "a2c")
    assert found.tasks == ("CartPole-v1", "Pendulum-v1")
    assert found.scaled
    assert 0.5 < found.estimates["ppo"]["iqm"].value <= 1
    assert found.estimates["a2c"]["iqm"].value < found.estimates["ppo"]["iqm"].low
    pair = found.pairs[0]
    assert (pair.one, pair.other, pair.improvement.value) == ("ppo", "a2c", 1.0)
    table = section(mailbox, collect_trials(mailbox)).better
    assert table is not None
    assert table.rows[0][-1] == "better"
    assert found.places == {"ppo": (1, 1), "a2c": (2, 2)}


@pytest.mark.heavy
def test_a_page_with_baselines_explains_how_they_are_decided(search, drawn):
    study = collect_trials(search)
    assert not any("baseline is not trained" in note for note in drawn.notes)
    found = compare(search, study)
    assert found is not None
    beside = dataclasses.replace(found.pairs[0], other="random", p=None)
    notes = report_study._method(study, dataclasses.replace(found, pairs=(beside,)))
    assert any("A baseline is not trained, so it is compared by Welch" in note for note in notes)


def test_a_benchmark_is_named_by_all_its_algorithms_and_simulators(tmp_path):
    results = collect(write_bench(tmp_path, {"ppo": (90, 9), "a2c": (40, 2)}))
    assert formatting.learner(results) == "PPO, A2C on CartPole-v1, Pendulum-v1"
    many = [{"learner": {"algorithm": f"a{n}"}} for n in range(5)]
    spec = {"learner": {"algorithm": "a0"}, "study": {"experiments": many}}
    assert formatting.learner_of(spec) == "5 algorithms"


def test_runs_that_are_alike_share_one_note(tmp_path):
    results = collect(write_bench(tmp_path, {"ppo": (90, 9), "a2c": (40, 2)}))
    blank = dict.fromkeys(field.name for field in dataclasses.fields(RunResult))
    run = RunResult(**blank | {"resumes": 0, "exactness": "exact with resets"})  # type: ignore[arg-type]
    runs = tuple(dataclasses.replace(run, run=f"t0001-s{n}") for n in range(1, 6))
    notes = html._run_notes(dataclasses.replace(results, runs=runs))
    assert notes[0] == "t0001-s1, t0001-s2, t0001-s3 and 2 more: exact with resets."


def test_two_runs_prove_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(report_study, "importances", lambda study, notes: {})  # in a process
    mailbox = write_search(tmp_path, 6, seeds=(1, 2))
    found = section(mailbox, collect_trials(mailbox))
    assert found.better is None
    assert "Interquartile mean" not in {drawn.title for drawn in found.drawn}
    assert any("comparisons need three runs of each" in note for note in found.notes)


def test_what_a_search_chose_has_no_interval_and_its_run_again_is_drawn_beside_it(search, drawn):
    study = collect_trials(search)
    found = compare(search, study)
    assert found is not None and found.chosen and found.again is not None
    assert all(e.low is None for own in found.estimates.values() for e in own.values())
    winner = drawn.scores
    assert winner is not None
    assert [row[0] for row in winner.rows] == [
        "in the search, optimistic: best of 10",
        "on fresh seeds",
    ]
    assert winner.rows[0][winner.header.index("95 % interval")] == "-"
    assert winner.rows[1][winner.header.index("seed numbers")] == "4, 5"
    assert "circles" in comparing_caption(search, study).lower()


def test_the_interval_of_an_interquartile_mean_says_when_it_can_be_trusted(tmp_path):
    """Where each candidate has an interval, and there is one simulator."""
    mailbox = write_list(tmp_path, dict.fromkeys("ab", 10.0), seeds=(1, 2, 3))
    caption = comparing_caption(mailbox, collect_trials(mailbox))
    assert "all of them at once" in caption and "needs 15 runs" in caption


def comparing_caption(mailbox: Mailbox, study: StudyResults) -> str:
    drawn = {d.title: d for d in section(mailbox, study).drawn}
    return drawn["Interquartile mean"].caption


@pytest.mark.heavy
def test_five_equal_trials_with_three_seeds_are_not_called_better(tmp_path):
    wrong = 0
    for number in range(30):
        equal = dict.fromkeys("abcde", 10.0)
        mailbox = write_list(tmp_path / str(number), equal, seeds=(1, 2, 3), draw=number)
        found = compare(mailbox, collect_trials(mailbox))
        assert found is not None
        wrong += any(pair.word != "undecided" for pair in found.pairs)
    assert wrong <= 4  # it was 72 % of studies


def test_a_study_that_has_only_begun(tmp_path):
    mailbox = write_search(tmp_path, 1)
    fresh = Mailbox(FileStore(str(tmp_path / "fresh")), "search")
    record = mailbox.experiment_record()
    fresh.create("experiment.json", record)
    found = section(fresh, collect_trials(fresh))
    assert found.drawn == ()
    assert "none has succeeded yet" in found.verdict
    assert build(fresh).local is not None


@pytest.mark.heavy
def test_policies_of_two_simulators_stand_apart(tmp_path):
    mailbox = write_bench(tmp_path, {"ppo": (90, 9), "a2c": (40, 2)})
    random_returns = {"CartPole-v1": 20.0, "Pendulum-v1": -1200.0}
    for trial in collect_trials(mailbox).trials:
        run, world = run_id(trial.number, 1), trial.parts["simulator"]["id"]
        record = RunRecord(
            run=run, experiment="bench", trial=trial.number, seed=1, parts=trial.parts
        )
        mailbox.create(f"runs/{run}/run.json", record)
        means = {"agent": trial.values["evaluate/return"], "random": random_returns[world]}
        policies = {
            name: {"mean_return": mean, "std_return": 1.0, "n_episodes": 5}
            for name, mean in means.items()
        }
        times = {"manifest_sha256": "0" * 64, "started_at": 1.0, "ended_at": 2.0}
        result = accepted(run, Phase.EVALUATE, summary={"policies": policies}, **times)
        mailbox.create(f"runs/{run}/evaluate.accepted.json", result)
    results = collect(mailbox)
    found = dict(results.by_simulator())
    assert list(found) == ["CartPole-v1", "Pendulum-v1"]
    for world, own in found.items():
        assert [p.mean_return for p in own.baselines] == [random_returns[world]]
        assert len(own.agents) == 2
    files = render(mailbox, results, made_at=0.0)
    assert {"evaluation_CartPole-v1.svg", "evaluation_Pendulum-v1.csv"} <= set(files)
    assert "evaluation.svg" not in files
    assert b"-1200.0" in files["evaluation_Pendulum-v1.csv"]
    assert b"-1200.0" not in files["evaluation_CartPole-v1.csv"]
    part = files["index.html"].decode().split('id="h-evaluation"')[1].split("</section>")[0]
    assert part.index("<h3>CartPole-v1</h3>") < part.index("<h3>Pendulum-v1</h3>")


def test_choices_that_are_numbers_are_named_one_by_one():
    from drillyard.report.study_pictures import _places

    assert _places([256, 64, 256], ["64", "128", "256"]) == (
        [2.0, 0.0, 2.0],
        ["64", "128", "256"],
    )
    assert _places([256, 64], None) == ([256.0, 64.0], [])


@pytest.mark.heavy
def test_each_trial_of_the_table_has_its_settings(search, drawn):
    settings = {grid.title: dict(grid.rows) for grid in drawn.settings}
    assert settings.keys() == {row[0] for row in drawn.trials.rows} != set()
    best = collect_trials(search).ranked()[0]
    rows = settings[best.id]
    assert rows["kind"] == best.assignment["kind"]


def test_the_episode_of_a_trial_stands_beside_the_baseline_of_the_first(tmp_path):
    """Baselines are evaluated in the first run alone; the winner is another trial."""
    from drillyard.report.data import episode
    from tests.helpers.fixtures_store import write_experiment

    mailbox = write_experiment(tmp_path, seeds=(1, 2))
    results = collect(mailbox)
    runs = [r for r in results.runs if r.seed == 2] + [results.runs[0]]
    late = dataclasses.replace(
        results,
        runs=tuple(dataclasses.replace(r, trial=2 if r.seed == 2 else 1) for r in runs),
        policies=tuple(
            p if p.baseline else dataclasses.replace(p, trial=2) for p in results.policies
        ),
    )
    warnings: list[str] = []
    found = episode(mailbox, late, warnings)
    assert found is not None and not warnings
    assert list(found.policies) == ["agent", results.baselines[0].policy]
    assert set(found.meta) == set(found.policies)
