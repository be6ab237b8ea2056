"""The messages of Prefect's server, for ``up``: a busy database delays an alert, and loses none.

Prefect's broker in memory handles a message that failed again at once, and gives it up after four
attempts. A database of SQLite that is locked for some seconds is still locked then, so an alert
was lost (``dead letter queue`` in the log). Here such a message waits until it can be handled.
``PREFECT_SERVER_EVENTS_MESSAGING_BROKER`` names this module:
https://docs.prefect.io/v3/api-ref/settings-ref#messaging_broker
"""

from __future__ import annotations

import asyncio
import logging
import time
from typing import TYPE_CHECKING

from prefect.server.utilities.messaging import memory
from prefect.server.utilities.messaging.memory import (
    Publisher,
    break_topic,
    ephemeral_subscription,
)
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as NoConnection

if TYPE_CHECKING:
    from prefect.server.utilities.messaging import Message, MessageHandler

__all__ = ["Consumer", "Publisher", "break_topic", "ephemeral_subscription"]
FIRST_S, LONGEST_S = 0.5, 30.0
"""Pause before the second attempt, and longest pause; each one is twice the one before."""
PATIENCE_S = 1800.0
"""For so long a message waits for a database. Then Prefect's own rule applies."""
log = logging.getLogger(__name__)


class Consumer(memory.Consumer):
    """Handles the messages of a topic, each one until the database takes it."""

    async def run(self, handler: MessageHandler) -> None:
        """Runs until the server stops.

        Args:
            handler: Prefect's function for one message.
        """
        await super().run(patient(handler))


def patient(
    handler: MessageHandler, first_s: float = FIRST_S, patience_s: float = PATIENCE_S
) -> MessageHandler:
    """Returns a handler that repeats what a busy or unreachable database refused.

    Args:
        handler: Handles one message; may be called several times with the same one, as by Prefect.
        first_s: Pause before the second attempt, in seconds.
        patience_s: After so many seconds the error of the database is raised.
    """

    async def handle(message: Message) -> None:
        pause, end = first_s, time.monotonic() + patience_s
        while True:
            try:
                return await handler(message)
            except (DBAPIError, NoConnection) as error:
                # Wrong statements stay wrong: only what concerns the connection passes.
                if not _passing(error) or time.monotonic() > end:
                    raise
                log.warning("the database is busy; a message waits %.1f s", pause)
            await asyncio.sleep(pause)
            pause = min(2 * pause, LONGEST_S)

    return handle


def _passing(error: DBAPIError | NoConnection) -> bool:
    if isinstance(error, NoConnection) or error.connection_invalidated:
        return True
    text = str(error.orig).lower()
    return "locked" in text or "busy" in text
