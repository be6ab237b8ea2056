"""Copies of one training on the machines of a lease on the emulated Google Cloud."""

from __future__ import annotations

import pytest

from drillyard.mailbox.records import Phase
from drillyard.results.fingerprint import fingerprint
from drillyard.simulators.hosts.posted import path_of
from drillyard_emulators.http.handle import GcpEmulator
from tests.emulated.test_gcp_end_to_end import local_hashes
from tests.helpers.patience import until
from tests.helpers.rented import Lab

FILE = """
schema: 1
name: reactor
simulator: {id: cstr, copies_on: workers}
learner: {algorithm: ppo, args: {n_steps: 64, batch_size: 64, n_epochs: 1}}
train: {steps: 1024, n_envs: 4, checkpoint_every: 256, copies: one-by-one}
evaluate: {episodes: 1}
seeds: [1]
baselines: []
tracking: {mlflow: null, tensorboard: false}
budget: {max_hours: 1, max_cost: 5}
resources: {workers: 3, threads: 1, device: cpu}
"""
RUN = "t0001-s1"


@pytest.fixture
def lab(tmp_path, monkeypatch):
    with GcpEmulator(tmp_path / "cloud") as cloud:
        laptop = Lab(cloud, tmp_path, monkeypatch)
        try:
            yield laptop
        finally:
            laptop.close()


def test_three_machines_train_one_run_and_the_hash_is_that_of_one_process(lab):
    """A machine is preempted at the first checkpoint: host or learner, the numbers stay."""
    lab.cloud.ask("trigger", objects="checkpoints/.*manifest", count=1, what="preempt", times=1)
    file = lab.write(FILE)
    driver = lab.start("run", str(file), "--on", "gcp")
    mailbox = lab.mailbox("reactor")

    def hosts() -> bool:
        assert driver.poll() is None, lab.said + lab.serials()
        return any(w.message == f"hosts copies for {RUN}" for w in mailbox.workers())

    until(lambda: lab.cloud.state()["all_machines"] and hosts(), what="hosts")
    assert driver.wait(600) == 0, lab.said + lab.serials()
    assert lab.left() == {}
    lived = lab.cloud.state()["all_machines"]
    assert len(lived) == 4 and sum(m["preempted"] for m in lived) == 1
    trained = mailbox.accepted(RUN, Phase.TRAIN)
    assert trained is not None and trained.summary["hosts"]["number"] == 2
    assert trained.attempt == 2 or trained.summary["hosts"]["lost"] == 1
    assert mailbox.store.stat(mailbox.key(path_of(RUN, trained.attempt))) is None
    alone = lab.write(FILE.replace(", copies_on: workers", ""))
    assert {RUN: fingerprint(mailbox, RUN)} == local_hashes(lab, alone, [RUN])
