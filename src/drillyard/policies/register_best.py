"""Registers the best policy of a finished experiment in MLflow."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

from drillyard.mailbox import Mailbox
from drillyard.mailbox.files import fetch_file
from drillyard.mailbox.records import Phase
from drillyard.policies.best_run import choose
from drillyard.policies.export_in_run import FOLDER
from drillyard.policies.model_registry import register
from drillyard.tracking.uris import is_azure


def register_best(mailbox: Mailbox, runs: Sequence[str], name: str, uri: str) -> str:
    """Registers the bundle that the best run's evaluation wrote.

    Args:
        mailbox: The experiment; all of its runs are finished.
        runs: Their ids.
        name: Name of the model.
        uri: Address of the server.

    Returns:
        What came of it, in words.

    Raises:
        NotFound: No run was evaluated.
        ControlPlaneError: The server does not answer; the next time goes on.
    """
    chosen = choose(mailbox, runs)
    run, why = chosen.run, f" ({chosen.words})" if chosen.words else ""
    if is_azure(uri):
        return (
            f"{run} is not registered: the workspace keeps no files of ours; `drillyard "
            f"deploy-policy {mailbox.experiment}/{run} --on azure` registers it and lets it answer"
        )
    accepted = mailbox.result(run, Phase.EVALUATE)
    files = {n: e for n, e in accepted.files.items() if n.startswith(FOLDER)}
    if not files:
        return (
            f"{run} is not registered: its evaluation wrote no bundle; `drillyard promote "
            f"{mailbox.experiment}/{run} --name {name}` makes one, or names the reason"
        )
    with tempfile.TemporaryDirectory(prefix="drillyard-register-") as scratch:
        for file, entry in files.items():
            fetch_file(mailbox, entry, Path(scratch, file.removeprefix(FOLDER)))
        registered = register(Path(scratch), name, uri)
    return f"registered: {run}{why} is version {registered.version} of the model {name}"
