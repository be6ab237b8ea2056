"""Trainings of one process: each is a run of its own, whatever happens to its neighbours."""

from pathlib import Path

import pytest

import drillyard
from drillyard.errors import RunFailed
from drillyard.mailbox import Mailbox, open_store
from drillyard.mailbox.mailbox import run_id
from drillyard.mailbox.records import Phase
from drillyard.mailbox.status import Cause, Status
from drillyard.results.fingerprint import fingerprint

pytest.importorskip("jax", reason="extra `jax`: pip install 'drillyard[jax]'")
FILE = """
name: {name}
simulator: {{id: CartPole-v1}}
learner:
  algorithm: ppo
  engine: jax
  preset: null
  args: {{n_steps: 16, batch_size: 32, n_epochs: 2, policy_kwargs: {{net_arch: [8]}}}}
  callbacks:
    - {{id: "told:Told", args: {{seed: "${{seed}}", mark: {mark}}}}}
train: {{steps: 640, n_envs: 4, copies: compiled, checkpoint_every: 128, log_interval: 64}}
evaluate: {{episodes: 2}}
baselines: []
seeds: {seeds}
tracking: {{mlflow: null, tensorboard: false}}
resources: {{workers: 1, device: cpu, runs_per_process: 3}}
"""
TOLD = '''
import os
import signal
from pathlib import Path


class Told:
    """Says whose it is; the second seed fails, and the third ends the process once."""

    def __init__(self, seed, mark):
        self.seed, self.mark = int(seed), Path(mark)

    def on_point(self, step, metrics):
        print(f"here is {self.seed} in {os.getcwd()}", flush=True)
        if self.seed == 2:
            raise ValueError("two is not liked")
        if self.seed == 3 and step > 300 and not self.mark.exists():
            self.mark.touch()
            os.kill(os.getpid(), signal.SIGKILL)
'''


def finished(folder: Path, name: str, seeds: list[int]) -> Mailbox:
    """The mailbox after an experiment; a seed of it may have failed."""
    folder.mkdir()
    if len(seeds) == 1:
        (folder / "mark").touch()  # nobody ends the process
    (folder / "told.py").write_text(TOLD)
    file = folder / f"{name}.yaml"
    file.write_text(FILE.format(name=name, seeds=seeds, mark=folder / "mark"))
    try:
        drillyard.run(file, store=folder / "store", report=False, flow=False)
    except RunFailed as error:
        assert 2 in seeds, error
    return Mailbox(open_store(str(folder / "store")), name)


def log_of(mailbox: Mailbox, run: str, attempt: int) -> str:
    path = mailbox.attempt_path(run, Phase.TRAIN, attempt)
    keys = sorted(each.key for each in mailbox.store.list(mailbox.key(f"{path}/log")))
    return "".join(mailbox.store.get(key).decode() for key in keys)


def test_a_neighbour_may_fail_or_end_the_process(tmp_path):
    mailbox = finished(tmp_path / "all", "all", [1, 2, 3])
    one, two, three = (run_id(1, seed) for seed in (1, 2, 3))
    ending = mailbox.ending(f"{two}.train", 1)
    assert ending is not None and ending.cause is Cause.USER_ERROR
    assert "two is not liked" in ending.message
    for run in (one, three):
        lost = mailbox.ending(f"{run}.train", 1)
        assert lost is not None and lost.cause is Cause.INFRASTRUCTURE
        accepted = mailbox.accepted(run, Phase.TRAIN)
        assert (accepted.status, accepted.attempt) == (Status.SUCCEEDED, 2)
        assert accepted.summary["exactness"] == "exact" and accepted.summary["resumes"] == 1
    for seed, run in enumerate((one, two, three), 1):
        found = log_of(mailbox, run, 1)
        said = {line for line in found.splitlines() if line.startswith("here is")}
        (only,) = said  # the same folder each time, and no neighbour's words
        assert only.startswith(f"here is {seed} in ") and run in only
    alone = finished(tmp_path / "alone", "alone", [3])
    assert fingerprint(alone, run_id(1, 3)) == fingerprint(mailbox, three)
