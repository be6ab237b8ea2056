"""The mirroring process: ``python -m drillyard.tracking STORE EXPERIMENT [--once|--interval S]``.

Speaks JSON lines (``SyncReport``) on standard output. On standard input: ``sync`` asks for a
synchronisation now, ``finish`` for a last one, which goes on as long as the server takes
something; then the note of ``behind`` is removed. When its parent dies it continues alone until
the experiment is idle, so that a run whose driver was killed has its curves too.
"""

from __future__ import annotations

import argparse
import contextlib
import logging
import os
import sys
import threading
from dataclasses import replace

from drillyard.documents.json_types import as_object
from drillyard.errors import Bug, DrillyardError
from drillyard.mailbox import Mailbox, open_store
from drillyard.registry import load
from drillyard.system.clock import SYSTEM
from drillyard.system.garbage import look_rarely
from drillyard.system.operating_system import yield_processor
from drillyard.tracking import behind
from drillyard.tracking.background import URI_VARIABLE, synchronised
from drillyard.tracking.environment import settings, without_tables
from drillyard.tracking.sync_report import SyncReport
from drillyard.tracking.tracker import MLFLOW, Target, Tracker
from drillyard.tracking.uris import mask

MAX_WAIT_S = 60.0
"""Between two attempts at a server that does not answer."""
QUIET_START_S = 10.0
"""How long at most it keeps still until a worker is at work. Importing MLflow takes two seconds of
a core, which the workers' own imports need first."""
_LOOK_S = 0.25

LAST_TRY_S = 2.0
"""Time-out, at the end, of a server that did not answer before."""

OUT = os.fdopen(os.dup(1), "w", encoding="utf-8")
"""The stream of our reports; MLflow's output goes elsewhere."""


class _Orders:
    """The parent's orders, read by a thread."""

    def __init__(self) -> None:
        self.news = threading.Event()
        self.finish = False
        self.orphaned = False

    def listen(self) -> None:
        for line in sys.stdin:
            self.finish = self.finish or line.strip() == "finish"
            self.news.set()
        self.orphaned = not self.finish
        self.news.set()


def main() -> int:
    """Run the process; its exit code."""
    parser = argparse.ArgumentParser(prog="drillyard.tracking")
    parser.add_argument("store")
    parser.add_argument("experiment")
    parser.add_argument("--tracker", default=MLFLOW)
    parser.add_argument("--once", action="store_true")
    parser.add_argument("--interval", type=float, default=5.0)
    parser.add_argument("--request-timeout", type=float, default=None)
    arguments = parser.parse_args()
    if arguments.request_timeout is not None:
        os.environ.update(settings(arguments.request_timeout))
    os.dup2(2, 1)
    look_rarely()
    logging.disable(logging.WARNING)
    if not arguments.once:
        yield_processor()  # training comes first

    uri = os.environ.pop(URI_VARIABLE)
    mailbox = Mailbox(open_store(arguments.store), arguments.experiment)
    target = Target(arguments.tracker, uri)
    if target.tracker == MLFLOW and not registers(mailbox):
        without_tables(uri)
    try:
        mirror: Tracker = load("trackers", target.tracker)(mailbox, uri)
    except Exception as error:
        text, hint = mask(str(error)), getattr(error, "hint", None)
        report = SyncReport(complete=False, error=text.splitlines()[0], hint=hint)
        return _say(replace(report, uri=mask(uri), tracker=target.tracker))
    if arguments.once:
        return _say(_sync(mirror, target, trust=False, close=True))
    orders = _Orders()
    threading.Thread(target=orders.listen, name="orders", daemon=True).start()
    _await_work(mailbox, orders)
    return _follow(mirror, target, orders, arguments.interval)


def registers(mailbox: Mailbox) -> bool:
    """Whether the best policy is to be registered, or this cannot be known now."""
    try:
        tracking = as_object(mailbox.experiment_record().spec.get("tracking"))
    except DrillyardError:
        return True
    return tracking.get("register_as") is not None


def _await_work(mailbox: Mailbox, orders: _Orders) -> None:
    """Waits for a run's heartbeat, for an order, or for ``QUIET_START_S``."""
    until = SYSTEM.monotonic() + QUIET_START_S
    with contextlib.suppress(DrillyardError):  # the synchronisation will report it
        began = mailbox.store.now()
        while SYSTEM.monotonic() < until:
            boards = mailbox.store.list(mailbox.key("board/"))
            if any(info.updated_at >= began for info in boards):
                return
            if SYSTEM.wait(orders.news, _LOOK_S):
                return


def _follow(mirror: Tracker, target: Target, orders: _Orders, interval_s: float) -> int:
    wait_s, code, report = interval_s, 0, None
    while True:
        last = orders.finish or (orders.orphaned and _settled(mirror))
        orders.news.clear()
        if last and report is not None and not (report.complete or report.points):
            os.environ.update(settings(LAST_TRY_S))
        report = _sync(mirror, target, trust=True, close=last)
        code = _say(report)
        if last:
            if report.complete:
                behind.forget(mirror.mailbox, target.tracker)
            elif report.points or report.artifacts:
                continue  # a slow server
            return code
        wait_s = interval_s if report.complete else min(MAX_WAIT_S, wait_s * 2)
        if not orders.finish:
            SYSTEM.wait(orders.news, wait_s)


def _sync(mirror: Tracker, target: Target, *, trust: bool, close: bool) -> SyncReport:
    try:
        return synchronised(mirror, trust=trust, close=close)
    except Exception as error:  # the parent must receive it: our standard error is not read
        bug = Bug(f"the mirror stopped on {type(error).__name__}: {error}")
        report = SyncReport(uri=mask(target.address), complete=False, error=mask(str(bug)))
        return replace(report, tracker=target.tracker)


def _settled(mirror: Tracker) -> bool:
    try:
        return mirror.settled()
    except DrillyardError:
        return True


def _say(report: SyncReport) -> int:
    with contextlib.suppress(BrokenPipeError):  # the parent is gone; the work goes on
        OUT.write(report.to_json() + "\n")
        OUT.flush()
    return 0 if report.complete else 4


if __name__ == "__main__":
    CODE = main()
    # Everything is committed and reported; unloading MLflow would take most of a second.
    os._exit(CODE)
