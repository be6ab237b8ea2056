"""Policies from given initial conditions: every step kept, as by hand, in parallel the same."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import pytest
import typer.testing

from drillyard.cli.main import build
from drillyard.errors import ConfigError, NotFound, UserError
from drillyard.evaluation.assessment import assess, summary
from drillyard.evaluation.request import asked
from drillyard.report.assessment import texts
from drillyard.spec.conditions import read_conditions
from drillyard.spec.load import load

ROOT = Path(__file__).parents[3]
TANK = ROOT / "experiments" / "tank" / "tank.yaml"
STARTS = [{"level": 0.1, "wanted": 0.5}, {"level": 1.9}, {"wanted": 1.4}]


@pytest.fixture
def starts(tmp_path):
    file = tmp_path / "starts.json"
    file.write_text(json.dumps(STARTS))
    return file


def table(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


@pytest.mark.heavy
def test_an_episode_a_condition_and_a_row_a_step(starts):
    request = asked(str(TANK), starts, policy="hold", success="abs(level - wanted) < 0.6")
    found = assess(request)
    files = texts(request, found)
    rows, steps = table(files["assessment.csv"]), table(files["assessment_logs.csv"])
    assert [row["config_level"] for row in rows] == ["0.1", "1.9", ""]
    assert list(steps[0])[:3] == ["state_level", "state_wanted", "state_time"]
    assert list(steps[0])[-8:] == [
        "config_level",
        "config_wanted",
        "reward",
        "reward_cumsum",
        "terminated",
        "truncated",
        "episode_id",
        "step_id",
    ]
    # By hand: the middle of the range is an inflow of 0.5.
    level = 0.1
    for step in steps[:60]:
        level += (0.5 - 0.5 * level**0.5) / 5.0
        assert float(step["state_level"]) == pytest.approx(level)
        assert float(step["reward"]) == pytest.approx(-abs(level - 0.5))
    first = [step for step in steps if step["episode_id"] == "0"]
    assert len(first) == 60 and first[-1]["truncated"] == "True"
    assert [step["truncated"] for step in first[:-1]] == ["False"] * 59
    assert float(first[-1]["reward_cumsum"]) == pytest.approx(float(rows[0]["episode_return"]))
    assert rows[0]["state_level"] == first[-1]["state_level"]
    assert [row["success"] for row in rows] == ["True", "True", "True"]
    page = files["assessment.html"]
    assert "<script" not in page and "http" not in page.split("</style>")[1].replace(
        "http://www.w3.org/", ""
    )
    for words in ("hold on tank:Tank", "level=1.9", "3 episodes: mean return", "success 100%"):
        assert words in page
    assert page.count('id="as-axes_') == 4  # level, wanted, time, inflow
    total = summary(found)
    assert total["episodes"] == 3 and total["success"] == 1.0
    assert json.loads(files["assessment.json"])["policy"] == "hold"


@pytest.mark.heavy
def test_parts_are_the_whole(starts):
    request = asked(str(TANK), starts, policy="random", max_steps=5)
    alone = assess(request)
    assert [part.first for part in request.parts(2)] == [0, 2]
    assert [one for part in request.parts(3) for one in assess(part)] == alone
    assert assess(request, workers=2) == alone, "in two processes"
    assert all(one.row["length"] == 5 and one.row["truncated"] for one in alone)
    assert {one.row["success"] for one in alone} == {None}


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.csv", "level,wanted\n0.1,0.5\n1.9,\n,1.4\n"),
        ("b.csv", "config_level,config_wanted\n0.1,0.5\n\n1.9,\n,1.4\n"),
        ("c.yaml", "- {level: 0.1, wanted: 0.5}\n- {level: 1.9}\n- {wanted: 1.4}\n"),
        ("d.json", json.dumps(STARTS)),
    ],
)
def test_a_list_may_be_csv_json_or_yaml(tmp_path, name, text):
    (tmp_path / name).write_text(text)
    assert read_conditions(tmp_path / name) == STARTS


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("a.csv", "level,level\n1,2\n", ["a.csv:1", "distinct names"]),
        ("a.csv", "level,wanted\n1\n", ["a.csv:2", "1 cells, the header 2"]),
        ("a.csv", "level\n", ["list of 0"]),
        ("a.yaml", "level: 3\n", ["not a list of conditions"]),
        ("a.json", "[1]", ["condition 1 is not a mapping"]),
        ("a.json", '[{"lvel": 1}]', ["condition 1", "no reset key 'lvel'"]),
        ("missing.csv", None, ["no such file"]),
    ],
)
def test_a_bad_list_is_refused_before_anything_runs(tmp_path, name, text, words):
    if text is not None:
        (tmp_path / name).write_text(text)
    with pytest.raises(ConfigError) as caught:
        asked(str(TANK), tmp_path / name, policy="hold")
    assert all(word in str(caught.value) for word in words), caught.value
    assert caught.value.hint


@pytest.mark.parametrize(
    ("given", "kind", "words"),
    [
        ({"policy": "agent"}, UserError, "a file has no trained agent"),
        ({"policy": "hodl"}, UserError, "unknown baseline 'hodl'"),
        ({"policy": "hold", "success": "open('x')"}, ConfigError, "--success"),
        ({"policy": "hold", "success": "depth > 1"}, ConfigError, "unknown name: 'depth'"),
        ({"policy": "hold", "which": "worst"}, ConfigError, "best, final"),
        ({"what": "no-such-thing", "policy": "hold"}, NotFound, "no"),
    ],
)
def test_bad_requests_say_what_is_wrong(starts, tmp_path, monkeypatch, given, kind, words):
    monkeypatch.chdir(tmp_path)
    what = given.pop("what", str(TANK))
    with pytest.raises(kind) as caught:
        assess(asked(what, starts, **given))
    assert words in str(caught.value)


def test_the_command_writes_files_and_never_over_anything(starts, tmp_path):
    words = [
        "assess",
        str(TANK),
        "--conditions",
        str(starts),
        "--policy",
        "hold",
        "--out",
        str(tmp_path / "out"),
    ]
    app, _ = build(words)
    run = typer.testing.CliRunner().invoke
    done = run(app, words)
    assert done.exit_code == 0, done.output
    assert "level=0.1, wanted=0.5" in done.output and "3 episodes: mean return" in done.output
    before = {path: path.read_bytes() for path in (tmp_path / "out").iterdir()}
    assert len(before) == 4
    again = run(app, words)
    assert isinstance(again.exception, UserError) and "already exists" in str(again.exception)
    assert {path: path.read_bytes() for path in (tmp_path / "out").iterdir()} == before


def test_an_experiment_takes_its_conditions_from_a_file_beside_it(tmp_path):
    (tmp_path / "starts.csv").write_text("Cref_signal\n1\n4\n")
    file = tmp_path / "x.yaml"
    file.write_text(
        "name: x\nsimulator: {id: cstr}\nlearner: {algorithm: ppo}\ntrain: {steps: 1000}\n"
        "evaluate: {conditions: starts.csv}\n"
    )
    spec = load(file).spec
    assert spec.evaluate.conditions == [{"Cref_signal": 1}, {"Cref_signal": 4}]
    (tmp_path / "starts.csv").unlink()
    with pytest.raises(ConfigError, match="no such file"):
        load(file)
