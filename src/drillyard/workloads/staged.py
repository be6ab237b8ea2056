"""Work that is set up, run, and torn down in any case."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from drillyard.runs.workload import PhaseOutcome, RunContext
from drillyard.workloads.measured import announce


@runtime_checkable
class Staged(Protocol):
    """A workload whose work has an outside: something to set up before, and to tear down after."""

    def setup(self, context: RunContext) -> None:
        """Make ready; safe to repeat."""

    def run(self, context: RunContext) -> PhaseOutcome:
        """Do the work."""

    def teardown(self, context: RunContext, *, failed: bool = False) -> None:
        """Clean up; safe to repeat. With ``failed``, errors are logged, not raised."""


def in_stages(work: Staged, context: RunContext) -> PhaseOutcome:
    """The train phase of such work."""
    announce(context)
    try:
        work.setup(context)
        outcome = work.run(context)
    except BaseException:
        work.teardown(context, failed=True)
        raise
    work.teardown(context)
    return outcome
