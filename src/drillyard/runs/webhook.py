"""Telling an address that an experiment has ended: by its driver, else by whoever ended it.

``notify:`` of an experiment names the address. The driver keeps it in the mailbox, so that the
worker whose work is the last can tell it with no driver alive; the record that somebody was told
is put-if-absent, so that it is told once of each outcome.
"""

from __future__ import annotations

import json
import logging
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Mapping
from http.client import HTTPMessage
from typing import IO

from tenacity import (
    Retrying,
    retry_if_exception_type,
    stop_after_attempt,
    stop_after_delay,
    wait_exponential,
)

from drillyard.backend.settings.references import reveal
from drillyard.documents.json_types import JsonObject
from drillyard.errors import ConfigError, InfrastructureError
from drillyard.mailbox import Mailbox
from drillyard.mailbox.mailbox import sha256_hex
from drillyard.mailbox.records import Record
from drillyard.mailbox.status import Status
from drillyard.mailbox.ticket_states import TicketState, run_status
from drillyard.runs.parallelism import runs
from drillyard.spec import ExperimentSpec
from drillyard.spec.webhook_url import problem_of
from drillyard.system.clock import SYSTEM, Clock
from drillyard.system.redaction import redact, register_secret

PATH = "control/notify.json"
ATTEMPTS = 4
TIMEOUT_S = 10.0
PATIENCE_S = 30.0
"""What a dead address may cost at the end of an experiment."""
log = logging.getLogger(__name__)


class Address(Record):
    """``control/notify.json``: who is told; None: nobody any more."""

    url: str | None
    written_at: float


class Notification(Record):
    """``notified/<hash of the outcome>.json``: somebody was told, or is being told, of it."""

    by: str
    written_at: float


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """An address that was allowed must not lead to one that is not."""

    def redirect_request(
        self,
        req: urllib.request.Request,
        fp: IO[bytes],
        code: int,
        msg: str,
        headers: HTTPMessage,
        newurl: str,
    ) -> None:
        return None


def webhook(spec: ExperimentSpec) -> str | None:
    """The address of an experiment, looked up where it is a reference; None: it has none.

    Raises:
        ConfigError: Nothing is there, or nothing is sent to such an address.
    """
    if spec.notify is None:
        return None
    url = str(reveal(spec.notify, "notify", secret=True))
    problem = problem_of(url)
    if problem is not None:
        raise ConfigError(
            problem,
            field="notify",
            value=spec.notify if url != spec.notify else redact(url),
            allowed="https://host/path, or http:// on this machine alone",
            hint="the whole address stands in the variable that is referred to",
        )
    return url


def keep(mailbox: Mailbox, url: str | None, clock: Clock = SYSTEM) -> None:
    """Keep the address where workers find it, or say that there is none any more.

    Args:
        mailbox: The experiment.
        url: The address, looked up; None: nobody is told.
        clock: For the record.
    """
    known = mailbox.read(PATH, Address)
    if (known.url if known is not None else None) != url:
        mailbox.write(PATH, Address(url=url, written_at=clock.now()))


def outcome(mailbox: Mailbox, states: Mapping[str, TicketState]) -> JsonObject | None:
    """What is told of an experiment; None while it is not over.

    Its ``state`` is ``done``, ``failed``, ``cancelled``, or ``waiting`` where trials remain that
    only a driver chooses.
    """
    found = {
        run: run_status(states, run)
        for run in sorted({state.ticket.run for state in states.values()})
    }
    if not found or not all(status.ended for status in found.values()):
        return None
    bad = set(found.values()) - {Status.SUCCEEDED, Status.PRUNED}
    state = "done" if not bad else "cancelled" if bad == {Status.CANCELLED} else "failed"
    if _more_to_choose(mailbox, len(found)):
        state = "waiting"
    return {
        "event": "drillyard.experiment.finished",
        "experiment": mailbox.experiment,
        "store": mailbox.store.url,
        "state": state,
        "runs": {run: status.value for run, status in found.items()},
        "counts": dict(Counter(status.value for status in found.values())),
    }


def tell(
    mailbox: Mailbox, states: Mapping[str, TicketState], by: str, clock: Clock = SYSTEM
) -> bool:
    """Tell the address of an experiment's end, once; a dead one costs seconds, never a result.

    Args:
        mailbox: The experiment.
        states: Of its tickets.
        by: Who tells.
        clock: For the record.

    Returns:
        True when it was told by this call.
    """
    try:
        told = outcome(mailbox, states)
        address = mailbox.read(PATH, Address) if told is not None else None
        if told is None or address is None or address.url is None:
            return False
        register_secret(address.url)
        key = sha256_hex(json.dumps(told, sort_keys=True).encode())[:16]
        if not mailbox.create(f"notified/{key}.json", Notification(by=by, written_at=clock.now())):
            return False
        _post(address.url, {**told, "at": clock.now()})
    except (OSError, ValueError, InfrastructureError) as error:
        log.warning("nobody could be told of the end: %s", error)
        return False
    log.info("told of the end: %s", told["state"])
    return True


def _more_to_choose(mailbox: Mailbox, posted: int) -> bool:
    """True where a study would go on if somebody drove it."""
    study = mailbox.study_state()
    if study is None or study.phase == "over":
        return False
    listed = runs(ExperimentSpec.model_validate(mailbox.experiment_record().spec))
    return listed is None or posted < listed


def _post(url: str, document: JsonObject) -> None:
    request = urllib.request.Request(
        url,
        data=json.dumps(document).encode(),
        headers={"Content-Type": "application/json", "User-Agent": "drillyard"},
    )
    opener = urllib.request.build_opener(_NoRedirect)
    retrying = Retrying(
        stop=stop_after_attempt(ATTEMPTS) | stop_after_delay(PATIENCE_S),
        wait=wait_exponential(multiplier=0.5, max=8.0),
        retry=retry_if_exception_type(OSError),
        reraise=True,
    )
    retrying(lambda: opener.open(request, timeout=TIMEOUT_S).close())
