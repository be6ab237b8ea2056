"""What an SSH connection does with a host that answers commands, but no SFTP."""

import asyncio
import json
import sys
import threading

import pytest

from drillyard.errors import InfrastructureError
from drillyard_backends.ssh import host as host_module
from drillyard_backends.ssh import remote
from drillyard_backends.ssh.connection import Connection, Done
from drillyard_backends.ssh.host import Host
from drillyard_backends.ssh.settings import Address, SshConfig
from tests.helpers.patience import PATIENCE_S

pytest.importorskip("asyncssh")


NO_TROUBLE = OSError("never raised")


class _Process:
    returncode = 0

    async def communicate(self, text):
        return text.upper(), ""


class _Client:
    """A login to a host whose program for SFTP never answers, or says what it was given."""

    def __init__(self, error=None):
        self.error = error

    def is_closed(self):
        return False

    def abort(self):
        pass

    async def create_process(self, command, errors):
        return _Process()

    async def start_sftp_client(self):
        if self.error is NO_TROUBLE:
            return object()
        if self.error is None:
            await asyncio.Event().wait()
        raise self.error


def _connection(monkeypatch, error=None):
    async def connect(self):
        return _Client(error)

    monkeypatch.setattr(Connection, "_connect", connect)
    monkeypatch.setattr("drillyard_backends.ssh.connection._TRY_S", 0.0)
    return Connection(Address("lab"), SshConfig(hosts=["lab"], connect_timeout_s=0.05))


def _within(work):
    """Returns what a call gives or raises; fails if it never comes back."""
    found = []

    def go():
        try:
            found.append(work())
        except Exception as error:  # the test looks at whichever it is
            found.append(error)

    thread = threading.Thread(target=go, daemon=True)
    thread.start()
    thread.join(PATIENCE_S / 20)
    assert found, "the call hangs"
    return found[0]


@pytest.mark.parametrize("error", [None, ValueError("Max packet size exceeded")])
def test_a_host_without_sftp_still_runs_commands(monkeypatch, error):
    one = _connection(monkeypatch, error)
    assert _within(lambda: one.run("true", "hello")) == Done(0, "HELLO", "")


@pytest.mark.parametrize("error", [None, ValueError("Max packet size exceeded")])
def test_a_store_on_a_host_without_sftp_says_so_and_does_not_hang(monkeypatch, error):
    async def work(_sftp):
        raise AssertionError("there is none")

    one = _connection(monkeypatch, error)
    found = _within(lambda: one.files(work))
    assert isinstance(found, InfrastructureError)
    assert "lab is reached, but does not answer SFTP: " in str(found)
    assert ("Max packet" if error else "no answer within 0.05 s") in str(found)
    assert "login script" in found.hint


def test_a_disk_that_hangs_there_does_not_hang_the_driver(monkeypatch):
    """Also not by the clean-up of the work that was given up."""

    async def work(_sftp):
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.Event().wait()

    one = _connection(monkeypatch, NO_TROUBLE)
    found = _within(lambda: one.files(work, timeout_s=0.05))
    assert isinstance(found, InfrastructureError)
    assert "lab did not finish work on its files within 0.05 s" in str(found)


def test_a_login_script_that_ends_no_line_hides_no_answer(monkeypatch, capsys):
    """Many set the title of the terminal, with no newline."""

    class Fake:
        @staticmethod
        def to(address, config):
            return Fake()

        def run(self, command, text, timeout_s):
            monkeypatch.setattr(sys, "stdin", type("In", (), {"read": lambda self: text})())
            capsys.readouterr()
            remote.main()
            return Done(0, "\x1b]0;me@lab\x07" + capsys.readouterr().out, "")

    monkeypatch.setattr(host_module, "Connection", Fake)
    monkeypatch.setattr(remote, "answer", lambda text: {"result": [], "asked": json.loads(text)})
    assert Host("lab", SshConfig(hosts=["lab"])).leases() == []
