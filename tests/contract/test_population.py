"""Populations on this machine: members go on from others' checkpoints, with their own values."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import drillyard
from drillyard.mailbox import Mailbox, open_store
from drillyard.mailbox.records import Phase
from drillyard.mailbox.status import Status
from drillyard.metrics.streams import read_stream
from drillyard.results import accepted_file
from drillyard.runs import checkpoints
from tests.contract.test_study import RUNNER, write
from tests.helpers.patience import until

MOCK = {"chooser": "pbt", "population": {"members": 3, "generations": 3}}


@pytest.fixture(autouse=True)
def _home(tmp_path, monkeypatch):
    monkeypatch.setenv("DRILLYARD_HOME", str(tmp_path / "home"))


def run(path: Path, store: Path) -> Mailbox:
    drillyard.run(path, store=store, flow=False, report=False)
    return Mailbox(open_store(str(store)), path.stem)


def told(mailbox: Mailbox) -> list[Any]:
    """What was chosen, and what it came to."""
    records, outcomes, _ = mailbox.trials()
    assert {o.status for o in outcomes.values()} == {Status.SUCCEEDED}
    return [(r.assignment, r.lineage, outcomes[r.number].values) for r in records]


def test_a_population_whose_driver_is_killed_chooses_the_same(tmp_path):
    path = write(tmp_path, MOCK, mock={"range": [0, 100], "noise": 0.05, "duration_s": 0.1})
    whole = told(run(path, tmp_path / "whole"))
    assert len(whole) == 10  # and the winner once more
    parents = [lineage.parent for _, lineage, _ in whole]
    assert parents[:3] == [None] * 3 and all(parents[3:])
    command = [sys.executable, str(RUNNER), str(path), str(tmp_path / "cut")]
    mailbox = Mailbox(open_store(str(tmp_path / "cut")), "s")
    with open(tmp_path / "out.txt", "w") as out:
        child = subprocess.Popen(command, stdout=out, stderr=out)
    until(lambda: len(mailbox.trials()[0]) >= 5 or child.poll() is not None)
    child.send_signal(signal.SIGKILL)
    assert child.wait() == -signal.SIGKILL, (tmp_path / "out.txt").read_text()
    assert told(run(path, tmp_path / "cut")) == whole


def rl(folder: Path) -> Path:
    spec = {
        "schema": 1,
        "name": "p",
        "simulator": {"id": "simple-adder"},
        "learner": {
            "algorithm": "ppo",
            "preset": None,
            "args": {"learning_rate": "$lr", "n_steps": 64, "batch_size": 64, "n_epochs": 2},
        },
        "train": {"steps": 512},
        "evaluate": {"episodes": 2, "policy": "final"},
        "seeds": [5],
        "baselines": [],
        "tracking": {"mlflow": None, "tensorboard": False},
        "parameters": {
            "tunables": {
                "net": {
                    "params": {
                        "lr": {
                            "type": "float",
                            "range": [1e-4, 1e-1],
                            "log": True,
                            "default": 1e-3,
                        },
                    }
                }
            },
            "tunable_params": ["net"],
        },
        "study": {
            "chooser": "pbt",
            "population": {"members": 2, "generations": 2, "quantile": 0.5, "resample": 0},
        },
    }
    (folder / "p.json").write_text(json.dumps(spec))
    return folder / "p.json"


def test_the_winner_plays_fresh_episodes_with_the_weights_that_are_inherited(tmp_path):
    path = rl(tmp_path)
    spec = json.loads(path.read_text())
    # The best policy while training is another one than the last; what counts is the last.
    spec["evaluate"] = {"episodes": 3, "policy": "best", "every": {"steps": 64, "episodes": 2}}
    path.write_text(json.dumps(spec))
    mailbox = run(path, tmp_path / "runs")
    records, outcomes, _ = mailbox.trials()
    members, (again,) = records[:4], records[4:]
    for record in records:
        evaluated = mailbox.accepted(f"t{record.number:04d}-s5", Phase.EVALUATE)
        assert evaluated is not None and evaluated.summary["policy_used"] == "final"
    winner = max(members, key=lambda r: outcomes[r.number].values["evaluate/return"])
    assert again.of == winner.number and again.seeds == winner.seeds
    assert again.lineage is not None and again.lineage.parent == winner.number

    def weights(number: int) -> str:
        trained = mailbox.accepted(f"t{number:04d}-s5", Phase.TRAIN)
        assert trained is not None
        return mailbox.manifest(trained).files["policy_final.safetensors"].sha256

    def seeds(number: int) -> list[int]:
        data = accepted_file(
            mailbox, f"t{number:04d}-s5", Phase.EVALUATE, "evaluation/episodes.json"
        )
        assert data is not None
        return [episode["seed"] for episode in json.loads(data)]

    assert weights(again.number) == weights(winner.number)
    assert outcomes[again.number].steps == 0
    assert set(seeds(again.number)).isdisjoint(seeds(winner.number))
    assert seeds(winner.number) == seeds(members[0].number)


def test_a_learner_goes_on_from_the_better_ones_checkpoint(tmp_path):
    mailbox = run(rl(tmp_path), tmp_path / "runs")
    records, outcomes, _ = mailbox.trials()
    records = [r for r in records if r.search]
    assert [r.lineage.ends_at for r in records if r.lineage] == [256, 256, 512, 512]
    first, second = (outcomes[n].values["evaluate/return"] for n in (1, 2))
    better = 1 if first >= second else 2
    heirs = [r for r in records if r.lineage and r.lineage.parent == better]
    assert len(heirs) == 2  # its own next generation, and that of the other member
    lr = records[better - 1].assignment["lr"]
    rates = sorted(r.assignment["lr"] / lr for r in heirs)
    assert rates in ([pytest.approx(0.8), 1.0], [1.0, pytest.approx(1.2)])
    given = checkpoints.latest(mailbox, f"t{better:04d}-s5")
    assert given is not None and given.meta.step == 256
    for record in heirs:
        name = f"t{record.number:04d}-s5"
        trained = mailbox.accepted(name, Phase.TRAIN)
        summary = trained.summary
        assert (summary["steps"], summary["inherited_steps"], summary["resumes"]) == (512, 256, 0)
        assert summary["parameters"]["learning_rate"] == pytest.approx(record.assignment["lr"])
        assert outcomes[record.number].steps == 256
        # Its curve begins where it took over, and holds nothing of the other run.
        assert min(line["step"] for line in read_stream(mailbox, name, "train")) > 256
