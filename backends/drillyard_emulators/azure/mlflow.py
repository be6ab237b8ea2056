"""The MLflow of the emulated workspace: MLflow's own server, in this process, behind a token."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import Any

from drillyard_emulators.azure.answers import refused
from drillyard_emulators.azure.entra import Entra
from drillyard_emulators.http.wire import Request, Response

_VERSION = "/mlflow/v2.0"


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
            answer = self._server.open(
                request.path[len(head) :], method=request.method, data=request.body,
                query_string=request.query_text, content_type=kind,
            )  # fmt: skip
            return Response(
                answer.status_code, answer.get_data(), {"Content-Type": answer.content_type}
            )

    @cached_property
    def _server(self) -> Any:
        """Made at the first call: it takes seconds to import."""
        from mlflow.server import ARTIFACT_ROOT_ENV_VAR, BACKEND_STORE_URI_ENV_VAR

        os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
        os.environ[BACKEND_STORE_URI_ENV_VAR] = f"sqlite:///{self._folder / 'mlflow.db'}"
        os.environ[ARTIFACT_ROOT_ENV_VAR] = str(self._folder / "mlflow-artifacts")
        from mlflow.server import app

        return app.test_client()
