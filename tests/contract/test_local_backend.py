"""The local backend keeps the contract, also when its files or its agent are gone."""

import os
import shutil
import signal
import stat
import subprocess

import psutil
import pytest

from drillyard.backend import Liveness
from drillyard.errors import InfrastructureError
from drillyard.findings import Severity
from drillyard.mailbox.status import Status
from drillyard.system.processes import ProcessId
from drillyard.testing.backend_suite import BackendSuite
from drillyard.testing.backend_troubles import breaking
from drillyard_backends.local import LocalBackend
from tests.contract.test_worker import drive
from tests.helpers import rules
from tests.helpers.patience import until
from tests.helpers.toy import Toys


@pytest.fixture
def toy(tmp_path):
    one = Toys(tmp_path)
    yield one
    one.clean_up()


@pytest.fixture
def settings(tmp_path):
    return {"runtime": str(tmp_path / "runtime"), "stop_grace_s": 5.0}


@pytest.fixture
def backend(settings):
    return LocalBackend(**settings)


@pytest.fixture
def order(toy):
    return toy.order(idle_s=600.0)


class TestLocalBackend(BackendSuite):
    """The suite, on this machine."""

    def broken(self, error):
        """The table of processes cannot be read, and none can be started."""
        return breaking(error, (psutil, "process_iter"), (subprocess, "Popen"))


def test_a_lease_is_found_without_its_files(backend, order, toy):
    lease = backend.provision(order)
    until(toy.mailbox.workers)
    shutil.rmtree(toy.tmp / "runtime")
    (found,) = backend.leases()
    assert found.lease_id == lease.lease_id
    assert backend.provision(order).provider["pid"] == lease.provider["pid"]
    assert backend.probe(lease) is Liveness.ALIVE
    backend.teardown(found)
    assert toy.processes() == []


def test_a_dead_agent_with_living_children_is_listed_and_torn_down(backend, order, toy, tmp_path):
    run = toy.post(gate=str(tmp_path / "gate"))
    lease = backend.provision(order)
    child = toy.pid_of(run, 1)
    os.kill(child, signal.SIGSTOP)  # so that it cannot notice that its agent is dead
    os.kill(lease.provider["pid"], signal.SIGKILL)
    until(lambda: backend.probe(lease) is Liveness.GONE)
    assert [found.lease_id for found in backend.leases()] == [lease.lease_id]
    backend.teardown(lease)
    assert toy.processes() == []
    assert list(backend.leases()) == []


def test_a_new_agent_ends_stopped_orphans_before_it_claims(backend, order, toy, tmp_path):
    run = toy.post(gate=str(tmp_path / "gate"))
    lease = backend.provision(order)
    orphan = ProcessId.of(toy.pid_of(run, 1))
    os.kill(orphan.pid, signal.SIGSTOP)
    os.kill(lease.provider["pid"], signal.SIGKILL)
    until(lambda: backend.probe(lease) is Liveness.GONE)
    (tmp_path / "gate").touch()
    backend.provision(order)
    toy.until_status(f"{run}.train", Status.SUCCEEDED)
    until(lambda: not orphan.alive())


def test_the_agent_is_a_session_of_its_own_and_imports_nothing_heavy(backend, order, toy):
    drive(toy)
    lease = backend.provision(order)
    until(lambda: any(w.state == "ready" for w in toy.mailbox.workers()))
    pid = lease.provider["pid"]
    assert os.getsid(pid) == pid != os.getsid(0)
    maps = [m.path for m in psutil.Process(pid).memory_maps()]
    assert not [path for path in maps if "torch" in path or "prefect" in path]


def test_what_lives_in_another_runtime_is_nobodys_orphan(backend, order, toy, tmp_path):
    elsewhere = {"DRILLYARD_LEASE": order.lease_id, "DRILLYARD_LOCAL_RUNTIME": str(tmp_path / "b")}
    stranger = subprocess.Popen(["sleep", "600"], env=os.environ | elsewhere)
    try:
        lease = backend.provision(toy.order(idle_s=600.0))
        until(lambda: any(w.state == "ready" for w in toy.mailbox.workers()))
        os.kill(lease.provider["pid"], signal.SIGKILL)
        until(lambda: backend.probe(lease) is Liveness.GONE)
        run = toy.post()
        backend.provision(order)
        toy.until_status(f"{run}.train", Status.SUCCEEDED)
        assert stranger.poll() is None
    finally:
        stranger.kill()
        stranger.wait()


def test_files_are_private_and_gone_after_the_teardown(backend, order, toy):
    lease = backend.provision(order)
    runtime = toy.tmp / "runtime"
    assert stat.S_IMODE(runtime.stat().st_mode) == 0o700
    backend.teardown(lease)
    assert list(runtime.iterdir()) == []


def test_an_agent_that_ends_is_no_lease_any_more(backend, toy):
    lease = backend.provision(toy.order(idle_s=0.2))
    until(toy.mailbox.workers)
    toy.nothing_left()
    assert backend.probe(lease) is Liveness.GONE
    assert list(backend.leases()) == []


def test_another_machine_is_left_alone(backend, order):
    lease = backend.provision(order)
    provider = lease.provider | {"host": "elsewhere"}
    foreign = lease.model_copy(update={"provider": provider})
    assert backend.probe(foreign) is Liveness.UNKNOWN
    with pytest.raises(InfrastructureError, match="elsewhere"):
        backend.teardown(foreign)
    backend.teardown(lease)


def test_gpus_that_are_not_there_are_refused_in_setup(backend, toy):
    if shutil.which("nvidia-smi"):
        pytest.skip("this machine has a GPU")
    toy.post()
    backend.provision(toy.order(gpus=1))
    worker = until(lambda: next((w for w in toy.mailbox.workers() if w.state == "failed"), None))
    assert "resources.gpus is 1, and no GPU is usable here" in worker.message
    toy.nothing_left()
    assert any(f.severity is Severity.ERROR for f in backend.check(toy.order(gpus=1)))


def test_a_driver_that_is_too_old_is_said_before_anything_is_installed_or_claimed(
    backend, toy, tmp_path, monkeypatch
):
    """The torch of this worker says, as the real one does, nothing of its own CUDA."""
    program, torch = tmp_path / "bin" / "nvidia-smi", tmp_path / "site" / "torch"
    program.parent.mkdir()
    torch.mkdir(parents=True)
    program.write_text("#!/bin/sh\necho 535.183.01\n")
    program.chmod(0o755)
    (torch / "version.py").write_text("__version__ = '2.13.0'\ncuda: Optional[str] = '13.0'\n")
    message = "The NVIDIA driver on your system is too old (found version 12020)."
    (torch / "__init__.py").write_text(f"raise RuntimeError({message!r})\n")
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    monkeypatch.setenv("PYTHONPATH", rules.path(torch.parent))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    toy.post()
    backend.provision(toy.order(gpus=1, requirements=["takes-minutes==1"]))
    worker = until(lambda: next((w for w in toy.mailbox.workers() if w.state == "failed"), None))
    assert "NVIDIA driver 535.183.01, and torch 2.13.0 is built for CUDA 13.0" in worker.message
    assert "driver 580 or newer" in worker.message
    toy.nothing_left()
    assert not any(toy.mailbox.claims())


def test_more_workers_than_cores_are_told(backend, toy):
    findings = backend.check(toy.order(workers=10_000))
    assert any("share" in f.message and f.fix for f in findings)
