"""The catalogue of bad inputs: each is refused by the real command line, and nothing is created.

Numbers are those of the catalogue. Rows about clouds stand with the clouds; rows 44, 67 to 75 and
89 (a run that exists already) in ``tests/contract/test_bad_resumes.py``.
"""

import json
import os
import shutil
import sys
import time
from collections import namedtuple

import pytest

from drillyard.cli.main import main
from tests.helpers.answering import answering
from tests.helpers.bad_inputs import BASE, ROWS, STEPS


def tree(folder):
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*"))


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A working folder, with a store that is not there yet."""
    for name in ("MLFLOW_TRACKING_URI", "DRILLYARD_STORE", "NO_SUCH_KEY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    return tmp_path


def refused(capsys, words, expected=2):
    """Run a command line that must be refused; what it said as JSON and as text."""
    began = time.perf_counter()
    code = main([*words, "--json"])
    took = time.perf_counter() - began
    out = capsys.readouterr()
    assert code == expected, out
    answer = json.loads(out.out)
    sys.modules.pop("broken_world", None)
    assert main(words) == expected
    both = capsys.readouterr()
    return answer, both.out + both.err, took


@pytest.mark.parametrize("row", ROWS, ids=lambda r: f"{r.number}-{r.field or r.words[0][:20]}")
def test_refused(row, place, capsys):
    file = place / f"exp{row.suffix}"
    file.write_text(row.body, encoding="utf-8")
    for name, text in row.files.items():
        (place / name).write_text(text)
    before = tree(place)
    answer, text, took = refused(capsys, ["check", file.name, *row.args], row.code)
    print(f"row {row.number}: {took:.2f} s: {text.strip()[:300]}")
    assert "Traceback" not in text
    if row.line is not None:
        assert f"exp{row.suffix}:{row.line}:" in text
    for word in row.words:
        assert word in text
    assert "fix:" in text
    for error in answer.get("errors", []):
        # A fix is more than the allowed values again, and no place is told twice.
        assert error["hint"] not in (error["allowed"], f"give {error['allowed']}"), error
        assert not (error["allowed"] and error["hint"].startswith("known: ")), error
        assert error["field"] is None or not error["message"].startswith(error["field"]), error
    if row.field is not None:
        found = [e for e in answer["errors"] if e["field"] == row.field]
        assert len(found) == 1 or row.number == 31, answer
        assert found[0]["line"] == row.line
        assert found[0]["file"] in (file.name, "--set")
        assert found[0]["hint"]
        assert row.field in text
        if row.value is not None:
            assert row.value in str(found[0]["value"])
            assert found[0]["allowed"]
    assert tree(place) == before


def test_all_mistakes_are_told_at_once(place, capsys):
    (place / "exp.yaml").write_text(
        BASE.replace("10_000", "0").replace("gamma: 0.9", "gamma: .nan")
        + "seeds: [1, 1]\nalgo: 1\n"
    )
    answer, text, _ = refused(capsys, ["check", "exp.yaml"])
    assert {e["field"] for e in answer["errors"]} >= {
        "train.steps",
        "learner.args.gamma",
        "seeds",
        "algo",
    }
    assert "4 errors. Nothing was created." in text


def test_mistakes_of_an_agent_are_told_at_once(place, capsys):
    (place / "exp.yaml").write_text(
        "name: x\nsimulator:\n  id: tank:Tank\n  agent:\n    observes:\n"
        "      level: {min: 0, max: 1, reference: wish}\n      flow: {min: 0}\n"
        "    acts:\n      valve: {min: 0, max: 1}\n      pump: {values: [0, 1]}\n"
        "    reward:\n      a: '-(level'\n      b: 'level -'\n      c: level\n"
        "learner: {algorithm: ppo, args: {gama: 1}}\ntrain: {steps: 1}\n"
    )
    answer, _text, _ = refused(capsys, ["check", "exp.yaml"])
    agent = "simulator.agent"
    assert {(e["line"], e["field"]) for e in answer["errors"]} == {
        (7, f"{agent}.observes.flow.max"),
        (12, f"{agent}.reward.a"),
        (13, f"{agent}.reward.b"),
        (15, "learner.args.gama"),
        (8, f"{agent}.acts"),
        (6, f"{agent}.observes.level.reference"),
    }
    (place / "exp.yaml").write_text(
        "name: x\nsimulator: {id: 'tank:Tank', agent: {logs: [level]}}\n"
        "learner: {algorithm: ppo}\ntrain: {steps: 1}\n"
    )
    answer, _text, _ = refused(capsys, ["check", "exp.yaml"])
    assert [e["field"] for e in answer["errors"]] == [
        f"{agent}.{name}" for name in ("observes", "acts", "reward")
    ]


def test_a_misspelt_argument_of_a_search_space_is_told_with_other_mistakes(place, capsys):
    (place / "exp.yaml").write_text(
        "name: x\nsimulator: {id: CartPole-v1}\nlearner:\n  algorithm: ppo\n  args:\n"
        "    learnin_rate: {tune: [1.0e-4, 1.0e-2], log: true}\n    gamma: {tune: [0.9, 0.8]}\n"
        "    lr: 0.1\n    epochs: 3\n    clip: 3\ntrain: {steps: 1000, foo: 3}\n"
        "study: {trials: 3}\n"
    )
    answer, _text, _ = refused(capsys, ["check", "exp.yaml"])
    assert sorted((e["line"], e["field"]) for e in answer["errors"]) == [
        (6, "learner.args.learnin_rate"),
        (7, "learner.args.gamma.tune"),
        (8, "learner.args.lr"),
        (9, "learner.args.epochs"),
        (10, "learner.args.clip"),
        (11, "train.foo"),
    ]


def test_a_missing_file_of_a_child_hides_nothing(place, capsys):
    (place / "exp.yaml").write_text(
        "name: parts\nworkload: composite\nchildren:\n  - one.yaml\n  - two.yaml\n"
        "  - {name: m, workload: mock, mock: {noise: -1}}\nseeds: [1, 1]\n"
        "parameters: {include_tunables: [groups.yaml]}\n"
    )
    answer, text, _ = refused(capsys, ["check", "exp.yaml"])
    assert [(e["line"], e["field"]) for e in answer["errors"]] == [
        (4, "children[0]"),
        (5, "children[1]"),
        (6, "children[2].mock.noise"),
        (7, "seeds"),
        (8, "parameters.include_tunables[0]"),
    ]
    assert "'one.yaml'" in text and "'two.yaml'" in text and "'groups.yaml'" in text


def test_a_number_in_any_spelling_is_taken(place, capsys):
    """Row 6: YAML 1.1 reads ``1e-3`` as text, and a person does not."""
    (place / "exp.yaml").write_text(BASE.replace("gamma: 0.9", "learning_rate: 1e-3"))
    assert main(["explain", "exp.yaml", "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["values"]["learner.args.learning_rate"]["value"] == 0.001


@pytest.mark.parametrize("name", ["nothere.yaml", ".", "data.bin"])
def test_not_a_file(name, place, capsys):
    (place / "data.bin").write_bytes(b"\x89PNG\r\n\x1a\n\x00\xff")
    (place / "notthere.yaml").write_text(BASE)
    answer, text, _ = refused(capsys, ["check", name])
    assert answer["error"] == "ConfigError"
    assert "fix:" in text
    if name == "nothere.yaml":
        assert "notthere.yaml" in text
    assert tree(place) == ["data.bin", "notthere.yaml"]


def test_full_disk(place, capsys, monkeypatch):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(10**9, 10**9 - 1000, 1000))
    (place / "exp.yaml").write_text(BASE)
    answer, text, _ = refused(capsys, ["check", "exp.yaml"])
    assert "67.1 MB" in text
    assert "0.0 MB are free" in text
    assert not answer["ok"]


@pytest.mark.heavy
def test_old_tracking_server(place, capsys):
    """Row 64: a server below the security floor is refused."""
    with answering(lambda request: (200, b"2.3.1")) as url:
        (place / "exp.yaml").write_text(BASE + f"tracking: {{mlflow: '{url}'}}\n")
        _, text, _ = refused(capsys, ["check", "exp.yaml"])
    assert "MLflow 2.3.1" in text
    assert "update it" in text


def test_no_secret_is_ever_shown(place, capsys, monkeypatch):
    canary = "hunter2canary"
    monkeypatch.setenv("MY_TOKEN", canary)
    (place / "exp.yaml").write_text(
        BASE + f"tracking: {{mlflow: 'http://user:{canary}@host'}}\n"
        f"backends: {{local: {{password: {canary}, url: 'https://{canary}@h'}}}}\n"
    )
    for words in (
        ["check", "exp.yaml"],
        ["explain", "exp.yaml"],
        ["check", "exp.yaml", "--json"],
        ["check", "exp.yaml", "--password", canary],
    ):
        assert main(words) == 2
        out = capsys.readouterr()
        assert canary not in out.out + out.err
    assert os.listdir(place) == ["exp.yaml"]


@pytest.mark.heavy
def test_a_checkpoint_interval_beyond_the_budget_is_told(place, capsys):
    """Row 77 refuses this on machines that can be taken away; at home it is a note."""
    (place / "exp.yaml").write_text(BASE.replace(STEPS, STEPS + "  checkpoint_every: 20_000\n"))
    assert main(["check", "exp.yaml"]) == 0
    text = capsys.readouterr().out
    assert "warn  train.checkpoint_every" in text
    assert "20,000 steps is more than train.steps = 10,000" in text
    assert "for example 1,000" in text
