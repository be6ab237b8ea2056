"""Bundles in MLflow's registry: each policy once, as a model of MLflow.

A policy is found again by the run that its version was made from, which has the policy's hash as a
tag. So a killed registration is continued, and nothing is registered twice.
"""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr
from dataclasses import dataclass
from pathlib import Path

from drillyard.errors import ConfigError
from drillyard.policies import bundles
from drillyard.spec.running import MODEL_NAME
from drillyard.system.clock import SYSTEM
from drillyard.system.environment import restored
from drillyard.tracking.environment import bounded_http, no_telemetry
from drillyard.tracking.server import Server, artifact_folder, translated
from drillyard.tracking.uris import is_azure

POLICY_TAG = "drillyard.policy"
_ADDRESSES = ("MLFLOW_TRACKING_URI", "MLFLOW_REGISTRY_URI")
_FACTS = ("experiment", "run", "algorithm", "step", "drillyard", "format")
_PATIENCE_S = 20.0
_MODEL = Path(__file__).parents[1] / "policies" / "pyfunc_model.py"


@dataclass(frozen=True)
class Registered:
    """A version of a model."""

    name: str
    version: int
    run_id: str
    """The MLflow run that it was made from."""
    new: bool
    """False if it was registered before."""


def register(folder: Path, name: str, uri: str) -> Registered:
    """Registers a bundle, unless its policy is registered already.

    Args:
        folder: An ONNX bundle.
        name: Name of the model.
        uri: Address of the tracking server, which has the registry.

    Raises:
        ConfigError: It is not an ONNX bundle, or the name is not valid.
        NotFound, CorruptObject: See ``bundles.read``.
        ControlPlaneError: The server does not answer.
    """
    must_be_name(name)
    if is_azure(uri):
        raise ConfigError(
            "the workspace's MLflow keeps no files of ours",
            field="--tracking",
            value=uri,
            allowed="another server",
            hint="`drillyard deploy-policy` registers a model there",
        )
    index, _ = bundles.read(folder)
    bundles.must_act(folder, index)
    word = {POLICY_TAG: bundles.identity(index)}
    server = Server(uri, artifact_folder(uri, Path.cwd()))
    experiment = server.experiment(index["experiment"])
    earlier = server.find(experiment, word)
    for run_id in earlier:
        versions = _versions(uri, name, run_id)
        if versions:
            return Registered(name, versions[0], run_id, new=False)
    facts = dict(index)
    tags = {f"drillyard.{key}": str(facts[key]) for key in _FACTS}
    title = f"policy {index['run']}"
    run_id = (
        earlier[0] if earlier else server.create(experiment, title, {**tags, **word}, SYSTEM.now())
    )
    with translated(uri), quietly(), at(uri):
        import mlflow

        with mlflow.start_run(run_id=run_id):
            model = mlflow.pyfunc.log_model(
                name="policy",
                python_model=str(_MODEL),
                artifacts={"bundle": str(folder.absolute())},
                registered_model_name=name,
                pip_requirements=["numpy", "onnxruntime", "mlflow"],
            )
    return Registered(name, int(model.registered_model_version), run_id, new=True)


def must_be_name(name: str, field: str = "--name") -> None:
    """Refuse what MLflow cannot call a model.

    Raises:
        ConfigError: It has other characters.
    """
    if not re.match(MODEL_NAME, name):
        raise ConfigError(
            "cannot be the name of a model",
            file="command line",
            field=field,
            value=name,
            allowed="letters, digits, _ . -",
            hint="reactor, or cstr-ppo",
        )


def _versions(uri: str, name: str, run_id: str) -> list[int]:
    from mlflow.tracking import MlflowClient

    with translated(uri):
        # Both are ours or checked: MLflow's filter language has no escape.
        versions = MlflowClient(uri).search_model_versions(f"name='{name}' and run_id='{run_id}'")
    return sorted(int(v.version) for v in versions)


@contextmanager
def quietly() -> Iterator[None]:
    """Suppresses MLflow's progress bars and messages; errors are raised."""
    with bounded_http(_PATIENCE_S), warnings.catch_warnings(), redirect_stderr(io.StringIO()):
        warnings.simplefilter("ignore")
        yield


@contextmanager
def at(uri: str) -> Iterator[None]:
    """MLflow's own functions use the server and the registry at this address meanwhile."""
    no_telemetry()
    import mlflow

    with restored(*_ADDRESSES):
        mlflow.set_tracking_uri(uri)
        mlflow.set_registry_uri(uri)
        try:
            yield
        finally:
            # MLflow keeps the address, even over a later environment variable: reset it.
            mlflow.set_tracking_uri(None)
            mlflow.set_registry_uri(None)
