"""The backend ssh keeps the contract against a real OpenSSH server."""

import asyncio
import contextlib
import os
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from drillyard.backend import Liveness, open_backend
from drillyard.checks.refusal import refuse
from drillyard.errors import ConfigError, ControlPlaneError, InfrastructureError, UserError
from drillyard.findings import Severity
from drillyard.mailbox.holders import holder
from drillyard.mailbox.status import Status
from drillyard.testing.backend_suite import BackendSuite
from drillyard.testing.backend_troubles import Trouble, breaking
from drillyard_backends.ssh.backend import SshBackend, store_there
from drillyard_backends.ssh.connection import Connection, Done
from drillyard_backends.ssh.host import Host
from drillyard_backends.ssh.remote import ANSWER
from drillyard_backends.ssh.settings import Address
from tests.helpers.patience import PATIENCE_S, until
from tests.helpers.processes import run_process
from tests.helpers.sshd import SSHD, Sshd
from tests.helpers.toy import Toys

asyncssh = pytest.importorskip("asyncssh")
pytestmark = pytest.mark.skipif(SSHD is None, reason="no sshd (Debian: openssh-server)")


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    one = Sshd(tmp_path_factory.mktemp("sshd")).start()
    yield one
    Connection.close_all()
    one.stop()


@pytest.fixture
def toy(tmp_path):
    one = Toys(tmp_path)
    yield one
    one.clean_up()


@pytest.fixture
def settings(server, tmp_path):
    return {
        **server.settings,
        "python": sys.executable,
        "runtime": str(tmp_path / "runtime"),
        "stop_grace_s": 5.0,
    }


@pytest.fixture
def backend(settings):
    return SshBackend(**settings)


@pytest.fixture
def order(toy):
    return toy.order(idle_s=600.0)


class TestSshBackend(BackendSuite):
    """The suite, on a machine behind a login."""

    at_once_s = 20.0  # a login and an interpreter's start, on a busy machine

    def broken(self, error):
        """The connection is there, and nothing comes through it; nor can another be made."""
        return breaking(
            error, (asyncssh.SSHClientConnection, "create_process"), (asyncssh, "connect")
        )

    def troubles(self, backend):
        yield from super().troubles(backend)
        yield Trouble("lost", self.broken(asyncssh.ConnectionLost("gone")))
        for name, answer in ANSWERS.items():
            yield Trouble(name, answering(answer))


ANSWERS = {
    "an answer that is cut": Done(0, f'Welcome!\n{ANSWER}{{"version": "1", "res', ""),
    "an answer of another shape": Done(0, f'{ANSWER}{{"result": 5}}', ""),
}
"""What the other end may say instead of an answer."""


def answering(answer):
    """Whatever is asked, the other end says this."""
    patch = pytest.MonkeyPatch()

    @contextlib.contextmanager
    def around():
        with patch.context() as context:
            context.setattr(Connection, "run", lambda self, *_args, **_more: answer)
            yield

    return around()


def test_the_agent_outlives_the_server_and_is_adopted(backend, order, toy, server, tmp_path):
    run = toy.post(gate=str(tmp_path / "gate"))
    lease = backend.provision(order)
    toy.pid_of(run, 1)
    server.stop()
    assert backend.probe(lease) is Liveness.UNKNOWN  # not known is not gone
    with pytest.raises(InfrastructureError):
        list(backend.leases())
    server.start()
    assert backend.probe(lease) is Liveness.ALIVE
    agent = lease.provider["hosts"][0]["agent"]["pid"]
    assert os.getsid(agent) == agent != os.getsid(0)
    (tmp_path / "gate").touch()
    toy.until_status(f"{run}.train", Status.SUCCEEDED)
    backend.teardown(lease)
    assert toy.processes() == [] and list(backend.leases()) == []


def test_what_an_agent_started_is_ended_without_it(backend, order, toy, tmp_path):
    run = toy.post(gate=str(tmp_path / "gate"), child=True)
    lease = backend.provision(order)
    child = toy.pid_of(run, 1)
    os.kill(child, signal.SIGSTOP)  # so that it cannot notice that its agent is dead
    os.kill(lease.provider["hosts"][0]["agent"]["pid"], signal.SIGKILL)
    until(lambda: backend.probe(lease) is Liveness.GONE)
    assert [found.lease_id for found in backend.leases()] == [lease.lease_id]
    backend.teardown(lease)
    assert toy.processes() == []


def test_an_intent_without_an_answer_is_torn_down(backend, order, toy):
    lease = backend.provision(order)
    backend.teardown(lease.model_copy(update={"provider": {}}))
    assert toy.processes() == []


def test_two_machines_share_the_workers(settings, toy, tmp_path_factory, tmp_path):
    second = Sshd(tmp_path_factory.mktemp("sshd2")).start()
    try:
        known = tmp_path / "known"
        both = [settings["known_hosts"], second.known_hosts]
        known.write_text("".join(Path(p).read_text() for p in both))
        for path in (second.folder / "authorized_keys",):
            path.write_text(Path(f"{settings['key_file']}.pub").read_text())
        settings |= {"hosts": [*settings["hosts"], second.address], "known_hosts": str(known)}
        # Both are this machine: the second "machine" is the same runtime, so the same agent.
        backend = SshBackend(**settings)
        lease = backend.provision(toy.order(workers=3, idle_s=600.0))
        assert [h["address"] for h in lease.provider["hosts"]] == settings["hosts"]
        (listed,) = backend.leases()
        assert listed.order == lease.order
        assert {line.split(": ")[0] for line in until(lambda: list(backend.logs(lease)))} == set(
            settings["hosts"]
        )
        backend.teardown(lease)
        assert toy.processes() == []
    finally:
        Connection.close_all()
        second.stop()


DEAD_PID = {"pid": 4_100_000, "pid_started": 1.0}
WORKERS = {
    "this one": ({}, Liveness.ALIVE),
    "a process that ended": (DEAD_PID, Liveness.GONE),
    "before a restart": ({"boot_id": "before"}, Liveness.GONE),
    "the host has another name now": ({"host": "renamed"}, Liveness.ALIVE),
    # Where a system has no such id, a machine with an agent of the lease may be the one.
    "nothing tells": ({"boot_id": None, **DEAD_PID}, Liveness.ALIVE),
}
"""What the record of the worker that claimed a ticket may say, and what that means."""


def test_only_the_worker_that_claimed_a_ticket_counts(backend, order, toy, tmp_path, monkeypatch):
    """Or the run of a machine that was restarted would wait as long as any other works."""
    run = toy.post(gate=str(tmp_path / "gate"))
    lease = backend.provision(order)
    toy.pid_of(run, 1)
    ticket = f"{run}.train"
    claimer = holder(toy.mailbox, lease.lease_id, ticket)
    for case, (changes, liveness) in WORKERS.items():
        worker = claimer.model_copy(update=changes)
        name = "drillyard_backends.ssh.backend.holder_of"
        monkeypatch.setattr(name, lambda *_, w=worker: w)
        assert backend.probe(lease, ticket) is liveness, case
    assert backend.probe(lease) is Liveness.ALIVE
    backend.teardown(lease)
    assert toy.processes() == []


def test_workers_are_dealt_out(settings, toy):
    backend = SshBackend(**(settings | {"hosts": ["a", "b", "c"]}))
    dealt = backend._shares(toy.order(workers=5))
    assert [part.workers for _, part in dealt] == [2, 2, 1]
    assert [str(host) for host, _ in backend._shares(toy.order(workers=2))] == ["a", "b"]
    hosting = toy.order(workers=1).model_copy(update={"hosts": 3})
    dealt = backend._shares(hosting)  # any of them may train, and the others host copies
    assert [(part.workers, part.hosts) for _, part in dealt] == [(2, 3), (1, 3), (1, 3)]
    (finding,) = backend._open_ports(hosting)
    assert "reach the others at any TCP port" in finding.message
    assert not list(backend._open_ports(toy.order(workers=3)))


def test_a_store_on_the_host_itself_is_a_folder_there():
    lab = Address.parse("me@lab")
    assert store_there("sftp://lab/data/runs", lab) == "/data/runs"
    assert store_there("sftp://you@LAB:22/~/runs", lab) == "~/runs"
    assert store_there("sftp://other/data/runs", lab) == "sftp://other/data/runs"
    assert store_there("sftp://lab:2222/data", lab) == "sftp://lab:2222/data"
    assert store_there("gs://bucket/runs", lab) == "gs://bucket/runs"


def test_another_folder_under_the_same_name_is_refused(backend, toy, tmp_path, monkeypatch):
    """The store of the one who asks is not what a worker there would see."""
    order = toy.order()
    with monkeypatch.context() as patch:
        patch.setattr("drillyard_backends.ssh.backend._experiment_sha256", lambda order: "0" * 64)
        with pytest.raises(UserError, match="another folder") as error:
            backend.provision(order)
    assert "sftp://" in error.value.hint
    assert toy.processes() == [] and list(backend.leases()) == []


def test_each_host_that_cannot_reach_the_store_is_told_a_way_that_works_for_all(
    settings, toy, monkeypatch
):
    """A store on that host itself would be the next one that the others cannot reach."""
    reply = {
        "version": "0.1.0",
        "result": {"python": "3", "findings": [], "folder": None, "store": "no such name"},
    }
    monkeypatch.setattr(Host, "_ask", lambda self, verb, **request: reply)
    backend = SshBackend(**(settings | {"hosts": ["two", "three"]}))
    order = toy.order(workers=2)
    for url, way in {
        "sftp://me@lab1/~/runs": "make `ssh lab1 true` work on two",
        "gs://bucket/runs": "--store sftp://two/~/drillyard-runs",
    }.items():
        found = backend.check(order.model_copy(update={"store_url": url}))
        (fix,) = [f.fix for f in found if f.subject == "ssh two store"]
        assert way in fix


def test_the_line_to_try_on_a_host_says_that_it_works_there():
    """``_unanswered`` names this command."""
    done = run_process([sys.executable, "-m", "drillyard_backends.ssh.remote"], input="")
    assert (done.returncode, done.stderr) == (0, "") and "can answer on" in done.stdout


# -- what can be wrong ----------------------------------------------------------------------------


def refused(backend):
    with pytest.raises(UserError) as error:
        list(backend.leases())
    assert error.value.hint
    (finding,) = backend.check()
    assert finding.severity is Severity.ERROR and finding.message == str(error.value)
    return error.value


def test_a_store_that_the_run_will_make_is_not_missing_on_the_host(
    backend, order, tmp_path, monkeypatch
):
    def missing(store):
        found = backend.check(order.model_copy(update={"store_url": str(store)}))
        return [f.message for f in found if "no folder" in f.message]

    assert not missing(tmp_path / "shared" / "new")
    # What is here and not there is on another disk.
    there = Connection.run
    monkeypatch.setattr(
        Connection,
        "run",
        lambda self, command, text, *more: there(self, command, text.replace("here", "x"), *more),
    )
    (tmp_path / "here").mkdir()
    (message,) = missing(tmp_path / "here" / "new")
    assert message.startswith(f"there is no folder {tmp_path / 'here'}: it must be on a disk")


def test_an_unknown_host_key_is_refused_with_the_line_that_accepts_it(settings, tmp_path, server):
    known = tmp_path / "known"
    backend = SshBackend(**(settings | {"known_hosts": str(known)}))
    error = refused(backend)
    shown = run_process(["ssh-keygen", "-lf", str(server.folder / "host_key.pub")]).stdout.split()[
        1
    ]
    assert shown in str(error)
    command = error.hint.partition("accept it: ")[2]
    subprocess.run(["bash", "-c", command], check=True)
    assert list(backend.leases()) == []


def test_a_changed_host_key_is_refused(settings, tmp_path):
    known, other = tmp_path / "known", tmp_path / "other"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(other)], check=True)
    place = Path(settings["known_hosts"]).read_text().split()[0]
    known.write_text(f"{place} {' '.join(Path(f'{other}.pub').read_text().split()[:2])}\n")
    error = refused(SshBackend(**(settings | {"known_hosts": str(known)})))
    assert "another host key" in str(error)
    assert "ssh-keygen -R" in error.hint and ">>" not in error.hint


def test_a_refused_key(settings, tmp_path):
    other = tmp_path / "other"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(other)], check=True)
    error = refused(SshBackend(**(settings | {"key_file": str(other)})))
    assert f"does not accept the key {other}" in str(error)


@pytest.mark.parametrize("content", [None, "not a key\n"])
def test_a_key_file_that_is_none(settings, tmp_path, content):
    path = tmp_path / "nothing"
    if content:
        path.write_text(content)
    assert str(path) in str(refused(SshBackend(**(settings | {"key_file": str(path)}))))


def test_no_interpreter_there(settings):
    error = refused(SshBackend(**(settings | {"python": "/opt/nothing/bin/python"})))
    assert "no interpreter '/opt/nothing/bin/python'" in str(error)


def test_a_command_that_ends_before_it_is_asked_says_why(settings, monkeypatch):
    """The shell does not know the command, and is gone before its input is sent."""
    create = asyncssh.SSHClientConnection.create_session

    async def ended(self, factory, command=(), *more, **options):
        channel, session = await create(self, factory, command, *more, **options)
        if command:
            await asyncio.wait_for(channel.wait_closed(), PATIENCE_S)
        return channel, session

    monkeypatch.setattr(asyncssh.SSHClientConnection, "create_session", ended)
    error = refused(SshBackend(**(settings | {"python": "/opt/nothing/bin/python"})))
    assert "no interpreter '/opt/nothing/bin/python'" in str(error)


def test_an_interpreter_without_drillyard(settings, tmp_path):
    bare = tmp_path / "bare"
    bare.write_text(f'#!/bin/sh\nexec {Path(sys.executable).resolve()} -I "$@"\n')
    bare.chmod(bare.stat().st_mode | stat.S_IXUSR)
    assert "has no drillyard" in str(refused(SshBackend(**(settings | {"python": str(bare)}))))


def test_a_host_that_does_not_answer_is_an_error_with_its_address(settings):
    backend = SshBackend(**(settings | {"hosts": ["127.0.0.1:1"]}))
    with pytest.raises(InfrastructureError) as error:
        list(backend.leases())
    assert "127.0.0.1:1" in str(error.value) and error.value.hint
    with pytest.raises(ControlPlaneError, match=r"127\.0\.0\.1:1"):
        refuse(backend.check())


def test_a_connection_that_is_cut_in_the_first_check_is_no_mistake_of_the_user(
    settings, monkeypatch
):
    """It ended with exit code 2, as a wrong setting does."""
    import asyncssh

    async def cut(*_, **__):
        raise asyncssh.ConnectionLost("Connection lost")

    monkeypatch.setattr("drillyard_backends.ssh.connection._done", cut)
    with pytest.raises(ControlPlaneError) as error:
        refuse(SshBackend(**settings).check())
    assert error.value.exit_code == 4 and "broke" in str(error.value)


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"hosts": []}, "hosts"),
        ({"hosts": ["a", "me@a:22"]}, "hosts"),
        ({"hosts": ["a b"]}, "hosts"),
        ({"hosts": ["a:99999"]}, "hosts"),
        ({"stop_grace_s": -1}, "stop_grace_s"),
        ({"trust_everything": True}, "trust_everything"),
    ],
)
def test_a_wrong_setting_is_named_by_its_field(settings, change, field):
    with pytest.raises(ConfigError) as error:
        SshBackend(**(settings | change))
    assert f"backends.ssh.{field}" in str(error.value)


def test_hosts_are_asked_for(monkeypatch):
    with pytest.raises(ConfigError, match="hosts"):
        open_backend("ssh")


# -- as a user ------------------------------------------------------------------------------------
