"""The environment variables of tracking clients, and the processes that receive them."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from drillyard.system.environment import restored

REQUEST_TIMEOUT_S = 5
"""Default time-out of one answer."""


_OF_ANOTHER = (
    # W&B's client writes the address of its service here, and joins the service that it finds
    # here (wandb 0.29.0, sdk/lib/service/service_token.py). The service of a parent still holds
    # the run of a mirror that was killed, and answers that its ID is in use.
    "WANDB_SERVICE",
    "MLFLOW_RUN_ID",
    "MLFLOW_EXPERIMENT_ID",
    "WANDB_RUN_ID",
    "WANDB_RESUME",
    "WANDB_NAME",
    "WANDB_RUN_GROUP",
    "WANDB_JOB_TYPE",
    "WANDB_NOTES",
    "WANDB_TAGS",
    "WANDB_SWEEP_ID",
)


def settings(request_timeout_s: float = REQUEST_TIMEOUT_S) -> dict[str, str]:
    """The variables that bound a call.

    MLflow's own defaults are 7 retries with 120 s each.

    Args:
        request_timeout_s: Seconds for one answer, at least 1.
    """
    return {
        "MLFLOW_HTTP_REQUEST_TIMEOUT": str(max(1, round(request_timeout_s))),
        "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
        "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "1",
        "MLFLOW_HTTP_RESPECT_RETRY_AFTER_HEADER": "false",
        "MLFLOW_ENABLE_ASYNC_LOGGING": "false",  # it loses points silently when the server is gone
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
        "GIT_PYTHON_REFRESH": "quiet",
    }


def child_environment(environ: Mapping[str, str]) -> dict[str, str]:
    """The environment of a mirroring process, made from its parent's.

    A run id that the user exported is left out: it names one of their own runs, and the client
    would write ours into it. So is the service of W&B's client that a parent has started.
    """
    kept = {k: v for k, v in environ.items() if k not in _OF_ANOTHER}
    quiet = {"WANDB_ERROR_REPORTING": "false", "WANDB_SILENT": "true"}
    return {**quiet, **kept, **settings(), "OMP_NUM_THREADS": "1"}


def no_telemetry() -> None:
    """Keeps MLflow in this process from reporting its use, unless the user chose otherwise.

    MLflow looks at the variable at each event that it would report.
    """
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")


def without_tables(address: str) -> None:
    """Keeps this process from importing pandas and SciPy, which MLflow otherwise imports.

    A mirror sends no tables, and these imports take a third of its processor time and 80 MB.
    MLflow works without them: that is the package ``mlflow-skinny``, to which the packages for
    databases may be added (README_SKINNY.md in MLflow's repository). To log a model it needs them.

    Args:
        address: The address of the tracking server. Nothing is done if it needs a plug-in.
    """
    if address.startswith(("sqlite:", "http:", "https:")):
        for name in ("pandas", "pyarrow", "scipy"):
            # Python then raises ImportError. What is imported already stays.
            sys.modules.setdefault(name, None)  # type: ignore[arg-type]


@contextmanager
def bounded_http(request_timeout_s: float = REQUEST_TIMEOUT_S) -> Iterator[None]:
    """Bound the calls of this process for a while, and put its environment back afterwards."""
    changed = settings(request_timeout_s)
    with restored(*changed):
        os.environ.update(changed)
        yield
