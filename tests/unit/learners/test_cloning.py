"""Demonstrations are recorded, read and imitated; those of another world are refused."""

import numpy as np
import pytest
from gymnasium import spaces

from drillyard.cli.main import main
from drillyard.errors import ConfigError, SpaceMismatch
from drillyard.learners import cloning
from drillyard.learners.demonstrations import play, read
from drillyard.learners.sb3_build import build
from drillyard.mailbox.records import Phase
from drillyard.runs.workload import StopSignal
from drillyard.simulators.make_copies import make_vec
from drillyard.spec.learning import CloneSpec, SimulatorSpec
from drillyard.testing.phases import CountedStop, OneRun
from drillyard.workloads.rl import RlWorkload
from tests.helpers.specs import small

EXPERIMENT = """\
schema: 1
name: x
simulator: {id: cstr, lesson: {Cref_signal: {values: [1, 2, 3, 4]}}}
learner: {algorithm: ppo}
train: {steps: 4096}
"""


@pytest.fixture(scope="module")
def expert(tmp_path_factory):
    """A file of the reactor's controller, by the command."""
    folder = tmp_path_factory.mktemp("expert")
    (folder / "x.yaml").write_text(EXPERIMENT)
    out = folder / "expert.npz"
    code = main(
        [
            "record",
            str(folder / "x.yaml"),
            "--policy",
            "p-controller",
            "--episodes",
            "12",
            "--out",
            str(out),
        ]
    )
    assert code == 0
    return out


def test_every_step_of_every_episode_is_kept(expert):
    found = read(expert)
    assert sorted(set(found.episodes)) == list(range(12))
    assert (np.diff(found.episodes) >= 0).all()
    world = SimulatorSpec(id="cstr", lesson={"Cref_signal": {"values": [1, 2, 3, 4]}})
    again, mean = play(world, "p-controller", 12, 1)
    assert np.array_equal(found.observations, again.observations)
    assert found.rewards.sum() / 12 == pytest.approx(mean)
    # What was done is what the controller does when it sees what was seen.
    from drillyard.agents.baselines import make_baseline
    from drillyard.simulators.make import make_env

    env = make_env(world)
    controller = make_baseline("p-controller", env)
    for seen, done in zip(found.observations[::50], found.actions[::50], strict=True):
        assert np.allclose(controller.act(seen), done)
    env.close()


@pytest.mark.heavy
def test_a_policy_imitates_what_it_is_shown(expert):
    venv = make_vec(SimulatorSpec(id="cstr", wrappers=["normalize"]), 2, 0)
    try:
        model = build("ppo", None, {"n_steps": 32, "batch_size": 32}, venv, 1, "cpu")
        spread = model.policy.log_std.detach().clone()
        found = read(expert)
        normal = model.get_vec_normalize_env()

        def distance():
            seen = normal.normalize_obs(found.observations)
            return float(
                np.abs(model.policy.predict(seen, deterministic=True)[0] - found.actions).mean()
            )

        told = cloning.apply(CloneSpec(trajectories=str(expert), epochs=1), model, StopSignal())
        once = distance()
        cloning.apply(CloneSpec(trajectories=str(expert), epochs=30), model, StopSignal())
        assert told["steps"] == len(found.actions) and told["loss"] < told["loss_before"]
        assert distance() < 0.5 * once and distance() < 0.15
        assert np.array_equal(model.policy.log_std.detach(), spread)
        assert np.allclose(normal.obs_rms.mean, found.observations.mean(axis=0), atol=1e-3)
    finally:
        venv.close()


def spec_of(file, **learner):
    world = {
        "id": learner.pop("simulator", "cstr"),
        "wrappers": learner.pop("wrappers", ["normalize"]),
    }
    cloning = {
        "args": {"n_steps": 64, "batch_size": 64},
        "clone_from": {"trajectories": str(file), "epochs": 2},
    }
    train = {"steps": 512, "checkpoint_every": 128}
    return small(world, learner=cloning | learner, train=train)


@pytest.mark.heavy
def test_a_training_begins_by_imitating_and_resumes_as_ever(expert, tmp_path):
    spec = spec_of(expert)
    whole = OneRun(tmp_path / "whole", spec, RlWorkload())
    expected = whole.phase(Phase.TRAIN)
    assert expected.summary["cloned"]["loss"] < expected.summary["cloned"]["loss_before"]
    cut = OneRun(tmp_path / "cut", spec, RlWorkload())
    with pytest.raises(Exception, match="asked for it"):
        cut.phase(Phase.TRAIN, CountedStop(at=300))
    done = cut.phase(Phase.TRAIN)
    assert done.summary["resumes"] == 1 and done.summary["cloned"] == expected.summary["cloned"]
    name = "policy_final.safetensors"
    assert cut.contents(done)[name] == whole.contents(expected)[name]


def test_a_table_is_read_too(tmp_path):
    table = tmp_path / "expert.csv"
    table.write_text("observation_1,observation_0,action_0,time\n2,1,0,a\n4,3,1,b\n")
    found = read(table)
    assert found.observations.tolist() == [[1, 2], [3, 4]] and found.actions.tolist() == [[0], [1]]
    found.must_fit(spaces.Box(-9, 9, (2,)), spaces.Discrete(2))
    with pytest.raises(SpaceMismatch, match="2 columns"):
        found.must_fit(spaces.Box(-9, 9, (3,)), spaces.Discrete(2))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "a,b\n1,2\n",
        "observation_0,action_0\n1,nan\n",
        "observation_0,action_1\n1,2\n",
        "observation_0,action_0\n1,x\n",
    ],
)
def test_what_is_no_demonstration_is_refused(tmp_path, text):
    (tmp_path / "x.csv").write_text(text)
    with pytest.raises(ConfigError) as caught:
        read(tmp_path / "x.csv")
    assert caught.value.hint and caught.value.allowed
    (tmp_path / "x.npz").write_bytes(b"PK no zip")
    with pytest.raises(ConfigError):
        read(tmp_path / "x.npz")


@pytest.mark.parametrize(
    ("more", "error", "word"),
    [
        ({"algorithm": "sac", "args": {}}, ConfigError, "not offered with sac"),
        ({"simulator": "Pendulum-v1"}, SpaceMismatch, "demonstrations have the observation"),
        ({"wrappers": [{"name": "frame_stack", "args": {"n": 2}}]}, ConfigError, "stacked"),
        ({"clone_from": {"trajectories": "nowhere.npz"}}, ConfigError, "no such file"),
    ],
)
def test_what_cannot_be_imitated_is_refused_before_anything_runs(expert, more, error, word):
    with pytest.raises(error, match=word):
        RlWorkload().check(spec_of(expert, **more), None)
