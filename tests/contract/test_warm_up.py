"""While its server still imports, a worker takes nothing and hears everything."""

import os
import signal

import pytest

from drillyard.mailbox.records import Phase
from drillyard.mailbox.status import Status
from drillyard.system.clock import SYSTEM
from drillyard_backends.local import LocalBackend
from tests.helpers.patience import until
from tests.helpers.toy import Toys

MODULE = """\
import time
from pathlib import Path
Path({begun!r}).touch()
while not Path({gate!r}).exists():
    time.sleep(0.02)
"""


@pytest.fixture
def toy(tmp_path, monkeypatch):
    """An experiment whose workers import a module that ends when the test opens the gate."""
    folder = tmp_path / "modules"
    folder.mkdir()
    text = MODULE.format(begun=str(tmp_path / "begun"), gate=str(tmp_path / "gate"))
    (folder / "slow_to_import.py").write_text(text)
    monkeypatch.setenv("PYTHONPATH", str(folder), prepend=os.pathsep)
    toy = Toys(tmp_path)
    yield toy
    (tmp_path / "gate").touch()
    toy.clean_up()


def started(toy, tmp_path):
    """The run, and the worker's process, which imports and waits for the gate."""
    run = toy.post()
    backend = LocalBackend(runtime=tmp_path / "runtime", stop_grace_s=5.0)
    backend.provision(toy.order(preload=["slow_to_import"]))
    until((tmp_path / "begun").exists, what="begun to import")
    return run, until(lambda: [w for w in toy.mailbox.workers() if w.state == "ready"])[0]


def test_a_ticket_is_claimed_when_it_can_begin(toy, tmp_path):
    run, _ = started(toy, tmp_path)
    opened = SYSTEM.now()
    (tmp_path / "gate").touch()
    toy.until_status(f"{run}.train", Status.SUCCEEDED)
    claim = toy.mailbox.read_claim(f"{run}.{Phase.TRAIN}", 1)
    assert claim.claimed_at >= opened
    toy.nothing_left()


def test_a_worker_that_imports_ends_when_it_is_asked_to(toy, tmp_path):
    run, worker = started(toy, tmp_path)
    os.kill(worker.pid, signal.SIGTERM)
    toy.nothing_left()
    assert toy.state(f"{run}.train").status is Status.READY
