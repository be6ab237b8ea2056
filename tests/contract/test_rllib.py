"""RLlib's learners: checked everywhere, trained in an environment of their own (slow).

pip install -e '.[rllib,dev]' -c deployments/rllib/constraints.txt
python -m pytest -m slow tests/contract/test_rllib.py
"""

from importlib.util import find_spec

import numpy as np
import pytest
import torch
from gymnasium import spaces

from drillyard.agents.base import load_policy
from drillyard.agents.packing import unpack
from drillyard.errors import ConfigError, SpaceMismatch, Stopped
from drillyard.learners.rllib.arguments import ARGUMENTS, validate
from drillyard.learners.rllib.network import Network
from drillyard.mailbox.records import Phase
from drillyard.mailbox.status import Cause
from drillyard.metrics.streams import read_stream
from drillyard.runs import checkpoints
from drillyard.runs.workload import StopSignal
from drillyard.spec import ExperimentSpec
from drillyard.testing.phases import OneRun
from drillyard.workloads.rl import RlWorkload
from tests.helpers.refusals import refusals

with_ray = [
    pytest.mark.slow,
    pytest.mark.skipif(find_spec("ray") is None, reason="extra `rllib`: see above"),
]


def spec_of(algorithm="impala", simulator="CartPole-v1", requirements=("ray==2.60.0",), **more):
    learner = {"algorithm": algorithm, "preset": None, **more.pop("learner", {})}
    return ExperimentSpec.model_validate(
        {
            "name": "rllib",
            "seeds": [1],
            "simulator": {"id": simulator, **more.pop("world", {})},
            "learner": learner,
            "train": {"steps": 3000, **more.pop("train", {})},
            "evaluate": {"episodes": 4, **more.pop("evaluate", {})},
            "requirements": list(requirements),
            "tracking": {"tensorboard": False},
        }
    )


def check(*args, **kwargs):
    return RlWorkload().check(spec_of(*args, **kwargs), None)


@pytest.mark.parametrize(
    ("more", "field"),
    [
        ({"world": {"wrappers": ["normalize"]}}, "simulator.wrappers[0]"),
        ({"train": {"copies": "processes"}}, "train.copies"),
        ({"evaluate": {"videos": {"every": 5}}}, "evaluate.videos.every"),
        ({"train": {"stop": {"patience": 3}}}, "train.stop"),
        ({"learner": {"policy": "MlpPolicy"}}, "learner.policy"),
        ({"learner": {"init_from": "run:t0001-s1"}}, "learner.init_from"),
        (
            {"evaluate": {"every": {"after_episodes": 5, "episodes": 2}}},
            "evaluate.every.after_episodes",
        ),
    ],
)
def test_what_rllib_is_not_offered_with_is_refused(more, field):
    (error,) = refusals(check, **more)
    assert error.field == field and error.hint


def test_a_world_that_it_does_not_fit_is_refused():
    assert check() and check("appo", "Pendulum-v1")
    with pytest.raises(SpaceMismatch, match="flat observations"):
        check(
            simulator="tests.helpers.resume_worlds:Drift",
            world={"args": {"dict_observation": True}},
        )


@pytest.mark.parametrize(
    ("args", "name"),
    [
        ({"learning_rate": 1e-3}, "learning_rate"),
        ({"lr": -1}, "lr"),
        ({"gamma": 1.5}, "gamma"),
        ({"num_env_runners": 0}, "num_env_runners"),
        ({"fcnet_hiddens": []}, "fcnet_hiddens"),
        ({"fcnet_activation": "gelu"}, "fcnet_activation"),
        ({"clip_param": 0.1}, "clip_param"),
        ({"vf_share_layers": 1}, "vf_share_layers"),
        ({"lr": float("nan")}, "lr"),
        ({"lr": []}, "lr"),
    ],
)
def test_arguments_that_cannot_work_are_refused(args, name):
    (error,) = refusals(validate, "impala", args)
    assert error.field == f"learner.args.{name}" and error.allowed
    for algorithm, defaults in ARGUMENTS.items():
        validate(algorithm, defaults)
    validate("appo", {"clip_param": 0.1})


def test_without_ray_the_line_that_installs_it_is_said(monkeypatch):
    monkeypatch.setattr("drillyard.learners.rllib.learner.find_spec", lambda _: None)
    with pytest.raises(ConfigError) as caught:
        check(requirements=())
    assert "pip install 'drillyard[rllib]'" in caught.value.hint


def test_a_run_spreads_over_as_many_machines_as_it_has_workers():
    assert RlWorkload().spread(spec_of()) == ARGUMENTS["impala"]["num_env_runners"]
    assert RlWorkload().spread(spec_of(learner={"args": {"num_env_runners": 5}})) == 5
    assert RlWorkload().spread(spec_of("ppo")) == 1


def test_a_network_acts_within_its_space():
    seen, acted = spaces.Box(-1, 1, (3,)), spaces.Box(np.array([-2.0, 0]), np.array([2.0, 9]))
    tensors = {
        "encoder.encoder.net.mlp.0.weight": torch.eye(3),
        "pi.net.mlp.0.bias": torch.zeros(4),
        "encoder.encoder.net.mlp.0.bias": torch.zeros(3),
        "pi.net.mlp.0.weight": torch.zeros(4, 3),
        "pi.log_std_clip_param_const": torch.tensor([20.0]),
    }
    network = Network(seen, acted, tensors, "tanh")
    one, _ = network.predict(np.zeros(3), deterministic=True)
    assert one.tolist() == [0.0, 4.5] and one.dtype == np.float32  # the middle of the range
    many, _ = network.predict(np.zeros((50, 3)))
    assert many.shape == (50, 2) and all(acted.contains(a) for a in many)
    with pytest.raises(ValueError, match="4 outputs"):
        Network(seen, spaces.Discrete(3), tensors, "tanh")


class TestWithRay:
    pytestmark = with_ray

    def test_the_table_is_the_installed_configuration(self):
        from drillyard.learners.rllib.training import CONFIGS, NETWORK, DefaultModelConfig

        for algorithm, table in ARGUMENTS.items():
            config, model = CONFIGS[algorithm](), DefaultModelConfig()
            real = {n: getattr(model if n in NETWORK else config, n) for n in table}
            assert real == table

    @pytest.mark.parametrize(
        ("algorithm", "simulator"), [("impala", "CartPole-v1"), ("appo", "Pendulum-v1")]
    )
    def test_a_stopped_training_goes_on_from_its_checkpoint(self, algorithm, simulator, tmp_path):
        args = {"fcnet_hiddens": [32], "num_env_runners": 1, "entropy_coeff": 0.02}
        spec = spec_of(
            algorithm,
            simulator,
            learner={"args": args},
            train={"steps": 6000, "checkpoint_every": 1500, "n_envs": 2},
            evaluate={"every": {"steps": 2000, "episodes": 2}},
        )
        run, stop = OneRun(tmp_path, spec, RlWorkload()), StopSignal()

        class AfterACheckpoint(StopSignal):
            @property
            def requested(self):
                if checkpoints.found(run.mailbox, run.run):
                    stop.set(Cause.PREEMPTION, "a test")
                return stop.requested

            def check(self):
                if self.requested:
                    stop.check()

        with pytest.raises(Stopped):
            run.phase(Phase.TRAIN, AfterACheckpoint())
        checkpoint = checkpoints.latest(run.mailbox, run.run)
        kept = unpack(checkpoint.files)["learner"]["rl_module"]["default_policy"]
        assert 1500 <= checkpoint.meta.step < 6000
        outcome = run.phase(Phase.TRAIN)
        done = outcome.summary
        assert done["resumed_step"] == checkpoint.meta.step and done["steps"] >= 6000
        assert done["resumes"] == 1 and done["exactness"].startswith("statistically equal")
        assert {n: done["parameters"][n] for n in args} == args
        steps = [line["step"] for line in read_stream(run.mailbox, run.run, "train")]
        assert steps == sorted(set(steps))
        files = run.contents(outcome)
        assert not [n for n in files if n.endswith((".zip", ".pkl"))]
        policy = load_policy(files, "final")
        assert {t.shape for t in policy.act.policy.state_dict().values()} == {
            torch.tensor(a).shape for a in kept.values()
        }
        agent = run.phase(Phase.EVALUATE).summary["policies"]["agent"]
        assert np.isfinite(agent["mean_return"]) and agent["n_episodes"] == 4

    @pytest.mark.parametrize("shared", [True, False])
    @pytest.mark.parametrize("world", ["CartPole-v1", "Pendulum-v1"])
    def test_the_network_without_ray_is_that_of_rllib(self, world, shared):
        import gymnasium as gym
        from ray.rllib.algorithms.ppo.torch.default_ppo_torch_rl_module import (
            DefaultPPOTorchRLModule,
        )
        from ray.rllib.core.rl_module.default_model_config import DefaultModelConfig
        from ray.rllib.utils.spaces.space_utils import unsquash_action

        env = gym.make(world)
        seen, acted = env.observation_space, env.action_space
        model = DefaultModelConfig(fcnet_hiddens=[16, 8], vf_share_layers=shared)
        theirs = DefaultPPOTorchRLModule(
            observation_space=seen, action_space=acted, model_config=model
        )
        ours = Network(seen, acted, theirs.state_dict(), "tanh")
        x = np.stack([np.clip(seen.sample(), -3, 3) for _ in range(20)])
        with torch.no_grad():
            logits = theirs.forward_inference({"obs": torch.tensor(x)})["action_dist_inputs"]
        assert torch.allclose(ours.logits(torch.tensor(x)), logits, atol=1e-6)
        actions, _ = ours.predict(x, deterministic=True)
        if isinstance(acted, spaces.Discrete):
            assert (actions == logits.argmax(-1).numpy()).all()
        else:
            expected = [unsquash_action(row[:1].numpy(), acted) for row in logits]
            assert np.allclose(actions, np.stack(expected), atol=1e-6)
