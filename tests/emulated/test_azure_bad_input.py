"""What cannot work on Azure, and what fails there, as a user of the command line meets it."""

import tempfile
import uuid
from pathlib import Path

import pytest

pytest.importorskip("azure.ai.ml")

from drillyard.errors import TimedOut
from drillyard.mailbox.records import Phase
from drillyard_emulators.http.handle import AzureEmulator
from tests.helpers.azure_lab import OWN_CLUSTER, AzureLab, at_work, needs_azurite, point, reactor
from tests.helpers.patience import PATIENCE_S, until

pytestmark = [needs_azurite(), pytest.mark.slow]
CHANGES = "^(PUT|POST|PATCH|DELETE) management"


@pytest.fixture(scope="module")
def cloud():
    with tempfile.TemporaryDirectory(prefix="dy") as folder, AzureEmulator(Path(folder)) as made:
        yield made


@pytest.fixture
def lab(cloud, tmp_path, monkeypatch):
    point(monkeypatch, cloud)
    made = AzureLab(cloud, tmp_path, monkeypatch)
    yield made
    made.close()


def file_of(lab, steps=1024):
    """An experiment of a name of its own."""
    name = f"e-{uuid.uuid4().hex[:6]}"
    return name, str(lab.write(reactor(name, steps, more=OWN_CLUSTER)))


def refused(lab, *arguments, **settings):
    """The exit code, what was said, and the calls that change something."""
    mark = max((e["number"] for e in lab.cloud.log("")), default=0)
    before = len(lab.said)
    code = lab.start(*arguments, **settings).wait(PATIENCE_S)
    return code, lab.said[before:], lab.cloud.log(CHANGES, mark)


def test_an_environment_that_cannot_be_built_is_said_and_nothing_is_left(lab):
    _, path = file_of(lab)
    lab.cloud.physics(broken_builds=9)
    try:
        code, said, _ = refused(
            lab, "run", path, "--on", "azure", IMAGE=f"mcr.example/broken:{uuid.uuid4().hex[:6]}"
        )
    finally:
        lab.cloud.physics(broken_builds=0)
    assert code == 4 and "could not be built" in said and "drillyard logs" in said
    assert "Traceback" not in said and lab.left() == {}


def test_a_node_that_hangs_until_the_limit_is_ended_and_the_command_continues_it(lab):
    name, path = file_of(lab, 20_000)
    driver = lab.start("run", path, "--on", "azure")
    mailbox = at_work(lab, name)
    (job,) = [j for j, s in lab.cloud.state()["jobs"].items() if s["experiment"] == name]
    lab.cloud.happen("hang", job)
    lab.cloud.advance(3_600.0 + 300.0)
    until(lambda: lab.cloud.state()["jobs"][job]["status"] == "Canceled", what="the limit")
    assert driver.wait(PATIENCE_S) == TimedOut.exit_code, lab.said
    assert "budget.max_hours = 1 ended the lease before the work was done" in lab.said, lab.said
    assert lab.left() == {}
    lab.run("run", path, "--on", "azure", "--set", "budget.max_hours=3")
    assert mailbox.accepted("t0001-s1", Phase.TRAIN).attempt == 2 and lab.left() == {}


def test_a_job_that_is_prepared_for_ever_is_replaced_by_itself(lab):
    _, path = file_of(lab)
    lab.cloud.physics(stuck=1)
    lab.run("run", path, "--on", "azure", PREPARING_S="3", BUILD_S="0")
    assert lab.left() == {}
