"""The states, and what they are called in Prefect, MLflow and Optuna, and as exit codes."""

from __future__ import annotations

import enum
from typing import NamedTuple

from drillyard.errors import ExitCode


class Status(enum.StrEnum):
    """State of a run, a trial or a ticket."""

    UNKNOWN = "UNKNOWN"
    PENDING = "PENDING"
    READY = "READY"
    RUNNING = "RUNNING"
    SUCCEEDED = "SUCCEEDED"
    CANCELLED = "CANCELLED"
    FAILED = "FAILED"
    TIMED_OUT = "TIMED_OUT"
    PRUNED = "PRUNED"
    PREEMPTED = "PREEMPTED"

    @property
    def ended(self) -> bool:
        """True when no further work will be done under this state.

        PREEMPTED is not final: another attempt follows, or the run becomes FAILED.
        """
        return self in _ENDED

    @property
    def good(self) -> bool:
        """True for states that do not mean a failure of the experiment."""
        return self in _GOOD


_ENDED = {Status.SUCCEEDED, Status.CANCELLED, Status.FAILED, Status.TIMED_OUT, Status.PRUNED}
_GOOD = {Status.PENDING, Status.READY, Status.RUNNING, Status.SUCCEEDED, Status.PRUNED}


class Meaning(NamedTuple):
    """What other systems call a state."""

    number: int
    """The number that the older benchmark system uses."""
    prefect: str
    """Prefect's state type."""
    mlflow: str
    """MLflow's run status."""
    optuna: str
    """Optuna's trial state."""
    exit_code: ExitCode


TABLE: dict[Status, Meaning] = {
    Status.UNKNOWN: Meaning(0, "PENDING", "RUNNING", "RUNNING", ExitCode.INFRASTRUCTURE),
    Status.PENDING: Meaning(1, "PENDING", "SCHEDULED", "WAITING", ExitCode.INFRASTRUCTURE),
    Status.READY: Meaning(2, "PENDING", "SCHEDULED", "WAITING", ExitCode.INFRASTRUCTURE),
    Status.RUNNING: Meaning(3, "RUNNING", "RUNNING", "RUNNING", ExitCode.INFRASTRUCTURE),
    Status.SUCCEEDED: Meaning(4, "COMPLETED", "FINISHED", "COMPLETE", ExitCode.DONE),
    Status.CANCELLED: Meaning(5, "CANCELLED", "KILLED", "FAIL", ExitCode.INTERRUPTED),
    Status.FAILED: Meaning(6, "FAILED", "FAILED", "FAIL", ExitCode.EXPERIMENT_FAILED),
    Status.TIMED_OUT: Meaning(7, "FAILED", "FAILED", "FAIL", ExitCode.EXPERIMENT_FAILED),
    Status.PRUNED: Meaning(8, "COMPLETED", "FINISHED", "PRUNED", ExitCode.DONE),
    Status.PREEMPTED: Meaning(9, "RUNNING", "RUNNING", "RUNNING", ExitCode.INFRASTRUCTURE),
}


class Cause(enum.StrEnum):
    """Why an attempt ended without a result. Each cause has its own number of retries."""

    PREEMPTION = "preemption"
    INFRASTRUCTURE = "infrastructure"
    OUT_OF_MEMORY = "out_of_memory"
    USER_ERROR = "user_error"
    TIME_LIMIT = "time_limit"
    CANCELLED = "cancelled"
    PRUNED = "pruned"


STATUS_OF: dict[Cause, Status] = {
    Cause.PREEMPTION: Status.FAILED,
    Cause.INFRASTRUCTURE: Status.FAILED,
    Cause.OUT_OF_MEMORY: Status.FAILED,
    Cause.USER_ERROR: Status.FAILED,
    Cause.TIME_LIMIT: Status.TIMED_OUT,
    Cause.CANCELLED: Status.CANCELLED,
    Cause.PRUNED: Status.PRUNED,
}
"""The state of a ticket whose attempts for this cause are used up."""
