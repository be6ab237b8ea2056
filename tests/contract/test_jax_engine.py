"""``learner.engine: jax`` keeps to the contract of learners. Where JAX is missing: skipped."""

import random
import sys
from pathlib import Path

import numpy as np
import psutil
import pytest
from stable_baselines3.common.callbacks import BaseCallback

from drillyard.agents.base import load_policy
from drillyard.agents.trained import trained
from drillyard.errors import RunFailed
from drillyard.mailbox.records import Phase
from drillyard.policies.compared import CHECKED
from drillyard.policies.export import TOLERANCE, export
from drillyard.runs import checkpoints
from drillyard.testing.learner_suite import LearnerSuite
from drillyard.workloads.rl import RlWorkload
from tests.helpers.patience import PATIENCE_S
from tests.helpers.resume_cases import DISCRETE, DRIFT, case
from tests.helpers.resumed import RUN, box, ended_alike, resumed, summary, train
from tests.helpers.specs import small, submitted

pytest.importorskip("jax", reason="extra `jax`: pip install 'drillyard[jax]'")
SMALL = {"policy_kwargs": {"net_arch": [16, 16]}}


def experiment(simulator, algorithm, args, steps, **train):
    learner = {"algorithm": algorithm, "engine": "jax", "args": args}
    train = {"steps": steps, "checkpoint_every": 64, **train}
    return small(simulator, learner=learner, train=train)


class TestPpo(LearnerSuite):
    @pytest.fixture
    def spec(self):
        args = {**SMALL, "n_steps": 32, "batch_size": 32, "n_epochs": 2}
        return experiment({**DRIFT, "wrappers": ["normalize"]}, "ppo", args, 320)


class TestA2c(LearnerSuite):
    @pytest.fixture
    def spec(self):
        return experiment(DISCRETE, "a2c", {**SMALL, "n_steps": 8}, 320, n_envs=2)


class TestCompiled(LearnerSuite):
    @pytest.fixture
    def spec(self):
        args = {**SMALL, "n_steps": 32, "batch_size": 32, "n_epochs": 2}
        simulator = {"id": "CartPole-v1", "wrappers": ["normalize"]}
        return experiment(simulator, "ppo", args, 320, n_envs=2, copies="compiled")


ANY = "tests.contract.spaces_world:AnySpaces"
ROLLOUT = {**SMALL, "n_steps": 32, "batch_size": 32, "n_epochs": 2, "learning_rate": "lin_1e-3"}
CASES = {
    "ppo": case(
        DRIFT, "ppo", {**ROLLOUT, "clip_range_vf": 0.2, "target_kl": 0.01}, ["normalize"], n_envs=2
    ),
    "a2c-curriculum": case(
        {
            **DISCRETE,
            "metrics": {"far": "max"},
            "curriculum": {
                "stages": [
                    {"lesson": {"start": 0}, "promote": {"steps": 150}},
                    {"lesson": {"start": {"min": -2, "max": 2}}},
                ]
            },
        },
        "a2c",
        {**SMALL, "n_steps": 8},
        n_envs=2,
    ),
    "ppo-dict": case(
        {"id": ANY, "args": {"observation": "dict", "action": "multidiscrete"}},
        "ppo",
        ROLLOUT,
        [{"name": "normalize", "args": {"norm_obs_keys": ["z", "table"]}}],
        n_envs=2,
    ),
    "ppo-binary": case(
        {"id": ANY, "args": {"action": "multibinary"}},
        "ppo",
        ROLLOUT,
        [{"name": "frame_stack", "args": {"n": 3}}],
        n_envs=2,
    ),
    "ppo-vectorised": case(
        {"id": "CartPole-v1"}, "ppo", ROLLOUT, ["normalize"], n_envs=3, copies="vectorised"
    ),
    "ppo-processes": case(DRIFT, "ppo", ROLLOUT, ["normalize"], n_envs=2, copies="processes"),
    "ppo-compiled": case(
        {"id": "cstr", "lesson": {"noise_percentage": {"min": 0, "max": 2}}},
        "ppo",
        ROLLOUT,
        ["normalize"],
        n_envs=2,
        copies="compiled",
    ),
    "replay-a2c": case({"id": "CartPole-v1"}, "a2c", {**SMALL, "use_rms_prop": False}, n_envs=2),
}
KINDS = {"ppo", "ppo-compiled", "a2c-curriculum"}
"""The others run on demand."""
for each in CASES.values():
    each["learner"]["engine"] = "jax"


@pytest.mark.parametrize(
    "name", [n if n in KINDS else pytest.param(n, marks=pytest.mark.slow) for n in CASES]
)
def test_a_killed_run_ends_as_one_that_was_left_alone(name, processes, tmp_path):
    one = CASES[name]
    assert train(processes, tmp_path / "a", one, 1) == 0
    a = box(tmp_path / "a")
    steps = sorted(step for step, _ in checkpoints.found(a, RUN))
    copies = one["train"]["n_envs"]
    die_at = random.Random(name).randint(steps[1] // copies + 5, steps[-1] // copies + 60)
    b = resumed(processes, tmp_path / "b", one, die_at)
    assert summary(b)["exactness"] == "exact"
    ended_alike(b, a)
    step, attempt = checkpoints.found(b, RUN)[0]
    kinds = {
        name.rpartition(".")[2] for name in checkpoints.read_meta(b, RUN, attempt, step).files
    }
    assert kinds == {"json", "npz", "safetensors"}


class Watching(BaseCallback):
    """Notes what a user's callback sees."""

    seen: dict = {}  # noqa: RUF012

    def _on_step(self):
        self.seen["steps"] = self.num_timesteps
        self.seen["actions"] = self.locals["clipped_actions"].shape
        return True

    def _on_rollout_end(self):
        buffer = self.model.rollout_buffer
        self.seen["spread"] = float(np.std(buffer.advantages))
        self.seen["returns"] = bool(np.all(buffer.returns == buffer.advantages + buffer.values))


def run_of(folder, engine="jax", simulator=None, args=None, **parts):
    learner = {"args": args or ROLLOUT, "engine": engine, **parts.pop("learner", {})}
    train = {"steps": 640, "n_envs": 2, **parts.pop("train", {})}
    world = simulator or {**DRIFT, "wrappers": ["normalize"]}
    spec = small(world, learner=learner, train=train, name="mine", seeds=[3], **parts)
    RlWorkload().check(spec, None)
    return submitted(folder, spec)


def test_callbacks_early_stopping_and_the_best_policies(tmp_path):
    run = run_of(
        tmp_path,
        learner={"callbacks": [f"{__name__}:Watching"]},
        train={"stop": {"patience": 1, "epoch": 1, "min_improvement": 1e9}},
        evaluate={"episodes": 2, "keep_best": 2, "every": {"steps": 64, "episodes": 2}},
    )
    outcome = run.phase(Phase.TRAIN)
    assert outcome.summary["ended_by"] == "patience" and outcome.summary["steps"] < 640
    assert len(outcome.summary["top"]) == 2 and outcome.summary["best"]
    assert Watching.seen["steps"] == outcome.summary["steps"]
    assert Watching.seen["actions"] == (2, 2)
    assert Watching.seen["spread"] > 0 and Watching.seen["returns"]
    told = outcome.summary["parameters"]
    assert (told["engine"], told["device"], told["acts_with"]) == ("jax", "cpu", "numpy")
    assert told["learning_rate"] == "linear 0.001 to 0" and told["net_arch"] == [16, 16]


@pytest.mark.parametrize("engines", [("jax", "sb3"), ("sb3", "jax")])
def test_a_training_begins_with_a_policy_of_the_other_engine(engines, tmp_path):
    first = run_of(tmp_path / "a", engines[0])
    outcome = first.phase(Phase.TRAIN)
    then = load_policy(first.contents(outcome), "final")
    with trained(first.mailbox, first.run, "final") as policy:
        export(policy, "safetensors", tmp_path / "bundle")
    lazy = {**ROLLOUT, "learning_rate": 1e-12}
    learner = {"init_from": str(tmp_path / "bundle")}
    second = run_of(tmp_path / "b", engines[1], args=lazy, learner=learner)
    made = second.contents(second.phase(Phase.TRAIN))
    now = load_policy(made, "final")
    seen = np.random.default_rng(1).normal(size=(64, 3)).astype(np.float32)
    np.testing.assert_allclose(now(seen), then(seen), atol=1e-5)
    assert np.abs(then(seen)).max() > 0.01
    assert set(made) == set(first.contents(outcome))


def test_what_it_trained_leaves_as_onnx_and_is_played_without_jax(tmp_path):
    run = run_of(tmp_path / "a", simulator={"id": "Pendulum-v1", "wrappers": ["normalize"]})
    run.phase(Phase.TRAIN)
    with trained(run.mailbox, run.run) as policy:
        made = export(policy, "onnx", tmp_path / "bundle")
    assert made.checked == CHECKED and made.largest_difference < TOLERANCE


def test_a_program_of_its_own_is_trained_on_and_none_is_left(tmp_path):
    program = Path(__file__).parents[1] / "helpers" / "external_world.py"
    external = {
        "id": "external",
        "args": {
            "command": [sys.executable, str(program)],
            "start_timeout_s": PATIENCE_S,
            "step_timeout_s": PATIENCE_S,
            "environment": {"FAULTS": str(tmp_path / "happened")},
        },
        "agent": {
            "observes": {"x": {"min": -20, "max": 20}},
            "acts": {"push": {"min": -1, "max": 1}},
            "reward": "-abs(x)",
            "resets": ["x"],
        },
    }
    before = {child.pid for child in psutil.Process().children(recursive=True)}
    outcome = run_of(tmp_path / "a", simulator=external, train={"steps": 256}).phase(Phase.TRAIN)
    assert outcome.summary["steps"] == 256 and outcome.summary["episodes"] > 0
    left = [c for c in psutil.Process().children(recursive=True) if c.pid not in before]
    assert not left, left


def test_a_training_that_diverges_says_so_and_what_may_help(tmp_path):
    run = run_of(tmp_path, args={**ROLLOUT, "learning_rate": 1e38})
    with pytest.raises(
        RunFailed, match=r"became nan at training step 64 \(run seed 3\)"
    ) as caught:
        run.phase(Phase.TRAIN)
    assert "learning_rate" in caught.value.hint
