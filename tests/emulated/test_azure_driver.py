"""A user's commands against the emulated Azure: cancelled, killed, limited, reaped."""

import signal

import pytest

pytest.importorskip("azure.ai.ml")

from drillyard.mailbox.records import Phase
from tests.helpers.azure_lab import OWN_CLUSTER, at_work, needs_azurite, reactor
from tests.helpers.patience import PATIENCE_S, until

pytestmark = [needs_azurite(), pytest.mark.slow]
FILE = reactor("long", 100_000_000, more=OWN_CLUSTER)
SHORT = reactor("short", 512, more=OWN_CLUSTER)


def test_cancelled_with_and_without_a_driver_nothing_is_left(lab):
    path = lab.write(FILE)
    driver = lab.start("run", str(path), "--on", "azure")
    at_work(lab, "long")
    lab.run("cancel", "long", "--store", lab.store)
    assert driver.wait(PATIENCE_S) == 130, lab.said
    assert lab.left() == {}
    driver = lab.start("run", str(path), "--on", "azure", "--name", "again")
    at_work(lab, "again")
    driver.send_signal(signal.SIGKILL)
    driver.wait()
    assert lab.left()
    lab.run("cancel", "again", "--store", lab.store)
    assert lab.left() == {}


def test_a_sign_in_that_ends_ends_the_command_and_no_job(lab):
    path = lab.write(FILE)
    driver = lab.start("run", str(path), "--on", "azure")
    mailbox = at_work(lab, "long")
    lab.cloud.ask("entra", trouble="AADSTS700082: The refresh token has expired.", valid_from=2e10)
    try:
        assert driver.wait(PATIENCE_S) == 4, lab.said
        assert "did not accept the sign-in" in lab.said and "az login" in lab.said
        assert "Traceback" not in lab.said
        (job,) = lab.cloud.state()["jobs"].values()
        assert job["status"] == "Running"
    finally:
        lab.cloud.ask("entra", trouble="", valid_from=0)
    seen = mailbox.board("t0001-s1").beat
    until(lambda: mailbox.board("t0001-s1").beat > seen + 1, what="the job's next words")
    again = lab.start("run", str(path), "--on", "azure")
    until(lambda: len(mailbox.drivers()) == 2, what="another driver")
    lab.run("cancel", "long", "--store", lab.store)
    assert again.wait(PATIENCE_S) == 130, lab.said
    assert len(lab.cloud.state()["jobs"]) == 1 and lab.left() == {}


def test_a_killed_driver_costs_no_result_and_a_reaper_no_longer_work(lab):
    """The job ends by itself; what it leaves is found by its tag, and only when it is over."""
    path = lab.write(SHORT)
    driver = lab.start("run", str(path), "--on", "azure")
    mailbox = at_work(lab, "short")
    driver.send_signal(signal.SIGKILL)
    driver.wait()
    until(lambda: mailbox.accepted("t0001-s1", Phase.STORE) is not None, what="the result")
    until(lambda: lab.cloud.state()["nodes"][-1]["gone"] is not None, what="the node's leaving")
    assert list(lab.left()) == ["computes"]
    lab.run("reap", "--on", "azure", "--grace", "0s")
    assert lab.left() == {}
    lab.run("run", str(path), "--on", "azure")
    assert len(lab.cloud.state()["jobs"]) == 1


def test_a_limit_ends_a_run_with_its_artefacts(lab):
    """TIMED_OUT in the lease's own time; its last checkpoint and its log are there."""
    path = lab.write(FILE.replace("max_hours: 1", "max_hours: 0.02"))
    code = lab.start("run", str(path), "--on", "azure").wait(PATIENCE_S)
    assert code == 1, lab.said + lab.serials()
    assert "TIMED_OUT" in lab.run("status", "long", "--store", lab.store)
    mailbox = lab.mailbox("long")
    keys = list(mailbox.store.keys("long/runs/t0001-s1/"))
    assert any("/checkpoints/" in key for key in keys)
    assert any("/logs/" in key for key in keys)
    assert lab.left() == {}
