"""The live page while a command runs, and the way to it on Prefect's pages."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from drillyard.errors import DrillyardError
from drillyard.mailbox import Mailbox

LIVE: ContextVar[str | None] = ContextVar("drillyard-live-page", default=None)
"""Address of the live page that the command of the running flow serves, or None."""
log = logging.getLogger(__name__)


@contextmanager
def served(mailbox: Mailbox, say: Callable[[str], object]) -> Iterator[str | None]:
    """Serves the page of `drillyard watch` on the loopback address during the block.

    It reads the store only while a browser shows it. Without it, the work goes on.

    Args:
        mailbox: The experiment.
        say: Gets the address.
    """
    from drillyard.report.live.server import LivePages

    try:
        pages = LivePages(mailbox.store)
    except (OSError, DrillyardError) as error:
        log.warning("there is no live page: %s", error)
        yield None
        return
    with pages:
        url = pages.url(mailbox.experiment)
        say(f"live page: {url}")
        yield url


def link(mailbox: Mailbox) -> None:
    """Creates an artifact that leads to the live page; a failure is logged and not raised.

    Args:
        mailbox: The experiment.
    """
    from prefect.artifacts import create_link_artifact, create_markdown_artifact

    from drillyard_tasks.publisher import artifact_key

    name = mailbox.experiment
    typed = f"`drillyard watch {name} --store {mailbox.store.url}`"
    key, title = artifact_key("live", name), f"Live page of {name}"
    url = LIVE.get()
    try:
        if url is None:
            create_markdown_artifact(
                f"{typed} on any machine that can read the store", key=key, description=title
            )
        else:
            while_ = f"{title}, on the machine of its command while that runs; also: {typed}"
            create_link_artifact(url, link_text=title, key=key, description=while_)
    except Exception as error:
        log.warning("the live page could not be linked in Prefect: %s", error)
