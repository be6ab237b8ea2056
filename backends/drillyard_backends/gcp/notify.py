"""Telling an address that an experiment has ended, when there is no driver to tell."""

from __future__ import annotations

import json
import logging
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Mapping
from typing import Any

from tenacity import Retrying, retry_if_exception_type, stop_after_attempt, wait_exponential

from drillyard.attempts import TicketState, run_status
from drillyard.clock import SYSTEM, Clock
from drillyard.mailbox import Mailbox
from drillyard.mailbox.mailbox import sha256_hex
from drillyard.mailbox.records import Record
from drillyard.status import Status

ATTEMPTS = 4
log = logging.getLogger(__name__)


class Told(Record):
    """``notified/<hash of the outcome>.json``: somebody was told, or is being told, of it."""

    by: str
    written_at: float


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """An address that was allowed must not lead to one that is not."""

    def redirect_request(self, *_: Any, **__: Any) -> None:
        return None


def outcome(mailbox: Mailbox, states: Mapping[str, TicketState]) -> dict[str, Any] | None:
    """What is told of an experiment; None while it is not over."""
    runs = sorted({state.ticket.run for state in states.values()})
    found = {run: run_status(states, run) for run in runs}
    if not found or not all(status.ended for status in found.values()):
        return None
    good = all(status in (Status.SUCCEEDED, Status.PRUNED) for status in found.values())
    return {
        "event": "drillyard.experiment.finished",
        "experiment": mailbox.experiment,
        "store": mailbox.store.url,
        "state": "done" if good else "failed",
        "runs": {run: status.value for run, status in found.items()},
        "counts": dict(Counter(status.value for status in found.values())),
    }


def notify(
    url: str,
    mailbox: Mailbox,
    states: Mapping[str, TicketState],
    by: str,
    clock: Clock = SYSTEM,
) -> bool:
    """Tell an address once of each outcome; a dead one costs seconds, never a result.

    Args:
        url: Where to POST.
        mailbox: The experiment.
        states: Of its tickets.
        by: Who tells.
        clock: For the record.

    Returns:
        True when it was told by this call.
    """
    told = outcome(mailbox, states)
    if told is None:
        return False
    key = sha256_hex(json.dumps(told, sort_keys=True).encode())[:16]
    if not mailbox.create(f"notified/{key}.json", Told(by=by, written_at=clock.now())):
        return False
    body = json.dumps({**told, "at": clock.now()}).encode()
    request = urllib.request.Request(
        url, data=body, headers={"Content-Type": "application/json", "User-Agent": "drillyard"}
    )
    opener = urllib.request.build_opener(_NoRedirect)
    retrying = Retrying(
        stop=stop_after_attempt(ATTEMPTS), wait=wait_exponential(multiplier=0.5, max=8.0),
        retry=retry_if_exception_type(OSError), reraise=True,
    )  # fmt: skip
    try:
        retrying(lambda: opener.open(request, timeout=15).close())
    except (OSError, ValueError) as error:
        log.warning("nobody could be told of the end: %s", error)
        return False
    log.info("told of the end: %s", told["state"])
    return True
