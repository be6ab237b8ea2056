"""A study whose driver is killed between any two choices chooses what it would have chosen."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from drillyard.documents.json_types import JsonObject
from drillyard.mailbox import Mailbox, open_store
from drillyard.mailbox.records import TrialOutcome, TrialRecord
from drillyard.mailbox.status import Status
from drillyard.spec import ExperimentSpec
from drillyard.studies.choosers import Chooser
from drillyard.studies.factory import make_chooser
from tests.helpers.searches import frozen

TUNABLES = {
    "level": {"type": "float", "range": [0, 1], "default": 0.5},
    "rate": {"type": "float", "range": [1e-4, 1e-1], "log": True, "default": 1e-2},
    "size": {"type": "int", "range": [1, 64], "default": 8},
}
STUDIES: dict[str, tuple[int, dict[str, Any]]] = {
    "random": (14, {}),
    "grid": (12, {"grid": {"level": 3, "rate": 2, "size": 2}, "trials": None}),
    "manual": (5, {"cycles": [{"level": 0.1}, {"level": 0.2}, {"size": 3}]}),
    "list": (3, {"experiments": [{"values": {"level": v}} for v in (0.1, 0.2, 0.3)]}),
    "one-shot": (1, {}),
    "tpe": (16, {}),
    "gp": (15, {}),
    "cma-es": (32, {}),
    "nsga2": (56, {}),
    "pbt": (12, {"population": {"members": 4, "generations": 3}}),
    "smac": (13, {}),
}
SMAC = [pytest.mark.slow, pytest.mark.skipif(find_spec("smac") is None, reason="no smac here")]
MOMENTS = ("asked", "frozen", "told", "written")
"""What the last driver did before it was killed."""


def spec_of(kind: str) -> ExperimentSpec:
    count, more = STUDIES[kind]
    trials = {} if kind in ("list", "one-shot", "pbt", "grid") else {"trials": count}
    names = ["score", "cost"] if kind == "nsga2" else ["score"]
    return ExperimentSpec.model_validate(
        {
            "schema": 1,
            "name": "killed",
            "workload": "mock",
            "mock": {"metrics": names},
            "parameters": {
                "tunables": {"all": {"cost": 1, "params": TUNABLES}},
                "tunable_params": ["all"],
            },
            "study": {
                "chooser": kind,
                "objectives": [{"metric": f"evaluate/{n}", "direction": "max"} for n in names],
                **trials,
                **more,
            },
        }
    )


@dataclass
class Study:
    """A study, its frozen trials, and the drivers that come one after the other."""

    folder: Path
    kind: str
    workers: int
    records: list[TrialRecord] = field(default_factory=list)
    outcomes: dict[int, TrialOutcome] = field(default_factory=dict)
    time: float = 0.0

    def __post_init__(self) -> None:
        self.spec = spec_of(self.kind)
        self.mailbox = Mailbox(open_store(str(self.folder)), "killed")
        self.chooser = self.driver()

    def driver(self) -> Chooser:
        """The chooser of a new driver, which knows what is in the mailbox."""
        chooser = make_chooser(self.spec, self.mailbox)
        chooser.reconcile(self.records, self.outcomes)
        return chooser

    def forget(self) -> None:
        """Lose the memory that is not in the mailbox, as with another machine's home folder."""
        for path in self.folder.rglob("memory.db*"):
            path.unlink()
        self.chooser = self.driver()

    def run(self, kills: Mapping[int, str], lost: Sequence[int] = ()) -> list[JsonObject]:
        """Choose and end every trial; ``workers`` of them at a time."""
        count, _ = STUDIES[self.kind]
        for index in range(1, count + 1):
            moment = kills.get(index)
            if not self.chooser.ready(index):
                self.end_all()
            if index in lost:
                self.forget()
            taken = [r.assignment for r in self.records]
            if moment == "asked":
                self.chooser.ask(index, taken)
                self.chooser = self.driver()
            choice = self.chooser.ask(index, taken)
            self.time += 1.0
            record = frozen(index, choice, self.time)
            self.records.append(record)
            if moment == "frozen":
                self.chooser = self.driver()
            else:
                self.chooser.kept(record)
            if len(self.records) - len(self.outcomes) >= self.workers:
                self.end(self.records[len(self.outcomes)], moment)
        return [r.assignment for r in self.records]

    def end_all(self) -> None:
        for record in self.records[len(self.outcomes) :]:
            self.end(record, None)

    def end(self, record: TrialRecord, moment: str | None) -> None:
        self.time += 1.0
        level, size = float(record.assignment["level"]), int(record.assignment["size"])
        rate = float(record.assignment["rate"])
        values = {"evaluate/score": -((level - 0.7) ** 2) + size / 640, "evaluate/cost": -rate}
        outcome = TrialOutcome(
            number=record.number,
            status=Status.SUCCEEDED,
            values={o.metric: values[o.metric] for o in self.spec.study.objectives},
            ended_at=self.time,
        )
        self.chooser.tell(record, outcome)
        if moment == "told":
            self.chooser = self.driver()
            self.chooser.tell(record, outcome)
        self.outcomes[record.number] = outcome
        if moment == "written":
            self.chooser = self.driver()


MARKS = {"smac": SMAC, "tpe": pytest.mark.heavy, "cma-es": pytest.mark.heavy}
KINDS = [pytest.param(kind, marks=MARKS.get(kind, ())) for kind in STUDIES]


@pytest.mark.parametrize("workers", [1, 3])
@pytest.mark.parametrize("kind", KINDS)
def test_a_killed_study_chooses_as_one_that_was_left_alone(kind, workers, tmp_path):
    alone = Study(tmp_path / "alone", kind, workers).run({})
    kills = {index: MOMENTS[index % 4] for index in range(1, len(alone) + 1)}
    killed = Study(tmp_path / "killed", kind, workers).run(kills)
    assert killed == alone


@pytest.mark.parametrize("workers", [1, 3])
@pytest.mark.parametrize("kind", ["tpe", "gp"])
def test_so_does_one_whose_memory_was_lost(kind, workers, tmp_path):
    alone = Study(tmp_path / "alone", kind, workers).run({})
    lost = Study(tmp_path / "lost", kind, workers).run({}, lost=[5, len(alone) - 2])
    assert lost == alone


def test_nsga2_does_not_draw_its_first_generation_again(tmp_path):
    """Its generations are kept in its memory alone."""

    def generations(study: Study) -> list[int]:
        key = "NSGAIISampler:generation"
        trials: Any = study.chooser._trials()  # type: ignore[attr-defined]
        return [t.system_attrs.get(key, -1) for t in trials if t.values]

    alone = Study(tmp_path / "alone", "nsga2", 1)
    choices = alone.run({})
    lost = Study(tmp_path / "lost", "nsga2", 1)
    assert lost.run({}, lost=[24]) == choices
    assert generations(lost) == generations(alone)
    assert sorted(set(generations(alone))) == [-1, 0, 1, 2]
