"""A machine of Google Cloud: what it is told, whether it lives, and what it may do."""

from __future__ import annotations

import http.server
import threading
from urllib.parse import parse_qs, urlsplit

import pytest

from drillyard.backend import Liveness
from drillyard.mailbox import Mailbox
from drillyard.mailbox.memory import MemoryStore
from drillyard.mailbox.records import Claim, WorkerRecord
from drillyard.mailbox.store import ObjectInfo
from drillyard.testing.clock import FakeClock
from drillyard_backends.gcp import records
from drillyard_backends.gcp.managed import Stage
from drillyard_backends.gcp.metadata import Metadata
from drillyard_backends.gcp.records import Holder
from drillyard_backends.gcp.rights import machine_condition
from drillyard_emulators.gcp.grants import Grant, folder_name, object_name
from tests.helpers.patience import PATIENCE_S

# -- What a machine of Google Cloud asks its metadata server ----------------------------------


class Server(http.server.ThreadingHTTPServer):
    """A machine that is taken away between two questions: nobody is waiting at that moment."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.asked: list[dict[str, list[str]]] = []
        self.value, self.closing = "FALSE", threading.Event()


class Handler(http.server.BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        query = parse_qs(urlsplit(self.path).query)
        self.server.asked.append(query)
        etag = {"FALSE": "a", "TRUE": "b"}[self.server.value]
        if "wait_for_change" in query and query.get("last_etag") in (None, [etag]):
            self.server.closing.wait()  # nothing changes any more
        body = self.server.value.encode()
        self.send_response(200)
        self.send_header("ETag", etag)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
        if sum("wait_for_change" not in one for one in self.server.asked) == 2:
            self.server.value = "TRUE"

    def log_message(self, format: str, *_: object) -> None: ...


@pytest.fixture
def server(monkeypatch):
    with Server() as one:
        threading.Thread(target=one.serve_forever, daemon=True).start()
        monkeypatch.setenv("GCE_METADATA_HOST", f"127.0.0.1:{one.server_port}")
        yield one
        one.closing.set()
        one.shutdown()


@pytest.mark.heavy
def test_a_preemption_between_two_questions_is_seen_at_once(server):
    """G-D16: without the last ETag the server waits for the next change, which never comes."""
    told = threading.Event()
    Metadata().when_preempted(told.set)
    assert told.wait(PATIENCE_S), server.asked
    assert server.asked[-1]["last_etag"] == ["a"]


# -- Whether the machine that holds a ticket lives: by its number, and UNKNOWN where in doubt -


NAME = "dy-0123456789-w0-0"
UP, COMING, GOING, LOST = Stage.UP, Stage.COMING, Stage.GOING, Stage.LOST
NEVER_SAID = Holder(NAME)
FIRST = Holder(NAME, "1")
REPLACED = Holder(NAME, "2", succeeded=True)


@pytest.mark.parametrize(
    ("holder", "listed", "expected"),
    [
        (FIRST, [], Liveness.GONE),
        (FIRST, [("another", "1", UP)], Liveness.GONE),
        (FIRST, [(NAME, "1", UP)], Liveness.ALIVE),
        (FIRST, [(NAME, "1", GOING)], Liveness.ALIVE),
        (FIRST, [(NAME, "1", COMING)], Liveness.ALIVE),
        (FIRST, [(NAME, "", LOST)], Liveness.GONE),
        (FIRST, [(NAME, "2", UP)], Liveness.UNKNOWN),
        (FIRST, [(NAME, "", COMING)], Liveness.UNKNOWN),
        (FIRST, [(NAME, "1", UP), (NAME, "2", UP)], Liveness.ALIVE),
        (REPLACED, [(NAME, "2", UP)], Liveness.GONE),
        (REPLACED, [(NAME, "1", UP), (NAME, "2", UP)], Liveness.UNKNOWN),
        (NEVER_SAID, [(NAME, "1", UP)], Liveness.ALIVE),
        (NEVER_SAID, [(NAME, "1", COMING)], Liveness.UNKNOWN),
        (NEVER_SAID, [], Liveness.GONE),
    ],
)
def test_a_machine_is_gone_only_where_that_is_certain(holder, listed, expected):
    assert holder.liveness(listed) is expected


class Dated(MemoryStore):
    """A store whose clock a test sets."""

    times: dict[str, float]

    def stat(self, key: str) -> ObjectInfo | None:
        found = super().stat(key)
        return found and ObjectInfo(key, found.size, self.times[key.rpartition("/")[2]])


@pytest.mark.parametrize(("beat", "succeeded"), [(10.0, True), (98.5, False), (130.0, False)])
def test_a_machine_that_began_after_the_last_beat_is_another_one(beat, succeeded):
    """G-D4: the name was proof, so that the dead machine's run waited for its successor."""
    store = Dated(f"memory://holder-{beat}")
    store.times = {"w.json": beat, f"{NAME}.json": 100.0}
    mailbox = Mailbox(store, "e")
    mailbox.claim(Claim(ticket="r.train", attempt=1, worker="w", token="t", claimed_at=1.0))
    mailbox.write("workers/w.json", WorkerRecord(worker="w", lease="l", host=NAME, written_at=1.0))
    assert records.holder_of(mailbox, "l", "r.train") == Holder(NAME)
    started = records.Started(machine=NAME, number="2", group="zones/z/g", written_at=1.0)
    mailbox.write(f"leases/l/machines/{NAME}.json", started)
    found = records.holder_of(mailbox, "l", "r.train")
    assert found == Holder(NAME, "2", "zones/z/g", succeeded)
    assert [m.index for m in records.begun(mailbox, "l")] == [0]


def begin(mailbox: Mailbox, number: str, at: float) -> None:
    """The program of the machine starts."""
    started = records.Started(machine=NAME, number=number, group="zones/z/g", written_at=at)
    records.begin(mailbox, "l", started)


@pytest.mark.parametrize(
    ("number", "expected"), [("1", Liveness.ALIVE), ("2", Liveness.GONE), ("", Liveness.GONE)]
)
def test_a_second_program_on_one_machine_makes_its_first_worker_not_gone(number, expected):
    """The first one still works: it could not reach the store when the second one began."""
    url, clock = f"memory://second-{number}", FakeClock()
    mailbox = Mailbox(MemoryStore(url, clock), "e")
    begin(mailbox, "1", 1.0)
    mailbox.claim(Claim(ticket="r.train", attempt=1, worker="w", token="t", claimed_at=1.0))
    mailbox.write("workers/w.json", WorkerRecord(worker="w", lease="l", host=NAME, written_at=1.0))
    clock.advance(100.0)
    begin(mailbox, number, 101.0)
    found = records.holder_of(mailbox, "l", "r.train")
    assert found is not None and found.liveness([(NAME, number or "2", UP)]) is expected
    MemoryStore.forget(url)


# -- The emulator's IAM conditions: what Google's list of resource attributes has, and no more


MACHINE = "projects/p/zones/z/instances/"
GROUP = "projects/p/zones/z/instanceGroupManagers/"


@pytest.mark.parametrize(
    ("resource", "allowed"),
    [
        (f"{MACHINE}ours-0123456789-w0-0", True),
        (f"{MACHINE}ours-0123456789-w0-0/setLabels", True),
        (f"{MACHINE}other-0123456789-w0-0", False),
        (f"{MACHINE}oursother-0123456789-w0-0", False),
        (f"{GROUP}other-0123456789", True),  # conditions do not see groups
    ],
)
def test_the_machines_condition_holds_for_names_with_the_prefix(resource, allowed):
    grant = Grant.read({"permissions": ["x"], "condition": machine_condition("ours")})
    assert grant.allows("x", resource) is allowed
    assert not grant.allows("y", resource)


@pytest.mark.parametrize(
    ("resource", "allowed"),
    [
        (object_name("b", "ours/e/a.json"), True),
        (object_name("b", "ours-2/e/a.json"), False),
        (object_name("b2", "ours/e/a.json"), False),
        (folder_name("b", "ours/e"), True),
        (folder_name("b", "ours"), False),  # lists ours-2/, too
        (folder_name("b", ""), False),
    ],
)
def test_a_managed_folder_holds_for_names_and_listings_below_it(resource, allowed):
    grant = Grant.read({"permissions": ["x"], "folder": "b/ours/"})
    assert grant.allows("x", resource) is allowed


def test_a_condition_that_is_not_emulated_is_refused():
    """One that was ignored would make the emulator more generous than Google."""
    with pytest.raises(ValueError, match=r"request\.time"):
        Grant.read({"permissions": ["x"], "condition": 'request.time < timestamp("2030")'})
