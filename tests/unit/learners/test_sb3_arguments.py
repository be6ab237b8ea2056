"""``learner.args``: the table is the installed library's, and what cannot work is refused."""

import inspect
import subprocess
import sys
from itertools import pairwise

import numpy as np
import pytest
from gymnasium import spaces

from drillyard.errors import ConfigError, ConfigErrors, SpaceMismatch
from drillyard.findings import Severity
from drillyard.learners.plan import freeze, make_plan
from drillyard.runs.barrier_rule import barrier_steps, interval
from drillyard.spec.algorithms.argument_table import ARGUMENTS
from drillyard.spec.algorithms.arguments import Sizes, clean, validate_arguments
from drillyard.spec.algorithms.networks import auto_policy, check_memory, check_spaces
from drillyard.spec.algorithms.signatures import ACTION_SPACES, OURS
from drillyard.workloads.rl import RlWorkload
from tests.helpers.patience import PATIENCE_S
from tests.helpers.refusals import refusals
from tests.helpers.specs import small

BOX = spaces.Box(-1.0, 1.0, (4,), np.float32)


@pytest.mark.parametrize("algorithm", ARGUMENTS)
def test_the_table_is_the_installed_signature(algorithm):
    from drillyard.learners.sb3_build import CLASSES

    signature = inspect.signature(CLASSES[algorithm].__init__).parameters
    real = {n: p.default for n, p in signature.items() if n not in ("self", "policy", "env")}
    table = ARGUMENTS[algorithm]
    assert {n: v for n, v in real.items() if n in table} == table
    assert set(real) - set(table) <= set(OURS)
    assert not set(table) - set(real)


@pytest.mark.parametrize("algorithm", ARGUMENTS)
def test_the_action_spaces_are_the_installed_ones(algorithm):
    from drillyard.learners.sb3_build import CLASSES

    # A class that has no constructor of its own takes its parent's.
    sources = (inspect.getsource(kind) for kind in CLASSES[algorithm].__mro__)
    source = next(text for text in sources if "supported_action_spaces=(" in text)
    named = source.split("supported_action_spaces=(")[1].split(")")[0]
    assert set(ACTION_SPACES[algorithm]) == {
        n.strip().removeprefix("spaces.") for n in named.split(",") if n.strip()
    }


OTHER_VALUES = {
    "learning_rate": 5e-4,
    "n_steps": 24,
    "batch_size": 12,
    "n_epochs": 3,
    "gamma": 0.9,
    "gae_lambda": 0.7,
    "clip_range": 0.11,
    "clip_range_vf": 0.3,
    "normalize_advantage": None,
    "ent_coef": 0.02,
    "vf_coef": 0.4,
    "max_grad_norm": 0.7,
    "target_kl": 0.04,
    "use_sde": None,
    "sde_sample_freq": 4,
    "use_sde_at_warmup": None,
    "use_rms_prop": None,
    "rms_prop_eps": 1e-4,
    "buffer_size": 500,
    "learning_starts": 7,
    "tau": 0.2,
    "train_freq": 3,
    "gradient_steps": 2,
    "target_update_interval": 50,
    "exploration_fraction": 0.3,
    "exploration_initial_eps": 0.8,
    "exploration_final_eps": 0.2,
    "policy_delay": 4,
    "target_policy_noise": 0.1,
    "target_noise_clip": 0.3,
    "target_entropy": -3.0,
    "stats_window_size": 9,
    "cg_max_steps": 4,
    "cg_damping": 0.2,
    "line_search_shrinking_factor": 0.5,
    "line_search_max_iter": 3,
    "n_critic_updates": 2,
    "sub_sampling_factor": 2,
    "top_quantiles_to_drop_per_net": 1,
    "n_delta": 6,
    "n_top": 3,
    "delta_std": 0.07,
    "zero_policy": None,
    "alive_bonus_offset": 2.0,
    "n_eval_episodes": 2,
}
"""Argument -> a value that is nobody's default; None: the other of true and false."""
READ_ELSEWHERE = {
    "policy_kwargs": {"net_arch": [12], "activation_fn": "elu"},
    "action_noise": {"name": "normal", "sigma": 0.3},
    "replay_buffer_kwargs": {"handle_timeout_termination": False},
    "optimize_memory_usage": True,
}
N_STEP_RETURNS = {"n_steps": 2}


@pytest.mark.parametrize("algorithm", ARGUMENTS)
def test_what_is_told_is_what_the_built_model_has(algorithm):
    """Every argument of every algorithm, with a value that is not its default."""
    from drillyard.learners.sb3_build import build, describe
    from drillyard.simulators.make_copies import make_vec
    from drillyard.spec.learning import SimulatorSpec

    discrete = "Box" not in ACTION_SPACES[algorithm]
    defaults = ARGUMENTS[algorithm]
    given = {
        name: not default if OTHER_VALUES[name] is None else OTHER_VALUES[name]
        for name, default in defaults.items()
        if name not in READ_ELSEWHERE
    } | {name: READ_ELSEWHERE[name] for name in defaults if name in READ_ELSEWHERE}
    if "buffer_size" in given:
        given |= N_STEP_RETURNS
        del given["optimize_memory_usage"]  # not with returns of several steps: refused by SB3
    if algorithm == "a2c":
        given["use_rms_prop"] = True  # its eps is that of no other optimiser
    validate_arguments(algorithm, given, Sizes(1, 10_000))
    world = SimulatorSpec(id="CartPole-v1" if discrete else "Pendulum-v1")
    venv = make_vec(world, 1, 0)
    try:
        found = describe(algorithm, build(algorithm, None, given, venv, 1, "cpu"))
    finally:
        venv.close()
    network = {"net_arch": [12], "activation_fn": "ELU"}
    assert {n: found[n] for n in network} == network or algorithm == "qr-dqn"
    assert found.pop("train_freq", None) in (None, "3 step")
    noise = found.pop("action_noise", None)
    assert noise is None or "0.3" in noise
    buffer = found.pop("replay_buffer_kwargs", None)
    assert buffer is None or not buffer["handle_timeout_termination"]
    special = {"policy_kwargs", "train_freq", "action_noise", "replay_buffer_kwargs"}
    told = {name: found.get(name) for name in given if name not in special}
    assert told == {name: value for name, value in given.items() if name not in special}


BAD = [
    ("ppo", {"learning_rat": 1e-3}, "learning_rat", "learning_rate"),
    ("ppo", {"net_arch": [3]}, "net_arch", "'learner.args.policy_kwargs.net_arch'"),
    ("ppo", {"learning_rate": "abc"}, "learning_rate", "number"),
    ("ppo", {"learning_rate": "1e-3"}, "learning_rate", "without quotes"),
    ("ppo", {"learning_rate": float("nan")}, "learning_rate", "finite"),
    ("ppo", {"learning_rate": float("inf")}, "learning_rate", "finite"),
    ("ppo", {"learning_rate": 0}, "learning_rate", "above 0"),
    ("ppo", {"learning_rate": -1e-3}, "learning_rate", "above 0"),
    ("ppo", {"learning_rate": True}, "learning_rate", "number"),
    ("ppo", {"learning_rate": "lin_-1"}, "learning_rate", "above 0"),
    ("ppo", {"gamma": 1.5}, "gamma", "from 0 to 1"),
    ("ppo", {"n_steps": 1.5}, "n_steps", "whole"),
    ("ppo", {"n_steps": 0}, "n_steps", "at least 1"),
    ("ppo", {"n_steps": 16, "batch_size": 100}, "batch_size", "16 x 2 = 32"),
    ("ppo", {"n_steps": 50, "batch_size": 64}, "batch_size", "divisor of 100"),
    ("ppo", {"policy_kwargs": {"net_arch": [0]}}, "policy_kwargs.net_arch", "positive"),
    ("ppo", {"policy_kwargs": {"net_arch": [1_000_000]}}, "policy_kwargs.net_arch", "wider"),
    ("ppo", {"policy_kwargs": {"net_arch": {"pj": [8]}}}, "policy_kwargs.net_arch.pj", "pi"),
    (
        "ppo",
        {"policy_kwargs": {"activation_fn": "eval('1')"}},
        "policy_kwargs.activation_fn",
        "tanh",
    ),
    ("ppo", {"policy_kwargs": {"net_arhc": [8]}}, "policy_kwargs.net_arhc", "net_arch"),
    ("ppo", {"env": "CartPole-v1"}, "env", "simulator"),
    ("ppo", {"verbose": 1}, "verbose", "logs"),
    ("ppo", {"tensorboard_log": "x"}, "tensorboard_log", "tracking"),
    ("ppo", {"seed": 1}, "seed", "seeds"),
    ("ppo", {"device": "cpu"}, "device", "resources.device"),
    ("ppo", {"_init_setup_model": False}, "_init_setup_model", "always"),
    ("ppo", {"buffer_size": 10}, "buffer_size", "no such argument"),
    ("sac", {"learning_starts": 5000}, "learning_starts", "nothing would be learned"),
    ("sac", {"ent_coef": "auto_x"}, "ent_coef", "auto"),
    ("sac", {"tau": 0}, "tau", "above 0"),
    ("td3", {"action_noise": "norml"}, "action_noise", "normal"),
    ("td3", {"action_noise": {"name": "normal", "sigma": -1}}, "action_noise.sigma", "0"),
    ("td3", {"train_freq": [1, "episode"]}, "train_freq", "one copy"),
    ("td3", {"train_freq": "often"}, "train_freq", "steps"),
    ("dqn", {"exploration_fraction": 2}, "exploration_fraction", "1"),
    ("dqn", {"optimize_memory_usage": True}, "optimize_memory_usage", "handle_timeout"),
    ("dqn", {"replay_buffer_class": "x"}, "replay_buffer_class", "resumed"),
]


@pytest.mark.parametrize(("algorithm", "args", "field", "word"), BAD)
def test_what_cannot_work_is_refused_with_field_and_way_out(algorithm, args, field, word):
    (error,) = refusals(validate_arguments, algorithm, args, Sizes(n_envs=2, total_steps=1000))
    assert error.field == f"learner.args.{field}"
    assert word in f"{error} {error.hint}"


@pytest.mark.parametrize(("value", "hint"), [(1.5, False), (True, False), ("64", True)])
def test_only_a_number_in_quotes_is_to_be_written_without_them(value, hint):
    errors = refusals(validate_arguments, "ppo", {"n_steps": value}, None)
    assert ("without quotes" in str(errors[0].hint)) == hint


def test_one_sample_has_no_spread():
    with pytest.raises(ConfigErrors, match="no spread"):
        validate_arguments("ppo", {"n_steps": 1, "batch_size": 1}, Sizes(1, 100))
    validate_arguments("a2c", {"n_steps": 1}, Sizes(1, 100))


def test_all_errors_come_together():
    errors = refusals(
        validate_arguments, "ppo", {"gamma": 2, "n_steps": -1, "x": 1}, Sizes(1, 100)
    )
    assert len(errors) == 3


def test_good_arguments_pass():
    for algorithm, defaults in ARGUMENTS.items():
        validate_arguments(algorithm, defaults, Sizes(1, 10_000))
    validate_arguments(
        "ppo",
        {
            "learning_rate": "lin_3e-4",
            "n_steps": 128.0,
            "clip_range_vf": None,
            "policy_kwargs": {"net_arch": {"pi": [64], "vf": [64, 64]}, "activation_fn": "relu"},
        },
        Sizes(4, 10_000),
    )
    assert clean({"n_steps": 128.0, "gamma": 1.0}) == {"n_steps": 128, "gamma": 1.0}
    assert isinstance(clean({"n_steps": 128.0})["n_steps"], int)


def test_action_spaces_must_fit():
    with pytest.raises(SpaceMismatch, match="dqn cannot act") as caught:
        check_spaces("dqn", None, {}, BOX, BOX)
    assert "sac" in str(caught.value.allowed)
    assert caught.value.hint == "write algorithm: ppo"
    for algorithm in ("sac", "td3", "ddpg"):
        with pytest.raises(SpaceMismatch):
            check_spaces(algorithm, None, {}, BOX, spaces.Discrete(2))
    with pytest.raises(SpaceMismatch, match="infinite"):
        check_spaces("ppo", None, {}, BOX, spaces.Box(-np.inf, np.inf, (1,)))
    with pytest.raises(SpaceMismatch, match="continuous"):
        check_spaces("ppo", None, {"use_sde": True}, BOX, spaces.Discrete(2))
    with pytest.raises(SpaceMismatch, match="several steps"):
        check_spaces("dqn", None, {"n_steps": 3}, spaces.Dict(a=BOX), spaces.Discrete(2))
    check_spaces("ppo", None, {"n_steps": 64}, spaces.Dict(a=BOX), BOX)
    with pytest.raises(ConfigError, match="parameters"):
        wide = {"policy_kwargs": {"net_arch": [60_000, 60_000]}}
        check_spaces("ppo", None, wide, BOX, BOX)


def test_policies_follow_the_observation():
    image = spaces.Box(0, 255, (36, 36, 3), np.uint8)
    both = spaces.Dict({"a": BOX})
    assert [auto_policy(s) for s in (BOX, image, both)] == [
        "MlpPolicy",
        "CnnPolicy",
        "MultiInputPolicy",
    ]
    with pytest.raises(SpaceMismatch, match="MlpPolicy does not support") as caught:
        check_spaces("ppo", "MlpPolicy", {}, both, BOX)
    assert "MultiInputPolicy" in caught.value.hint
    with pytest.raises(SpaceMismatch, match="uint8"):
        auto_policy(spaces.Box(0, 1, (36, 36, 3), np.float32))
    with pytest.raises(SpaceMismatch, match="channels"):
        auto_policy(spaces.Box(0, 255, (36, 3, 36), np.uint8))


def test_a_buffer_must_fit_into_memory():
    with pytest.raises(ConfigError, match="GiB") as caught:
        check_memory("sac", {"buffer_size": 10**9}, BOX, BOX, 16 * 2**30)
    assert caught.value.field == "learner.args.buffer_size"
    check_memory("sac", {}, BOX, BOX, 16 * 2**30)
    check_memory("ppo", {}, BOX, BOX, 1)


def spec(**changes):
    return small("CartPole-v1", **{"train": {"steps": 10_000}, **changes})


def test_check_of_an_experiment():
    findings = RlWorkload().check(spec(), None)
    assert any(f.severity is Severity.WARNING and "10240" in f.message for f in findings)
    with pytest.raises(SpaceMismatch):
        RlWorkload().check(spec(learner={"algorithm": "sac"}), None)
    by_episodes = spec(
        train={"steps": None, "episodes": 5, "n_envs": 2}, learner={"algorithm": "a2c"}
    )
    text = " ".join(f.message for f in RlWorkload().check(by_episodes, None))
    assert "5 episodes of at most 500 steps: at most 3,000 steps" in text


def test_choices_are_frozen():
    choices = freeze(spec(), 1)
    assert choices == {"n_envs": 1, "checkpoint_every": 1000, "point_every": 100}
    more = make_plan(spec(train={"steps": 50_000}), choices, None)
    assert (more.total_steps, more.checkpoint_every, more.point_every) == (50_000, 1000, 100)
    with pytest.raises(ConfigError, match="no maximum length"):
        make_plan(spec(train={"steps": None, "episodes": 5}), {}, None)


@pytest.mark.parametrize("horizon", [500, None])
@pytest.mark.parametrize("silent", [True, False])
def test_the_version_of_an_experiment_decides_where_its_barriers_are(silent, horizon):
    choices = freeze(spec(), 1)
    new = make_plan(spec(), choices, horizon, streams=4)
    # Two rollouts of 512 steps are longer than 1,000 steps.
    assert new.barrier_interval(silent, 4, rollout=500) == 1000
    assert new.barrier_interval(silent, 4, rollout=512) == 512
    old = make_plan(spec(), choices, horizon, streams=3)
    expected = 20 * (horizon or 1000) * 4 if silent else 1000
    assert old.barrier_interval(silent, 4, rollout=512) == expected
    given = spec(train={"steps": 10_000, "checkpoint_every": 700})
    for streams in (3, 4):
        plan = make_plan(given, freeze(given, 1), horizon, streams=streams)
        assert plan.barrier_interval(silent, 4, rollout=512) == 700


@pytest.mark.parametrize(
    ("total", "rollout", "number", "most"),
    [
        (50_000, 2048, 10, 6144),
        (40_960, 1024, 9, 4096),
        (8192, 2048, 3, 2048),
        (2000, 2048, 0, 2048),
        (5000, 1, 9, 500),
    ],
)
def test_a_run_has_a_barrier_at_each_tenth_of_its_budget(total, rollout, number, most):
    steps = barrier_steps(total, interval(total // 10, rollout), rollout)
    assert len(steps) == number
    ends = [0, *steps, -(-total // rollout) * rollout]
    assert max(b - a for a, b in pairwise(ends)) == most


@pytest.mark.heavy
def test_a_check_imports_no_torch():
    code = (
        "import sys; from drillyard.spec.experiment import ExperimentSpec as E\n"
        "from drillyard.workloads.rl import RlWorkload\n"
        "RlWorkload().check(E.model_validate({'name': 'x', 'simulator': {'id': 'CartPole-v1'},"
        "'learner': {'algorithm': 'ppo'}, 'train': {'steps': 100}}), None)\n"
        "assert not {'torch', 'stable_baselines3', 'scipy'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=PATIENCE_S)
