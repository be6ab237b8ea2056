"""The edge around a worker's steps, and the set-up of its machine."""

from __future__ import annotations

import multiprocessing
import subprocess
import sys
import threading

import pytest

from drillyard.backend import Order
from drillyard.errors import StoreUnavailable
from drillyard.mailbox import Mailbox
from drillyard.mailbox.memory import MemoryStore
from drillyard.runs.code_archive import pack, upload
from drillyard.worker import pool as pools
from drillyard.worker.loop import within
from drillyard.worker.pool import THREAD_VARIABLES, Pool
from drillyard.worker.preload import VARIABLE
from drillyard.worker.preparation import AGAIN_S, Preparation
from tests.helpers.patience import PATIENCE_S, until
from tests.helpers.processes import run_process

# -- The edge around a worker's steps: what hangs there does not hold up the end of a process -


HANGS = """
import sys, threading
from drillyard.worker.loop import exit_after
event = threading.Event()
exit_after(event, 0.1, code=7)
threading.Thread(target=threading.Event().wait).start()  # the interpreter would wait for it
print("hangs", flush=True)
sys.stdin.readline()
event.set()
"""


def test_what_is_done_in_time_and_what_is_not():
    never = threading.Event()
    done = []
    assert within(PATIENCE_S, lambda: done.append(1)) and done == [1]
    assert not within(0.01, never.wait)
    assert not within(PATIENCE_S, lambda: 1 / 0)
    never.set()


@pytest.mark.heavy
def test_a_process_that_hangs_at_its_end_is_ended():
    with subprocess.Popen(
        [sys.executable, "-c", HANGS], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout.readline() == "hangs\n"
        assert process.poll() is None
        process.stdin.write("\n")
        process.stdin.flush()
        assert process.wait(PATIENCE_S) == 7


# -- The set-up of the real machine is repeated while the store is away -----------------------


URL = "memory://preparation"


class Away(MemoryStore):
    """Answers nothing until it is back."""

    away = True

    def get(self, key: str) -> bytes:
        if self.away:
            raise StoreUnavailable("503")
        return super().get(key)


@pytest.fixture
def _no_server(monkeypatch):
    """What warms up, and is not looked at here, is not started in the process of the tests."""
    monkeypatch.setattr(pools.forkserver, "ensure_running", lambda: None)
    monkeypatch.setattr(Pool, "_fork_one", lambda self: None)
    for name in (*THREAD_VARIABLES, VARIABLE):
        monkeypatch.setenv(name, "1")
    yield
    multiprocessing.get_context("forkserver").set_forkserver_preload(["__main__"])
    MemoryStore.forget(URL)


@pytest.mark.usefixtures("_no_server")
def test_the_code_is_installed_when_the_store_is_back(tmp_path):
    store = Away(URL)
    mailbox = Mailbox(store, "x")
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "world.py").write_text("GRAVITY = 9.81\n")
    bundle = pack(mine)
    upload(mailbox, bundle)
    order = Order(lease_id="dy-0123456789", experiment="x", store_url=URL, code=bundle.sha256)
    told: list[str] = []
    preparation = Preparation(Pool(1, order, tmp_path / "scratch"), mailbox, order, told.append)
    until(lambda: preparation.step(0.0) is not None or told)
    assert told == ["the set-up is tried again: 503"]
    assert preparation.step(AGAIN_S - 1.0) is None  # it is not asked at once
    store.away = False
    (code,) = until(lambda: preparation.step(AGAIN_S))
    assert (code / "world.py").read_text() == "GRAVITY = 9.81\n"


@pytest.mark.heavy
def test_the_server_looks_for_cycles_again_once_it_has_imported_everything():
    code = """
import gc
import drillyard.worker.pool_server_signals
assert not gc.isenabled()
import drillyard.worker.preload
print(gc.isenabled(), gc.get_freeze_count() > 1_000, len(gc.get_objects()) < 1_000, flush=True)
"""
    done = run_process([sys.executable, "-c", code], check=True)
    assert done.stdout.split() == ["True"] * 3
