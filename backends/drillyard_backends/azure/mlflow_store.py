"""The MLflow server of an Azure ML workspace, under the addresses that Azure gives it.

A plug-in of MLflow for ``azureml://…``: MLflow's own REST client with a token of ours. Microsoft's
``azureml-mlflow`` does the same and more, but holds MLflow and the blob library at older versions
than drillyard's.
"""

from __future__ import annotations

import re
from typing import Any

from drillyard.errors import UserError
from drillyard_backends.azure.errors import Missing, seam
from drillyard_backends.azure.login import credential

_SCOPE = "https://management.azure.com/.default"
_ADDRESS = re.compile(
    r"azureml://(?P<host>[\w.-]+)/mlflow/v[\d.]+(?P<scope>/subscriptions/[^?#]+?)/*\Z"
)
SHORT = re.compile(r"azureml:(?://)?/*\Z")
"""The workspace of the settings."""


def tracking_store(store_uri: str, artifact_uri: str | None = None) -> Any:
    """MLflow's client of a workspace, for MLflow's registry of plug-ins.

    Args:
        store_uri: ``azureml://HOST/mlflow/v1.0/subscriptions/…``, as ``az ml workspace show
            --query mlflow_tracking_uri`` prints it; ``azureml://``: that of the settings.
        artifact_uri: Not taken: the workspace chooses.

    Raises:
        UserError: No such address or workspace, or no sign-in.
    """
    from mlflow.store.tracking.rest_store import RestStore
    from mlflow.utils.rest_utils import MlflowHostCreds

    host = address(store_uri)

    def signed_in() -> Any:
        with seam("sign in to the workspace's MLflow"):
            return MlflowHostCreds(host, token=credential().get_token(_SCOPE).token)

    return RestStore(signed_in)


def address(uri: str) -> str:
    """Where the API answers.

    Raises:
        UserError: Not such an address.
    """
    if SHORT.match(uri):
        uri = _of_settings()
    match = _ADDRESS.match(uri)
    if match is None:
        raise UserError(
            f"{uri} is not the address of a workspace's MLflow",
            hint="az ml workspace show --query mlflow_tracking_uri; or azureml:// for that of the "
            "settings",
        )
    # The version belongs to MLflow's own API: its second is the one that MLflow 3 speaks.
    return f"https://{match['host']}/mlflow/v2.0{match['scope']}"


def _of_settings() -> str:
    from drillyard.backend.settings.resolve import open_settings
    from drillyard_backends.azure.rest import section
    from drillyard_backends.azure.service import Service
    from drillyard_backends.azure.settings import read_settings

    config = read_settings(open_settings("azure"))
    try:
        return str(section(Service(config).workspace(), "properties")["mlFlowTrackingUri"])
    except Missing as error:
        raise UserError(
            f"there is no workspace {config.workspace!r}: {error}",
            hint="az ml workspace list shows the existing workspaces",
        ) from None
