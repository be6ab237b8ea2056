"""What happens where an open episode cannot be replayed, or not within a minute."""

import os
from itertools import pairwise

import pytest
import torch

from drillyard.errors import Stopped
from drillyard.learners import replayed, training
from drillyard.mailbox.status import Cause
from drillyard.metrics import streams
from drillyard.results.fingerprint import fingerprint
from drillyard.runs import checkpoints
from drillyard.runs.workload import StopSignal
from drillyard.simulators.replay_probe import Probe
from drillyard.simulators.streams import REPLAYED
from tests.helpers import resume_runner, resume_worlds
from tests.helpers.resumed import RUN, box, killed, summary, trained

DQN = {
    "policy_kwargs": {"net_arch": [8]},
    "learning_starts": 20,
    "batch_size": 8,
    "buffer_size": 90,
    "train_freq": 1,
}


@pytest.fixture(autouse=True)
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def case(every, kind="Forgetful"):
    return {
        "simulator": {"id": f"tests.helpers.resume_worlds:{kind}", "args": {"discrete": True}},
        "learner": {"algorithm": "dqn", "args": DQN},
        "train": {"steps": 400, "checkpoint_every": every, "keep_checkpoints": None},
        "tracking": {"tensorboard": False},
    }


def slow(monkeypatch, most):
    """A replay takes a second for each step, and may take some seconds."""
    monkeypatch.setattr(replayed, "probe", lambda spec: Probe("", 1.0))
    monkeypatch.setattr(training, "LIMIT_S", float(most))


def barriers(mailbox):
    return sorted(step for step, _ in checkpoints.found(mailbox, RUN))


def first_ends(mailbox, *due):
    """The first end of an episode at or after each of some steps."""
    ends = [line["step"] for line in streams.read_stream(mailbox, RUN, "episodes")]
    return [next(end for end in ends if end >= step) for step in due]


@pytest.mark.heavy
def test_a_checkpoint_waits_for_the_end_of_a_long_episode(tmp_path, monkeypatch):
    slow(monkeypatch, 3)
    a = trained(tmp_path / "a", case(90))
    left_alone = summary(a)
    # Episodes have at most 40 steps, so that one ends in each half of an interval.
    assert barriers(a) == first_ends(a, 90, 180, 270, 360)
    assert (left_alone["episodes_cut"], left_alone["exactness"]) == (0, "exact")
    b = trained(tmp_path / "b", case(90), kill_at=330)
    assert summary(b)["resumed_step"] == barriers(a)[2]
    assert fingerprint(b, RUN) == fingerprint(a, RUN)


@pytest.mark.heavy
def test_a_checkpoint_that_waited_for_half_an_interval_cuts_the_episode(tmp_path, monkeypatch):
    slow(monkeypatch, 3)
    a = trained(tmp_path / "a", case(20))
    left_alone = summary(a)
    assert left_alone["episodes_cut"] > 0
    assert left_alone["exactness"] == "exact with resets"
    after = [0, *barriers(a)]
    assert max(y - x for x, y in pairwise(after)) <= 30
    b = trained(tmp_path / "b", case(20), kill_at=330)
    assert summary(b)["resumed_step"] > 290
    assert fingerprint(b, RUN) == fingerprint(a, RUN)


@pytest.mark.heavy
def test_a_simulator_that_cannot_be_replayed_waits_for_its_episodes(tmp_path):
    a = trained(tmp_path / "a", case(90, "Dice"))
    left_alone = summary(a)
    assert barriers(a) == first_ends(a, 90, 180, 270, 360)
    assert left_alone["silent_layers"] == ["Dice"]
    assert (left_alone["episodes_cut"], left_alone["exactness"]) == (0, "exact with resets")
    b = trained(tmp_path / "b", case(90, "Dice"), kill_at=330)
    assert fingerprint(b, RUN) == fingerprint(a, RUN)


@pytest.mark.heavy
def test_a_replay_that_differs_begins_new_episodes_and_is_labelled(tmp_path, monkeypatch, caplog):
    given, store = case(70), tmp_path / "a"
    killed(store, given, 200)
    step = resume_worlds.Forgetful.step

    def other(simulator, action):
        observation, reward, *rest = step(simulator, action)
        return observation, reward - 1e-12, *rest

    monkeypatch.setattr(resume_worlds.Forgetful, "step", other)
    resume_runner.train(store, given, 2)
    done = summary(box(store))
    assert done["steps"] == 400 and done["resumed_step"] == 140
    assert done["episodes_cut"] == 1
    assert done["exactness"] == "statistically equal (the replay of an episode differed)"
    assert "copy 0: the reward of step 1 is" in caplog.text


class Counted(resume_worlds.Forgetful):
    """Counts its instances in a process."""

    made = 0

    def __init__(self):
        super().__init__()
        Counted.made += 1


class EndsItsProcess(resume_worlds.Forgetful):
    def step(self, action):
        os._exit(3)


def chosen(store, kind, how, **more):
    """The choice for a simulator of this file, and how often it showed that it works."""
    simulator = {"id": f"tests.contract.test_replayed_resume:{kind}"}
    signs = []
    context = resume_runner.context(
        store,
        {**case(90), "simulator": simulator},
        1,
        progress=lambda **_: signs.append(1),
        **more,
    )
    return replayed.choose(context, context.spec.simulator, how), len(signs)


def test_copies_that_are_forked_later_are_probed_in_another_process(tmp_path):
    Counted.made = 0
    choice, signs = chosen(tmp_path, "Counted", "processes")
    assert (choice.streams, choice.difference) == (REPLAYED, "") and choice.step_s > 0
    assert Counted.made == 0
    assert signs > 150


def test_a_simulator_that_ends_its_process_in_the_probe_is_not_replayed(tmp_path):
    choice, _ = chosen(tmp_path, "EndsItsProcess", "processes")
    assert choice.streams == REPLAYED - 1
    assert choice.difference.startswith("it ended the process with code 3 in: step 1 of a replay")


def test_each_step_of_the_probe_shows_that_a_run_works(tmp_path):
    _, signs = chosen(tmp_path, "Counted", "one-by-one")
    # Two parts before the saved state, its replay, and what follows twice.
    assert signs > 150


def test_a_stop_during_the_probe_leaves_no_choice_behind(tmp_path):
    stop = StopSignal()
    stop.set(Cause.PREEMPTION, "the machine goes away")
    with pytest.raises(Stopped):
        chosen(tmp_path, "Counted", "one-by-one", stop=stop)
    assert not list(tmp_path.rglob("replay"))
