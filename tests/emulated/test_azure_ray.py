"""One training over two nodes of a job: RLlib's workers in a Ray cluster that goes with it.

In the environment of ``tests/contract/test_rllib.py``, with the extras ``azure`` and ``rehearse``.
"""

import signal
from importlib.util import find_spec

import psutil
import pytest

pytest.importorskip("azure.ai.ml")

from drillyard.mailbox.records import Phase
from drillyard.system.processes import ProcessId, send
from drillyard_emulators.http.machines import MACHINE_MARK
from tests.helpers.azure_lab import at_work, needs_azurite
from tests.helpers.patience import PATIENCE_S
from tests.helpers.processes import machines_of

pytestmark = [
    needs_azurite(),
    pytest.mark.slow,
    pytest.mark.skipif(find_spec("ray") is None, reason="extra `rllib`: see above"),
]
FILE = """schema: 1
name: spread
workload: rl
simulator: {id: worlds:Line}
learner: {algorithm: impala, args: {num_env_runners: 3, fcnet_hiddens: [16]}}
train: {steps: 2_000, n_envs: 2, checkpoint_every: 500}
evaluate: {episodes: 1}
seeds: [1]
baselines: []
tracking: {mlflow: null, tensorboard: false}
resources: {threads: 1, device: cpu}
budget: {max_hours: 1, max_cost: 1}
backends: {azure: {compute: null, instance_count: 2}}
"""
WORLD = """import gymnasium as gym


class Line(gym.make("CartPole-v1").unwrapped.__class__):
    '''A world of the user's own: it travels to both nodes.'''
"""


@pytest.fixture
def lab(lab, tmp_path):
    (tmp_path / "worlds.py").write_text(WORLD)
    return lab


def nothing_runs(lab, name):
    """By the marks that every process of an emulated machine carries."""
    return not of_job(lab, name)


def of_job(lab, name):
    return [p for p in machines_of(lab.cloud.greeting["mark"]) if mine(p, name)]


def mine(process, name):
    try:
        return psutil.Process(process.pid).environ()[MACHINE_MARK].startswith(name)
    except (psutil.Error, KeyError):
        return False


def test_workers_of_one_training_play_on_both_nodes(lab):
    path = lab.write(FILE)
    lab.run("run", str(path), "--on", "azure")
    mailbox = lab.mailbox("spread")
    done = mailbox.accepted("t0001-s1", Phase.TRAIN).summary
    # Three workers, the fuller node has two of them; each node has an id of its own.
    assert sorted(done["machines"].values()) == [1, 2] and done["steps"] >= 2000
    assert mailbox.accepted("t0001-s1", Phase.STORE)
    (job,) = lab.cloud.state()["jobs"]
    assert lab.cloud.state()["jobs"][job]["status"] == "Completed"
    assert lab.left() == {} and nothing_runs(lab, job)


def test_a_killed_node_is_replaced_and_the_training_goes_on(lab):
    path = lab.write(FILE.replace("2_000", "20_000"))
    driver = lab.start("run", str(path), "--on", "azure")
    mailbox = at_work(lab, "spread")
    (job,) = lab.cloud.state()["jobs"]
    beside = of_job(lab, f"{job}-1.1")
    for process in beside:
        send(ProcessId(process.pid, process.started), signal.SIGKILL)
    assert driver.wait(PATIENCE_S) == 0, lab.said + lab.serials()
    done = mailbox.accepted("t0001-s1", Phase.TRAIN).summary
    assert done["resumes"] == 1 and sorted(done["machines"].values()) == [1, 2]
    first, second = sorted(lab.cloud.state()["jobs"])
    assert lab.cloud.state()["jobs"][first]["status"] == "Failed"
    assert lab.left() == {} and nothing_runs(lab, first) and nothing_runs(lab, second)
