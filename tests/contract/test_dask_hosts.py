"""Copies of one training on the workers of a Dask cluster, while hosts and workers die."""

import os
import signal
import sys
from pathlib import Path

import psutil

from drillyard.mailbox.records import STREAMS, Phase
from drillyard.workloads.rl import RlWorkload
from tests.contract.test_dask_runs import dask_workers, finish, place  # noqa: F401
from tests.helpers import resume_runner, resume_worlds
from tests.helpers.patience import PATIENCE_S, until

RUN = "t0001-s7"
WORLD = """
import time

class World(Drift):
    def step(self, action):
        time.sleep(0.005)  # the test kills something meanwhile
        return super().step(action)
"""


def values(**simulator):
    return {
        "simulator": {"id": "hosted_world:World", **simulator},
        "learner": {
            "algorithm": "ppo",
            "preset": None,
            "args": {"n_steps": 16, "batch_size": 16, "n_epochs": 1},
        },
        "train": {"steps": 1920, "n_envs": 3, "checkpoint_every": 192, "copies": "one-by-one"},
        "evaluate": {"episodes": 1},
        "resources": {"workers": 3, "device": "cpu"},
    }


def hosts_of(place):  # noqa: F811
    """The living hosts: their process ids."""
    found = []
    for process in place.processes():
        try:
            if "drillyard.simulators.hosts" in psutil.Process(process.pid).cmdline():
                found.append(process.pid)
        except psutil.Error:
            continue
    return found


def test_the_weights_are_those_of_one_process_though_a_host_and_a_worker_die(
    place,  # noqa: F811
    monkeypatch,
):
    user = place.tmp / "user"
    user.mkdir()
    (user / "hosted_world.py").write_text(Path(resume_worlds.__file__).read_text() + WORLD)
    monkeypatch.setattr(sys, "path", [str(user), *sys.path])
    monkeypatch.setattr(sys, "dont_write_bytecode", True)

    driver = place.driver(
        name="far", workload="rl", seeds=[7], backend="dask", **values(copies_on="workers")
    )
    driver.open()
    driver.provision()
    driver.setup(PATIENCE_S)
    assert len(dask_workers(driver)) == 3

    def trained(step):
        assert place.mailbox.ending(f"{RUN}.train", 1) is None
        board = driver.board(RUN)
        return board is not None and (board.checkpoint_step or 0) >= step

    until(lambda: trained(192), what="the first checkpoint")
    os.kill(hosts_of(place)[0], signal.SIGKILL)
    until(lambda: trained(768) and len(hosts_of(place)) == 2, what="another host")
    victim = psutil.Process(hosts_of(place)[0]).parent()
    assert victim.pid in dask_workers(driver).values()
    victim.kill()
    finish(driver, place)
    far = place.mailbox.accepted(RUN, Phase.TRAIN)
    assert far.attempt == 1 and far.summary["hosts"] == {"number": 2, "lost": 2}

    context = resume_runner.context(place.tmp / "alone", values(), 1)
    context.run = context.run.model_copy(update={"streams": STREAMS})
    alone = RlWorkload().train(context).files.files["policy_final.safetensors"]
    theirs = place.mailbox.manifest(far).files["policy_final.safetensors"]
    assert theirs.sha256 == alone.sha256
