"""Where `tracking:` may send to: addresses and names, checked without a network."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import partial
from urllib.parse import urlsplit

from drillyard.errors import ConfigError
from drillyard.registry import names
from drillyard.spec.addresses import is_metadata
from drillyard.spec.experiment import ExperimentSpec

_TRACKING_SCHEMES = {"http", "https", "sqlite", "postgresql", "mysql", "databricks", "azureml"}
_WANDB = re.compile(r"(?:[^/\\#?%:\s]{1,128}/)?[^/\\#?%:]{1,128}\Z")


def problems_of_tracking(spec: ExperimentSpec) -> Iterator[ConfigError]:
    """What is wrong with `tracking:`."""
    uri, name = spec.tracking.mlflow, spec.tracking.register_as
    if name is not None and (uri is None or spec.workload != "rl"):
        yield ConfigError(
            "needs an MLflow server" if uri is None else "is for policies",
            value=name,
            field="tracking.register_as",
            allowed="workload: rl, with tracking.mlflow",
            hint="delete `register_as:`, or `mlflow: null`",
        )
    yield from _other_trackers(spec)
    if uri in (None, "auto"):
        return
    assert uri is not None
    scheme = urlsplit(uri).scheme.partition("+")[0]
    wrong = partial(ConfigError, field="tracking.mlflow", value=uri)
    if is_metadata(uri):
        yield wrong(
            "an address of machine metadata",
            allowed="the address of an MLflow server",
            hint="for example http://127.0.0.1:5000",
        )
    elif scheme not in _TRACKING_SCHEMES:
        yield wrong(
            "is not a tracking URI",
            allowed="auto, null, http(s)://host:port, sqlite:///file.db, postgresql://…",
            hint="null switches MLflow off; auto writes mlflow.db into the store",
        )
    elif scheme == "azureml" and any(target.url == "mlflow" for target in spec.store):
        yield wrong(
            "stores files only with Microsoft's client, but `store` has `mlflow`",
            allowed="another server, or another target",
            hint="store: [{url: az://account/container/folder}]",
        )


def _other_trackers(spec: ExperimentSpec) -> Iterator[ConfigError]:
    project = spec.tracking.wandb
    if project is not None and not _WANDB.match(project):
        yield ConfigError(
            "is not a project of W&B",
            field="tracking.wandb",
            value=project,
            allowed="project or entity/project; no / \\ # ? % : in a name; 128 characters",
            hint="for example my-team/reactor; WANDB_BASE_URL names a server of your own",
        )
    folder = spec.tracking.csv
    if folder is not None and (not folder.strip() or "://" in folder):
        yield ConfigError(
            "is not a folder",
            field="tracking.csv",
            value=folder,
            allowed="a folder of this machine",
            hint="for example ./curves",
        )
    built_in = ("mlflow", "wandb", "csv", "tensorboard")
    known = [name for name in names("trackers") if name not in built_in]
    for name in spec.tracking.plugins:
        if name not in known:
            message = "is not an installed tracker"
            hint = "`drillyard list trackers` lists what is installed; install the package that "
            hint += "has it"
            if name in built_in:
                message = f"`tracking: {{{name}: …}}` has its own field"
                hint = f"write `tracking: {{{name}: …}}`"
            yield ConfigError(
                message,
                field="tracking.plugins",
                value=name,
                allowed=", ".join(known) or "no plug-in with a tracker is installed",
                hint=hint,
            )
