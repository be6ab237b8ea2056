"""``status``, ``logs``, ``results``, ``report``, ``list runs``: what they print."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
from functools import partial
from pathlib import Path

import pytest

from drillyard.cli.logs import follow_all
from drillyard.cli.main import main
from drillyard.mailbox import Mailbox
from drillyard.mailbox.records import Accepted, Phase
from drillyard.mailbox.status import Cause
from drillyard.results import collect
from drillyard.runs.logs import Tail
from drillyard.testing.clock import FakeClock
from tests.helpers import records
from tests.helpers.fixtures_store import T0, open_box, write_experiment


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    root = tmp_path_factory.mktemp("store")
    write_experiment(root, "done")
    write_experiment(root, "half", seeds=(1, 7, 3), finished=1)
    write_experiment(root, "bad", seeds=(1,), finished=0, failed=1)
    return root


def run(capsys: pytest.CaptureFixture[str], store: Path, *words: str) -> tuple[int, str, str]:
    code = main([*words, "--store", str(store)])
    out, err = capsys.readouterr()
    return code, out, err


def test_status_of_a_running_experiment(capsys, store):
    code, out, _ = run(capsys, store, "status", "half")
    assert code == 0
    line = next(x for x in out.splitlines() if x.startswith("t0001-s7"))
    for part in ("RUNNING", "train", "40,000/60,000", "1,510", "63.40", "13 s", "ago"):
        assert part in line
    code, out, _ = run(capsys, store, "status", "half", "--json")
    found = json.loads(out)
    assert [r["status"] for r in found["runs"]] == ["SUCCEEDED", "RUNNING", "READY"]
    assert found["runs"][1]["eta_s"] == 13.2
    assert found["driver"]["pid"] == 1


def test_status_names_no_driver_that_has_ended(capsys, store, monkeypatch):
    """After ``kill -9`` this machine knows at once, whatever the age of the heartbeat."""
    monkeypatch.setattr("drillyard.mailbox.driver_lock.process_alive", lambda _: False)
    _, out, _ = run(capsys, store, "status", "half", "--json")
    assert json.loads(out)["driver"] is None


def test_status_says_why_and_how_to_mend(capsys, store):
    _, out, _ = run(capsys, store, "status", "bad")
    assert "t0001-s1: the reward was NaN at step 1,204 of copy 3" in out
    assert "fix: look at the simulator's reward" in out


def test_status_says_when_a_worker_is_silent(capsys, tmp_path):
    import os

    write_experiment(tmp_path, "half", seeds=(1, 2), finished=1)
    os.utime(tmp_path / "half" / "board" / "t0001-s2.json", (T0, T0))
    _, out, _ = run(capsys, tmp_path, "status", "half")
    assert "t0001-s2: no heartbeat for" in out
    # `resume` would be refused while this driver works.
    assert "The driver continues it as soon as its machine" in out and "resume" not in out
    for path in (tmp_path / "half" / "driver").iterdir():
        os.utime(path, (T0, T0))
    _, out, _ = run(capsys, tmp_path, "status", "half")
    assert "`drillyard resume half` checks and continues" in out


def test_results_as_table_json_and_csv(capsys, store):
    code, table, _ = run(capsys, store, "results", "done")
    assert code == 0
    assert "72.25" in table
    assert "The agent reaches a mean return of 72.25" in table
    assert "\x1b" not in table
    _, out, _ = run(capsys, store, "results", "done", "--json")
    assert json.loads(out)["policies"][0]["policy"] == "agent"
    _, out, _ = run(capsys, store, "results", "done", "--csv", "-")
    rows = list(csv.DictReader(io.StringIO(out)))
    assert [r["policy"] for r in rows] == ["agent", "p-controller", "hold", "random"]
    _, out, _ = run(capsys, store, "results", "done", "--csv", "-", "--top", "1")
    assert [r["run"] for r in csv.DictReader(io.StringIO(out))] == ["t0001-s2"]
    _, out, _ = run(capsys, store, "results", "done", "--json", "--top", "1")
    assert [c["run"] for c in json.loads(out)["curves"]] == ["t0001-s2"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("results", "done", "--json", "--csv", "-"), "cannot be combined"),
        (("results", "dome"), "did you mean 'done'"),
        (("results", "done", "--top", "0"), "--top"),
        (("logs", "t0001-s1"), "several experiments"),
        (("logs", "t0001-s99"), "no run"),
        (("logs", "done/t0001-s9"), "t0001-s2"),
        (("report", "nothing"), "no experiment"),
    ],
)
def test_mistakes_of_the_user(capsys, store, words, said):
    code, out, err = run(capsys, store, *words)
    assert code == 2
    assert said in out + err
    assert "Traceback" not in err


def test_reading_makes_no_folder(capsys, tmp_path):
    for command in ("status", "results", "report", "logs", "list experiments"):
        code, _, said = run(capsys, tmp_path / "none", *command.split())
        assert code == 2 and f"no store at {tmp_path / 'none'}" in said, command
    assert list(tmp_path.iterdir()) == []


def test_a_folder_without_a_store_has_no_experiments(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["list", "experiments"]) == 0
    assert capsys.readouterr().out == "no experiments\n"
    assert list(tmp_path.iterdir()) == []


def test_list_says_the_status_of_each_experiment(capsys, store):
    _, out, _ = run(capsys, store, "list", "experiments", "--json")
    found = {row["name"]: row for row in json.loads(out)}
    statuses = {"done": "SUCCEEDED", "half": "RUNNING", "bad": "FAILED"}
    assert {n: row["status"] for n, row in found.items()} == statuses
    assert found["half"]["runs_finished"] == 1
    _, out, _ = run(capsys, store, "list", "runs", "done", "--json")
    assert [row["run"] for row in json.loads(out)] == ["t0001-s1", "t0001-s2"]


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ((), ["half", "done", "bad"]),
        (("a",), ["half", "bad"]),
        (("b*",), ["bad"]),
        (("--status", "failed", "--status", "running"), ["half", "bad"]),
        (("--algorithm", "PPO", "--simulator", "cstr"), ["half", "done", "bad"]),
        (("--simulator", "CartPole-v1"), []),
        (("--sort", "name"), ["bad", "done", "half"]),
        (("--sort", "name", "--reverse"), ["half", "done", "bad"]),
        # An experiment without a result comes last in both directions.
        (("--sort", "result"), ["half", "done", "bad"]),
        (("--sort", "result", "--reverse"), ["done", "half", "bad"]),
    ],
)
def test_experiments_are_sorted_and_filtered(capsys, tmp_path, options, expected):
    for age, name in enumerate(("bad", "done", "half")):
        level, seeds = 60.0 if name == "done" else 70.0, (1, 2) if name == "half" else (1,)
        ends = {"finished": 0, "failed": 1} if name == "bad" else {"finished": 1}
        box = write_experiment(tmp_path, name, seeds=seeds, level=level, **ends)
        record = box.experiment_record()
        box.write("experiment.json", record.model_copy(update={"created_at": T0 + age}))
    code, out, _ = run(capsys, tmp_path, "list", "experiments", *options, "--json")
    assert code == 0
    assert [row["name"] for row in json.loads(out)] == expected


def test_experiments_have_a_result_an_age_and_what_they_are(capsys, store):
    _, out, _ = run(capsys, store, "list", "experiments", "done")
    assert "PPO on cstr" in out
    assert "72.25" in out
    row = json.loads(run(capsys, store, "list", "experiments", "done", "--json")[1])[0]
    assert row["age_s"] > 3600
    code, _, err = run(capsys, store, "list", "experiments", "--status", "ended")
    assert code == 2
    assert "SUCCEEDED" in err
    _, out, _ = run(capsys, store, "list", "experiments", "zzz")
    assert out == "no experiments match\n"


def test_the_result_of_a_search_is_that_of_its_winner_on_fresh_seeds(capsys, store, monkeypatch):
    found = collect(open_box(store, "done"), curves=False)
    (agent,) = found.agents
    lucky = dataclasses.replace(agent, mean_return=90.0, role="searched")
    again = dataclasses.replace(agent, mean_return=70.0, role="confirms")
    study = dataclasses.replace(found, policies=(lucky, again))
    monkeypatch.setattr("drillyard.results.collect", lambda *_, **__: study)
    row = json.loads(run(capsys, store, "list", "experiments", "done", "--json")[1])[0]
    assert row["mean_return"] == 70.0


@pytest.mark.heavy
def test_report_is_built_anew(capsys, tmp_path):
    write_experiment(tmp_path, "one", seeds=(1,))
    code, out, _ = run(capsys, tmp_path, "report", "one", "--json")
    index = tmp_path / "one" / "report" / "index.html"
    assert (code, json.loads(out)["index"]) == (0, str(index))
    assert index.stat().st_size > 20_000


def test_logs_of_one_run_and_of_all(capsys, store):
    _, out, _ = run(capsys, store, "logs", "half/t0001-s7")
    assert out.splitlines() == ["starting", "seed 7", "rollout 1", "rollout 2"]
    _, out, _ = run(capsys, store, "logs", "t0001-s7")
    assert out.splitlines()[1] == "seed 7"
    _, out, _ = run(capsys, store, "logs", "done")
    assert out.splitlines()[4] == "t0001-s2 | starting"
    _, out, _ = run(capsys, store, "logs", "half/t0001-s7", "--json")
    assert json.loads(out)[1] == {"run": "t0001-s7", "line": "seed 7"}


class Script(FakeClock):
    """A clock whose every wait does the next thing."""

    def __init__(self, *steps: object) -> None:
        super().__init__()
        self.steps = list(steps)

    def wait(self, event: object, timeout_s: float) -> bool:
        self.steps.pop(0)()  # type: ignore[operator]
        return False


def test_following_prints_each_line_once_and_ends_with_the_run(tmp_path):
    write_experiment(tmp_path, "half", seeds=(1, 2), finished=1)
    box = open_box(tmp_path, "half")
    folder = box.attempt_path("t0001-s2", Phase.TRAIN, 1)
    second = box.attempt_path("t0001-s2", Phase.TRAIN, 2)

    def write(path: str, line: int, text: str) -> None:
        box.store.put(box.key(f"{path}/logs/{line:012d}.txt"), text.encode())

    def end() -> None:
        write(second, 1, "last words\n")
        _fail(box)

    late, again = partial(write, folder, 4, "rollout 3\n"), partial(write, second, 0, "again\n")
    clock = Script(late, lambda: None, again, end)
    lines = [line for _, line in follow_all(box, [Tail(box, "t0001-s2")], clock)]
    before = ["starting", "seed 2", "rollout 1", "rollout 2", "rollout 3"]
    assert lines == [*before, "--- train, attempt 2 ---", "again", "last words"]
    assert clock.steps == []


def _fail(box: Mailbox) -> None:
    assert isinstance(box.accepted("t0001-s1", Phase.TRAIN), Accepted)
    box.end(records.failed("t0001-s2.train", Cause.USER_ERROR, message="no", by="w0", ended_at=T0))
