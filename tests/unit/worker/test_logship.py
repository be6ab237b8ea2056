"""What is copied into the store while a ticket runs: its log, and its signs of life."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from drillyard.mailbox import Mailbox
from drillyard.mailbox.memory import MemoryStore
from drillyard.mailbox.records import Cancel, Claim, Phase, TicketRecord
from drillyard.runs.workload import StopSignal
from drillyard.system.clock import SYSTEM
from drillyard.system.redaction import redact
from drillyard.worker import logship
from drillyard.worker.logship import LogShipper
from drillyard.worker.progress import ProgressKeeper
from drillyard.worker.sidecar import TicketSidecar

# -- What the log of an attempt keeps of output that is too long, and that shipping it ends ---


class Printed:
    """An attempt's local file, and what its log in the mailbox says."""

    def __init__(self, folder: Path) -> None:
        url = f"memory://{folder}"
        MemoryStore.forget(url)
        self.mailbox = Mailbox(MemoryStore(url), "x")
        self.path = folder / "log.txt"

    def shipper(self) -> LogShipper:
        return LogShipper(self.mailbox, "runs/r/attempts/train-1", self.path, redact)

    def write(self, text: str) -> None:
        with open(self.path, "a", encoding="utf-8") as file:
            file.write(text)

    def lines(self) -> list[str]:
        store = self.mailbox.store
        infos = store.list(self.mailbox.key("runs/r/attempts/train-1/logs/"))
        keys = sorted(info.key for info in infos)
        lines: list[str] = []
        for key in keys:
            assert int(key[-16:-4]) == len(lines), "a segment is named by its first line"
            lines += store.get(key).decode().splitlines()
        return lines


@pytest.fixture
def printed(tmp_path):
    return Printed(tmp_path)


@pytest.mark.parametrize("size", [logship.MAX_LINE + 1, 3 * (1 << 20) + 5])
def test_the_rest_of_a_long_line_is_left_out_and_the_log_says_so(printed, size):
    printed.write("before\n" + "x" * size + "\nafter\n")
    printed.shipper().ship()
    before, long, after = printed.lines()
    assert (before, after) == ("before", "after")
    assert long.startswith("x" * logship.MAX_LINE + " [drillyard: the rest of this line")
    assert len(long) < logship.MAX_LINE + 200


def test_a_long_line_may_end_after_its_beginning_was_shipped(printed):
    printed.write("x" * (1 << 20))
    printed.shipper().ship()
    printed.write("y" * 10)
    printed.shipper().ship()
    printed.write("y\nafter\n")
    printed.shipper().ship()  # by another process
    long, after = printed.lines()
    assert after == "after"
    assert "y" not in long.replace("drillyard", "")


def test_an_unfinished_line_goes_on(printed):
    printed.write("a line")
    assert printed.shipper().ship() == 0
    assert printed.shipper().ship(everything=True) == 1
    printed.write(" more\nnext\n")
    printed.shipper().ship()
    assert printed.lines() == ["a line", " more", "next"]


def test_a_secret_across_the_bound_of_a_line_is_masked(printed):
    secret = "ghp_" + "cAnArY" * 6
    printed.write("x" * (logship.MAX_LINE - 8) + " " + secret + "\n")
    printed.shipper().ship()
    assert "ghp_" not in printed.lines()[0]


def test_shipping_ends_while_somebody_prints_without_end(printed):
    """Each look at the file finds more; a call ships what was there when it began."""

    def print_more(text: str) -> str:
        printed.write("again\n" * 10)
        return text

    printed.write("first\n")
    shipper = LogShipper(printed.mailbox, "runs/r/attempts/train-1", printed.path, print_more)
    done = threading.Event()
    thread = threading.Thread(target=lambda: (shipper.ship(everything=True), done.set()))
    thread.daemon = True
    thread.start()
    assert done.wait(60)
    assert printed.lines()[0] == "first"


def test_of_too_much_output_the_beginning_and_the_end_are_kept(printed, monkeypatch):
    monkeypatch.setattr(logship, "MAX_BYTES", 4000)
    monkeypatch.setattr(logship, "MAX_TAIL", 400)
    monkeypatch.setattr(logship, "_MAX_SEGMENT", 1000)
    monkeypatch.setattr(logship, "_MAX_LOCAL", 20_000)
    for number in range(3000):
        printed.write(f"line {number}\n")
        if number % 200 == 0:
            printed.shipper().ship()
            assert printed.path.stat().st_size <= 20_000  # the disk does not fill up
    printed.write("the stack of every thread\nlast words")
    printed.shipper().ship(everything=True)
    printed.shipper().ship(everything=True)
    lines = printed.lines()
    (note,) = [n for n, line in enumerate(lines) if line.startswith("[drillyard: ")]
    assert lines[:note] == [f"line {n}" for n in range(note)]
    assert "4,000 bytes" in lines[note] and "last 400 bytes" in lines[note]
    assert lines[-3:] == ["line 2999", "the stack of every thread", "last words"]
    assert sum(map(len, lines)) < 5000


# -- The sidecar of a ticket goes on whatever the disk and the store do -----------------------


def test_a_log_that_cannot_be_shipped_ends_neither_heartbeat_nor_orders(tmp_path):
    mailbox = Mailbox(MemoryStore(f"memory://{tmp_path}"), "x")
    claim = Claim(ticket="t0001-s1.train", attempt=1, worker="w", token="t", claimed_at=0.0)
    mailbox.claim(claim)
    ticket = TicketRecord(ticket=claim.ticket, run="t0001-s1", phase=Phase.TRAIN, posted_at=0.0)
    (tmp_path / "log.txt").write_text("a line\n")
    (tmp_path / "log.txt.shipped").mkdir()  # an error of the system, as a full disk is
    stop = StopSignal()
    shipper = LogShipper(mailbox, "runs/t0001-s1/attempts/train-1", tmp_path / "log.txt")
    progress = ProgressKeeper(ticket, claim, SYSTEM)
    sidecar = TicketSidecar(mailbox, claim, stop, progress, shipper, None, SYSTEM)
    mailbox.write("control/cancel.json", Cancel(reason="enough", by="me", written_at=0.0))
    assert sidecar.step(0.0) is not None
    assert stop.requested and stop.reason == "enough"
    board = mailbox.board("t0001-s1")
    assert board is not None and board.beat == 1
