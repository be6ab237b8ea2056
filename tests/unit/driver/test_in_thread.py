"""The wait for work in a thread: no interrupt cuts it short, and the second one does."""

from __future__ import annotations

import ctypes
import shutil
import signal
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from drillyard.driver.in_thread import Ended, InThread
from drillyard.driver.outcome import Kind, Outcome
from drillyard.errors import StoreUnavailable
from tests.helpers.patience import PATIENCE_S, until
from tests.helpers.processes import run_process

DONE = Outcome(Kind.SUCCEEDED)
MODULE = Path(__file__).parents[3] / "src/drillyard/driver/in_thread.py"


class Work:
    """Work that ends at the order to stop, and stands for its driver and its mailbox."""

    def __init__(self, fails: int = 0) -> None:
        self.asked, self.ended, self.release = threading.Event(), False, threading.Event()
        self.release.set()
        self.reasons: list[str] = []
        self.mailbox: Any = self
        self._fails = fails

    def __call__(self) -> Outcome:
        assert self.asked.wait(PATIENCE_S) and self.release.wait(PATIENCE_S)
        self.ended = True
        return DONE

    def stop(self, reason: str) -> None:
        if self._fails:
            self._fails -= 1
            raise StoreUnavailable("no answer")
        self.reasons.append(reason)
        self.asked.set()

    def cancelled(self) -> None:
        """No other command gave an order."""


def quiet(text: str) -> None:
    pass


def test_an_error_beside_the_work_stops_it_and_is_raised_after_its_end():
    work, hurry = Work(), threading.Event()

    def breaks(ended: Ended) -> None:
        raise ZeroDivisionError("mine")

    with pytest.raises(ZeroDivisionError, match="mine"):
        InThread(work, work, say=quiet, hurry=hurry).run(breaks)
    assert work.ended and hurry.is_set()
    assert work.reasons == ["the program that drives it ended: ZeroDivisionError"]


def test_an_exception_that_is_sent_to_another_thread_stops_its_work():
    work, raised = Work(), []
    waits = threading.Event()

    def call() -> None:
        try:
            InThread(work, work, say=quiet).run(lambda ended: waits.set())
        except BaseException as error:
            raised.append((type(error), work.ended))

    thread = threading.Thread(target=call)
    thread.start()
    assert waits.wait(PATIENCE_S)
    ident = ctypes.c_ulong(thread.ident or 0)
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ident, ctypes.py_object(SystemExit))
    thread.join(PATIENCE_S)
    assert raised == [(SystemExit, True)]


def test_an_order_that_does_not_reach_the_store_is_given_again(monkeypatch):
    monkeypatch.setattr("drillyard.driver.in_thread.ASK_S", 0.01)
    work, said = Work(fails=2), []

    def interrupted(ended: Ended) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        InThread(work, work, say=said.append).run(interrupted)
    assert work.ended
    assert [text for text in said if "trying again" in text] == [
        "could not ask the workers to stop: no answer; trying again"
    ]


def test_a_handler_of_the_program_stays():
    """Its exception stops the work; after the call, every handler is the program's again."""
    work, seen = Work(), []

    def own(number: int, frame: object) -> None:
        seen.append(number)
        raise RuntimeError("mine")

    before = signal.signal(signal.SIGTERM, own)
    interrupt = signal.getsignal(signal.SIGINT)
    try:
        with pytest.raises(RuntimeError, match="mine"):
            InThread(work, work, say=quiet).run(lambda ended: signal.raise_signal(signal.SIGTERM))
        assert signal.getsignal(signal.SIGTERM) is own
        assert signal.getsignal(signal.SIGINT) is interrupt
    finally:
        signal.signal(signal.SIGTERM, before)
    assert seen == [signal.SIGTERM] and work.ended


def test_the_second_ctrl_c_is_raised_before_the_work_ends(capfd, monkeypatch):
    monkeypatch.setattr("drillyard.driver.in_thread._rented", lambda mailbox: "dy-1 on local")
    monkeypatch.setattr("drillyard.driver.in_thread.bare", lambda verb, mailbox: verb)
    work = Work()
    work.release.clear()

    def twice(ended: Ended) -> None:
        signal.raise_signal(signal.SIGINT)
        until(work.asked.is_set, what="the order to stop")
        signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        InThread(work, work, say=quiet).run(twice)
    assert not work.ended
    work.release.set()
    assert "still rented: dy-1 on local" in capfd.readouterr().err


ALONE = """
import importlib.util, sys, types, signal, threading, time
for name in ("", ".errors", ".mailbox", ".mailbox.command_hints"):
    sys.modules["drillyard" + name] = types.ModuleType("drillyard" + name)
errors = sys.modules["drillyard.errors"]
errors.DrillyardError = type("DrillyardError", (Exception,), {})
errors.InfrastructureError = type("InfrastructureError", (errors.DrillyardError,), {})
errors.ExitCode = None
sys.modules["drillyard.mailbox.command_hints"].bare = lambda verb, mailbox: verb
spec = importlib.util.spec_from_file_location("in_thread", sys.argv[1])
module = importlib.util.module_from_spec(spec)
spec.loader.exec_module(module)

class Driver:
    asked, ended = threading.Event(), False
    mailbox = types.SimpleNamespace(cancelled=lambda: None)
    def stop(self, reason):
        self.asked.set()

driver = Driver()
def work():
    driver.asked.wait()
    time.sleep(0.7)  # several of the waits of the caller
    driver.ended = True
    return "outcome"

def own(number, frame):
    raise SystemExit(7)

signal.signal(signal.SIGTERM, own)
number = signal.Signals[sys.argv[2]]
try:
    module.InThread(work, driver, say=lambda text: None).run(
        lambda ended: signal.raise_signal(number)
    )
except BaseException as error:
    print(type(error).__name__, driver.ended)
"""


@pytest.mark.heavy
@pytest.mark.parametrize("version", ["3.11", "3.12", "3.13"])
@pytest.mark.parametrize(
    ("name", "raised"), [("SIGINT", "KeyboardInterrupt"), ("SIGTERM", "SystemExit")]
)
def test_each_python_waits_for_the_end_after_an_interrupt(version, name, raised):
    """One signal is handled here, the other by the program, whose handler raises in the wait."""
    python = _interpreter(version)
    done = run_process([python, "-c", ALONE, str(MODULE), name])
    assert done.stdout.split() == [raised, "True"], done.stderr


def _interpreter(version: str) -> str:
    if version == f"{sys.version_info.major}.{sys.version_info.minor}":
        return sys.executable
    beside = [*Path(sys.base_prefix).parent.glob(f"{version}.*/bin/python")]
    found = str(beside[0]) if beside else shutil.which(f"python{version}")
    if found is None:
        pytest.skip(f"this machine has no Python {version}")
    return found
