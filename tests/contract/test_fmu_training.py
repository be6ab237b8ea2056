"""A training on an FMU that is killed ends with the weights of one that was left alone."""

import sys

import pytest

from drillyard.mailbox import Mailbox, open_store
from drillyard.mailbox.records import Phase
from drillyard.results.fingerprint import fingerprint
from drillyard.runs.workload import StopSignal
from tests.fmus import write_fmu
from tests.helpers import resume_runner

RUN = resume_runner.RUN


class Killed(BaseException):
    """In place of SIGKILL: this process goes on, and makes everything again."""


class Deadly(StopSignal):
    def __init__(self, at):
        super().__init__()
        self._left = at

    @property
    def requested(self):
        self._left -= 1
        if not self._left:
            raise Killed
        return super().requested


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
        "train": {"steps": 384, "n_envs": 2, "checkpoint_every": 64, "copies": "one-by-one"},
        "tracking": {"tensorboard": False},
    }


@pytest.fixture
def file(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "path", [*sys.path, str(tmp_path)])

    def write(*macros, **how):
        return write_fmu(tmp_path / "tank.fmu", *macros, **how).name

    return write


@pytest.mark.heavy
@pytest.mark.parametrize("how", [{}, {"state": False}], ids=["own state", "replay"])
def test_a_killed_training_ends_with_the_same_weights(tmp_path, file, how):
    given = case(file(**how))

    def trained(store, kill_at=None):
        if kill_at is not None:
            context = resume_runner.context(store, given, 1, stop=Deadly(kill_at))
            with pytest.raises(Killed):
                resume_runner.train(store, given, 1, run_context=context)
        resume_runner.train(store, given, 1 if kill_at is None else 2)
        mailbox = Mailbox(open_store(str(store)), "resume")
        return fingerprint(mailbox, RUN), mailbox.accepted(RUN, Phase.TRAIN).summary

    expected, summary = trained(tmp_path / "a")
    assert summary["exactness"] == "exact" and summary["episodes_cut"] == 0
    again, resumed = trained(tmp_path / "b", kill_at=120)
    assert resumed["resumed_step"] > 0 and resumed["resumed_step"] % 25
    assert again == expected
