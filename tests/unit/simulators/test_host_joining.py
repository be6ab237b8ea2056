"""Who may host copies: certificates, tokens, versions, offers. Over real TLS."""

import errno
import json
import signal
import socket
import threading
import time

import pytest

from drillyard.cli.main import main
from drillyard.errors import ConfigError, HostLost, InfrastructureError, NoCapacity, UserError
from drillyard.simulators.hosts import frames, host, listener
from drillyard.simulators.hosts.certificates import NAME, Identity, Invitation
from drillyard.simulators.hosts.host import Host, Offer
from drillyard.simulators.hosts.listener import HostListener
from drillyard.simulators.hosts.vec_env import shares
from drillyard.system.files import PRIVATE, write_file
from tests.helpers.patience import until

OFFER = Offer("den", copies=4)


@pytest.fixture(scope="module")
def identity():
    return Identity.new()


@pytest.fixture
def learner(identity, monkeypatch):
    monkeypatch.setattr(host, "warm_up", lambda: None)  # no copy is made here
    made = HostListener(identity, "cstr")
    yield made
    made.close()


def joins(learner, invitation=None):
    """A host joins, and is sent away with the end of its learner; what the learner knows of it."""
    serve = Host(invitation or learner.invitation(), OFFER).serve
    ends = threading.Thread(target=serve, args=(True,))
    ends.start()
    (joined,) = until(learner.joined)
    learner.close()
    ends.join()
    return joined


@pytest.mark.heavy
def test_a_host_joins_and_is_sent_away(learner):
    joined = joins(learner)
    assert (joined.name, joined.most) == ("den", 4)
    with pytest.raises(HostLost, match="the host of copies den is lost"):
        joined.ask("step")


@pytest.mark.heavy
@pytest.mark.parametrize(
    ("change", "offer", "words", "fix"),
    [
        ("token", OFFER, "the token is wrong", "copy the invitation"),
        ("VERSION", OFFER, "the host has drillyard .*, and the learner has 9.9", "same version"),
        ("PROTOCOL", OFFER, "the host has drillyard", "same version"),
        (None, Offer("den", 1, ("plant:Boiler",)), "needs cstr, .* offers plant:Boiler", "--offe"),
    ],
)
def test_who_does_not_fit_is_refused_with_a_fix(learner, monkeypatch, change, offer, words, fix):
    invitation = learner.invitation()
    if change == "token":
        invitation = Invitation(invitation.address, invitation.certificate, "00" * 32)
    elif change is not None:
        monkeypatch.setattr(listener, change, {"VERSION": "9.9", "PROTOCOL": 99}[change])
    with pytest.raises(UserError, match=words) as refused:
        Host(invitation, offer).serve(once=True)
    assert fix in str(refused.value.hint)
    assert not learner.joined() and learner.refused[0].startswith("den: ")
    assert "00" * 32 not in str(refused.value) + str(learner.refused)


@pytest.mark.heavy
def test_another_learner_behind_the_address_is_noticed(learner):
    other = Invitation(learner.invitation().address, Identity.new().certificate, "00" * 32)
    with pytest.raises(UserError, match="has another certificate than the invitation"):
        Host(other, OFFER).serve(once=True)
    assert not learner.joined()


@pytest.mark.heavy
def test_a_host_tries_each_address_until_its_learner_answers(learner, tmp_path):
    other = HostListener(Identity.new(), "cstr")  # something else answers at the first address
    invitation = learner.invitation()
    with_others = Invitation(
        other.invitation().address,
        invitation.certificate,
        invitation.token,
        ("127.0.0.1:1", invitation.address),
    )
    write_file(tmp_path / "i.json", with_others.to_json(), PRIVATE)
    assert Invitation.read(tmp_path / "i.json") == with_others
    assert joins(learner, with_others).name == "den"
    assert not other.refused, "it showed its token to its learner only"
    other.close()


def knock(learner, *frames_, token="00" * 32):
    """A TLS connection to a learner, which sends frames."""
    plain = socket.create_connection(("127.0.0.1", learner.port), timeout=5)
    wrapped = learner.invitation().context().wrap_socket(plain, server_hostname=NAME)
    for frame in frames_:
        wrapped.sendall(frame)
    return wrapped


def ended(connection):
    """True once the other side has closed a connection."""
    connection.settimeout(5)
    try:
        while connection.recv(4096):
            pass
    except TimeoutError:
        return False
    except OSError:
        pass
    return True


@pytest.mark.heavy
def test_a_message_that_cannot_be_read_closes_the_connection_and_harms_nobody(learner):
    for text in (b"[" * 30_000, b'["join",{"pid":"x","name":1},[["|u1",[99999999999999999999]]]]'):
        with knock(learner, frames.HEAD.pack(frames.MARK, len(text), 0) + text) as connection:
            assert ended(connection)
    with knock(
        learner, frames.encode("join", {"name": "den\nthe host x has joined"})
    ) as connection:
        assert ended(connection)
    said = host.introduction(learner.invitation().token, OFFER) | {"pid": float("inf")}
    with knock(learner, frames.encode("join", said)) as connection:
        assert ended(connection)
    assert len(learner.refused) == 4
    assert not any("\n" in why for why in learner.refused)
    joins(learner)


@pytest.mark.heavy
def test_a_connection_that_sends_a_byte_at_a_time_has_a_limit_in_all(learner, monkeypatch):
    monkeypatch.setattr(listener, "HANDSHAKE_S", 0.6)
    with socket.create_connection(("127.0.0.1", learner.port)) as silent:
        with knock(learner) as slow:
            began = time.monotonic()
            with pytest.raises(OSError):
                while time.monotonic() - began < 5:
                    slow.sendall(frames.HEAD.pack(frames.MARK, 60_000, 0)[:1])
                    time.sleep(0.05)
            assert time.monotonic() - began < 4
        assert ended(silent)


@pytest.mark.heavy
def test_connections_that_say_nothing_are_limited_and_hosts_join_after_them(learner, monkeypatch):
    monkeypatch.setattr(listener, "GREETED", 3)
    silent = [socket.create_connection(("127.0.0.1", learner.port)) for _ in range(3)]
    until(lambda: learner._greeted == 3)
    with socket.create_connection(("127.0.0.1", learner.port)) as more:
        assert ended(more)
    for each in silent:
        each.close()
    joins(learner)


@pytest.mark.heavy
def test_a_passing_error_of_the_system_does_not_end_the_listening(learner, monkeypatch):
    class Failing:
        """A socket whose next connections fail, as they do without free file descriptors."""

        def __init__(self, inner):
            self.inner, self.failures = inner, 2

        def accept(self):
            if self.failures:
                self.failures -= 1
                raise OSError(errno.EMFILE, "Too many open files")
            return self.inner.accept()

        def __getattr__(self, name):
            return getattr(self.inner, name)

    learner._socket = Failing(learner._socket)
    knock(learner).close()  # ends the accept that waits already
    joins(learner)


@pytest.mark.heavy
def test_a_host_that_was_silent_is_let_go_so_that_it_can_join_again(learner, monkeypatch):
    """Its machine slept: without an end of the connection it would wait for its learner."""
    said = host.introduction(learner.invitation().token, OFFER)
    with knock(learner, frames.encode("join", said)) as connection:
        (joined,) = until(learner.joined)
        monkeypatch.setattr(listener, "SILENCE_S", 0.1)
        with pytest.raises(HostLost, match="was silent"):
            joined.ask("step")
        assert ended(connection) and not learner.joined()


@pytest.mark.heavy
def test_a_host_whose_copy_hangs_is_free_again_once_its_learner_has_gone(monkeypatch):
    """It would wait for the answer of the copy, and join no other learner."""
    monkeypatch.setattr(host, "BEAT_S", 0.1)
    hangs = threading.Event()

    class Hanging:
        """Copies of which one does not answer until it is killed."""

        def step(self, actions):
            assert hangs.wait(10)
            raise host.Raised({"message": "the process of copy 0 ended"})

        def kill(self):
            hangs.set()

        def close(self):
            pass

    class Wire:
        """A connection that ends after the first message."""

        def receive(self):
            return "step", None

        def send(self, kind):
            raise ConnectionResetError("gone")

        def send_frame(self, frame):
            raise ConnectionResetError("gone")

    guest = host._Guest(Wire(), OFFER)
    guest._copies = Hanging()
    with pytest.raises(ConnectionResetError):
        guest.serve()
    assert hangs.is_set()


@pytest.mark.heavy
def test_reasons_of_refusals_are_limited(learner):
    for number in range(listener.REASONS + 5):
        learner._note(f"host {number}: the token is wrong")
    assert len(learner.refused) == listener.REASONS
    assert learner.refused[-1].startswith(f"host {listener.REASONS + 4}:")


@pytest.mark.heavy
def test_a_port_that_is_taken_is_named(learner, identity):
    with pytest.raises(InfrastructureError, match=f"cannot listen .*:{learner.port}: ") as raised:
        HostListener(identity, "cstr", ("127.0.0.1", learner.port))
    assert "another one" in raised.value.hint


@pytest.mark.heavy
def test_a_learner_at_every_address_takes_ipv4(identity, monkeypatch):
    monkeypatch.setattr(host, "warm_up", lambda: None)
    everywhere = "::" if socket.has_dualstack_ipv6() else "0.0.0.0"
    made = HostListener(identity, "cstr", (everywhere, 0))
    joins(made)


@pytest.mark.heavy
def test_without_a_learner_a_host_waits_as_long_as_it_is_told(learner):
    invitation = learner.invitation()
    learner.close()
    with pytest.raises(InfrastructureError, match="no learner answers at 127"):
        Host(invitation, OFFER, patience_s=0.0).serve()


def test_a_host_says_no_to_more_than_it_offers():
    guest = host._Guest(None, Offer("den", copies=1, simulators=("plant:Boiler",)))
    for order in (
        {"simulator": {"id": "cstr"}, "copies": [0]},
        {"simulator": {"id": "plant:Boiler"}, "copies": [0, 1]},
    ):
        with pytest.raises(host.Raised, match="more than this host offers"):
            guest._done("make", order)


def test_files_of_invitations(tmp_path, identity):
    path = tmp_path / "i.json"
    write_file(path, identity.invitation("den.example.org:7700").to_json(), PRIVATE)
    assert path.stat().st_mode & 0o77 == 0
    assert "key" not in json.loads(path.read_text())
    assert Invitation.read(path) == identity.invitation("den.example.org:7700")
    for content in ("{}", "[", '{"address": "x"}'):
        path.write_text(content)
        with pytest.raises(ConfigError, match=r"is not what .* writes"):
            Invitation.read(path)
    for address in ("den", "den:0", "den:x", ":7700", "den:70000"):
        with pytest.raises(ConfigError, match="is not the address"):
            _ = identity.invitation(address).place


@pytest.mark.parametrize(
    ("copies", "most", "found"),
    [
        (7, [None, None, None], [3, 2, 2]),
        (7, [1, None], [1, 6]),
        (2, [None, None, None], [1, 1, 0]),
        (5, [2, 2, 1], [2, 2, 1]),
    ],
)
def test_shares_are_even_within_the_limits(copies, most, found):
    assert shares(copies, most) == found


def test_too_few_copies_offered():
    with pytest.raises(NoCapacity, match="the hosts offer 3 copies, and the training has 4"):
        shares(4, [2, 1])


@pytest.mark.heavy
def test_ctrl_c_stops_a_host_in_which_a_library_swallows_it(learner, tmp_path, monkeypatch):
    stopped = []

    def serve(self, once):
        try:
            signal.raise_signal(signal.SIGINT)
        except KeyboardInterrupt:
            stopped.append(self._stopped.is_set())

    monkeypatch.setattr(Host, "serve", serve)
    write_file(tmp_path / "invitation.json", learner.invitation().to_json(), PRIVATE)
    before = signal.getsignal(signal.SIGINT)
    assert main(["simulator-host", str(tmp_path / "invitation.json")]) == 0
    assert stopped == [True] and signal.getsignal(signal.SIGINT) is before
