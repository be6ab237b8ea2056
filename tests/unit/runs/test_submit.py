"""Submission: what is written, frozen, and left alone; where results were made."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from drillyard.errors import IdentityChanged
from drillyard.mailbox import Mailbox, open_store
from drillyard.mailbox.records import Claim, Phase
from drillyard.mailbox.status import Status
from drillyard.mailbox.ticket_states import ticket_states
from drillyard.runs import submit
from drillyard.system.platform_info import git_state, platform_info, versions
from tests.helpers.tiny_backend import tiny


@pytest.fixture
def mailbox(tmp_path):
    return Mailbox(open_store(str(tmp_path / "project" / "drillyard-runs")), "tiny")


def send(folder: Path, mailbox: Mailbox, **changes: object) -> submit.Plan:
    loaded = tiny(folder, **changes)
    plan = submit.plan(loaded, mailbox, submit.pack(loaded, mailbox))
    submit.write(plan, mailbox)
    submit.post(loaded.spec, mailbox, submit.plain(loaded.spec), lambda: None)
    return plan


@pytest.mark.heavy
def test_a_plan_writes_nothing(tmp_path, mailbox):
    loaded = tiny(tmp_path / "project")
    submit.plan(loaded, mailbox, submit.pack(loaded, mailbox))
    assert list(mailbox.store.list("")) == []
    assert not (tmp_path / "project" / "drillyard-runs").exists()


@pytest.mark.heavy
def test_tickets_form_a_chain_and_what_ends_a_run_comes_first(tmp_path, mailbox):
    send(tmp_path / "project", mailbox)
    states = ticket_states(mailbox)
    assert list(states) == [
        "t0001-s1.store",
        "t0001-s2.store",
        "t0001-s1.evaluate",
        "t0001-s2.evaluate",
        "t0001-s1.train",
        "t0001-s2.train",
    ]
    assert states["t0001-s1.store"].ticket.after == ["t0001-s1.train", "t0001-s1.evaluate"]
    ready = [t for t, s in states.items() if s.status is Status.READY]
    assert ready == ["t0001-s1.train", "t0001-s2.train"]


@pytest.mark.heavy
def test_run_json_is_frozen(tmp_path, mailbox):
    send(tmp_path / "project", mailbox, resources={"threads": 3})
    first = mailbox.run("t0001-s1")
    assert (first.seed, first.threads, first.device) == (1, 3, "auto")
    posted = mailbox.ticket("t0001-s1.train")
    send(tmp_path / "project", mailbox, resources={"threads": 3}, train={"steps": 999})
    assert mailbox.run("t0001-s1") == first
    assert mailbox.ticket("t0001-s1.train") == posted


@pytest.mark.heavy
def test_a_seed_that_was_begun_is_not_taken_back(tmp_path, mailbox):
    send(tmp_path / "project", mailbox, seeds=[1, 2, 3])
    claim = Claim(ticket="t0001-s2.train", attempt=1, worker="w", token="x", claimed_at=0.0)
    mailbox.claim(claim)
    send(tmp_path / "project", mailbox, seeds=[1])
    left = {t.split(".")[0] for t in mailbox.ticket_ids() if t.endswith("train")}
    assert left == {"t0001-s1", "t0001-s2"}


@pytest.mark.heavy
def test_the_record_says_where_everything_came_from(tmp_path, mailbox):
    folder = tmp_path / "project"
    plan = send(folder, mailbox)
    record = mailbox.experiment_record()
    assert record == plan.record
    assert record.provenance == {"train.steps": "tiny.yaml:3"}
    assert record.command[-1] == str(folder / "tiny.yaml")
    assert record.versions["python"]
    assert len(record.identity) == 64
    assert list(plan.bundle.files) == ["world.py"]  # neither the experiment file nor the store
    again = submit.plan(tiny(folder), mailbox, plan.bundle)
    assert again.changes == []
    assert again.record.created_at == record.created_at


@pytest.mark.heavy
def test_history_is_kept(tmp_path, mailbox):
    send(tmp_path / "project", mailbox)
    mailbox.claim(Claim(ticket="t0001-s1.train", attempt=1, worker="w", token="x", claimed_at=0.0))
    plan = send(tmp_path / "project", mailbox, train={"steps": 300})
    assert plan.repeat is Phase.TRAIN
    (entry,) = mailbox.experiment_record().history
    assert entry["changes"] == ["budget.steps: 100 -> 300"]
    with pytest.raises(IdentityChanged):
        send(tmp_path / "project", mailbox, train={"steps": 300, "n_envs": 2})


@pytest.mark.heavy
def test_git_commit_and_dirt(tmp_path):
    folder = tmp_path / "repo"
    folder.mkdir()
    assert git_state(tmp_path / "repo") == (None, None)
    (folder / "a.py").write_text("A = 1\n")
    git = ["git", "-C", str(folder), "-c", "user.name=x", "-c", "user.email=x@example.org"]
    subprocess.run([*git, "init", "-q"], check=True)
    subprocess.run([*git, "add", "."], check=True)
    subprocess.run([*git, "commit", "-q", "-m", "x"], check=True)
    commit, dirty = git_state(folder)
    assert commit is not None and len(commit) == 40
    assert dirty is False
    (folder / "a.py").write_text("A = 2\n")
    assert git_state(folder) == (commit, True)


@pytest.mark.heavy
def test_git_may_be_absent(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert git_state(tmp_path) == (None, None)


def test_platform_info_is_small_json():
    info = platform_info()
    assert set(info) == {"os", "machine", "cpu", "cores", "memory_bytes", "gpus", "versions"}
    assert info["cores"] >= 1
    assert info["memory_bytes"] > 1 << 20
    assert versions()["pydantic"].startswith("2.")


@pytest.mark.heavy
def test_a_new_experiment_gets_the_exact_clock_and_an_earlier_one_keeps_its_own(tmp_path, mailbox):
    """Seeds that are added later, or a resume, see the simulator of the first ones."""
    folder, building = tmp_path / "project", {"id": "building", "args": {"days": 1}}
    loaded = tiny(folder, simulator=building)

    def args(before: Mailbox) -> object:
        made = submit.plan(loaded, before, None)
        return made.record.spec["simulator"]["args"]

    assert args(mailbox) == {"days": 1, "clock": "exact"}
    made = submit.plan(loaded, mailbox, None)
    submit.write(made, mailbox)
    assert args(mailbox) == {"days": 1, "clock": "exact"}
    assert submit.plan(loaded, mailbox, None).changes == []

    old = made.record.model_copy(update={"spec": {**made.record.spec, "simulator": building}})
    mailbox.write("experiment.json", old)
    assert args(mailbox) == {"days": 1}
    assert submit.plan(loaded, mailbox, None).changes == []
