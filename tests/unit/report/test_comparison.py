"""``drillyard compare``: what it decides, what it shows, and what it refuses."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
from urllib.parse import parse_qs, unquote, urlsplit

import pytest

from drillyard.cli.main import main
from drillyard.errors import ConfigError, NotFound, UserError
from drillyard.mailbox import Mailbox
from drillyard.mailbox.records import Phase
from drillyard.report.comparison.page import build, render
from drillyard.report.comparison.side_by_side import compare, sentence
from drillyard.report.comparison.tables import to_json
from drillyard.tracking.sync_state import Notes, RunNote
from tests.helpers.fixtures_store import T0, write_experiment
from tests.helpers.study_store import write_search
from tests.unit.report.test_report import Page

SAC = {"algorithm": "sac", "args": {"learning_rate": 1e-3}}


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    root = tmp_path_factory.mktemp("store")
    write_experiment(root, "good", seeds=(1, 2, 3, 4, 5))
    write_experiment(root, "bad", seeds=(1, 2, 3, 4, 5), level=60.0, learner=SAC)
    write_experiment(root, "near", seeds=(1, 2, 3, 4, 5), level=70.6)
    write_experiment(root, "three", seeds=(1, 2, 3), level=60.0)
    write_experiment(root, "two", seeds=(1, 2), level=60.0)
    write_experiment(root, "open", seeds=(1, 2), finished=0)
    write_experiment(root, "elsewhere", seeds=(1,), simulator={"id": "CartPole-v1"})
    return str(root)


def test_a_large_difference_is_decided_and_a_small_one_is_not(store):
    found = compare(["bad", "good", "near"], store)
    words = {(p.one, p.other): p.word for p in found.pairs}
    assert words == {
        ("good", "near"): "undecided",
        ("good", "bad"): "better",
        ("near", "bad"): "better",
    }
    assert found.places == {"good": (1, 2), "near": (1, 2), "bad": (3, 3)}
    text = found.verdict
    assert "good has the highest" in text
    assert "better than bad" in text
    assert "undecided against near" in text


def test_all_pairs_share_the_allowed_error(store):
    two = compare(["good", "bad"], store).pairs[0]
    three = next(
        p
        for p in compare(["good", "near", "bad"], store).pairs
        if (p.one, p.other) == ("good", "bad")
    )
    assert three.improvement.low is not None
    assert two.improvement.low is not None
    assert three.improvement.low < two.improvement.low


def test_too_few_runs_are_shown_by_their_values_and_not_tested(store):
    found = compare(["good", "two"], store)
    assert found.pairs == ()
    assert found.untested == {"two": "two runs"}
    assert "not tested (two: two runs)" in found.verdict
    assert "is better" not in found.verdict
    line = next(row for row in found.scores_table.rows if row[0] == "two")
    assert line[2] == "-"
    assert line[3].startswith("range of 2 seeds: ")


def test_three_runs_each_cannot_decide_and_the_sentence_says_so(store, tmp_path):
    write_experiment(tmp_path, "other", seeds=(1, 2, 3))
    found = compare(["three", f"{tmp_path}/other"], store)
    assert found.pairs[0].word == "undecided"
    assert "three runs each cannot decide it" in found.verdict


def test_the_same_episodes_are_paired(store):
    found = compare(["good", "two"], store)
    pair = found.episode_pairs[0]
    assert pair.found.n == 40
    assert (pair.one, pair.word) == ("good", "better")
    assert "another training may come out otherwise" in found.verdict


def test_without_a_test_of_trainings_the_episodes_are_not_undecided_as_well(store):
    found = compare(["good", "two"], store)
    pair = dataclasses.replace(found.episode_pairs[0], word="undecided")
    text = sentence(dataclasses.replace(found, episode_pairs=(pair,)))
    assert text.endswith("it is undecided which of these policies is better.")


def test_no_final_evaluation_is_shown_without_a_score(store):
    found = compare(["good", "open"], store)
    assert found.scores[1] is None
    assert found.untested["open"] == "no final evaluation yet"
    assert found.verdict.startswith("Only good has a final evaluation")
    assert "open is not finished: 2 of 2 runs." in found.notes
    files = render(found, made_at=T0)
    assert b"no final evaluation" in files["index.html"]
    rows = list(csv.DictReader(io.StringIO(files["curves.csv"].decode())))
    assert {r["experiment"] for r in rows} == {"good", "open"}


def test_settings_that_differ_are_side_by_side(store):
    found = compare(["good", "bad"], store)
    differ = {s.path: s.values for s in found.settings}
    assert differ["learner.algorithm"] == ("ppo", "sac")
    assert differ["learner.args.learning_rate"] == ("0.0003", "0.001")
    assert "train.steps" not in differ
    assert "name" not in differ


def test_a_metric_is_higher_or_lower_and_not_better(store):
    found = compare(["good", "bad"], store, "kpi_rms_conc_error")
    assert {p.word for p in found.pairs} <= {"higher", "lower"}
    assert "better" not in found.verdict
    with pytest.raises(ConfigError) as error:
        compare(["good", "bad"], store, "kpi")
    assert error.value.allowed is not None
    assert "kpi_rms_conc_error" in error.value.allowed


def test_returns_of_different_simulators_are_not_compared(store):
    with pytest.raises(ConfigError, match="no return in common") as error:
        compare(["good", "elsewhere"], store)
    assert "return on cstr" in str(error.value)
    assert "return on CartPole-v1" in str(error.value)
    assert "--measure kpi_rms_conc_error" in (error.value.hint or "")
    assert compare(["good", "elsewhere"], store, "kpi_rms_conc_error").measure.startswith("kpi")


def test_the_metric_return_of_composites_says_nothing_about_their_simulators(tmp_path):
    for name, simulator in (("one", "cstr"), ("other", "CartPole-v1")):
        box = write_experiment(tmp_path, name, seeds=(1,), simulator={"id": simulator})
        done = box.accepted("t0001-s1", Phase.EVALUATE)
        done.summary["policies"]["agent"]["metrics"]["return"] = 1.0
        box.write("runs/t0001-s1/evaluate.accepted.json", done)
    with pytest.raises(ConfigError, match="no return in common"):
        compare(["one", "other"], str(tmp_path))
    assert compare(["one", "other"], str(tmp_path), "return").measure == "return"


def test_nothing_in_common_is_refused_with_what_each_has(tmp_path):
    write_experiment(tmp_path, "trained", seeds=(1,))
    write_search(tmp_path, trials=3)
    with pytest.raises(ConfigError, match="share no measure") as error:
        compare(["trained", "search"], str(tmp_path))
    assert "return on cstr" in str(error.value)


def test_all_unknown_names_are_said_at_once(store):
    with pytest.raises(UserError) as error:
        compare(["god", "good", "nothing"], store)
    assert "'god'" in str(error.value)
    assert "'nothing'" in str(error.value)
    assert "good" in (error.value.hint or "")


@pytest.mark.parametrize(
    ("places", "message"),
    [
        (["good"], "needs two"),
        (["good", "good"], "named twice"),
        (["good", "good/t0009"], "no runs of t0009"),
        (["good", "good/t9"], "no trial or run 't9' in 'good'"),
        (["good", "nowhere/at/all"], "no store at"),
        (["good"] * 21, "too many"),
    ],
)
def test_what_cannot_be_compared_is_refused(store, places, message):
    with pytest.raises((ConfigError, NotFound), match=message):
        compare(places, store)


def test_runs_of_one_experiment(store):
    found = compare(["good/t0001-s1", "good/t0001-s2"], store)
    assert found.labels == ("good/t0001-s1", "good/t0001-s2")
    assert set(found.untested.values()) == {"one run"}
    assert len(found.episode_pairs) == 1


def test_equal_names_in_two_stores(store, tmp_path):
    write_experiment(tmp_path, "good", seeds=(1, 2, 3))
    found = compare(["good", str(tmp_path / "good")], store)
    assert found.labels == (f"{store}/good", f"{tmp_path}/good")


def test_the_page_is_one_file_that_links_what_lies_beside_it(store, tmp_path):
    index = build(compare(["good", "bad", "open"], store), tmp_path / "out")
    page = Page(index.read_text(encoding="utf-8"))
    beside = [link for link in page.links if not link.startswith(("#", "data:", "file:", "http"))]
    assert {f"{n}.{s}" for n in ("curves", "evaluation") for s in ("svg", "png", "csv")} == set(
        beside
    )
    assert all((index.parent / link).is_file() for link in beside)
    assert set(page.ids) >= {"evaluation", "learning", "settings", "time", "where", "method"}
    assert "script" not in page.tags
    found = json.loads((index.parent / "comparison.json").read_text(encoding="utf-8"))
    assert found["settings"]["learner.algorithm"] == ["ppo", "sac", "ppo"]


@pytest.mark.heavy
def test_html_in_a_value_is_text(tmp_path):
    learner = {"algorithm": "ppo", "args": {"policy": "<script>alert(1)</script>"}}
    write_experiment(tmp_path, "a", learner=learner)
    write_experiment(tmp_path, "b")
    text = render(compare(["a", "b"], str(tmp_path)), made_at=T0)["index.html"].decode()
    assert "<script>" not in text
    assert "&lt;script&gt;" in text


def mirrored(mailbox: Mailbox, uri: str, experiment: str) -> None:
    notes = Notes(mailbox, uri)
    for run in mailbox.runs():
        notes.track(run.run, f"id-{mailbox.experiment}-{run.seed}")
    link = f"{uri}/#/experiments/{experiment}/runs/parent"
    notes.write(RunNote(run="experiment", run_id="parent", link=link))


def test_a_link_to_the_same_comparison_in_mlflow(tmp_path):
    uri = "http://127.0.0.1:5000"
    tracking = {"mlflow": uri}
    a = write_experiment(tmp_path, "a", tracking=tracking)
    b = write_experiment(tmp_path, "b", tracking=tracking)
    mirrored(a, uri, "7")
    assert compare(["a", "b"], str(tmp_path)).mlflow is None  # b has not been sent yet
    mirrored(b, uri, "8")
    link = compare(["a", "b"], str(tmp_path)).mlflow
    assert link is not None
    assert link.startswith(f"{uri}/#/compare-runs?")
    query = parse_qs(urlsplit(unquote(urlsplit(link).fragment)).query)
    assert json.loads(query["experiments"][0]) == ["7", "8"]
    assert json.loads(query["runs"][0]) == ["id-a-1", "id-a-2", "id-b-1", "id-b-2"]


def test_secrets_are_not_on_the_page(tmp_path):
    for name, token in (("a", "hunter-2-a"), ("b", "hunter-2-b")):
        write_experiment(tmp_path, name, simulator={"id": "cstr", "args": {"api_token": token}})
    document = json.dumps(to_json(compare(["a", "b"], str(tmp_path))))
    assert "hunter" not in document


@pytest.mark.heavy
def test_compare_prints_the_verdict_and_writes_the_page(capsys, store, tmp_path):
    out = str(tmp_path / "page")
    assert main(["compare", "good", "bad", "--store", store, "--out", out]) == 0
    text = capsys.readouterr().out
    assert "comparison by return on cstr" in text
    assert "good is better than bad" in text
    assert f"page: {out}/index.html" in text
    assert main(["compare", "good", "--store", store]) == 2
    assert "drillyard compare A B" in capsys.readouterr().err
    assert main(["compare", "good", "bad", "--json", "--store", store, "--out", out]) == 0
    assert json.loads(capsys.readouterr().out)["pairs"][0]["word"] == "better"


def test_a_search_stands_for_its_winner_on_fresh_seeds_or_is_not_tested(tmp_path):
    write_search(tmp_path, trials=3, name="a")
    box = write_search(tmp_path, trials=3, name="b")
    found = compare(["a", "b/t0001", "a/t0002"], str(tmp_path))
    assert found.labels == ("a/t0004", "b/t0001", "a/t0002")
    assert [c.chosen for c in found.candidates] == ["", "", ""]
    for info in list(box.store.list(box.key("trials/t0004"))):
        box.store.delete(info.key)
    unconfirmed = compare(["a", "b"], str(tmp_path))
    assert "chosen by its score" in unconfirmed.candidates[1].chosen
    assert unconfirmed.pairs == ()
    assert any("optimistic" in note for note in unconfirmed.notes)
