"""``drillyard simulator-host``: hosts that someone else started, with a limit for licences."""

import signal
import subprocess
import sys

import pytest

from drillyard.errors import ConfigError, WorkerLost
from drillyard.learners import hosted_copies
from drillyard.workloads.rl import RlWorkload
from tests.contract.test_hosted_copies import case, result, trained  # noqa: F401
from tests.helpers import resume_runner
from tests.helpers.patience import PATIENCE_S
from tests.helpers.processes import free_port, run_process

DRILLYARD = [sys.executable, "-m", "drillyard.cli.start"]
DRIFT = "tests.helpers.resume_worlds:Drift"


@pytest.fixture
def invited(tmp_path, monkeypatch):
    address = f"127.0.0.1:{free_port()}"
    run_process([*DRILLYARD, "simulator-host", "--invite", address, "--out", tmp_path], check=True)
    monkeypatch.setenv("DRILLYARD_HOSTS", str(tmp_path / "hosts-learner.json"))
    return tmp_path / "hosts-invitation.json"


@pytest.fixture
def host(invited):
    running = []

    def start(*options):
        command = [*DRILLYARD, "simulator-host", str(invited), *options]
        running.append(subprocess.Popen(command, stderr=subprocess.PIPE, text=True))
        return running[-1]

    yield start
    for process in running:
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=PATIENCE_S)


def test_two_hosts_with_a_licence_or_two_serve_a_training(trained, host):  # noqa: F811
    on = {"copies_on": "hosts"}
    alone = result(*trained("alone", case(0)))
    host("--offers", DRIFT, "--copies", "1", "--name", "one")
    host("--offers", DRIFT, "--copies", "2", "--name", "two")
    context, outcome = trained("joined", case(0, on))
    assert result(context, outcome) == alone


def test_hosts_that_offer_too_little_are_named(trained, host, monkeypatch):  # noqa: F811
    monkeypatch.setattr(hosted_copies, "COMING_S", 8.0)
    other = host("--offers", "plant:Boiler")
    with pytest.raises(WorkerLost, match=r"needs tests.*, and the host offers plant:Boiler"):
        trained("few", case(0, {"copies_on": "hosts"}))
    assert other.wait(PATIENCE_S) == 2


def test_without_an_invitation_nothing_begins(tmp_path, monkeypatch):
    monkeypatch.delenv("DRILLYARD_HOSTS", raising=False)
    context = resume_runner.context(tmp_path / "s", case(0, {"copies_on": "hosts"}), 1)
    with pytest.raises(ConfigError, match="DRILLYARD_HOSTS does not say"):
        RlWorkload().train(context)
