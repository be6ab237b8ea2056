"""Runs the phases of one run in this process, as a worker would: for suites and tests."""

from __future__ import annotations

from pathlib import Path

from drillyard.documents.json_types import JsonObject
from drillyard.mailbox import Mailbox, open_store
from drillyard.mailbox.mailbox import run_id, sha256_hex, ticket_id
from drillyard.mailbox.records import STREAMS, Accepted, Claim, Phase, RunRecord
from drillyard.mailbox.status import Cause
from drillyard.runs.workload import PhaseOutcome, RunContext, StopSignal, Workload
from drillyard.spec import ExperimentSpec


class CountedStop(StopSignal):
    """Counts how often it is read, and requests a stop at a chosen read.

    Args:
        at: Number of the read that is answered with a stop; None: never.
    """

    def __init__(self, at: int | None = None) -> None:
        super().__init__()
        self.looks = 0
        self._at = at

    @property
    def requested(self) -> bool:
        """True once a stop was requested."""
        self.looks += 1
        if self._at is not None and self.looks >= self._at:
            self.set(Cause.CANCELLED, "the suite asked for it")
        return super().requested


class OneRun:
    """One run of an experiment in a store of its own.

    Args:
        folder: For the store and scratch files.
        spec: The experiment; its first seed is run.
        workload: Does the work.
        parameters: Values of the run.
    """

    def __init__(
        self,
        folder: Path,
        spec: ExperimentSpec,
        workload: Workload,
        parameters: JsonObject | None = None,
    ) -> None:
        self.folder, self.spec, self.workload = folder, spec, workload
        self.run = run_id(1, spec.seeds[0])
        self.mailbox = Mailbox(open_store(str(folder / "store")), spec.name)
        self._attempts: dict[Phase, int] = {}
        self.mailbox.create(
            f"runs/{self.run}/run.json",
            RunRecord(
                run=self.run,
                experiment=spec.name,
                seed=spec.seeds[0],
                parameters=parameters or dict(spec.parameters.const_args),
                device=spec.resources.device,
                streams=STREAMS,
                choices=workload.freeze(spec, spec.seeds[0]),
            ),
        )

    def phase(
        self, phase: Phase, stop: StopSignal | None = None, code: Path | None = None
    ) -> PhaseOutcome:
        """Run a phase in a new attempt, and accept its result.

        Args:
            phase: ``train`` or ``evaluate``.
            stop: Requests a stop while it runs.
            code: The user's folder.

        Raises:
            Stopped: ``stop`` requested it.
        """
        attempt = self._attempts[phase] = self._attempts.get(phase, 0) + 1
        scratch = self.folder / f"scratch-{phase.value}-{attempt}"
        scratch.mkdir(parents=True)
        claim = Claim(
            ticket=ticket_id(self.run, phase),
            attempt=attempt,
            worker="suite",
            token=str(attempt),
            claimed_at=0.0,
        )
        # A phase that has a result runs again only after the driver has set that result aside.
        accepted_key = self.mailbox.key(f"runs/{self.run}/{phase.value}.accepted.json")
        self.mailbox.store.delete(accepted_key)
        self.mailbox.claim(claim)
        context = RunContext(
            spec=self.spec,
            run=self.mailbox.run(self.run),
            phase=phase,
            attempt=attempt,
            claim=claim,
            mailbox=self.mailbox,
            scratch=scratch,
            code=code,
            stop=stop or StopSignal(),
        )
        done = self.workload.train if phase is Phase.TRAIN else self.workload.evaluate
        outcome = done(context)
        path = f"{context.folder}/manifest.json"
        self.mailbox.write(path, outcome.files)
        accepted = Accepted(
            run=self.run,
            phase=phase,
            attempt=attempt,
            status=outcome.status,
            manifest=path,
            manifest_sha256=sha256_hex(outcome.files.to_bytes()),
            summary=outcome.summary,
            started_at=0.0,
            ended_at=1.0,
        )
        self.mailbox.accept(claim, accepted)
        return outcome

    def contents(self, outcome: PhaseOutcome) -> dict[str, bytes]:
        """The files of a result by name."""
        return {
            name: self.mailbox.store.get(self.mailbox.key(entry.key))
            for name, entry in outcome.files.files.items()
        }
