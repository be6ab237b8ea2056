"""The contract of ``Workload``, as tests.

Use it from a plug-in's tests::

    from drillyard.testing.workload_suite import WorkloadSuite

    class TestMyWorkload(WorkloadSuite):
        @pytest.fixture
        def workload(self): return MyWorkload()
        @pytest.fixture
        def spec(self): ...      # a small ``ExperimentSpec`` of it, done in seconds
"""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from drillyard.documents.json_types import Json, JsonObject, as_list
from drillyard.errors import Stopped
from drillyard.findings import Finding, Severity
from drillyard.mailbox.records import Phase
from drillyard.mailbox.status import Status
from drillyard.runs.workload import PhaseOutcome, Workload
from drillyard.spec import ExperimentSpec
from drillyard.testing.phases import CountedStop, OneRun

Done = tuple[OneRun, PhaseOutcome, PhaseOutcome]
"""A run, and the outcomes of its train and evaluate."""
_PICKLES = (".pkl", ".pickle", ".joblib")


def numbers(value: Json) -> list[float]:
    """Every number in a JSON tree."""
    if isinstance(value, bool):
        return []
    if isinstance(value, int | float):
        return [float(value)]
    inside = [*value.values()] if isinstance(value, dict) else as_list(value)
    return [n for v in inside for n in numbers(v)]


class WorkloadSuite:
    """Inherit, and supply the fixtures ``workload`` and ``spec``."""

    @pytest.fixture
    def done(self, tmp_path: Path, workload: Workload, spec: ExperimentSpec) -> Done:
        """A run whose train and evaluate were done."""
        run = OneRun(tmp_path, spec, workload)
        return run, run.phase(Phase.TRAIN), run.phase(Phase.EVALUATE)

    def test_check_has_no_error_and_changes_nothing(
        self, workload: Workload, spec: ExperimentSpec, tmp_path: Path
    ) -> None:
        """Findings have a subject and a message; the folder is unchanged."""
        findings = workload.check(spec, tmp_path)
        assert all(isinstance(f, Finding) and f.subject and f.message for f in findings)
        bad = [f"{f.subject}: {f.message}" for f in findings if f.severity is Severity.ERROR]
        assert not bad, "\n".join(bad)
        assert not list(tmp_path.iterdir())

    def test_preload_names_modules(self, workload: Workload, spec: ExperimentSpec) -> None:
        """Each module can be imported."""
        import importlib

        for module in workload.preload(spec):
            importlib.import_module(module)

    def test_what_is_frozen_is_json(self, workload: Workload, spec: ExperimentSpec) -> None:
        """The choices are JSON and the same each time, because a resume relies on it."""
        frozen = workload.freeze(spec, spec.seeds[0])
        assert json.loads(json.dumps(frozen, allow_nan=False)) == frozen
        assert workload.freeze(spec, spec.seeds[0]) == frozen

    def test_both_phases_succeed_with_json_summaries(self, done: Done) -> None:
        """Small JSON without NaN, and a number in the summary of ``evaluate``."""
        _, trained, evaluated = done
        for outcome in (trained, evaluated):
            assert isinstance(outcome, PhaseOutcome)
            assert outcome.status is Status.SUCCEEDED
            assert len(json.dumps(outcome.summary, allow_nan=False)) < 1 << 20
        metrics = numbers(evaluated.summary)
        assert metrics and all(math.isfinite(n) for n in metrics)

    def test_files_are_what_their_manifest_says(self, done: Done) -> None:
        """Under the attempt's own folder, with right hashes, and no pickles."""
        from drillyard.mailbox.mailbox import sha256_hex

        run, *outcomes = done
        for outcome, phase in zip(outcomes, (Phase.TRAIN, Phase.EVALUATE), strict=True):
            own_folder = run.mailbox.attempt_path(run.run, phase, 1)
            for name, data in run.contents(outcome).items():
                entry = outcome.files.files[name]
                assert entry.key.startswith(f"{own_folder}/")
                assert (sha256_hex(data), len(data)) == (entry.sha256, entry.size)
                assert not name.endswith(_PICKLES)

    def test_the_same_seed_gives_the_same_numbers(
        self, tmp_path: Path, workload: Workload, spec: ExperimentSpec
    ) -> None:
        """In separate stores; override it if the work cannot be reproducible."""
        seen = []
        for place in ("one", "two"):
            run = OneRun(tmp_path / place, spec, workload)
            run.phase(Phase.TRAIN)
            seen.append(self.comparable(run.phase(Phase.EVALUATE).summary))
        assert seen[0] == seen[1]

    def comparable(self, summary: JsonObject) -> Json:
        """The part of a summary that must be equal under the same seed: all but times."""
        return {k: v for k, v in summary.items() if not k.endswith("_s")}

    def test_a_stop_is_heard(
        self, tmp_path: Path, workload: Workload, spec: ExperimentSpec
    ) -> None:
        """The work reads ``context.stop`` and raises ``Stopped``; the next attempt succeeds."""
        run = OneRun(tmp_path, spec, workload)
        with pytest.raises(Stopped):
            run.phase(Phase.TRAIN, CountedStop(at=1))
        assert run.phase(Phase.TRAIN).status is Status.SUCCEEDED
