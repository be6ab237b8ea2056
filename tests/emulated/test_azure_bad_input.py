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
SOUND = {"everywhere": 100, "denied": []}
JOBS = "Microsoft.MachineLearningServices/workspaces/jobs/write"


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


@pytest.mark.parametrize(
    ("settings", "world", "words", "code"),
    [
        ({"VM_SIZE": "Standard_X1_v9"}, {}, "Standard_X1_v9", 2),
        ({}, {"everywhere": 0}, "the quota is 0", 2),
        ({}, {"denied": [JOBS]}, "jobs/write", 2),
        ({"WORKSPACE": "elsewhere"}, {}, "no workspace 'elsewhere'", 2),
        ({"SUBSCRIPTION_ID": "0" * 8 + "-0000-0000-0000-" + "0" * 12}, {}, "subscription", 2),
        ({"INSTANCE_COUNT": "4", "MAX_NODES": "2"}, {}, "a job of 4 nodes never starts", 2),
        ({}, {"login": True}, "az login", 2),
    ],
    ids=[
        "unknown size",
        "quota 0",
        "missing right",
        "missing workspace",
        "wrong subscription",
        "node count",
        "expired login",
    ],
)
def test_what_can_be_known_before_is_refused_and_changes_nothing(
    lab, settings, world, words, code
):
    login = {"trouble": "AADSTS700082: The refresh token has expired.", "valid_from": 2e10}
    if world.pop("login", False):
        lab.cloud.ask("entra", **login)
    lab.cloud.ask("manager", **{**SOUND, **world})
    try:
        _, path = file_of(lab)
        for verb in ("plan", "run"):
            got, said, calls = refused(lab, verb, path, "--on", "azure", **settings)
            assert (got, calls) == (code, []), said
            assert words in said and "Traceback" not in said
    finally:
        lab.cloud.ask("entra", trouble="", valid_from=0)
        lab.cloud.ask("manager", **SOUND)
    assert lab.left() == {}


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
