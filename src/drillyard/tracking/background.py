"""A mirror as its users see it: a child process for each tracker, started, waited for and killed.

MLflow takes two seconds of a core and 140 MB to import, and with its own defaults one call to a
hung server blocks for 1207 s and to a dead one for 248 s (measured, 3.17.2). So it runs in its own
process, with short time-outs in that process's environment only, and its parent waits no longer
than a fixed bound.
"""

from __future__ import annotations

import contextlib
import logging
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import replace
from typing import IO
from urllib.parse import urlsplit

from drillyard.errors import DrillyardError
from drillyard.mailbox import Mailbox
from drillyard.system.operating_system import OWN_SESSION
from drillyard.tracking import behind
from drillyard.tracking.sync_report import SyncReport
from drillyard.tracking.tracker import MLFLOW, Target, Tracker, title
from drillyard.tracking.uris import mask, sqlite_file

log = logging.getLogger(__name__)

URI_VARIABLE = "DRILLYARD_MIRROR_URI"
"""The server's address goes to the child by its environment: arguments are in every `ps`."""

LOCAL_PATIENCE_S = 300.0
"""At the end, for a database on this machine: nothing hangs there, but the machine may be busy."""
_SILENCE_S = 3.0
"""How long to wait for the end without a message."""
_END_GRACE_S = 2.0


class Mirror:
    """Mirrors one experiment to one place: a tracking server, a project, a folder.

    Every method returns within its bound whatever the server does, and none raises for the
    server's sake: the report has the errors, and a warning is logged once.

    Args:
        mailbox: The experiment. Its store must be reachable from another process of this machine.
        tracking_uri: From ``resolve_uri``, or the address that another tracker has in the
            experiment's file; None: tracking is off and every method does nothing.
        tracker: Registered name of the tracker.
        on_warning: Called with a sentence for the user: once when the server cannot be reached,
            and when the end has to be waited for.
    """

    def __init__(
        self,
        mailbox: Mailbox,
        tracking_uri: str | None,
        *,
        tracker: str = MLFLOW,
        on_warning: Callable[[str], None] | None = None,
    ) -> None:
        self._mailbox = mailbox
        # No other process sees a store in memory.
        in_memory = urlsplit(mailbox.store.url).scheme == "memory"
        self._uri = None if in_memory else tracking_uri
        self._tracker = tracker
        self._title = title(tracker)
        self._on_warning = on_warning or log.warning
        self._child: subprocess.Popen[str] | None = None
        self._reader: threading.Thread | None = None
        self._news = threading.Condition()
        self._ending = False
        self._last: SyncReport | None = None
        self._warned = False

    @property
    def last(self) -> SyncReport | None:
        """The newest report, or None before the first."""
        return self._last

    def start(self, interval_s: float = 5.0, request_timeout_s: float = 5.0) -> None:
        """Starts to mirror in the background; returns at once.

        Args:
            interval_s: Seconds between two looks at the mailbox. A server that does not answer is
                asked again at growing distances, up to a minute.
            request_timeout_s: Patience with one answer: a slower server gets its points a
                little later.
        """
        if self._uri is None or self._child is not None:
            return
        self._child = self._spawn(
            "--interval", str(interval_s), "--request-timeout", str(request_timeout_s)
        )
        self._reader = threading.Thread(
            target=self._read, args=(self._child,), name="mirror-reader", daemon=True
        )
        self._reader.start()

    def ask(self) -> None:
        """Send what is new now rather than at the next interval; returns at once."""
        self._order("sync")

    def sync_once(self, timeout_s: float = 120.0, request_timeout_s: float = 20.0) -> SyncReport:
        """Send everything that is missing, now, and check what the server has.

        Args:
            timeout_s: After this many seconds it is given up; what was sent stays sent.
            request_timeout_s: Patience with one answer of the server.
        """
        if self._uri is None:
            return self._off()
        child = self._spawn("--once", "--request-timeout", str(request_timeout_s))
        try:
            out, _ = child.communicate("", timeout=timeout_s)
        except subprocess.TimeoutExpired:
            child.kill()
            out, _ = child.communicate()
            return self._note(self._given_up(timeout_s))
        except BaseException:
            child.kill()
            child.wait()
            raise
        reports = [r for line in out.splitlines() if (r := SyncReport.from_json(line))]
        return self._note(reports[-1] if reports else self._given_up(timeout_s))

    def finish(self, timeout_s: float = 20.0) -> SyncReport:
        """Sends the rest, waits for the background process, and returns the report.

        If the server does not have everything then, a warning says what it lacks, and a note
        stays in the home folder until something has sent the rest.

        Args:
            timeout_s: After this many seconds the process is left alone and goes on sending, or
                minutes later where the database is on this machine.
        """
        if self._uri is None:
            return self._off()
        child = self._child
        if child is None:
            return self.sync_once(timeout_s)
        if sqlite_file(self._uri) is not None:
            timeout_s = max(timeout_s, LOCAL_PATIENCE_S)
        self.end()
        if not _ended(child, min(_SILENCE_S, timeout_s)):
            self._on_warning(
                f"waiting for the last points in {self._title}, {timeout_s:g} s at most (Ctrl-C: "
                f"`drillyard sync {self._mailbox.experiment}` sends them later)"
            )
            _ended(child, timeout_s - _SILENCE_S)
        if self._reader is not None and child.poll() is not None:
            self._reader.join(_END_GRACE_S)
        self._child = self._reader = None
        report = self._last or self._note(self._given_up(timeout_s))
        if not report.complete:
            self._say_what_is_missing(goes_on=child.poll() is None)
        return report

    def end(self) -> None:
        """Asks the background process for a last synchronisation; returns at once."""
        if self._child is None or self._ending:
            return
        self._ending = True
        with self._news:
            self._last = None
        self._end_orders()

    def leave(self) -> None:
        """Lets the background process send the rest and end by itself; returns at once.

        For callers that are about to exit: what they do not wait for arrives a moment later.
        """
        if self._child is not None and self._uri is not None:
            behind.note(self._mailbox, self._target)  # the process removes it at its end
        self._end_orders()
        self._child = self._reader = None

    # -- inside -------------------------------------------------------------------------------

    @property
    def _target(self) -> Target:
        assert self._uri is not None
        return Target(self._tracker, self._uri)

    def _say_what_is_missing(self, goes_on: bool) -> None:
        behind.note(self._mailbox, self._target)
        try:
            lacking = behind.lacking(self._mailbox, self._target)
        except DrillyardError:
            return  # the report has said that it is not complete
        if lacking:
            rest = ", if the process that goes on sending does not" if goes_on else ""
            self._on_warning(lacking.sentence(self._mailbox.experiment) + rest)
        elif goes_on:
            behind.forget(self._mailbox, self._tracker)  # it has ended meanwhile

    def _end_orders(self) -> None:
        self._order("finish")
        if self._child is not None and self._child.stdin is not None:
            with contextlib.suppress(OSError):
                self._child.stdin.close()

    def _order(self, word: str) -> None:
        child = self._child
        if child is None or child.stdin is None:
            return
        try:
            child.stdin.write(f"{word}\n")
            child.stdin.flush()
        except OSError:
            log.debug("the mirroring process had ended before it was told to %s", word)

    def _spawn(self, *arguments: str) -> subprocess.Popen[str]:
        from drillyard.tracking.environment import child_environment

        assert self._uri is not None
        return subprocess.Popen(
            [
                sys.executable,
                "-m",
                "drillyard.tracking",
                self._mailbox.store.url,
                self._mailbox.experiment,
                "--tracker",
                self._tracker,
                *arguments,
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env=child_environment({**os.environ, URI_VARIABLE: self._uri}),
            **OWN_SESSION,  # a Ctrl-C at the terminal is the driver's to handle
        )

    def _read(self, child: subprocess.Popen[str]) -> None:
        out: IO[str] | None = child.stdout
        assert out is not None
        for line in out:
            report = SyncReport.from_json(line)
            if report is not None:
                self._note(report)
        out.close()

    def _note(self, report: SyncReport) -> SyncReport:
        with self._news:
            self._last = report
            first = report.error is not None and not self._warned
            self._warned = self._warned or first
            self._news.notify_all()
        if first:
            self._on_warning(
                f"{self._title} at {report.uri} is not up to date: {report.error}. Training and "
                f"results are not affected; `drillyard sync {self._mailbox.experiment}` sends "
                "what is missing later."
            )
        return report

    def _off(self) -> SyncReport:
        return SyncReport(hint="tracking is off; `tracking: {mlflow: auto}` turns it on")

    def _given_up(self, timeout_s: float) -> SyncReport:
        assert self._uri is not None
        return SyncReport(
            uri=mask(self._uri),
            tracker=self._tracker,
            complete=False,
            error=f"no answer within {timeout_s:g} s",
            hint=f"`drillyard sync {self._mailbox.experiment}` once the server is up",
        )


def synchronised(tracker: Tracker, *, trust: bool, close: bool) -> SyncReport:
    """One synchronisation, and the end of a tracker where it is the last.

    Args:
        tracker: The tracker.
        trust: As ``Tracker.sync`` takes it.
        close: Close it afterwards.

    Returns:
        The report. It is not complete where the place did not take what was open.
    """
    report = tracker.sync(trust=trust)
    if close:
        try:
            tracker.close()
        except DrillyardError as error:
            if report.error is None:
                text = mask(str(error))
                report = replace(report, complete=False, points=0, error=text, hint=error.hint)
    return report


def _ended(child: subprocess.Popen[str], timeout_s: float) -> bool:
    try:
        child.wait(max(0.0, timeout_s))
    except subprocess.TimeoutExpired:
        return False
    return True
