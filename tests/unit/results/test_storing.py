"""The store phase: what it publishes, where it copies to, and what it refuses."""

from __future__ import annotations

import csv
import json
import os
from pathlib import Path
from typing import Any

import pytest

from drillyard.errors import (
    CorruptObject,
    InfrastructureError,
    Stopped,
    StoreUnavailable,
    Superseded,
    UserError,
)
from drillyard.mailbox import Mailbox
from drillyard.mailbox.file import FileStore
from drillyard.mailbox.mailbox import sha256_hex, ticket_id
from drillyard.mailbox.records import AttemptStart, Claim, Ending, Phase
from drillyard.mailbox.status import Cause, Status
from drillyard.metrics.streams import StreamWriter
from drillyard.results.store_phase import selected, store_phase
from drillyard.runs.workload import PhaseOutcome, RunContext
from drillyard.spec.running import StoreTarget
from tests.helpers.fixtures_store import spec_of, write_experiment
from tests.helpers.records import context_of, failed, result_of

RUN = "t0001-s1"
MODEL = bytes(range(256)) * 40

TRAINED = {
    "best_model.zip": MODEL,
    "final_model.zip": b"final",
    "policy_best.safetensors": b"best-p",
    "policy_final.safetensors": b"final-p",
    "normalisation_best.npz": b"best-n",
    "normalisation_final.npz": b"final-n",
    "spaces.json": b"{}",
    "learner.json": b"{}",
    "tensorboard/events.out.tfevents.1": b"tb",
}
TABLES = ("metrics", "evaluations", "progress", "monitor")
POLICY = ("best_model.zip", "policy.safetensors", "normalisation.npz", "spaces.json")
SELECTED = {f"{name}.csv" for name in TABLES} | {f"policy/{n}" for n in (*POLICY, "learner.json")}
"""What the globs of ``test_copies_with_globs`` select."""
EVALUATED = {"evaluation/episodes.json": b"[]", "trajectories/agent.csv": b"t\n0\n"}


def result(box: Mailbox, phase: Phase, files: dict[str, bytes], **summary: Any) -> None:
    claim = Claim(ticket=ticket_id(RUN, phase), attempt=1, worker="w", token="t", claimed_at=1.0)
    assert box.claim(claim)
    told = {"summary": summary, "started_at": 1000.0, "ended_at": 1010.0}
    box.accept(claim, result_of(box, RUN, phase, files, **told))
    box.end(Ending(ticket=claim.ticket, attempt=1, status=Status.SUCCEEDED, by="w", ended_at=2.0))


@pytest.fixture
def box(tmp_path):
    """A run that was trained and evaluated, and waits to be stored."""
    made = write_experiment(tmp_path / "store", seeds=(1,), finished=0, failed=-1)
    folder = made.attempt_path(RUN, Phase.TRAIN, 1)
    made.write(f"{folder}/start.json", AttemptStart(attempt=1, started_at=1000.0))
    writer = StreamWriter(made, RUN, 1)
    for step in (100, 200):
        writer.append("train", step, {"rollout/ep_rew_mean": step / 4, "train/loss": None})
        writer.append(
            "episodes",
            step,
            {"return": 1.5 * step, "length": 7, "env": 0},
            lesson={"level": step / 100},
        )
    writer.append("train", 300, {"train/clip": 0.25})
    writer.append("evaluation", 200, {"eval/mean_reward": 9.0})
    writer.flush()
    result(made, Phase.TRAIN, TRAINED, steps=300)
    result(made, Phase.EVALUATE, EVALUATED, policy_used="best")
    return made


def context(box: Mailbox, tmp_path: Path, attempt: int = 1, **changes: Any) -> RunContext:
    scratch = tmp_path / f"scratch-{attempt}"
    scratch.mkdir(exist_ok=True)
    spec = spec_of("cstr-ppo", [1], **changes)
    return context_of(box, spec, box.run(RUN), Phase.STORE, scratch, attempt)


def run_folder(box: Mailbox) -> Path:
    return Path(box.store.url) / box.key(f"runs/{RUN}")


def verified(box: Mailbox, outcome: PhaseOutcome) -> None:
    for name in outcome.files.files:
        box.read_file(outcome.files, name)


def test_a_store_that_refuses_each_request_once_ends_no_attempt(box, tmp_path, monkeypatch):
    given, asked = context(box, tmp_path), set()
    for verb in ("get", "stat", "download", "upload", "put_if_absent"):
        real = getattr(FileStore, verb)

        def refused(store: FileStore, key: str, *rest: Any, verb: str = verb, real: Any = real):
            if (verb, key) not in asked:
                asked.add((verb, key))
                raise StoreUnavailable(f"503 at {key}")
            return real(store, key, *rest)

        monkeypatch.setattr(FileStore, verb, refused)
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    outcome = store_phase(given)
    assert {verb for verb, _ in asked} == {"get", "stat", "download", "upload", "put_if_absent"}
    monkeypatch.undo()
    verified(box, outcome)


@pytest.mark.heavy
def test_what_people_look_for_is_where_they_look(box, tmp_path):
    outcome = store_phase(context(box, tmp_path))
    folder = run_folder(box)
    assert (folder / "policy/best_model.zip").read_bytes() == MODEL
    assert (folder / "policy/final_model.zip").read_bytes() == b"final"
    # `policy` without a further word is the one that was evaluated.
    assert (folder / "policy/policy.safetensors").read_bytes() == b"best-p"
    assert (folder / "policy/normalisation.npz").read_bytes() == b"best-n"
    assert (folder / "tensorboard/events.out.tfevents.1").read_bytes() == b"tb"
    assert (folder / "evaluation/episodes.json").read_bytes() == b"[]"
    assert "cpu" in json.loads((folder / "platform.json").read_text())
    assert set(outcome.files.files) == SELECTED | {
        "policy/final_model.zip",
        "tensorboard/events.out.tfevents.1",
        "evaluation/episodes.json",
        "trajectories/agent.csv",
        "platform.json",
    }
    verified(box, outcome)
    assert outcome.summary["files"] == 14


@pytest.mark.heavy
def test_the_tables(box, tmp_path):
    store_phase(context(box, tmp_path))
    folder = run_folder(box)
    with open(folder / "metrics.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [r["step"] for r in rows] == ["100", "200", "300"]
    assert [r["rollout/ep_rew_mean"] for r in rows] == ["25.0", "50.0", ""]
    assert [r["train/clip"] for r in rows] == ["", "", "0.25"]
    with open(folder / "progress.csv", newline="") as file:
        episodes = list(csv.DictReader(file))
    assert [(e["episode"], e["step"], e["return"]) for e in episodes] == [
        ("1", "100", "150.0"),
        ("2", "200", "300.0"),
    ]
    assert [e["lesson_level"] for e in episodes] == ["1.0", "2.0"]
    with open(folder / "evaluations.csv", newline="") as file:
        assert next(csv.DictReader(file))["eval/mean_reward"] == "9.0"


@pytest.mark.heavy
def test_stable_baselines_reads_the_monitor(box, tmp_path):
    monitor = pytest.importorskip("stable_baselines3.common.monitor")
    store_phase(context(box, tmp_path))
    frame = monitor.load_results(str(run_folder(box)))
    assert list(frame["r"]) == [150.0, 300.0]
    assert list(frame["l"]) == [7, 7]
    assert list(frame["level"]) == [1, 2]


def test_final_policy_when_nothing_better_was_seen(tmp_path):
    box = write_experiment(tmp_path / "store", seeds=(1,), finished=0, failed=-1)
    only_final = {k: v for k, v in TRAINED.items() if "best" not in k}
    result(box, Phase.TRAIN, only_final, steps=1)
    result(box, Phase.EVALUATE, {}, policy_used="final")
    store_phase(context(box, tmp_path))
    policy = run_folder(box) / "policy"
    assert (policy / "policy.safetensors").read_bytes() == b"final-p"
    assert not (policy / "best_model.zip").exists()


def test_a_second_attempt_writes_the_same(box, tmp_path, monkeypatch):
    first = store_phase(context(box, tmp_path))
    (run_folder(box) / "policy/final_model.zip").write_bytes(b"torn!")
    written: list[str] = []
    honest = FileStore.upload
    monkeypatch.setattr(
        FileStore, "upload", lambda s, key, path: (written.append(key), honest(s, key, path))[1]
    )
    second = store_phase(context(box, tmp_path, 2))
    assert second.files == first.files
    assert written == [box.key(f"runs/{RUN}/policy/final_model.zip")]
    verified(box, second)


def test_a_changed_result_is_not_passed_on(box, tmp_path):
    path = Path(box.store.url) / box.key(f"{box.attempt_path(RUN, Phase.TRAIN, 1)}/best_model.zip")
    path.write_bytes(b"\1" + MODEL[1:])
    with pytest.raises(CorruptObject, match=r"best_model\.zip"):
        store_phase(context(box, tmp_path))
    assert not (run_folder(box) / "policy/best_model.zip").exists()


def test_superseded_and_stopped(box, tmp_path):
    late = context(box, tmp_path)
    box.end(failed(late.claim.ticket, by="driver", ended_at=4.0))
    with pytest.raises(Superseded):
        store_phase(late)
    assert not (run_folder(box) / "policy").exists()
    stopped = context(box, tmp_path, 2)
    stopped.stop.set(Cause.CANCELLED, "by the user")
    with pytest.raises(Stopped):
        store_phase(stopped)


# -- targets -----------------------------------------------------------------------------------


def test_copies_with_globs(box, tmp_path):
    store = [
        {"url": str(tmp_path / "all")},
        {
            "url": str(tmp_path / "some"),
            "include": ["policy", "*.csv"],
            "exclude": ["final_model.zip", "trajectories/*"],
        },
    ]
    outcome = store_phase(context(box, tmp_path, store=store))
    everything, some = (tmp_path / n / "cstr-ppo" / RUN for n in ("all", "some"))
    assert (everything / "policy/best_model.zip").read_bytes() == MODEL
    listed = json.loads((everything / "manifest.json").read_text())["files"]
    assert listed["policy/best_model.zip"]["sha256"] == sha256_hex(MODEL)
    assert set(listed) == set(outcome.files.files)
    found = {str(p.relative_to(some)) for p in some.rglob("*") if p.is_file()}
    assert found == SELECTED | {"manifest.json"}
    assert [t["files"] for t in outcome.summary["targets"]] == [14, 9]


def test_copying_goes_on_where_it_stopped(box, tmp_path):
    store = [{"url": str(tmp_path / "all")}]
    store_phase(context(box, tmp_path, store=store))
    copies = tmp_path / "all/cstr-ppo" / RUN
    (copies / "manifest.json").unlink()
    (copies / "monitor.csv").unlink()
    torn = copies / "policy/best_model.zip"
    torn.write_bytes(b"\0" * len(MODEL))  # the right size, the wrong bytes
    outcome = store_phase(context(box, tmp_path, 2, store=store))
    target = outcome.summary["targets"][0]
    assert (target["written"], target["skipped"]) == (2, 12)
    assert torn.read_bytes() == MODEL
    assert (copies / "manifest.json").exists()


def test_parts_of_the_run_folder_can_be_suppressed(box, tmp_path):
    own = [{"url": box.store.url, "exclude": ["tensorboard", "progress.csv"]}]
    outcome = store_phase(context(box, tmp_path, store=own))
    assert outcome.summary["targets"] == []
    assert not (run_folder(box) / "tensorboard").exists()
    assert not (run_folder(box) / "progress.csv").exists()
    assert (run_folder(box) / "policy/best_model.zip").exists()


def test_relative_folders_count_from_where_the_store_lies(box, tmp_path):
    store_phase(context(box, tmp_path, store=[{"url": "./copies"}]))
    assert (tmp_path / "copies/cstr-ppo" / RUN / "policy/best_model.zip").exists()


def test_missing_and_unusable_targets(box, tmp_path):
    with pytest.raises(UserError, match="not there") as found:
        store_phase(context(box, tmp_path, store=[{"url": str(tmp_path / "no/such/disk")}]))
    assert "mount" in str(found.value.hint)
    assert not (tmp_path / "no").exists()
    assert not (run_folder(box) / "policy").exists(), "found before anything is written"
    file = tmp_path / "file"
    file.write_text("x")
    with pytest.raises(UserError, match="not a folder"):
        store_phase(context(box, tmp_path, 2, store=[{"url": str(file)}]))


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_without_permission(box, tmp_path):
    shut = tmp_path / "shut"
    shut.mkdir(mode=0o500)
    with pytest.raises(UserError, match="not writable"):
        store_phase(context(box, tmp_path, store=[{"url": str(shut)}]))


def test_a_place_that_flips_bits_is_found_out(box, tmp_path, monkeypatch):
    honest = FileStore.upload

    def flipping(self: FileStore, key: str, path: Path) -> None:
        honest(self, key, path)
        if self.root.name == "bad" and key.endswith("best_model.zip"):
            target = self.path(key)
            target.write_bytes(target.read_bytes()[:-1] + b"\0")

    monkeypatch.setattr(FileStore, "upload", flipping)
    with pytest.raises(InfrastructureError, match="another sha256") as found:
        store_phase(context(box, tmp_path, store=[{"url": str(tmp_path / "bad")}]))
    assert found.value.retryable
    assert not (tmp_path / "bad/cstr-ppo" / RUN / "manifest.json").exists()


@pytest.mark.heavy
def test_mlflow_as_a_target(box, tmp_path):
    from mlflow.tracking import MlflowClient

    store = [{"url": "mlflow", "include": ["policy/*"]}]
    before = dict(os.environ)
    outcome = store_phase(context(box, tmp_path, store=store))
    assert dict(os.environ) == before
    assert outcome.summary["targets"][0]["written"] == 6
    client = MlflowClient(f"sqlite:///{box.store.url}/mlflow.db")
    experiment = client.get_experiment_by_name("cstr-ppo")
    run = next(
        r
        for r in client.search_runs([experiment.experiment_id])
        if r.data.tags["drillyard.name"] == RUN
    )
    local = client.download_artifacts(run.info.run_id, "policy/best_model.zip", str(tmp_path))
    assert Path(local).read_bytes() == MODEL
    again = store_phase(context(box, tmp_path, 2, store=store))
    assert again.summary["targets"][0]["written"] == 0


@pytest.mark.parametrize(
    ("name", "include", "exclude", "taken"),
    [
        ("policy/best_model.zip", ["*"], [], True),
        ("policy/best_model.zip", ["policy"], [], True),
        ("policy/best_model.zip", ["./policy/"], [], True),
        ("policy/best_model.zip", ["*.zip"], [], True),
        ("policy/best_model.zip", ["*"], ["best_model.zip"], False),
        ("metrics.csv", ["policy"], [], False),
        ("policy_notes.txt", ["policy"], [], False),
        ("metrics.csv", [], [], False),
    ],
)
def test_globs(name, include, exclude, taken):
    assert selected(name, StoreTarget(url="x", include=include, exclude=exclude)) is taken
