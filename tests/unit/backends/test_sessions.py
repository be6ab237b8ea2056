"""Leases of this machine beside those of others: whose processes, files and answers they are."""

import errno
import json
import os
import platform
import tempfile

import pytest

from drillyard.backend import Lease, Liveness, Order
from drillyard.errors import InfrastructureError
from drillyard.system.operating_system import boot_id
from drillyard.system.processes import MARK, ProcessId
from drillyard.system.scratch import RUNTIME, runtime
from drillyard_backends.sessions import Sessions, default_runtime
from drillyard_backends.ssh import host as host_module
from drillyard_backends.ssh import remote
from drillyard_backends.ssh.backend import SshBackend
from drillyard_backends.ssh.connection import Done


def _lease(backend, **provider):
    return Lease(
        lease_id="one",
        backend=backend,
        order=Order(lease_id="one", experiment="", store_url=""),
        provider=provider,
        created_at=0.0,
    )


def _agent(host):
    return {"host": host, "pid": 2**22 + 1, "started": 1.0, "log": "agent.log"}


@pytest.fixture
def ssh(monkeypatch, tmp_path):
    """The backend, with this machine at the other end of each connection."""

    class Here:
        @staticmethod
        def to(address, config):
            return Here()

        def run(self, command, text, timeout_s):
            return Done(0, remote.ANSWER + json.dumps(remote.answer(text)), "")

    monkeypatch.setattr(host_module, "Connection", Here)
    return SshBackend(hosts=["cluster"], runtime=str(tmp_path))


def _rented(host):
    return _lease("ssh", hosts=[{"address": "cluster", "agent": _agent(host)}])


def test_another_machine_behind_the_same_name_does_not_say_that_an_agent_is_gone(ssh):
    """A cluster's name leads to any of its login machines, which may share the host key."""
    assert ssh.probe(_rented("login1")) is Liveness.UNKNOWN
    assert ssh.probe(_rented(platform.node())) is Liveness.GONE


def test_another_machine_behind_the_same_name_does_not_confirm_a_teardown(ssh):
    with pytest.raises(InfrastructureError, match="is on login1, not on this machine"):
        ssh.teardown(_rented("login1"))
    ssh.teardown(_rented(platform.node()))


def test_a_machine_that_was_renamed_still_knows_its_processes(ssh, monkeypatch):
    name = "drillyard_backends.sessions."
    monkeypatch.setattr(f"{name}marked", lambda *_, **__: iter([ProcessId.current()]))
    monkeypatch.setattr(f"{name}session_of", lambda pid: pid)
    monkeypatch.setattr("psutil.Process.environ", lambda self: {MARK: "one"})
    assert ssh.probe(_rented("its-former-name")) is Liveness.ALIVE


@pytest.mark.parametrize("restarted", [True, False])
def test_a_session_of_the_same_number_after_a_restart_is_not_ended(
    monkeypatch, tmp_path, restarted
):
    lease = _lease(
        "local", **_agent(platform.node()), boot_id="before" if restarted else boot_id()
    )
    (tmp_path / "one").mkdir()
    (tmp_path / "one" / "lease.json").write_bytes(lease.to_bytes())
    ended = []
    name = "drillyard_backends.sessions."
    monkeypatch.setattr(f"{name}in_session", lambda leader: iter([ProcessId(leader.pid, 2.0)]))
    monkeypatch.setattr(f"{name}end", lambda processes, grace_s: ended.extend(processes))
    Sessions("local", tmp_path, lambda order, folder: [], 0.0).teardown(lease)
    assert (ended == []) is restarted


@pytest.mark.parametrize("mine", [True, False])
def test_scratch_files_of_an_agent_on_another_machine_stay(tmp_path, mine):
    """Machines may share the folder, and none sees the processes of the others."""
    lease = _lease("local", **_agent(platform.node() if mine else "login1"))
    folder = tmp_path / "one"
    (folder / "scratch").mkdir(parents=True)
    (folder / "lease.json").write_bytes(lease.to_bytes())
    Sessions("local", tmp_path, lambda order, folder: [], 0.0)._forget_old()
    assert (folder / "scratch").exists() is not mine


@pytest.mark.parametrize("named", [True, False])
def test_a_full_disk_does_not_move_the_folder_that_leases_are_found_by(
    monkeypatch, tmp_path, named
):
    for name in ("TMPDIR", "TEMP", "TMP", RUNTIME):
        monkeypatch.delenv(name, raising=False)
    if named:
        monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", None)
    before = default_runtime(), runtime()

    really = os.open

    def full(path, *rest, **options):
        if str(path).startswith(str(before[0].parent)):
            raise OSError(errno.ENOSPC, "No space left on device")
        return really(path, *rest, **options)

    monkeypatch.setattr(os, "open", full)
    monkeypatch.setattr(tempfile, "tempdir", None)
    after = default_runtime(), runtime()
    monkeypatch.setattr(tempfile, "tempdir", None)
    assert after == before
