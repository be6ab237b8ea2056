"""A training on a plant that ends with SIGKILL reaches the weights of one that was left alone."""

import random
import sys
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from drillyard.mailbox import Mailbox, open_store
from drillyard.mailbox.records import Phase
from drillyard.results.fingerprint import fingerprint
from tests.fmus import write_fmu
from tests.helpers import resume_runner
from tests.helpers.patience import PATIENCE_S

pytestmark = pytest.mark.heavy
RUN = resume_runner.RUN
STEPS, COPIES, EVERY = 384, 2, 64
WAYS = {
    "own state": ({}, {}),
    "replay": ({"state": False}, {}),
    "isolated": ({}, {"isolate": True}),
}


def case(file, **args):
    return {
        "simulator": {
            "id": file,
            "args": {"names": {"pump": "pump.voltage"}, **args},
            "agent": {
                "observes": {"level": {"min": 0, "max": 2, "unit": "m"}},
                "acts": {"pump": {"min": 0, "max": 10, "unit": "V"}},
                "reward": "-abs(level - 1)",
                "resets": ["level", "area"],
                "max_episode_steps": 25,
            },
            "lesson": {"level": {"min": 0.2, "max": 1.8}, "area": {"min": 0.5, "max": 2}},
        },
        "learner": {"algorithm": "ppo", "args": {"n_steps": 32, "batch_size": 32, "n_epochs": 2}},
        "train": {
            "steps": STEPS,
            "n_envs": COPIES,
            "checkpoint_every": EVERY,
            "copies": "one-by-one",
        },
        "tracking": {"tensorboard": False},
    }


def train_beside(folder, *args):
    sys.path.append(folder)
    resume_runner.train(*args)


@pytest.fixture
def trained(processes, tmp_path):
    """Trains in a fresh process, and returns its exit code."""

    def train(given, name, attempt, *die_at):
        args = (str(tmp_path), str(tmp_path / name), given, attempt, *die_at)
        process = processes.Process(target=train_beside, args=args)
        process.start()
        process.join(PATIENCE_S)
        assert process.exitcode is not None, "the training took more than four minutes"
        return process.exitcode

    return train


def mailbox(store):
    return Mailbox(open_store(str(store)), "resume")


def on_fmu(tmp_path, way):
    how, args = WAYS[way]
    return case(write_fmu(tmp_path / "tank.fmu", **how).name, **args)


def on_building():
    """Two days in an office; SIGKILL comes in the middle of one."""
    agent = {
        "observes": {"room": {"min": 10, "max": 30}},
        "acts": {"heating": {"min": 15, "max": 22}},
        "reward": "-abs(room - 21)",
        "resets": ["weather"],
    }
    names = {
        "room": "Zone Mean Air Temperature/Core_ZN",
        "heating": "Schedule:Compact/Schedule Value/HTGSETP_SCH",
    }
    args = {"model": "small_office", "weather": "usa_il_chicago", "names": names}
    args |= {"timestep_min": 60, "begin": "01-09", "end": "01-10", "warm_up_days": 2}
    lesson = {"weather": {"values": ["usa_il_chicago", "usa_co_denver"]}}
    simulator = {"id": "energyplus", "args": args, "agent": agent, "lesson": lesson}
    return {**case(""), "simulator": simulator}


def on_server(kind):
    """The example's servers, each started for its copy; a day each for the heat pump."""
    folder = Path(__file__).parents[2] / "experiments"
    given = YAML(typ="safe").load(folder / kind[0] / f"{kind[0]}.yaml")["simulator"]
    script = folder / kind[0] / kind[1]
    given["args"] |= {"command": f"{sys.executable} {script} {kind[2]}"}
    given["agent"]["max_episode_steps"] = 25
    return {**case(""), "simulator": given}


def kill_and_compare(tmp_path, trained, given, moments):
    assert trained(given, "a", 1) == 0
    left_alone = mailbox(tmp_path / "a")
    summary = left_alone.accepted(RUN, Phase.TRAIN).summary
    assert summary["exactness"] == "exact" and summary["episodes_cut"] == 0
    for moment in moments:
        name = f"b{moment}"
        assert trained(given, name, 1, moment) == -9
        assert trained(given, name, 2) == 0
        killed = mailbox(tmp_path / name)
        assert killed.accepted(RUN, Phase.TRAIN).summary["resumed_step"] > 0
        assert fingerprint(killed, RUN) == fingerprint(left_alone, RUN), moment


def moments(seed, count):
    """Steps of the copies in which SIGKILL comes, when at least one checkpoint is written."""
    return random.Random(seed).sample(range(2 * EVERY // COPIES + 5, STEPS // COPIES - 1), count)


@pytest.mark.parametrize("way", WAYS)
def test_a_killed_training_ends_with_the_same_weights(tmp_path, trained, way):
    seed = random.randrange(1000)
    print(f"seed {seed}")
    kill_and_compare(tmp_path, trained, on_fmu(tmp_path, way), moments(seed, 1))


def test_a_killed_training_on_a_building_ends_with_the_same_weights(tmp_path, trained):
    pytest.importorskip("pyenergyplus", reason="the extra energyplus is not installed")
    kill_and_compare(tmp_path, trained, on_building(), moments(5, 1))


@pytest.mark.parametrize(
    "kind",
    [("boptest", "service.py", "{port}"), ("mixer", "server.py", "--port {port}")],
    ids=lambda kind: kind[0],
)
def test_a_killed_training_on_a_server_ends_with_the_same_weights(tmp_path, trained, kind):
    if kind[0] == "mixer":
        pytest.importorskip("asyncua", reason="the extra opcua is not installed")
    kill_and_compare(tmp_path, trained, on_server(kind), moments(5, 1))


@pytest.mark.slow
@pytest.mark.timeout(3600)  # two trainings for each kill, beside other work
@pytest.mark.parametrize(("way", "count"), [("own state", 40), ("replay", 40), ("isolated", 20)])
def test_a_hundred_kills_end_with_the_same_weights(tmp_path, trained, way, count):
    kill_and_compare(tmp_path, trained, on_fmu(tmp_path, way), moments(7, count))
