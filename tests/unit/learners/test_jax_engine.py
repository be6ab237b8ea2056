"""``engine: jax`` computes what Stable-Baselines3 computes: its own code is the yardstick here."""

import copy
import io
import itertools
import sys

import numpy as np
import pytest
import stable_baselines3 as sb3
import torch

from drillyard.learners import sb3_state
from drillyard.learners.result_files import _zip
from drillyard.learners.sb3_build import build, describe
from drillyard.simulators import vec_state
from drillyard.simulators.make_copies import make_vec
from drillyard.spec.algorithms.argument_table import ARGUMENTS
from drillyard.spec.algorithms.signatures import ACTIVATIONS
from drillyard.spec.learning import SimulatorSpec
from drillyard.workloads.rl import RlWorkload
from tests.contract.spaces_world import ACTIONS, OBSERVATIONS
from tests.unit.learners.test_sb3_arguments import OTHER_VALUES

pytest.importorskip("jax", reason="extra `jax`: pip install 'drillyard[jax]'")
from drillyard.learners.jax_engine import activations, programs
from tests.helpers.processes import run_process
from tests.helpers.specs import small

pytestmark = pytest.mark.heavy

WORLD = "tests.contract.spaces_world:AnySpaces"
N_ENVS = 3
ROLLOUT = {
    "ppo": {"n_steps": 16, "batch_size": 12, "n_epochs": 3, "learning_rate": 3e-3},
    "a2c": {"n_steps": 16, "learning_rate": 3e-3},
}
SMALL = {"policy_kwargs": {"net_arch": [8]}}
"""Compiles in half the time."""
NEAR = {"rtol": 1e-5, "atol": 1e-5}


def world(action="box", observation="flat", n_envs=N_ENVS, wrappers=(), **args):
    spec = SimulatorSpec(
        id=WORLD,
        args={"action": action, "observation": observation, **args},
        wrappers=list(wrappers),
    )
    return make_vec(spec, n_envs, 5)


def model_of(algorithm, venv, args=None, engine="jax", seed=1):
    given = {**ROLLOUT[algorithm], **(args or {})}
    return build(algorithm, None, given, venv, seed, "cpu", engine)


def pair(algorithm, args=None, **spaces):
    """A compiled model, and Stable-Baselines3's with the same weights."""
    one = model_of(algorithm, world(**spaces), args)
    other = model_of(algorithm, world(**spaces), args, "sb3")
    other.policy.load_state_dict(one.policy.state_dict())
    return one, other


class Nobody(sb3.common.callbacks.BaseCallback):
    def _on_step(self):
        return True


def played(model, steps=16):
    """One rollout by the compiled model."""
    _, callback = model._setup_learn(10**6, Nobody())
    torch.manual_seed(4)
    model.collect_rollouts(model.env, callback, model.rollout_buffer, steps)
    return model.rollout_buffer


def trained_alike(one, other):
    """Both learn from one rollout, with one order of minibatches."""
    other.rollout_buffer = copy.deepcopy(played(one))
    for model in (one, other):
        np.random.seed(8)
        model.train()


def near(one, other):
    then, now = other.policy.state_dict(), one.policy.state_dict()
    assert list(then) == list(now)
    for name in then:
        np.testing.assert_allclose(now[name], then[name], err_msg=name, **NEAR)


FLAT = [name for name in OBSERVATIONS if name != "image"]
SPACES = [*zip(itertools.cycle(ACTIONS), FLAT, strict=False)]
"""Each action space and each observation space, with one of the other kind."""
LOSSES = [
    *(("ppo", {"ent_coef": 0.02}, action) for action in ACTIONS),
    *(("a2c", {"ent_coef": 0.02}, action) for action in ACTIONS),
    ("ppo", {"normalize_advantage": False, "clip_range_vf": 0.1}, "discrete"),
    ("ppo", {"vf_coef": 0.9, "clip_range": 0.05, "max_grad_norm": 0.01}, "box"),
    ("a2c", {"normalize_advantage": True, "max_grad_norm": 0.01}, "box"),
]


@pytest.mark.parametrize(("algorithm", "args", "action"), LOSSES)
def test_loss_and_gradient_are_those_of_stable_baselines3(algorithm, args, action):
    # One minibatch: what Stable-Baselines3 leaves in `.grad` is its cut gradient.
    whole = {"batch_size": 16 * N_ENVS, "n_epochs": 1} if algorithm == "ppo" else {}
    one, other = pair(algorithm, {**SMALL, **whole, **args}, action=action)
    buffer = played(one)
    if algorithm == "ppo":  # ratios away from 1, values away from the old ones
        rng = np.random.default_rng(2)
        buffer.log_probs += rng.normal(0, 0.2, buffer.log_probs.shape).astype("f")
        buffer.values += rng.normal(0, 0.2, buffer.values.shape).astype("f")
    other.rollout_buffer = copy.deepcopy(buffer)
    ours, told = gradient(one, buffer)
    other.train()
    theirs = np.concatenate([p.grad.numpy().ravel() for p in other.policy.parameters()])
    ours *= min(1.0, one.max_grad_norm / (np.linalg.norm(ours) + 1e-6))
    assert np.abs(theirs).max() > 1e-4
    np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-5 * np.abs(theirs).max())
    expected = other.logger.name_to_value
    names = {"policy_loss": "policy_gradient_loss"} if algorithm == "ppo" else {}
    for name in (
        "policy_loss",
        "value_loss",
        "entropy_loss",
        *(("loss", "clip_fraction", "approx_kl") if algorithm == "ppo" else ()),
    ):
        value = expected[f"train/{names.get(name, name)}"]
        assert value != 0
        np.testing.assert_allclose(getattr(told, name), value, err_msg=name, **NEAR)


def gradient(model, buffer):
    """Of the loss over a whole rollout, not cut; flat."""
    more = {}
    if model.ratios:
        clip = model.clip_range_vf
        more = {"clip_range": model.clip_range(1.0), "clip_range_vf": clip(1.0) if clip else 0.0}
    core, clips = model._core, bool(more.get("clip_range_vf"))
    program = core.program(normalize_advantage=model.normalize_advantage, clip_values=clips)
    features, actions, judged = core.batch(buffer)
    found, told = programs.compiled(program).gradient(
        core.weights.values,
        programs.Batch(features, actions, *judged),
        model._numbers(1.0, **more),
    )
    return np.array(found), told


OPTIMISERS = [
    {},
    {"optimizer_kwargs": {"eps": 1e-3, "betas": [0.8, 0.99], "weight_decay": 0.01}},
    {"optimizer_class": "adamw", "optimizer_kwargs": {"weight_decay": 0.1}},
    {"optimizer_class": "rmsprop", "optimizer_kwargs": {"alpha": 0.9, "weight_decay": 0.01}},
]


@pytest.mark.parametrize(
    ("algorithm", "args"),
    [
        *(("ppo", {"policy_kwargs": given}) for given in OPTIMISERS),
        ("a2c", {}),
        ("a2c", {"use_rms_prop": False}),
    ],
)
def test_updates_are_those_of_stable_baselines3(algorithm, args):
    one, other = pair(algorithm, args)
    for _ in range(3):  # so that the optimiser's state counts
        trained_alike(one, other)
        near(one, other)
        logged, expected = (model.logger.name_to_value for model in (one, other))
        assert set(logged) == set(expected)
        for name, value in expected.items():
            np.testing.assert_allclose(logged[name], value, err_msg=name, rtol=1e-4, atol=1e-5)
    states = [m.policy.optimizer.state_dict()["state"] for m in (one, other)]
    assert states[0].keys() == states[1].keys()
    for mine, theirs in zip(states[0].values(), states[1].values(), strict=True):
        assert mine.keys() == theirs.keys()
        for name in theirs:
            np.testing.assert_allclose(mine[name], theirs[name], err_msg=name, **NEAR)


@pytest.mark.parametrize(("action", "observation"), SPACES)
def test_every_space_is_seen_and_acted_in_as_by_stable_baselines3(action, observation):
    # A small step: Adam makes much of gradients that are nothing but rounding.
    given = {**SMALL, "learning_rate": 3e-4, "clip_range_vf": 0.2}
    one, other = pair("ppo", given, action=action, observation=observation)
    trained_alike(one, other)
    near(one, other)
    assert one._n_updates == other._n_updates == 3


def test_a_rollout_ends_its_updates_where_stable_baselines3_does():
    ended = set()
    for limit in np.geomspace(3e-4, 1, 18):  # fine enough to tell 1.5 times it from 1.1
        given = {**SMALL, "target_kl": limit, "learning_rate": 1e-2, "n_epochs": 9}
        one, other = pair("ppo", given)
        trained_alike(one, other)
        near(one, other)
        assert one._n_updates == other._n_updates
        ours, theirs = (
            float(m.policy.optimizer.state_dict()["state"][0]["step"]) for m in (one, other)
        )
        assert ours == theirs
        ended.add(ours)
        logged, expected = (model.logger.name_to_value for model in (one, other))
        for name in ("train/approx_kl", "train/policy_gradient_loss", "train/loss"):
            np.testing.assert_allclose(logged[name], expected[name], err_msg=name, **NEAR)
    assert len(ended) > 3 and max(ended) == 36  # 9 epochs of 4 minibatches


@pytest.mark.parametrize(("action", "observation"), [("box", "flat"), ("discrete", "dict")])
def test_values_advantages_and_time_limits_are_those_of_stable_baselines3(action, observation):
    one, other = pair("ppo", SMALL, action=action, observation=observation, ends=0.1)
    ours = played(one)
    replay = iter(ours.actions)

    def again(seen):
        dtype = torch.int64 if action == "discrete" else torch.float32
        done = torch.as_tensor(next(replay)).to(dtype)
        done = done.flatten() if action == "discrete" else done
        values, likely, _ = other.policy.evaluate_actions(seen, done)
        return done, values, likely

    _, callback = other._setup_learn(10**6, Nobody())
    other.policy.forward = again
    other.collect_rollouts(other.env, callback, other.rollout_buffer, 16)
    theirs = other.rollout_buffer
    limits = [e for e in other.ep_info_buffer if e["l"] == 9]
    assert limits and len(limits) < len(other.ep_info_buffer)
    for name in (
        "observations",
        "actions",
        "rewards",
        "episode_starts",
        "values",
        "log_probs",
        "advantages",
        "returns",
    ):
        mine, expected = getattr(ours, name), getattr(theirs, name)
        for key in expected if isinstance(expected, dict) else [None]:
            pair_ = (mine, expected) if key is None else (mine[key], expected[key])
            np.testing.assert_allclose(*pair_, err_msg=name, rtol=1e-5, atol=2e-5)


@pytest.mark.parametrize("action", ACTIONS)
def test_actions_are_drawn_from_the_policys_distribution(action):
    model = model_of("ppo", world(action=action), {"policy_kwargs": {"log_std_init": -0.5}})
    with torch.no_grad():  # away from a uniform distribution
        model.policy.action_net.bias += torch.randn(model.policy.action_net.bias.shape)
    seen = np.full((N_ENVS, 4), 0.3, np.float32)
    torch.manual_seed(3)
    model._core.begin()
    drawn = np.concatenate([model._core.act(0, seen) for _ in range(3000)]).reshape(9000, -1)
    with torch.no_grad():
        chances = model.policy.get_distribution(torch.as_tensor(seen[:1]))
    theirs = torch.stack([chances.sample()[0] for _ in range(9000)]).reshape(9000, -1).numpy()
    for ours, expected in zip(drawn.T, theirs.T, strict=True):
        # Two samples of 9,000: five standard errors.
        spread = 5 * expected.std() * np.sqrt(2 / 9000) + 1e-9
        assert abs(ours.mean() - expected.mean()) < spread
        assert (
            abs(np.square(ours).mean() - np.square(expected).mean())
            < 5 * np.square(expected).std() * np.sqrt(2 / 9000) + 1e-9
        )
    assert {*np.unique(drawn)} >= {*np.unique(theirs)} or action in ("box", "square")


@pytest.mark.parametrize("name", [n for n, c in ACTIVATIONS.items() if c != "PReLU"])
def test_activations_are_torchs(name):
    at = np.linspace(-30, 30, 241, dtype=np.float32)
    expected = getattr(torch.nn, ACTIVATIONS[name])()(torch.as_tensor(at)).numpy()
    host = activations.HOST[ACTIVATIONS[name]](at.copy())
    assert host.dtype == np.float32
    np.testing.assert_allclose(host, expected, rtol=2e-6, atol=1e-6)
    compiled = activations.compiled(ACTIVATIONS[name])(at)
    np.testing.assert_allclose(compiled, expected, rtol=2e-6, atol=1e-6)


def test_a_large_network_acts_through_the_device_with_the_same_actions():
    host, device = (model_of("ppo", world(), SMALL) for _ in range(2))
    device._core.acts_on_device = True
    ours, theirs = played(host), played(device)
    np.testing.assert_allclose(ours.actions, theirs.actions, **NEAR)


@pytest.mark.parametrize("algorithm", ROLLOUT)
def test_what_is_told_is_what_the_built_model_has(algorithm):
    given = {
        name: (not ARGUMENTS[algorithm][name])
        if OTHER_VALUES[name] is None
        else OTHER_VALUES[name]
        for name in ARGUMENTS[algorithm]
        if name
        not in {
            "use_sde",
            "sde_sample_freq",
            "policy_kwargs",
            "n_steps",
            "batch_size",
            "use_rms_prop",
        }
    } | {"policy_kwargs": {"net_arch": [12, 13], "activation_fn": "elu"}}
    ours, theirs = (
        describe(algorithm, model_of(algorithm, world(), given, engine))
        for engine in ("jax", "sb3")
    )
    assert ours.pop("engine") == "jax" and ours.pop("acts_with") == "numpy"
    assert ours == theirs


def test_a_state_goes_from_one_model_to_another_and_the_policy_stays_a_view():
    one, other = (model_of("ppo", world(), SMALL, seed=seed) for seed in (1, 2))
    played(one)
    one.train()
    saved = sb3_state.capture(one)
    other._setup_learn(1)
    sb3_state.restore(other, saved, observations=True)
    vec_state.load_vec_state(other.env, vec_state.vec_state(one.env))
    for model in (one, other):
        np.random.seed(3)
        torch.manual_seed(3)
        model.collect_rollouts(model.env, Silent(model), model.rollout_buffer, 16)
        model.train()
    for name, tensor in one.policy.state_dict().items():
        assert torch.equal(other.policy.state_dict()[name], tensor), name
    # Somebody gives the policy other tensors: the next rollout takes them in.
    halved = torch.nn.utils.parameters_to_vector(one.policy.parameters()).detach() * 0.5
    torch.nn.utils.vector_to_parameters(halved, one.policy.parameters())
    one.collect_rollouts(one.env, Silent(one), one.rollout_buffer, 16)
    assert np.array_equal(one._core.weights.values, halved.numpy())


class Silent(Nobody):
    def __init__(self, model):
        super().__init__()
        self.init_callback(model)


def test_the_zip_for_other_tools_is_stable_baselines3s_own(tmp_path):
    model = model_of("ppo", world(), SMALL)
    played(model)
    model.train()
    loaded = sb3.PPO.load(io.BytesIO(_zip(model)))
    assert type(loaded) is sb3.PPO
    seen = np.full((2, 4), 0.3, np.float32)
    expected = model.policy.predict(seen, deterministic=True)[0]
    assert np.array_equal(loaded.predict(seen, deterministic=True)[0], expected)
    step = loaded.policy.optimizer.state_dict()["state"][0]["step"]
    assert float(step) == 12  # 3 epochs of 4 minibatches


def test_what_a_worker_imports_before_it_forks_has_no_jax():
    spec = small("CartPole-v1", train={"steps": 4096}, learner={"engine": "jax"})
    code = (
        "import importlib, sys\n"
        f"for name in {RlWorkload().preload(spec)!r}: importlib.import_module(name)\n"
        "print('jax' in sys.modules)"
    )
    done = run_process([sys.executable, "-c", code], check=True)
    assert done.stdout.split() == ["False"]
