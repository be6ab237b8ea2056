"""Reading an experiment by its place, also where its store is no folder of this machine."""

from pathlib import Path

import pytest

from drillyard.backend import Cost, Order
from drillyard.cli.main import main
from drillyard.leases.ledger import Ledger
from drillyard.leases.manager import LeaseManager
from drillyard.mailbox import Mailbox, open_store
from drillyard.mailbox.memory import MemoryStore
from drillyard.mailbox.records import ExperimentRecord, RunRecord, WorkerRecord
from drillyard.testing.clock import FakeClock
from tests.helpers.paid_backend import PaidBackend

SPEC = {"name": "far", "workload": "mock", "seeds": [1], "tracking": {"mlflow": "auto"}}


@pytest.fixture(autouse=True)
def clock(tmp_path, monkeypatch):
    monkeypatch.setenv("DRILLYARD_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    clock = FakeClock(2_000_000_000.0)
    PaidBackend.reset(clock)
    MemoryStore.forget("aged://bucket/lab")
    return clock


@pytest.fixture
def mailbox(clock):
    mailbox = Mailbox(open_store("aged://bucket/lab"), "far")
    record = ExperimentRecord(name="far", spec=SPEC, identity="x", created_at=clock.now())
    mailbox.write("experiment.json", record)
    mailbox.write("runs/t0001-s1/run.json", RunRecord(run="t0001-s1", experiment="far", seed=1))
    key = mailbox.key("runs/t0001-s1/attempts/train-1/logs/000000000000.txt")
    mailbox.store.put(key, b"step 1\n")
    return mailbox


@pytest.mark.parametrize(
    "place",
    [
        ["aged://bucket/lab/far"],
        ["far", "--store", "aged://bucket/lab"],
        ["--store", "aged://bucket/lab"],
        ["--store", "aged://bucket/lab/far/"],
    ],
)
@pytest.mark.parametrize(
    ("command", "said"),
    [
        (["results"], "far"),
        (["status"], "t0001-s1"),
        (["logs"], "step 1"),
        (["cost"], "far: 0.00 USD"),
        (["list", "runs"], "t0001-s1"),
        (["cancel"], "far: no tickets were open"),
    ],
)
def test_every_command_reads_an_experiment_by_its_place(command, said, place, mailbox, capsys):
    if command == ["cancel"] and place[0] == "--store":
        place = ["far", "--store", "aged://bucket/lab"]  # it wants a name
    if command == ["list", "runs"] and place[0] != "--store":
        place = ["--store", "aged://bucket/lab"]
    code = main([*command, *place])
    output = "".join(capsys.readouterr())
    assert code == 0, output
    assert said in output


def test_one_run_by_its_place(mailbox, capsys):
    assert main(["logs", "aged://bucket/lab/far/t0001-s1"]) == 0
    assert capsys.readouterr().out == "step 1\n"


def test_what_is_not_there_is_said(mailbox, capsys):
    assert main(["results", "aged://bucket/lab/fra"]) == 2
    assert "no experiment" in capsys.readouterr().err


def test_the_report_of_a_bucket_has_a_copy_that_a_browser_opens(mailbox, tmp_path, capsys):
    assert main(["report", "aged://bucket/lab/far"]) == 0
    page = Path(capsys.readouterr().out.strip())
    assert page.is_relative_to(tmp_path / "home" / "reports")
    assert page.read_bytes() == mailbox.store.get("far/report/index.html")


def test_sync_says_which_server_it_needs(mailbox, capsys):
    assert main(["sync", "aged://bucket/lab/far"]) == 2
    assert "its store is not local" in capsys.readouterr().err


def test_what_a_machine_said_before_it_died_comes_through_logs(mailbox, clock, capsys):
    ledger = Ledger(mailbox, clock)
    ordinal, name = ledger.next_lease()
    order = Order(lease_id=name, experiment="far", store_url="aged://bucket/lab")
    ledger.intend(order, "paid", ordinal, Cost())
    ledger.rented(PaidBackend().provision(order))
    PaidBackend.words = ["Booting Linux", "startup-script: no such wheel"]
    # Alive: asked of the provider.
    assert main(["logs", "aged://bucket/lab/far"]) == 0
    assert f"{name} | startup-script: no such wheel" in capsys.readouterr().out
    LeaseManager(mailbox, PaidBackend(), ledger, clock).end_all(60.0, lambda: None)
    PaidBackend.words = []
    # Gone with all its words: they were kept.
    assert main(["logs", "aged://bucket/lab/far"]) == 0
    assert f"{name} | startup-script: no such wheel" in capsys.readouterr().out
    # A machine whose worker was ready speaks through its runs.
    mailbox.write(
        "workers/w.json",
        WorkerRecord(worker="w", lease=name, state="leaving", written_at=clock.now()),
    )
    assert main(["logs", "aged://bucket/lab/far"]) == 0
    assert "startup-script" not in capsys.readouterr().out
