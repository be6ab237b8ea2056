"""The MLflow of the emulated workspace: MLflow's own server, in this process, behind a token."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from drillyard_emulators.azure.answers import refused
from drillyard_emulators.azure.entra import Entra
from drillyard_emulators.http.fields import members
from drillyard_emulators.http.wire import Request, Response

_VERSION = "/mlflow/v2.0"
MOST = {"metrics": 50, "params": 200, "tags": 50}
"""Names of each kind that a run may have: "Service limits in Azure Machine Learning"
(learn.microsoft.com), and azure-sdk-for-python#35685 for parameters."""
ROWS, PARAM, TAG = 250, 500, 1000
"""Metrics of a batch; characters of a parameter's and of a tag's value."""

if TYPE_CHECKING:
    from flask.testing import FlaskClient


class Mlflow:
    """Answers below ``/mlflow/v2.0/subscriptions/…/workspaces/NAME``.

    Args:
        folder: For its database.
        entra: Knows the callers.
        root: Id of the workspace.
    """

    def __init__(self, folder: Path, entra: Entra, root: Callable[[], str]) -> None:
        self._folder, self._entra, self._root = folder, entra, root
        self._lock = threading.Lock()
        self._names: dict[tuple[str, str], set[str]] = {}
        """Run and kind to the names that it has."""

    def __call__(self, request: Request) -> Response:
        """One call of MLflow's API."""
        request.caller = self._entra.who(request, "management")
        if request.caller is None:
            return refused(401, "", "The access token is not valid.")
        head = f"{_VERSION}{self._root()}"
        if not request.path.lower().startswith(head.lower()):
            return refused(404, "ResourceNotFound", "there is no such workspace")
        kind = request.headers.get("content-type", "application/json")
        with self._lock:
            too_much = self._too_much(request)
            if too_much:
                return Response.of(
                    {"error_code": "INVALID_PARAMETER_VALUE", "message": too_much}, 400
                )
            answer = self._server.open(
                request.path[len(head) :],
                method=request.method,
                data=request.body,
                query_string=request.query_text,
                content_type=kind,
            )
            return Response(
                answer.status_code, answer.get_data(), {"Content-Type": answer.content_type}
            )

    def _too_much(self, request: Request) -> str:
        """Why a request is beyond the limits of the service; empty where it is not."""
        if not request.path.endswith(("/runs/log-batch", "/runs/create")):
            return ""
        asked = request.json()
        run = str(asked.get("run_id") or "")
        for name, most in MOST.items():
            given = members(asked, name)
            longest = {"params": PARAM, "tags": TAG}.get(name)
            if longest and any(len(str(entry.get("value", ""))) > longest for entry in given):
                return f"{name}: values of more than {longest} characters"
            if name == "metrics" and len(given) > ROWS:
                return f"Metrics in a batch exceed the limit. Limit={ROWS}"
            there = self._names.get((run, name), set()) | {str(entry["key"]) for entry in given}
            if len(there) > most:
                return f"{name} of a run exceed the limit. Limit={most}"
            if run:
                self._names[run, name] = there
        return ""

    @cached_property
    def _server(self) -> FlaskClient:
        """Made at the first call: it takes seconds to import."""
        from mlflow.server import ARTIFACT_ROOT_ENV_VAR, BACKEND_STORE_URI_ENV_VAR

        os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
        os.environ[BACKEND_STORE_URI_ENV_VAR] = f"sqlite:///{self._folder / 'mlflow.db'}"
        os.environ[ARTIFACT_ROOT_ENV_VAR] = str(self._folder / "mlflow-artifacts")
        from mlflow.server import app

        client: FlaskClient = app.test_client()
        return client
