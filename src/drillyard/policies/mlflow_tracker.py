"""The tracker ``mlflow``: the mirror of the streams, which also registers the best policy."""

from __future__ import annotations

from drillyard.mailbox import Mailbox
from drillyard.policies.register_best import register_best
from drillyard.tracking.mlflow_mirror import MlflowMirror


def mlflow_tracker(mailbox: Mailbox, uri: str) -> MlflowMirror:
    """Mirror an experiment to a server.

    Args:
        mailbox: What to mirror.
        uri: Where to.
    """
    return MlflowMirror(mailbox, uri, register_best=register_best)
