"""A store that refuses every first request for a key costs no workload its attempt."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import pytest
import tenacity

from drillyard.errors import Stopped, StoreUnavailable
from drillyard.mailbox import Mailbox
from drillyard.mailbox.file import FileStore
from drillyard.mailbox.records import Phase
from drillyard.registry import load
from drillyard.runs.workload import PhaseOutcome, RunContext, Workload
from drillyard.spec import ExperimentSpec
from drillyard.testing.phases import CountedStop, OneRun

RL = {
    "simulator": {"id": "cstr"},
    "train": {"steps": 256, "n_envs": 1, "checkpoint_every": 128},
    "evaluate": {"episodes": 2},
    "resources": {"device": "cpu"},
    "tracking": {"mlflow": None, "tensorboard": True},
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
    """Refuses the first request of each kind for each key, while a phase runs.

    Args:
        url: Of the store.
    """

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self.refused: set[tuple[str, str]] = set()
        self.refuses = False

    def _meet(self, verb: str, key: str) -> None:
        if not self.refuses or (verb, key) in self.refused:
            return
        self.refused.add((verb, key))
        raise StoreUnavailable(f"refused once: {verb} {key}")


VERBS = {"get": "get", "download": "get", "put": "put", "upload": "put", "put_if_absent": "create"}
VERBS |= {"stat": "stat", "list": "list", "keys": "list", "folders": "list"}
"""Method of a store -> the kind of request."""


def refusing(method: str, verb: str) -> Callable[..., Any]:
    def meet(store: Refusing, key: str = "", *rest: Any) -> Any:
        store._meet(verb, key)
        return getattr(FileStore, method)(store, key, *rest)

    return meet


for _method, _verb in VERBS.items():
    setattr(Refusing, _method, refusing(_method, _verb))


class InPhases:
    """A workload whose store refuses requests only while it works, not while the test does.

    Args:
        workload: It.
        store: The store.
    """

    def __init__(self, workload: Workload, store: Refusing) -> None:
        self._workload, self._store = workload, store

    def __getattr__(self, name: str) -> Any:
        return getattr(self._workload, name)

    def train(self, context: RunContext) -> PhaseOutcome:
        """Train with such a store."""
        return self._during(self._workload.train, context)

    def evaluate(self, context: RunContext) -> PhaseOutcome:
        """Evaluate with such a store."""
        return self._during(self._workload.evaluate, context)

    def _during(
        self, phase: Callable[[RunContext], PhaseOutcome], context: RunContext
    ) -> PhaseOutcome:
        self._store.refuses = True
        try:
            return phase(context)
        finally:
            self._store.refuses = False


@pytest.fixture
def stubborn(tmp_path, monkeypatch):
    """Makes a run of an experiment, with such a store; nothing waits between two requests."""
    at_once = functools.partial(tenacity.Retrying, sleep=lambda seconds: None)
    monkeypatch.setattr(tenacity, "Retrying", at_once)
    monkeypatch.chdir(tmp_path)

    def make(name: str) -> OneRun:
        values = {"schema": 1, "name": name, "seeds": [1], **EXPERIMENTS[name]}
        spec = ExperimentSpec.model_validate(values)
        store = Refusing(str(tmp_path / "store"))
        workload: Any = InPhases(load("workloads", spec.workload)(), store)
        one = OneRun(tmp_path, spec, workload)
        one.mailbox = Mailbox(store, spec.name)
        return one

    return make


def refused(one: OneRun) -> set[tuple[str, str]]:
    """(verb, key) of every request that was refused."""
    store = one.mailbox.store
    assert isinstance(store, Refusing)
    return store.refused


@pytest.mark.heavy
@pytest.mark.parametrize("name", EXPERIMENTS)
def test_a_refused_request_is_made_again(name, stubborn):
    one = stubborn(name)
    one.phase(Phase.TRAIN)
    one.phase(Phase.EVALUATE)
    keys = {key for _, key in refused(one)}
    assert any(key.endswith("/start.json") for key in keys) or name == "script"
    if name in ("ppo", "sac"):
        assert any("/checkpoints/" in key for key in keys)
    if name == "ppo":
        assert any("/tensorboard/" in key for key in keys)
    if name == "script":
        assert any("/streams/telemetry/" in key for key in keys)


@pytest.mark.heavy
@pytest.mark.parametrize("name", ["ppo", "sac"])
def test_a_refused_request_is_made_again_by_a_resume(name, stubborn):
    one = stubborn(name)
    with pytest.raises(Stopped):
        one.phase(Phase.TRAIN, CountedStop(at=200))
    refused(one).clear()
    assert one.phase(Phase.TRAIN).summary["resumes"] == 1
    assert any(verb == "get" and "/checkpoints/" in key for verb, key in refused(one))
