"""Writing a checkpoint beside the training: it waits for no disc and no bucket."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

from drillyard.errors import InfrastructureError, Superseded
from drillyard.runs import checkpoints
from drillyard.runs.phases import RunContext

log = logging.getLogger(__name__)


class Committer:
    """Does one thing at a time in a thread of its own, in the order in which it is told.

    What it is given must not change any more: whoever calls has copied it out of the training.
    """

    def __init__(self) -> None:
        self._thread: threading.Thread | None = None
        self._error: BaseException | None = None

    def submit(self, action: Callable[[], None]) -> None:
        """Begin an action when the one before is done.

        Raises:
            Exception: What the one before raised.
        """
        self.wait()
        self._thread = threading.Thread(
            target=self._work, args=(action,), name="checkpoint", daemon=True
        )
        self._thread.start()

    def wait(self) -> None:
        """Wait until nothing is under way.

        Raises:
            Exception: What the last action raised; once.
        """
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        error, self._error = self._error, None
        if error is not None:
            raise error

    def _work(self, action: Callable[[], None]) -> None:
        try:
            action()
        except BaseException as error:
            self._error = error


def prune(context: RunContext) -> None:
    """Delete what no resume needs; a store that is away, or another owner, deletes nothing."""
    train = context.spec.train
    if train is None or train.keep_checkpoints is None:
        return
    try:
        context.mailbox.must_own(context.claim)
        checkpoints.prune(
            context.mailbox, context.run.run, context.attempt, train.keep_checkpoints
        )
    except (InfrastructureError, Superseded) as error:
        log.warning("old checkpoints stay for now: %s", error)
