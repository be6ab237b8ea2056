"""The results of a study: which trials are best, what the files hold, what is read for it."""

from __future__ import annotations

import csv
import dataclasses
import io
import json

import pyarrow.parquet as pq
import pytest

from drillyard.backend import Cost, Lease, Order
from drillyard.cli.main import main
from drillyard.leases.ledger import Gone, Intent, Rented
from drillyard.mailbox.records import StudyState, WorkerRecord
from drillyard.results.study_table import trials_grid, verdict
from drillyard.results.trials import collect_trials, run_rows
from tests.helpers.study_store import METRIC, T0, write_bench, write_list, write_search


@pytest.fixture(scope="module")
def mailbox(tmp_path_factory):
    return write_search(tmp_path_factory.mktemp("store"), 12)


@pytest.fixture
def printed(mailbox, capsys):
    def call(*options: str) -> str:
        words = ["results", mailbox.experiment, "--store", mailbox.store.url, *options]
        assert main(words) == 0
        return capsys.readouterr().out

    return call


def test_the_best_come_first_and_the_winner_has_both_scores(mailbox):
    study = collect_trials(mailbox)
    ranked = study.ranked()
    values = [t.values[METRIC] for t in ranked]
    assert values == sorted(values, reverse=True)
    assert len(ranked) == 10
    assert not {3, 4, 13} & {t.number for t in ranked}
    assert study.confirmed is not None
    assert study.confirmed.number == 13
    text = verdict(study)
    assert f"{ranked[0].id} won with {METRIC}" in text
    assert "over 3 seeds, which is optimistic: the best of 10 trials" in text
    assert "run again on 2 fresh seeds" in text
    assert "12 trials: 10 SUCCEEDED, 1 FAILED, 1 PRUNED" in text
    assert "not worse" not in text
    # Run again, it is better: then nothing was optimistic, and the text does not say so.
    better = {METRIC: ranked[0].values[METRIC] + 1}
    trials = (dataclasses.replace(t, values=better) if t.of else t for t in study.trials)
    said = verdict(dataclasses.replace(study, trials=tuple(trials)))
    assert "optimistic" not in said
    assert "over 3 seeds, the best of 10 trials; run again on 2 fresh seeds" in said
    assert "which is not worse and the score to report" in said
    best = study.best
    assert best is not None
    assert study.interval(best) is None  # it was chosen by this number


def test_a_search_shows_ranges_and_a_list_intervals_that_hold_at_once(mailbox, tmp_path):
    study = collect_trials(mailbox)
    grid = trials_grid(study, 3)
    column = grid.header.index("range of seeds")
    values = study.ranked()[0].by_seed[METRIC].values()
    assert grid.rows[0][column] == f"{min(values):.1f} to {max(values):.1f}"
    bench = collect_trials(write_bench(tmp_path, {"ppo": (90, 9), "a2c": (40, 2)}))
    assert "95 % interval, all at once" in trials_grid(bench).header
    interval = bench.interval(bench.ranked()[0])
    assert interval is not None and interval.among == 2  # on its simulator


def test_the_sentence_about_a_list_says_what_is_told_apart(tmp_path):
    spread = {"far": 90.0, "near": 50.0, "nearer": 50.2}
    study = collect_trials(write_list(tmp_path, spread))
    assert "(t0001), better than" not in verdict(study)
    text = verdict(study)
    assert "far (t0001) won" in text and "better than every other trial" in text
    close = collect_trials(write_list(tmp_path / "close", {"a": 50.0, "b": 50.1, "c": 20.0}))
    assert "not told apart from" in verdict(close)
    assert "has the best" in verdict(close) and " won " not in verdict(close)
    few = collect_trials(write_list(tmp_path / "few", spread, seeds=(1, 2)))
    assert "from so few seeds nothing is told apart" in verdict(few)


@pytest.mark.parametrize("levels", [{"far": 90.0}, {"far": 90.0, "near": 50.0}])
def test_nothing_has_won_while_a_list_runs(tmp_path, levels):
    mailbox = write_list(tmp_path, levels)
    mailbox.write_study_state(StudyState(phase="search", chosen=3))
    text = verdict(collect_trials(mailbox))
    assert "far (t0001) leads so far with" in text and " won " not in text
    assert ("better than every other trial that has ended" in text) == (len(levels) > 1)


def test_an_objective_that_is_no_mean_has_no_interval_of_one(tmp_path):
    study = collect_trials(write_list(tmp_path, {"a": 1.0, "b": 2.0}, over="max"))
    assert all(study.interval(t) is None for t in study.ranked())


def test_the_table_on_the_terminal(mailbox, printed):
    out = printed("--top", "3")
    lines = out.splitlines()
    assert lines[0] == f"search: the best 3 of 12 trials by {METRIC} (most is best)"
    assert [line.split()[0] for line in lines[3:6]] == [
        t.id for t in collect_trials(mailbox).ranked()[:3]
    ]
    assert lines[6] == (
        "not shown: 7 that did worse (--top 10); 1 failed (t0003); 1 pruned (t0004); t0013 on "
        "fresh seeds"
    )
    assert lines[7] == ""
    assert {"level", "batch", "kind"} <= set(trials_grid(collect_trials(mailbox)).header)


def test_csv_has_a_line_a_seed_with_worker_times_and_metrics(mailbox, printed):
    rows = list(csv.DictReader(io.StringIO(printed("--csv", "-"))))
    assert len(rows) == 12 * 3 + 2
    best = rows[0]
    assert best["trial"] == collect_trials(mailbox).ranked()[0].id
    assert best["worker"] == "w1"
    assert float(best["ended_at"]) - float(best["started_at"]) == 7.0
    assert float(best["metrics.score"]) == float(best[f"objective.{METRIC}"])
    assert best["steps"] == "500"
    failed = [r for r in rows if r["trial"] == "t0003"]
    assert [r["status"] for r in failed] == ["FAILED"] * 3
    assert {r["worker"] for r in failed} == {"w0", "w1"}
    assert failed[0]["metrics.score"] == ""
    assert failed[0]["parameters.kind"]
    assert {r["confirms"] for r in rows if r["trial"] == "t0013"} == {best["trial"]}


def test_csv_to_a_file(printed, tmp_path):
    assert printed("--csv", str(tmp_path / "x.csv")) == ""
    assert (tmp_path / "x.csv").read_text() == printed("--csv", "-")


def test_parquet_has_types(printed, tmp_path):
    printed("--parquet", str(tmp_path / "x.parquet"))
    table = pq.read_table(tmp_path / "x.parquet")
    assert table.num_rows == 38
    assert str(table.schema.field("started_at").type) == "timestamp[us, tz=UTC]"
    assert str(table.schema.field("parameters.level").type) == "double"
    assert str(table.schema.field("seed").type) == "int64"
    first = table.to_pylist()[0]
    assert first["started_at"].timestamp() > T0
    assert first["metrics.score"] == first[f"objective.{METRIC}"]


def test_json_has_the_trials_best_first(mailbox, printed):
    found = json.loads(printed("--json", "--top", "2"))
    assert [t["trial"] for t in found["trials"]] == [
        t.id for t in collect_trials(mailbox).ranked()[:2]
    ]
    assert found["state"]["confirmed"] == 13
    assert set(found["trials"][0]["by_seed"][METRIC]) == {"1", "2", "3"}


def test_a_run_costs_its_share_of_the_lease(tmp_path):
    mailbox = write_search(tmp_path, 5)
    name, cost = "dy-0123456789", Cost(per_hour=7.2, currency="EUR")
    order = Order(lease_id=name, experiment="search", store_url=mailbox.store.url, workers=2)
    lease = Lease(lease_id=name, backend="gcp", order=order, created_at=T0)
    for file, record in {
        "intent": Intent(order=order, backend="gcp", ordinal=1, cost=cost, written_at=T0),
        "rented": Rented(written_at=T0, lease=lease),
        "gone": Gone(lease_id=name, reason="done", lived_s=100, written_at=T0),
    }.items():
        mailbox.create(f"leases/{name}/{file}.json", record)
    for worker in ("w0", "w1"):
        record = WorkerRecord(worker=worker, lease=name, written_at=T0)
        mailbox.write(f"workers/{worker}.json", record)
    study = collect_trials(mailbox)
    rows = list(run_rows(mailbox, study, study.top(1)))
    assert [r["currency"] for r in rows] == ["EUR"] * 3
    assert rows[0]["cost"] == pytest.approx(7 * 7.2 / 3600 / 2)


def test_a_table_reads_no_run(mailbox, monkeypatch):
    seen: list[str] = []
    get = mailbox.store.get
    monkeypatch.setattr(mailbox.store, "get", lambda key: (seen.append(key), get(key))[1])
    study = collect_trials(mailbox)
    trials_grid(study, 5)
    verdict(study)
    assert not [key for key in seen if "/runs/" in key or "/claims/" in key or "/queue/" in key]
