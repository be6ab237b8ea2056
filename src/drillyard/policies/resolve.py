"""Resolves the policy that a command names: a bundle, a version of a model, or a run."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from drillyard.errors import ConfigError

if TYPE_CHECKING:
    from drillyard.agents.base import Which
    from drillyard.agents.trained import Trained
    from drillyard.mailbox import Mailbox
    from drillyard.policies.loaded import LoadedBundle

MODELS = "models:/"


def registry(tracking: str, store: str | None) -> str:
    """The address of MLflow's registry.

    Args:
        tracking: ``--tracking``.
        store: ``--store``.

    Raises:
        ConfigError: There is none.
    """
    from drillyard.runs.locate import store_url
    from drillyard.tracking.uris import resolve_uri

    uri = resolve_uri(tracking, store_url(store))
    if uri is None:
        raise ConfigError(
            "there is no registry: a bucket cannot hold a database",
            file="command line",
            field="--tracking",
            value=tracking,
            allowed="a URI of MLflow",
            hint="name a server, or set MLFLOW_TRACKING_URI",
        )
    return uri


@contextmanager
def bundle(policy: str, store: str | None) -> Iterator[Path | None]:
    """The folder of a bundle, or of a registered model (``models:/NAME@champion``).

    Args:
        policy: As it was typed.
        store: ``--store``.

    Returns:
        None where it can only be a run.

    Raises:
        NotFound: There is no such model.
    """
    from drillyard.policies.bundles import INDEX

    if policy.startswith(MODELS):
        from drillyard.policies.promotion import fetch

        with tempfile.TemporaryDirectory(prefix="drillyard-model-") as scratch:
            yield fetch(policy, registry("auto", store), Path(scratch))
    else:
        yield Path(policy) if Path(policy, INDEX).is_file() else None


@contextmanager
def exported(policy: str, store: str | None, which: Which = "best") -> Iterator[Path]:
    """A bundle; for a run, a temporary one.

    Args:
        policy: As it was typed.
        store: ``--store``.
        which: Policy of the run.

    Raises:
        NotFound: There is no such policy.
        UserError: It cannot be exported; says why.
    """
    with bundle(policy, store) as folder:
        if folder is not None:
            yield folder
            return
    from drillyard.policies.export import export
    from drillyard.results.collect import collect

    with tempfile.TemporaryDirectory(prefix="drillyard-policy-") as scratch:
        target = Path(scratch, "bundle")
        with _run(policy, store, which) as (mailbox, policy_of_run):
            export(policy_of_run, "onnx", target, collect(mailbox, curves=False))
        yield target


@contextmanager
def playable(policy: str, store: str | None) -> Iterator[LoadedBundle]:
    """Ready to play."""
    from drillyard.policies.loaded import of_bundle, of_run

    with bundle(policy, store) as folder:
        if folder is not None:
            yield of_bundle(folder)
            return
    with _run(policy, store) as (_, policy_of_run):
        yield of_run(policy_of_run)


@contextmanager
def _run(
    policy: str, store: str | None, which: Which = "best"
) -> Iterator[tuple[Mailbox, Trained]]:
    """The policy of a run, or of an experiment's best run.

    Raises:
        NotFound: There is no such run.
    """
    from drillyard.agents.trained import trained
    from drillyard.policies.best_run import choose
    from drillyard.runs.locate import find_runs

    mailbox, runs = find_runs(policy, store)
    with trained(mailbox, choose(mailbox, runs).run, which) as policy_of_run:
        yield mailbox, policy_of_run
