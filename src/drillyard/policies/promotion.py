"""Policies in MLflow's registry: registered, compared with the champion, promoted."""

from __future__ import annotations

import json
import tempfile
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import mlflow
from mlflow.exceptions import MlflowException

from drillyard.documents.json_types import JsonObject
from drillyard.errors import NotFound
from drillyard.policies import bundles
from drillyard.policies.assess import Comparison, compare
from drillyard.policies.loaded import of_bundle
from drillyard.policies.model_registry import at, quietly, register
from drillyard.statistics import RAREST
from drillyard.system.clock import SYSTEM
from drillyard.tracking.server import translated

CHAMPION = "champion"


@dataclass(frozen=True)
class Decision:
    """What ``promote`` decided."""

    name: str
    version: int
    """Version of the challenger."""
    champion: int | None
    """Version of the previous champion; None if there was none."""
    comparison: Comparison | None
    """None where there was no other champion to compare it with."""
    promoted: bool

    def to_json(self) -> JsonObject:
        """As a mapping."""
        comparison = self.comparison.to_json() if self.comparison else None
        return {
            "name": self.name,
            "version": self.version,
            "champion": self.champion,
            "comparison": comparison,
            "promoted": self.promoted,
        }


def promote(
    folder: Path,
    name: str,
    uri: str,
    *,
    episodes: int,
    seed: int,
    margin: float,
    rarest: float = RAREST,
) -> Decision:
    """Register a bundle, and make it champion when it is better than the one there is.

    Args:
        folder: An ONNX bundle.
        name: Name of the registered model.
        uri: Address of the tracking server, which has the registry.
        episodes: Fresh ones, the same for both.
        seed: Seed of the episodes.
        margin: By how much it has to be better.
        rarest: Probability of the rarest failure that the episodes have to show.

    Returns:
        The decision; it is an artifact of the challenger's MLflow run, too.

    Raises:
        SpaceMismatch: The champion is of another world.
        ControlPlaneError: The registry does not answer.
    """
    registered = register(folder, name, uri)
    client = mlflow.MlflowClient(uri)
    with translated(uri):
        before = champion(client, name)
        if before == registered.version:
            return Decision(name, registered.version, before, None, promoted=False)
        comparison = None
        if before is not None:
            with tempfile.TemporaryDirectory(prefix="drillyard-champion-") as scratch:
                theirs = fetch(f"models:/{name}/{before}", uri, Path(scratch))
                comparison = compare(
                    of_bundle(folder), of_bundle(theirs), episodes, seed, margin, rarest
                )
        decision = Decision(
            name, registered.version, before, comparison, comparison is None or comparison.better
        )
        stamp = datetime.fromtimestamp(SYSTEM.now(), UTC).strftime("%Y%m%dT%H%M%SZ")
        text = json.dumps(decision.to_json(), indent=1)
        client.log_text(registered.run_id, text, f"decisions/{stamp}.json")
        if decision.promoted:
            client.set_registered_model_alias(name, CHAMPION, str(registered.version))
        return decision


def champion(client: mlflow.MlflowClient, name: str) -> int | None:
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
        uri: Address of the tracking server.
        folder: Where it is copied to.

    Raises:
        NotFound: There is no such model, or it is not a drillyard bundle.
    """
    try:
        with quietly(), at(uri):
            local = Path(mlflow.artifacts.download_artifacts(model, dst_path=str(folder)))
    except MlflowException as error:
        raise NotFound(f"no model {model} at {uri}: {error}") from error
    index = next(iter(sorted(local.rglob(bundles.INDEX))), None)
    if index is None:
        raise NotFound(
            f"{model} is not a drillyard bundle",
            hint="models of other programs go through `drillyard import`",
        )
    return index.parent
