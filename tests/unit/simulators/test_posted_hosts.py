"""The invitation for hosts of copies, and whether they would be faster."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest

from drillyard.errors import StoreUnavailable
from drillyard.findings import Severity
from drillyard.mailbox import Mailbox
from drillyard.mailbox.memory import MemoryStore
from drillyard.simulators.hosts import measure
from drillyard.simulators.hosts.certificates import Identity, Invitation, with_port
from drillyard.simulators.hosts.posted import PostedHosts, PostedInvitation, path_of
from drillyard.simulators.hosts.providers import EVERYWHERE, Hosting, JoinedHosts
from drillyard.spec.learning import SimulatorSpec
from drillyard.system.files import PRIVATE, write_file
from drillyard.system.redaction import redact
from drillyard_backends.azure.hosts import AzureHosts
from drillyard_backends.azure.multi_node import FIRST
from drillyard_backends.gcp import hosts as gcp_hosts
from drillyard_backends.ssh.hosts import SshHosts
from drillyard_backends.ssh.remote import REACHED_AT, _reached_at

# -- The invitation that a training posts for workers of its lease ----------------------------


URL = "memory://posted"
TOKEN = "0123456789abcdef" * 4


@pytest.fixture
def mailbox():
    yield Mailbox(MemoryStore(URL), "x")
    MemoryStore.forget(URL)


def hosting(**settings: object) -> Hosting:
    return Hosting(2, "x", "t0001-s1", URL, Path("/nowhere"), settings, attempt=3)


def test_it_is_posted_for_its_attempt_with_every_address_and_taken_back(mailbox):
    made = PostedHosts(hosting(copies_port=7700))
    listens, port, reached = made.address()
    assert listens == EVERYWHERE and port == 7700
    made.start(Invitation(f"{reached}:7700", "PEM", TOKEN))
    posted = mailbox.read(path_of("t0001-s1", 3), PostedInvitation)
    assert posted is not None and posted.number == 2
    assert posted.addresses[-1] == "127.0.0.1:7700"
    invitation = posted.invitation()
    assert [invitation.address, *invitation.others] == posted.addresses
    assert TOKEN not in redact(f"a log with {TOKEN}")
    made.close()
    assert mailbox.read(path_of("t0001-s1", 3), PostedInvitation) is None
    made.close()  # safe to repeat


def test_a_learner_for_hosts_that_join_listens_at_ipv6_too(tmp_path, monkeypatch):
    identity = Identity.new()
    for name in ("den.example.org", "2001:db8::7"):
        write_file(tmp_path / "i.json", identity.to_json(with_port(name, 7700)), PRIVATE)
        monkeypatch.setenv("DRILLYARD_HOSTS", str(tmp_path / "i.json"))
        own, port, reached = JoinedHosts(hosting()).address()
        assert (own, port, reached) == (EVERYWHERE, 7700, name)
        assert identity.invitation(with_port(reached, port)).place == (name, 7700)


def test_a_store_that_is_away_gets_it_later(mailbox, monkeypatch):
    made = PostedHosts(hosting())
    made.address()
    away = True

    def put(store: MemoryStore, key: str, data: bytes) -> None:
        if away:
            raise StoreUnavailable("the store is away")
        original(store, key, data)

    original = MemoryStore.put
    monkeypatch.setattr(MemoryStore, "put", put)
    made.start(Invitation("127.0.0.1:7", "PEM", TOKEN))
    assert mailbox.read(path_of("t0001-s1", 3), PostedInvitation) is None
    away = False
    made.tend(0)
    assert mailbox.read(path_of("t0001-s1", 3), PostedInvitation) is not None


def test_each_backend_names_first_what_its_machines_reach(monkeypatch):
    monkeypatch.setenv("SSH_CONNECTION", "203.0.113.9 50000 198.51.100.4 22")
    monkeypatch.setenv(REACHED_AT, " ".join(_reached_at("den.example.org")))
    assert SshHosts(hosting()).addresses()[:2] == ["198.51.100.4", "den.example.org"]
    monkeypatch.setenv(REACHED_AT, "127.0.0.1 localhost")
    assert SshHosts(hosting()).addresses()[0] == "localhost"
    assert SshHosts(hosting()).addresses()[-1] == "127.0.0.1"
    monkeypatch.setenv(FIRST, "10.0.0.4")
    assert AzureHosts(hosting()).addresses()[0] == "10.0.0.4"
    monkeypatch.setattr(gcp_hosts.Metadata, "text", lambda self, path: f"10.128.0.7/{path}"[:10])
    assert gcp_hosts.GcpHosts(hosting()).addresses()[0] == "10.128.0.7"


# -- Whether hosts would be faster: what is expected, and what is said ------------------------


SLOW = SimulatorSpec(id="tests.helpers.hosted_worlds:Waits", copies_on="workers")


@pytest.mark.parametrize(
    ("copy_s", "message_s", "n_envs", "hosts", "cores", "found"),
    [
        (0.05, 0.002, 64, 8, 8, 0.002 + 64 * 20e-6 + 0.05),
        (0.05, 0.002, 64, 8, 4, 0.002 + 64 * 20e-6 + 0.1),
        (0.05, 0.0, 9, 8, 1, 9 * 20e-6 + 0.1),
    ],
)
def test_expected_seconds_of_a_step(copy_s, message_s, n_envs, hosts, cores, found):
    assert measure.expected_s(copy_s, message_s, n_envs, hosts, cores) == pytest.approx(found)


@pytest.mark.parametrize(
    ("here_s", "hosted_s", "severity", "words"),
    [
        (0.5, 0.052, Severity.OK, "times as fast"),
        (0.001, 0.003, Severity.WARNING, "times slower"),
    ],
)
def test_what_is_said(monkeypatch, here_s, hosted_s, severity, words):
    monkeypatch.setattr(
        measure, "_step_s", lambda _, copies, how: here_s if copies > 1 else here_s / 10
    )
    monkeypatch.setattr(measure, "_hosted_s", lambda _: hosted_s)
    monkeypatch.setattr(measure.os, "cpu_count", lambda: 4)
    finding = measure.comparison(SLOW, 10, 5)
    assert finding.severity is severity and words in finding.message
    assert (finding.fix is None or not finding.fix) == (severity is Severity.OK)


@pytest.mark.heavy
def test_a_host_is_measured_with_a_real_one():
    quick = SLOW.model_copy(update={"args": {"wait_s": 0.001}, "copies_on": "learner"})
    assert measure._hosted_s(quick) > 0.001


@pytest.mark.heavy
def test_a_host_that_is_ended_leaves_no_folder(tmp_path, monkeypatch):
    """A signal ends it, so that nothing of its own cleans up: `/tmp/pymp-…` stayed."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", None)
    assert measure._hosted_s(SimulatorSpec(id="CartPole-v1")) > 0.0
    assert list(tmp_path.iterdir()) == []
