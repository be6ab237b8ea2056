"""What an experiment took: seconds of each phase, and money of each lease."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from drillyard.errors import CorruptObject
from drillyard.leases.ledger import Ledger
from drillyard.mailbox import Mailbox
from drillyard.mailbox.records import PHASES, Accepted, DriverRecord, Phase
from drillyard.mailbox.store import ObjectMissing
from drillyard.results.model import LeaseCost, PhaseTime

DRIVER_PHASES = ("prepare", "provision", "setup", "teardown")
"""Phases that a driver times; the others are timed by the accepted results of the runs."""


def phase_times(
    mailbox: Mailbox,
    accepted: Mapping[str, Mapping[Phase, Accepted]],
    warnings: list[str],
) -> Iterator[PhaseTime]:
    """Seconds of each phase, in the order of a run's life.

    Args:
        mailbox: For ``timings/<driver>.json``.
        accepted: Run -> phase -> its accepted result.
        warnings: What cannot be read is said here.
    """
    spent: dict[str, list[float]] = {}
    for path, record in _json_files(mailbox, "timings/", warnings):
        seconds = record.get("seconds")
        if not isinstance(seconds, dict):
            warnings.append(f"{path} has no seconds")
            continue
        for phase, value in seconds.items():
            if isinstance(value, int | float):
                spent.setdefault(str(phase), []).append(float(value))
    for attempts in accepted.values():
        for phase, result in attempts.items():
            spent.setdefault(phase.value, []).append(result.ended_at - result.started_at)
    before, after = DRIVER_PHASES[:-1], DRIVER_PHASES[-1:]
    known = (*before, *(p.value for p in PHASES), *after)
    for name in (*known, *sorted(set(spent) - set(known))):
        if values := spent.get(name):
            yield PhaseTime(name, sum(values), max(values), len(values))


def worked_s(
    drivers: Iterable[DriverRecord], accepted: Mapping[str, Mapping[Phase, Accepted]]
) -> float:
    """Seconds in which a driver or a worker was active: days between two commands do not count.

    Args:
        drivers: Every one; what has no end counts to its last heartbeat.
        accepted: Run -> phase -> its accepted result: runs go on when their driver is gone.
    """
    spans = [(d.started_at, d.ended_at or d.written_at) for d in drivers]
    spans += [(a.started_at, a.ended_at) for kept in accepted.values() for a in kept.values()]
    total, until = 0.0, -math.inf
    for began, ended in sorted(spans):
        total += max(0.0, ended - max(began, until))
        until = max(until, ended)
    return total


def costs(mailbox: Mailbox, warnings: list[str]) -> Iterator[LeaseCost]:
    """What each lease of the experiment cost so far, by the ledger, oldest first."""
    try:
        entries = Ledger(mailbox).entries()
    except CorruptObject as error:
        warnings.append(f"the ledger cannot be read, so the cost is not known: {error}")
        return
    now = mailbox.store.now()
    for entry in entries:
        cost = entry.intent.cost
        yield LeaseCost(
            lease=entry.intent.order.lease_id,
            backend=entry.intent.backend,
            workers=entry.intent.order.workers,
            seconds=entry.lived_s(now),
            total=entry.gone.cost if entry.gone else entry.spent(now),
            currency=cost.currency,
            note=cost.note,
            gone=entry.gone is not None and entry.gone.confirmed,
        )


def _json_files(
    mailbox: Mailbox, prefix: str, warnings: list[str]
) -> Iterator[tuple[str, dict[str, Any]]]:
    root = mailbox.key("")
    for info in mailbox.store.list(mailbox.key(prefix)):
        path = info.key.removeprefix(root)
        if not path.endswith(".json"):
            continue
        try:
            record = json.loads(mailbox.store.get(info.key))
        except (ValueError, ObjectMissing, CorruptObject) as error:
            warnings.append(f"{path} cannot be read: {error}")
            continue
        if isinstance(record, dict):
            yield path, record
