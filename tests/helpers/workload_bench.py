"""Runs the phases of a workload in this process: what unit tests of workloads share."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from drillyard.mailbox import Mailbox
from drillyard.mailbox.memory import MemoryStore
from drillyard.mailbox.records import Claim, Phase, RunRecord
from drillyard.registry import load
from drillyard.runs.workload import PhaseOutcome, RunContext, StopSignal
from drillyard.spec import ExperimentSpec
from drillyard.spec.binding import run_parameters
from tests.helpers.records import result_of


class Bench:
    """One run of one experiment.

    Args:
        tmp: A folder of the test.
        tree: The experiment, without a name.
        files: Name -> text of the user's folder.
        attempt: Number of the attempt.
    """

    def __init__(
        self,
        tmp: Path,
        tree: dict[str, Any],
        files: dict[str, str] | None = None,
        seed: int = 1,
        trial: int = 1,
        attempt: int = 1,
    ) -> None:
        self.spec = ExperimentSpec.model_validate({"name": "bench", **tree})
        self.mailbox = Mailbox(MemoryStore(f"memory://{tmp}"), "bench")
        self.code = tmp / "code"
        self.code.mkdir(exist_ok=True)
        for name, text in (files or {}).items():
            (self.code / name).write_text(text)
        self.workload = load("workloads", self.spec.workload)()
        parameters = run_parameters(self.spec, run="t0001-s1", seed=seed, trial=trial)
        self.run = RunRecord(
            run="t0001-s1",
            experiment="bench",
            seed=seed,
            trial=trial,
            parameters=parameters,
            choices=self.workload.freeze(self.spec, seed),
        )
        self.scratch = tmp / f"scratch-{attempt}"
        self.scratch.mkdir()
        self.attempt = attempt
        self.stop = StopSignal()

    @property
    def work(self) -> Path:
        return self.scratch / "work"

    def context(self, phase: Phase) -> RunContext:
        claim = Claim(
            ticket=f"t0001-s1.{phase.value}",
            attempt=self.attempt,
            worker="w",
            # By its token a worker ends the processes of a claim, on the whole machine.
            token=f"{self.code}-{self.attempt}",
            claimed_at=0.0,
        )
        return RunContext(
            spec=self.spec,
            run=self.run,
            phase=phase,
            attempt=self.attempt,
            claim=claim,
            mailbox=self.mailbox,
            scratch=self.scratch,
            code=self.code,
            stop=self.stop,
        )

    def train(self) -> PhaseOutcome:
        # As the driver does before a phase with a result runs again.
        self.mailbox.store.delete(self.mailbox.key("runs/t0001-s1/train.accepted.json"))
        outcome = self.workload.train(self.context(Phase.TRAIN))
        told = {"status": outcome.status, "summary": outcome.summary}
        result = result_of(
            self.mailbox, "t0001-s1", Phase.TRAIN, outcome.files, self.attempt, **told
        )
        self.mailbox.create("runs/t0001-s1/train.accepted.json", result)
        return outcome

    def metrics(self) -> dict[str, float]:
        """Train and evaluate; the metrics."""
        self.train()
        outcome = load("workloads", self.spec.workload)().evaluate(self.context(Phase.EVALUATE))
        return outcome.summary["metrics"]

    def read(self, outcome: PhaseOutcome, name: str) -> str:
        return self.mailbox.read_file(outcome.files, name).decode()


def script(run: list[Any], **more: Any) -> dict[str, Any]:
    """An experiment of the workload ``script``."""
    return {"workload": "script", "script": {"run": run, **more}}


PATTERN = r"^(\w+)=(\S+)$"
"""Results as scripts of tests print them."""


def say(text: str) -> list[str]:
    """A line that prints a text."""
    return [sys.executable, "-c", f"print({text!r})"]


def printing(folder: Path, text: str) -> Bench:
    """A script that prints a text, with its results in it."""
    return Bench(folder, script([say(text)], results={"stdout": PATTERN}))
