"""Policies in MLflow's registry: registered, compared with the champion, promoted."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mlflow
from mlflow.exceptions import MlflowException

from drillyard.errors import ConfigError, InfrastructureError, NotFound
from drillyard.policies import bundles
from drillyard.policies.assess import Comparison, compare
from drillyard.policies.playable import of_bundle

CHAMPION = "champion"
_ADDRESSES = ("MLFLOW_TRACKING_URI", "MLFLOW_REGISTRY_URI")
_FACTS = ("experiment", "run", "algorithm", "step", "drillyard", "format")


@dataclass(frozen=True)
class Decision:
    """What ``promote`` decided."""

    name: str
    version: int
    """Of the challenger."""
    champion: int | None
    """Version of the champion it was compared with; None: there was none."""
    comparison: Comparison | None
    promoted: bool

    def to_json(self) -> dict[str, Any]:
        """As a mapping."""
        found = self.comparison.to_json() if self.comparison else None
        return {"name": self.name, "version": self.version, "champion": self.champion,
                "comparison": found, "promoted": self.promoted}  # fmt: skip


def promote(
    folder: Path, name: str, uri: str, *, episodes: int, seed: int, margin: float
) -> Decision:
    """Register a bundle, and make it champion when it is better than the one there is.

    Args:
        folder: An ONNX bundle.
        name: Of the registered model.
        uri: Of the tracking server, which has the registry.
        episodes: Fresh ones, the same for both.
        seed: Of these.
        margin: By how much it has to be better.

    Returns:
        The decision; it is an artifact of the challenger's MLflow run, too.

    Raises:
        SpaceMismatch: The champion is of another world.
        InfrastructureError: The registry does not answer.
    """
    client = mlflow.MlflowClient(uri)
    try:
        before = champion(client, name)
        version, run_id = _register(client, folder, name, uri)
        found = None
        if before is not None:
            with tempfile.TemporaryDirectory(prefix="drillyard-champion-") as scratch:
                theirs = fetch(f"models:/{name}/{before}", uri, Path(scratch))
                found = compare(of_bundle(folder), of_bundle(theirs), episodes, seed, margin)
        decision = Decision(name, version, before, found, found is None or found.better)
        client.log_text(run_id, json.dumps(decision.to_json(), indent=1), "decision.json")
        if decision.promoted:
            client.set_registered_model_alias(name, CHAMPION, str(version))
        return decision
    except MlflowException as error:
        raise InfrastructureError(
            f"MLflow at {uri} refused: {error}", hint="`drillyard doctor` looks at it"
        ) from error


def champion(client: Any, name: str) -> int | None:
    """Version of the champion, None where there is none."""
    try:
        return int(client.get_model_version_by_alias(name, CHAMPION).version)
    except MlflowException as error:
        if error.error_code in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
            return None
        raise


def fetch(model: str, uri: str, folder: Path) -> Path:
    """The bundle of a registered model.

    Args:
        model: ``models:/name@alias`` or ``models:/name/version``.
        uri: Of the tracking server.
        folder: Where it is copied to.

    Raises:
        NotFound: There is no such model, or it is no bundle of drillyard.
    """
    try:
        with at(uri):
            local = Path(mlflow.artifacts.download_artifacts(model, dst_path=str(folder)))
    except MlflowException as error:
        raise NotFound(f"no model {model} at {uri}: {error}") from error
    found = next(iter(sorted(local.rglob(bundles.INDEX))), None)
    if found is None:
        raise NotFound(f"{model} is no bundle of drillyard",
                       hint="models of other programs go through `drillyard import`")  # fmt: skip
    return found.parent


def _register(client: Any, folder: Path, name: str, uri: str) -> tuple[int, str]:
    index, _ = bundles.read(folder)
    if index["format"] != "onnx":
        raise ConfigError("is no ONNX bundle", file=str(folder), value=index["format"],
                          allowed="onnx", hint="export it with --format onnx")  # fmt: skip
    with at(uri):
        experiment = mlflow.set_experiment(index["experiment"])
        tags = {f"drillyard.{key}": str(index[key]) for key in _FACTS}
        with mlflow.start_run(
            experiment_id=experiment.experiment_id, tags=tags,
            run_name=f"policy {index['run']}",
        ) as run:  # fmt: skip
            made = mlflow.pyfunc.log_model(
                name="policy", python_model=str(Path(__file__).with_name("pyfunc_model.py")),
                artifacts={"bundle": str(folder.absolute())}, registered_model_name=name,
                pip_requirements=["numpy", "onnxruntime", "mlflow"],
            )  # fmt: skip
        return int(made.registered_model_version), run.info.run_id


@contextmanager
def at(uri: str) -> Iterator[None]:
    """MLflow's own functions look in the server, and the registry, of this address meanwhile."""
    before = {name: os.environ.get(name) for name in _ADDRESSES}
    mlflow.set_tracking_uri(uri)
    mlflow.set_registry_uri(uri)
    try:
        yield
    finally:
        # What MLflow is told stays, also over what the environment says later: take it back.
        mlflow.set_tracking_uri(None)
        mlflow.set_registry_uri(None)
        for name, value in before.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value
