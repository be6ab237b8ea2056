"""A training goes on with another number of copies: nothing is lost, and the label says so."""

from dataclasses import asdict

import numpy as np
import pytest
from gymnasium import spaces
from stable_baselines3.common.buffers import NStepReplayBuffer, ReplayBuffer

from drillyard.agents.packing import npz_arrays
from drillyard.errors import ConfigError, Stopped
from drillyard.learners import exactness, replay
from drillyard.learners.barriers import Marks
from drillyard.mailbox.records import Phase
from drillyard.mailbox.status import Cause
from drillyard.runs import checkpoints
from drillyard.runs.workload import StopSignal
from drillyard.testing.phases import OneRun
from drillyard.workloads.rl import RlWorkload
from tests.helpers.records import experiment_record
from tests.helpers.specs import small

BOX = spaces.Box(-1e9, 1e9, (1,), np.float32)


def buffer(n_envs, size, kind=ReplayBuffer, **more):
    return kind(size, BOX, BOX, n_envs=n_envs, **more)


def filled(n_envs, steps, size):
    made = buffer(n_envs, size)
    for step in range(steps // n_envs):
        # What copy `c` sees at its step `s` is 1000 c + s: each copy has an episode of 10 steps.
        seen = np.array([[1000.0 * c + step] for c in range(n_envs)])
        done = np.full(n_envs, step % 10 == 9)
        made.add(seen, seen + 1, seen, seen[:, 0], done, [{}] * n_envs)
    name, data = replay.new_segment([], made, steps // n_envs)
    return {name: data}


@pytest.mark.parametrize(
    ("then", "now", "steps", "size"),
    [(2, 3, 60, 120), (4, 1, 60, 120), (1, 4, 62, 120), (3, 2, 600, 60), (2, 5, 604, 61)],
)
def test_steps_are_dealt_to_other_copies_and_cut_where_they_meet(then, now, steps, size):
    segments = filled(then, steps, size)
    made = buffer(now, size)
    replay.restore(made, dict(segments), steps, then)
    rows = min(steps // now, made.buffer_size)
    at = np.arange(steps // now - rows, steps // now) % made.buffer_size
    assert made.pos == steps // now % made.buffer_size
    assert made.full == (steps // now >= made.buffer_size)
    seen, cut = made.observations[at, :, 0], made.dones[at] * made.timeouts[at]
    there = npz_arrays(next(iter(segments.values())))["observations"]
    assert set(seen.ravel()) <= set(there.ravel())
    assert len(set(seen.ravel())) >= min(there.size, seen.size) - max(then, now)
    assert (made.next_observations[at, :, 0] == seen + 1).all()
    # The next row of a column is the next step of a copy, or the episode ended or was cut there.
    follows = seen[1:] == seen[:-1] + 1
    assert (follows | (made.dones[at][:-1] == 1)).all()
    assert ((cut[-1] == 1) | (made.dones[at][-1] == 1)).all()
    ended = made.dones[at] * (1 - made.timeouts[at])
    assert ((seen[ended == 1] % 1000) % 10 == 9).all()


def test_returns_of_several_steps_do_not_run_over_a_seam():
    made = buffer(3, 120, NStepReplayBuffer, n_steps=3, gamma=1.0)
    replay.restore(made, filled(2, 60, 120), 60, 2)
    found = made._get_samples(np.arange(made.pos).repeat(20))
    first, last = found.observations[:, 0].numpy(), found.next_observations[:, 0].numpy()
    assert ((last - first >= 1) & (last - first <= 3)).all()


def test_a_buffer_that_saves_memory_stays_as_it_is():
    lean = {"optimize_memory_usage": True, "handle_timeout_termination": False}
    with pytest.raises(ConfigError, match="cannot be rearranged"):
        replay.restore(buffer(3, 120, **lean), filled(2, 60, 120), 60, 2)


def spec_of(algorithm, n_envs, args):
    world = {
        "id": "tests.helpers.resume_worlds:Drift",
        "wrappers": ["normalize"],
        "args": {"discrete": algorithm == "rainbow"},
    }
    train = {"steps": 600, "checkpoint_every": 120, "n_envs": n_envs}
    return small(world, learner={"algorithm": algorithm, "args": args}, train=train)


class AfterACheckpoint(StopSignal):
    """Asks for a stop as soon as an attempt has written a checkpoint."""

    def __init__(self, run, attempt):
        super().__init__()
        self._run, self._attempt = run, attempt

    @property
    def requested(self):
        there = checkpoints.found(self._run.mailbox, self._run.run)
        if any(attempt == self._attempt for _, attempt in there):
            self.set(Cause.CANCELLED, "a test")
        return super().requested


SMALL = {
    "policy_kwargs": {"net_arch": [8]},
    "learning_starts": 40,
    "batch_size": 16,
    "buffer_size": 400,
}


@pytest.mark.heavy
@pytest.mark.parametrize(
    ("algorithm", "args"),
    [
        ("ppo", {"n_steps": 20, "batch_size": 20, "n_epochs": 2}),
        (
            "recurrent-ppo",
            {
                "n_steps": 20,
                "batch_size": 20,
                "n_epochs": 1,
                "policy_kwargs": {"lstm_hidden_size": 4},
            },
        ),
        ("sac", SMALL),
        ("rainbow", {**SMALL, "n_steps": 3}),
    ],
)
@pytest.mark.filterwarnings("error:`n_steps")
def test_a_training_goes_on_with_other_copies_and_says_so(algorithm, args, tmp_path):
    run = OneRun(tmp_path, spec_of(algorithm, 2, args), RlWorkload())
    with pytest.raises(Stopped):
        run.phase(Phase.TRAIN, AfterACheckpoint(run, 1))
    run.spec = spec_of(algorithm, 4, args)
    with pytest.raises(Stopped):
        run.phase(Phase.TRAIN, AfterACheckpoint(run, 2))
    done = run.phase(Phase.TRAIN).summary
    assert done["resumes"] == 2 and 0 < done["resumed_step"] < 600 <= done["steps"]
    assert done["parameters"]["n_envs"] == 4
    assert done["exactness"] == "statistically equal (number of copies changed)"


@pytest.mark.heavy
def test_other_settings_and_other_machines_stay_said(tmp_path, monkeypatch):
    """Whatever comes after: a run with two learning rates, or of two machines, is not exact."""
    one = OneRun(tmp_path, spec_of("a2c", 2, {}), RlWorkload())

    def recorded(rate, n_envs=2):
        parts = {"training": {"learner": {"rate": rate}, "train": {"n_envs": n_envs}}}
        record = experiment_record(identity=str(rate), identity_parts=parts)
        one.mailbox.write("experiment.json", record)

    recorded(1)
    with pytest.raises(Stopped):
        one.phase(Phase.TRAIN, AfterACheckpoint(one, 1))
    recorded(2)
    with pytest.raises(Stopped):
        one.phase(Phase.TRAIN, AfterACheckpoint(one, 2))
    at = checkpoints.latest(one.mailbox, one.run).meta.step
    done = one.phase(Phase.TRAIN).summary
    assert done["exactness"].startswith("hybrid (other settings up to step ")
    assert 0 < int(done["exactness"].split()[-1].rstrip(")")) < at

    two = OneRun(tmp_path / "two", spec_of("a2c", 2, {}), RlWorkload())
    with pytest.raises(Stopped):
        two.phase(Phase.TRAIN, AfterACheckpoint(two, 1))
    with monkeypatch.context() as elsewhere:
        elsewhere.setattr(exactness, "cpu_brand", lambda: "another processor")
        with pytest.raises(Stopped):
            two.phase(Phase.TRAIN, AfterACheckpoint(two, 2))
    with monkeypatch.context() as elsewhere:
        elsewhere.setattr(exactness, "cpu_brand", lambda: "another processor")
        elsewhere.setattr(exactness, "version", lambda package: f"another {package}")
        done = two.phase(Phase.TRAIN).summary
    # Each change since the beginning has its name.
    assert done["exactness"] == "statistically equal (gymnasium, processor changed)"


def test_a_change_that_an_earlier_version_marked_has_no_name():
    marks = Marks(**{**asdict(Marks()), "platform_changed": True})
    assert exactness.changed(marks) == "processor, threads, device or versions changed"
    before = {"cpu": "one", "threads": 2, "torch": "1"}
    exactness.note_platform(marks, before, {**before, "threads": 1})
    assert "processor, threads, device or versions" in exactness.changed(marks)
    assert asdict(Marks())["platform_changed"] is False  # as every checkpoint has it


def test_what_an_older_checkpoint_does_not_say_is_as_before():
    marks = Marks()
    exactness.note_platform(marks, {"threads": 1}, {"threads": 1, "cpu": "x"})
    assert marks.platform_changed is False
    exactness.note_platform(marks, {"threads": 1, "cpu": "y"}, {"threads": 1, "cpu": "x"})
    assert exactness.changed(marks) == "processor changed"
