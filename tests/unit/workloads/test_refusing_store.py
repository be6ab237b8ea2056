"""A store that refuses every first request for a key costs no workload its attempt."""

from __future__ import annotations

import functools
import re
from pathlib import Path
from typing import Any

import pytest
import tenacity

from drillyard.errors import StoreUnavailable
from drillyard.mailbox import Mailbox
from drillyard.mailbox.file import FileStore
from drillyard.mailbox.records import Phase
from drillyard.registry import load
from drillyard.runs.workload import Workload
from drillyard.spec import ExperimentSpec
from drillyard.testing.phases import OneRun

RL = {
    "simulator": {"id": "cstr"},
    "train": {"steps": 256, "n_envs": 1, "checkpoint_every": 128},
    "evaluate": {"episodes": 2},
    "resources": {"device": "cpu"},
    "tracking": {"mlflow": None, "tensorboard": False},
}
SMALL = {"n_steps": 64, "batch_size": 64}
EXPERIMENTS: dict[str, dict[str, Any]] = {
    "mock": {"workload": "mock", "mock": {"points": 3}},
    "script": {
        "workload": "script",
        "script": {
            "run": [["bash", "-c", "echo 1,a,2 > t.csv; sleep 2; echo a=1"]],
            "telemetry": "t.csv",
            "results": {"stdout": r"^(\w+)=([-+.\d]+)$"},
        },
    },
    "ppo": {**RL, "learner": {"algorithm": "ppo", "preset": None, "args": SMALL}},
    "sac": {
        **RL,
        "learner": {"algorithm": "sac", "preset": None, "args": {"learning_starts": 64}},
    },
}


class Refusing(FileStore):
    """Refuses the first request of each kind for each key of an attempt.

    Args:
        url: Of the store.
    """

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self.refused: set[tuple[str, str]] = set()

    def _meet(self, verb: str, key: str) -> None:
        ends = re.search(r"/attempts/[^/]+/manifest\.json$", key)  # written by the test's harness
        if "/attempts/" not in key or ends or (verb, key) in self.refused:
            return
        self.refused.add((verb, key))
        raise StoreUnavailable(f"refused once: {verb} {key}")

    def get(self, key: str) -> bytes:
        """Read, or refuse."""
        self._meet("get", key)
        return super().get(key)

    def put(self, key: str, data: bytes) -> None:
        """Write, or refuse."""
        self._meet("put", key)
        super().put(key, data)

    def upload(self, key: str, path: Path) -> None:
        """Write, or refuse."""
        self._meet("put", key)
        super().upload(key, path)


@pytest.mark.heavy
@pytest.mark.parametrize("name", EXPERIMENTS)
def test_a_refused_request_is_made_again(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    at_once = functools.partial(tenacity.Retrying, sleep=lambda seconds: None)
    monkeypatch.setattr(tenacity, "Retrying", at_once)
    monkeypatch.chdir(tmp_path)
    values = {"schema": 1, "name": name, "seeds": [1], **EXPERIMENTS[name]}
    spec = ExperimentSpec.model_validate(values)
    workload: Workload = load("workloads", spec.workload)()
    one = OneRun(tmp_path, spec, workload)
    store = Refusing(str(tmp_path / "store"))
    one.mailbox = Mailbox(store, spec.name)
    one.phase(Phase.TRAIN)
    one.phase(Phase.EVALUATE)
    said = {key.rpartition("/")[2] for _, key in store.refused}
    assert "start.json" in said or name == "script"
    if name in ("ppo", "sac"):
        assert any("/checkpoints/" in key for _, key in store.refused)
        assert {verb for verb, _ in store.refused} == {"get", "put"}
    if name == "script":
        assert any("/streams/telemetry/" in key for _, key in store.refused)
