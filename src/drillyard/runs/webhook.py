"""Notifies a URL when an experiment ends.

``notify:`` of an experiment names the URL. The driver keeps it in the mailbox, so that the last
worker can send the notification when no driver is running. The record of a notification is
put-if-absent, so that each outcome is sent once.
"""

from __future__ import annotations

import json
import logging
import urllib.request
from collections import Counter
from collections.abc import Mapping

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
from drillyard.system.proxies import NoRedirect
from drillyard.system.redaction import redact, register_secret

PATH = "control/notify.json"
ATTEMPTS = 4
TIMEOUT_S = 10.0
PATIENCE_S = 30.0
"""How long an unreachable URL may delay the end of an experiment, in seconds."""
log = logging.getLogger(__name__)


class Address(Record):
    """``control/notify.json``: the URL to notify; None: none."""

    url: str | None
    written_at: float


class Notification(Record):
    """``notified/<hash of the outcome>.json``: the notification was sent, or is being sent."""

    by: str
    written_at: float


def webhook(spec: ExperimentSpec) -> str | None:
    """The URL to notify, with its reference resolved; None: the experiment has none.

    Raises:
        ConfigError: The reference has no value, or the URL is not allowed.
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
            allowed="https://host/path, or http:// only on this machine",
            hint="the referenced variable must contain the whole URL",
        )
    return url


def keep(mailbox: Mailbox, url: str | None, clock: Clock = SYSTEM) -> None:
    """Write the URL to the mailbox, or that there is no longer one.

    Args:
        mailbox: The experiment.
        url: The URL, with its reference resolved; None: no notification.
        clock: For the record.
    """
    known = mailbox.read(PATH, Address)
    if (known.url if known is not None else None) != url:
        mailbox.write(PATH, Address(url=url, written_at=clock.now()))


def outcome(mailbox: Mailbox, states: Mapping[str, TicketState]) -> JsonObject | None:
    """The notification about an experiment; None while it has not ended.

    Its ``state`` is ``done``, ``failed``, ``cancelled``, or ``waiting`` if trials remain that only
    a driver can choose.
    """
    statuses = {
        run: run_status(states, run)
        for run in sorted({state.ticket.run for state in states.values()})
    }
    if not statuses or not all(status.ended for status in statuses.values()):
        return None
    bad = set(statuses.values()) - {Status.SUCCEEDED, Status.PRUNED}
    state = "done" if not bad else "cancelled" if bad == {Status.CANCELLED} else "failed"
    if _more_to_choose(mailbox, len(statuses)):
        state = "waiting"
    return {
        "event": "drillyard.experiment.finished",
        "experiment": mailbox.experiment,
        "store": mailbox.store.url,
        "state": state,
        "runs": {run: status.value for run, status in statuses.items()},
        "counts": dict(Counter(status.value for status in statuses.values())),
    }


def tell(
    mailbox: Mailbox, states: Mapping[str, TicketState], by: str, clock: Clock = SYSTEM
) -> bool:
    """Send the notification once. An unreachable URL costs seconds, but never a result.

    Args:
        mailbox: The experiment.
        states: States of its tickets.
        by: Name of the sender, for the record.
        clock: For the record.

    Returns:
        True if this call sent the notification.
    """
    try:
        ended = outcome(mailbox, states)
        address = mailbox.read(PATH, Address) if ended is not None else None
        if ended is None or address is None or address.url is None:
            return False
        register_secret(address.url)
        key = sha256_hex(json.dumps(ended, sort_keys=True).encode())[:16]
        if not mailbox.create(f"notified/{key}.json", Notification(by=by, written_at=clock.now())):
            return False
        _post(address.url, {**ended, "at": clock.now()})
    except (OSError, ValueError, InfrastructureError) as error:
        log.warning("the notification was not sent: %s", error)
        return False
    log.info("sent the notification: %s", ended["state"])
    return True


def _more_to_choose(mailbox: Mailbox, posted: int) -> bool:
    """True if a driver would choose more trials of the study."""
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
    opener = urllib.request.build_opener(NoRedirect)
    retrying = Retrying(
        stop=stop_after_attempt(ATTEMPTS) | stop_after_delay(PATIENCE_S),
        wait=wait_exponential(multiplier=0.5, max=8.0),
        retry=retry_if_exception_type(OSError),
        reraise=True,
    )
    retrying(lambda: opener.open(request, timeout=TIMEOUT_S).close())
