"""Schedules, networks and optimisers by name: what is built, what is refused with what hint."""

from __future__ import annotations

import inspect
import math
import sys
from typing import Any

import gymnasium
import pytest
import torch
from stable_baselines3.common.utils import LinearSchedule
from stable_baselines3.common.vec_env import DummyVecEnv

from drillyard.agents.packing import pack, unpack
from drillyard.errors import ConfigError, ConfigErrors
from drillyard.learners import sb3_state
from drillyard.learners.sb3_build import build, describe
from drillyard.spec.algorithms.arguments import Sizes, validate_arguments
from drillyard.spec.algorithms.schedules import function, parse
from drillyard.spec.algorithms.signatures import (
    ACTIVATIONS,
    EXTRACTORS,
    OPTIMISER_SETTINGS,
    OPTIMISERS,
    class_name,
)
from drillyard.spec.experiment import ExperimentSpec
from drillyard.workloads.rl import RlWorkload
from tests.helpers.refusals import refusals
from tests.helpers.specs import small


def at(value: Any, *progress: float) -> list[float]:
    schedule = parse(value)
    assert schedule is not None
    return [schedule(1.0 - p) for p in progress]


def test_schedules_at_start_middle_and_end():
    assert at("lin_3e-4", 0, 0.5, 1) == [3e-4, 1.5e-4, 0]
    assert at("lin_3e-4_1e-4", 0, 0.5, 1) == pytest.approx([3e-4, 2e-4, 1e-4])
    assert at("cos_1e-2", 0, 0.5, 1) == pytest.approx([1e-2, 5e-3, 0], abs=1e-12)
    assert at("cos_1_0.5", 0, 0.25, 1)[1] == pytest.approx(0.5 + 0.25 * (1 + math.sqrt(0.5)))
    assert at("exp_1e-2_1e-4", 0, 0.5, 1) == pytest.approx([1e-2, 1e-3, 1e-4])
    assert at(1e-3, 0, 1) == [1e-3, 1e-3]
    steps = {"name": "step", "start": 8, "factor": 0.5, "every": 0.25}
    assert at(steps, 0, 0.24, 0.25, 0.5, 0.99) == [8, 8, 4, 2, 1]
    warm = {"name": "linear", "start": 1, "end": 0, "warm_up": 0.2}
    assert at(warm, 0, 0.1, 0.2, 0.6, 1) == pytest.approx([0, 0.5, 1, 0.5, 0])


def test_linear_is_stable_baselines_own_to_the_last_bit():
    theirs, ours = LinearSchedule(3e-4, 0.0, 1.0), parse("lin_3e-4")
    assert ours is not None
    for step in range(1000):
        assert ours(1 - step / 1000) == theirs(1 - step / 1000)


@pytest.mark.parametrize(
    ("value", "message", "hint"),
    [
        ("linn_3e-4", "neither a number nor a schedule", "did you mean 'lin'"),
        ("cosine_3e-4", "neither a number nor a schedule", "cos"),
        ("lin_", "neither a number nor a schedule", "lin_3e-4"),
        ("cos_1_2_3", "neither a number nor a schedule", ""),
        ("3e-4", "neither a number nor a schedule", "without quotes"),
        ("lin_-1", "must be above 0", ""),
        ("lin_nan", "is not finite", ""),
        ("exp_3e-4", "needs an end above 0", "exp_0.0003_3e-06"),
        ({"name": "cosin", "start": 1}, "is not a schedule", "did you mean 'cosine'"),
        ({"name": "step", "start": 1, "evry": 0.1}, "no such setting", "did you mean 'every'"),
        ({"name": "step", "start": 1, "every": 2}, "not a share of the training", ""),
        ({"name": "linear"}, "has no start", ""),
        ({"name": "linear", "start": "1"}, "is not a number", ""),
        ("a b:c", "is not a module:function", ""),
        (True, "neither a number", ""),
    ],
)
def test_schedules_that_are_none(value, message, hint):
    with pytest.raises(ConfigErrors, match=message) as caught:
        validate_arguments("ppo", {"learning_rate": value}, Sizes(1, 10_000))
    assert hint in str(caught.value.errors[0].hint)


def test_tables_are_those_of_torch():
    from stable_baselines3.common import torch_layers

    for name in ACTIVATIONS.values():
        assert issubclass(getattr(torch.nn, name), torch.nn.Module)
    for name in OPTIMISERS.values():
        assert issubclass(getattr(torch.optim, name), torch.optim.Optimizer)
    for name in EXTRACTORS.values():
        assert issubclass(getattr(torch_layers, name), torch_layers.BaseFeaturesExtractor)
    for word in ("leaky_relu", "LeakyReLU", "leakyrelu", "LEAKY_RELU"):
        assert class_name(word, ACTIVATIONS) == "LeakyReLU"
    assert class_name("eval", ACTIVATIONS) is None


@pytest.mark.parametrize(
    ("kwargs", "field", "hint"),
    [
        ({"activation_fn": "rleu"}, "activation_fn", "did you mean 'relu'"),
        ({"optimizer_class": "AdmaW"}, "optimizer_class", "did you mean 'AdamW'"),
        ({"optimizer_class": None}, "optimizer_class", ""),
        ({"activation_fn": "os:x y"}, "activation_fn", ""),
        ({"features_extractor_class": "NatureCN"}, "features_extractor_class", "NatureCNN"),
        ({"optimizer_kwargs": [1]}, "optimizer_kwargs", ""),
        ({"net_arhc": [1]}, "net_arhc", "did you mean 'net_arch'"),
    ],
)
def test_unknown_names(kwargs, field, hint):
    (error,) = refusals(validate_arguments, "ppo", {"policy_kwargs": kwargs}, Sizes(1, 10_000))
    assert error.field == f"learner.args.policy_kwargs.{field}"
    assert hint in str(error.hint)


def test_settings_of_optimisers_are_those_of_torch():
    for name in OPTIMISERS.values():
        own = set(inspect.signature(getattr(torch.optim, name)).parameters) - {"params", "lr"}
        assert set(OPTIMISER_SETTINGS[name]) == own, name
    for given, hint in (("weight_decy", "'weight_decay'"), ("lr", "learning_rate")):
        with pytest.raises(ConfigErrors) as caught:
            validate_arguments(
                "ppo", {"policy_kwargs": {"optimizer_kwargs": {given: 1}}}, Sizes(1, 10_000)
            )
        assert caught.value.errors[0].field == (
            f"learner.args.policy_kwargs.optimizer_kwargs.{given}"
        )
        assert hint in str(caught.value.errors[0].hint)


@pytest.mark.parametrize(
    ("name", "setting", "value"),
    [
        ("Adam", "eps", "small"),
        ("Adam", "eps", -1e-8),
        ("Adam", "betas", 0.9),
        ("Adam", "betas", [0.9, 2]),
        ("Adam", "betas", [0.9]),
        ("AdamW", "weight_decay", -1),
        ("RMSprop", "alpha", -0.5),
        ("SGD", "momentum", -0.1),
        ("Adadelta", "rho", 1.5),
        ("Rprop", "etas", [1.2, 0.5]),
        ("Adagrad", "lr_decay", -1),
    ],
)
def test_values_that_torch_refuses_are_refused_before(name, setting, value):
    with pytest.raises((TypeError, ValueError, IndexError)):
        getattr(torch.optim, name)([torch.zeros(1)], lr=0.1, **{setting: value})
    kwargs = {"optimizer_class": name, "optimizer_kwargs": {setting: value}}
    (error,) = refusals(validate_arguments, "ppo", {"policy_kwargs": kwargs}, Sizes(1, 10_000))
    assert error.field == f"learner.args.policy_kwargs.optimizer_kwargs.{setting}"
    assert error.allowed and error.hint


@pytest.mark.parametrize("name", OPTIMISERS.values())
def test_torchs_own_settings_pass(name):
    parameters = inspect.signature(getattr(torch.optim, name)).parameters
    own = {n: p.default for n, p in parameters.items() if n not in ("params", "lr")}
    kwargs = {"optimizer_class": name, "optimizer_kwargs": own}
    validate_arguments("ppo", {"policy_kwargs": kwargs}, Sizes(1, 10_000))


def test_what_is_not_an_argument_says_why():
    for name, reason, instead in (
        ("criterion", "losses of these algorithms are fixed", "drillyard new learner"),
        ("lr_scheduler", "sets the learning rate anew", "learning_rate: cos_3e-4"),
    ):
        for args in ({name: "MSELoss"}, {"policy_kwargs": {name: "MSELoss"}}):
            with pytest.raises(ConfigErrors) as caught:
                validate_arguments("dqn", args, Sizes(1, 10_000))
            assert reason in caught.value.errors[0].message
            assert instead in str(caught.value.errors[0].hint)


NETS = """\
import torch
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor

class Swish(torch.nn.Module):
    def forward(self, x):
        return x * torch.sigmoid(x)

class Wide(BaseFeaturesExtractor):
    def __init__(self, space, features_dim=7):
        super().__init__(space, features_dim)
        self.net = torch.nn.Linear(space.shape[0], features_dim)
    def forward(self, x):
        return self.net(x)

class Mine(ActorCriticPolicy):
    pass

def halving(remaining):
    return 1e-3 if remaining > 0.5 else 5e-4

class Power:
    def __init__(self, start, power):
        self.start, self.power = start, power
    def __call__(self, remaining):
        return self.start * remaining ** self.power
"""


@pytest.fixture
def module(tmp_path, monkeypatch):
    (tmp_path / "h3_nets.py").write_text(NETS)
    monkeypatch.syspath_prepend(tmp_path)
    yield "h3_nets"
    sys.modules.pop("h3_nets", None)


def cartpole() -> Any:
    return DummyVecEnv([lambda: gymnasium.make("CartPole-v1")])


def made(args: dict[str, Any], policy: str | None = None) -> Any:
    return build(
        "ppo", policy, {"n_steps": 8, "batch_size": 8, "n_epochs": 1, **args}, cartpole(), 1, "cpu"
    )


def test_what_is_built_has_them(module):
    model = made(
        {
            "learning_rate": "cos_1e-3",
            "clip_range": {"name": "step", "start": 0.2, "every": 0.5},
            "policy_kwargs": {
                "net_arch": {"pi": [5], "vf": [6, 3]},
                "activation_fn": f"{module}:Swish",
                "optimizer_class": "RAdam",
                "optimizer_kwargs": {"weight_decay": 0.25},
                "features_extractor_class": f"{module}:Wide",
                "features_extractor_kwargs": {"features_dim": 9},
            },
        },
        f"{module}:Mine",
    )
    found = describe("ppo", model)
    assert found["learning_rate"] == "cosine 0.001 to 0"
    assert found["clip_range"] == "step 0.2 x 0.5 each 0.5 of the training"
    assert (found["policy"], found["features_extractor"]) == ("Mine", "Wide")
    assert (found["activation_fn"], found["optimizer_class"]) == ("Swish", "RAdam")
    assert model.policy.optimizer.param_groups[0]["weight_decay"] == 0.25
    assert model.policy.action_net.in_features == 5
    assert model.policy.features_extractor.net.out_features == 9
    assert model.lr_schedule(0.5) == pytest.approx(5e-4)


def test_schedules_of_the_user_s_own(module):
    assert made({"learning_rate": f"{module}:halving"}).lr_schedule(0.4) == 5e-4
    powers = {"name": f"{module}:Power", "start": 1e-3, "power": 2}
    assert made({"learning_rate": powers}).lr_schedule(0.5) == 2.5e-4
    assert function(3e-4) == 3e-4


@pytest.mark.heavy
@pytest.mark.parametrize("name", sorted(OPTIMISERS))
def test_every_optimiser_s_state_survives_a_checkpoint(name):
    more = {"momentum": 0.9} if name == "sgd" else {}  # without it, it has no state
    args = {"policy_kwargs": {"optimizer_class": name, "net_arch": [4], "optimizer_kwargs": more}}
    model = made(args)
    model.learn(16)
    tree = unpack(pack(sb3_state.capture(model)))
    other = made(args)
    other._setup_learn(16)
    sb3_state.restore(other, tree, observations=True)
    first, second = (m.policy.optimizer.state_dict() for m in (model, other))
    assert first["state"].keys() == second["state"].keys()
    assert first["state"]
    for key, state in first["state"].items():
        for entry, value in state.items():
            again = second["state"][key][entry]
            assert torch.equal(torch.as_tensor(value), torch.as_tensor(again))


def spec(**learner: Any) -> ExperimentSpec:
    return small("CartPole-v1", train={"steps": 2048}, learner=learner)


def test_classes_are_imported_by_the_check(module):
    good = {"args": {"policy_kwargs": {"features_extractor_class": f"{module}:Wide"}}}
    RlWorkload().check(spec(**good), None)
    for learner, field in (
        ({"policy": f"{module}:Mein"}, "learner.policy"),
        ({"args": {"learning_rate": f"{module}:havling"}}, "learner.args.learning_rate"),
        ({"algorithm": "ars", "args": {"delta_std": f"{module}:a"}}, "learner.args.delta_std"),
        (
            {"args": {"policy_kwargs": {"activation_fn": "h3_nothing:X"}}},
            "learner.args.policy_kwargs.activation_fn",
        ),
    ):
        with pytest.raises(ConfigError) as caught:
            RlWorkload().check(spec(**learner), None)
        assert caught.value.field == field
        assert caught.value.hint


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("optimizer_class", "os:system"),
        ("activation_fn", "pathlib:Path"),
        ("features_extractor_class", "subprocess:run"),
    ],
)
def test_what_is_no_class_of_the_kind_is_refused_unexecuted(key, value):
    from drillyard.learners.check import _must_be
    from drillyard.registry import load_object

    with pytest.raises(ConfigError, match="not a "):
        _must_be(load_object(value), f"learner.args.policy_kwargs.{key}", value)


def test_a_schedule_is_a_function_of_python():
    from drillyard.learners.check import _must_be

    with pytest.raises(ConfigError, match="not a function"):
        _must_be(len, "learner.args.learning_rate", "builtins:len")
