"""``notify:``: what is refused, what is told, once, and that the address is in no record."""

from __future__ import annotations

from pathlib import Path

import pytest

from drillyard.errors import ConfigError, ConfigErrors
from drillyard.mailbox import Mailbox
from drillyard.mailbox.memory import MemoryStore
from drillyard.mailbox.records import TicketRecord
from drillyard.mailbox.status import Status
from drillyard.mailbox.ticket_states import TicketState
from drillyard.runs import webhook as notify
from drillyard.spec.load import load
from drillyard.system.redaction import redact
from tests.helpers.records import ticket_of
from tests.helpers.webhook import webhook

FILE = "schema: 1\nname: n\nworkload: mock\nseeds: [1, 2]\nnotify: {notify}\n"
SLACK = "https://hooks.slack.com/services/T0000/B0000/abcdefghijkl"


def written(folder: Path, value: str) -> Path:
    path = folder / "n.yaml"
    path.write_text(FILE.format(notify=value))
    return path


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("http://example.org/done", "would be sent unencrypted"),
        ("ftp://example.org/done", "is not the address of a webhook"),
        ("https://me:word@example.org/", "user name or password"),
        ("https://metadata.google.internal/", "machine metadata"),
        ("https://169.254.169.254/", "machine metadata"),
        (SLACK, "the file contains a secret"),
        ("https://example.org/${env:HOOK}", "is an incomplete reference"),
        ("${env:NOT_THERE}", "has no variable NOT_THERE"),
    ],
)
def test_refused_with_line_and_without_the_address(tmp_path, monkeypatch, value, said):
    monkeypatch.setenv("HOOK", "wordwordword")
    with pytest.raises((ConfigError, ConfigErrors)) as raised:
        load(written(tmp_path, value))
    errors = raised.value.errors if isinstance(raised.value, ConfigErrors) else [raised.value]
    mine = next(e for e in errors if said in e.message)
    assert (mine.field, mine.line) == ("notify", 5) and mine.hint
    assert "abcdefghijkl" not in str(mine.value) and "me:word" not in str(mine.value)


def test_a_reference_is_looked_up_late_and_held_against_the_same_rules(tmp_path, monkeypatch):
    monkeypatch.setenv("HOOK", "http://example.org/abcdefghijkl")
    spec = load(written(tmp_path, "${env:HOOK}")).spec
    assert spec.notify == "${env:HOOK}"
    with pytest.raises(ConfigError, match="unencrypted") as raised:
        notify.webhook(spec)
    assert raised.value.value == "${env:HOOK}"
    monkeypatch.setenv("HOOK", SLACK)
    assert notify.webhook(spec) == SLACK
    assert "abcdefghijkl" not in redact(f"POST {SLACK} failed")


@pytest.fixture
def hook():
    with webhook() as found:
        yield found


@pytest.fixture
def box(hook):
    mailbox = Mailbox(MemoryStore(), "n")
    notify.keep(mailbox, hook.url)
    return mailbox


def states(*found: Status) -> dict[str, TicketState]:
    def ticket(number: int) -> TicketRecord:
        run = f"t0001-s{number}"
        return ticket_of(run, order=number)

    records = [ticket(number) for number, _ in enumerate(found)]
    return {r.ticket: TicketState(r, s) for r, s in zip(records, found, strict=True)}


DONE, FAILED, GONE, BUSY = Status.SUCCEEDED, Status.FAILED, Status.CANCELLED, Status.RUNNING


@pytest.mark.heavy
@pytest.mark.parametrize(
    ("found", "told"),
    [
        ([DONE, Status.PRUNED], "done"),
        ([DONE, FAILED], "failed"),
        ([DONE, GONE], "cancelled"),
        ([GONE, FAILED], "failed"),
        ([DONE, BUSY], None),
        ([], None),
    ],
)
def test_each_outcome_is_told_once(box, hook, found, told):
    assert notify.tell(box, states(*found), "me") is (told is not None)
    assert not notify.tell(box, states(*found), "somebody else")
    assert [t["state"] for t in hook.told] == ([] if told is None else [told])
    if told is not None:
        assert hook.told[0]["event"] == "drillyard.experiment.finished"
        assert sum(hook.told[0]["counts"].values()) == len(found)


@pytest.mark.heavy
def test_an_address_that_is_busy_is_asked_again_and_one_that_leads_elsewhere_is_not_followed(
    box, hook
):
    hook.answers = [503, 503]
    assert notify.tell(box, states(DONE), "me") and len(hook.told) == 1
    hook.answers = [302] * notify.ATTEMPTS
    assert not notify.tell(box, states(FAILED), "me") and len(hook.told) == 1


@pytest.mark.heavy
def test_nobody_is_told_where_there_is_no_address(box, hook):
    notify.keep(box, None)
    assert not notify.tell(box, states(DONE), "me")
    assert hook.told == []


@pytest.mark.heavy
def test_the_driver_tells_and_keeps_the_address_out_of_every_record(tmp_path, monkeypatch, hook):
    import drillyard

    monkeypatch.setenv("HOOK", hook.url)
    monkeypatch.setenv("DRILLYARD_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    drillyard.run(written(tmp_path, "${env:HOOK}"), store=str(tmp_path / "store"), flow=False)
    assert [t["state"] for t in hook.told] == ["done"]
    files = [p for p in (tmp_path / "store").rglob("*") if p.is_file()]
    assert [p.name for p in files if hook.url.encode() in p.read_bytes()] == ["notify.json"]


@pytest.mark.heavy
def test_a_worker_tells_where_nobody_drives(tmp_path, hook, request):
    from drillyard_backends.local import LocalBackend
    from tests.helpers.toy import Toys, until

    toy = Toys(tmp_path)
    backend = LocalBackend(runtime=tmp_path / "runtime")
    notify.keep(toy.mailbox, hook.url)
    toy.post()
    lease = backend.provision(toy.order())
    request.addfinalizer(lambda: backend.teardown(lease))
    until(lambda: hook.told, 60, "a word of the end")
    assert hook.told[0]["state"] == "done"
