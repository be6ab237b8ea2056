"""What is completed in algorithms of Stable-Baselines3 and sb3-contrib, and how policies play."""

import tempfile

import numpy as np
import pytest
import torch

from drillyard.agents.playing import Playing
from drillyard.errors import SpaceMismatch
from drillyard.learners.sb3_build import build
from drillyard.simulators.make_copies import make_vec
from drillyard.spec.algorithms.arguments import Sizes, validate_arguments
from drillyard.spec.algorithms.networks import auto_policy, check_spaces
from drillyard.spec.learning import SimulatorSpec
from drillyard.workloads.rl import RlWorkload
from tests.helpers.refusals import refusals
from tests.helpers.specs import small

MASKED = "tests.helpers.resume_worlds:Masked"


@pytest.fixture
def make():
    venvs = []

    def made(algorithm, args, simulator="CartPole-v1", n_envs=1):
        venvs.append(make_vec(SimulatorSpec(id=simulator), n_envs, 0))
        return build(algorithm, None, args, venvs[-1], 1, "cpu")

    yield made
    for venv in venvs:
        venv.close()


@pytest.mark.heavy
def test_double_dqn_rates_what_the_online_network_chooses(make):
    args = {"learning_starts": 8, "batch_size": 4, "policy_kwargs": {"net_arch": [8]}}
    model = make("double-dqn", args)
    # Online, action 1 looks better; the target network rates it at 5, and action 0 at 50.
    for network, biases in ((model.q_net, (0.0, 1.0)), (model.q_net_target, (50.0, 5.0))):
        for parameter in network.parameters():
            parameter.data.zero_()
        network.q_net[-1].bias.data = torch.tensor(biases)
    seen = {}

    def loss(_, target):
        seen["target"] = target
        return (target.detach() * 0 + model.q_net.q_net[-1].bias.sum()).mean()

    model.learn(12, log_interval=None)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("stable_baselines3.dqn.dqn.F.smooth_l1_loss", loss)
        model.train(1, 64)
    values = {round(float(v), 4) for v in seen["target"].flatten()}
    assert values <= {1.0, round(1 + 0.99 * 5, 4)}  # the reward alone where the episode ended
    assert round(1 + 0.99 * 5, 4) in values
    assert model.q_net_target is model.policy.q_net_target


def test_a_duelling_network_is_value_and_advantages(make):
    args = {"buffer_size": 100, "policy_kwargs": {"net_arch": [8]}}
    model = make("dueling-dqn", args)
    seen, head = torch.randn(5, 4), model.q_net.q_net[-1]
    values = model.q_net(seen)
    features = model.q_net.q_net[:-1](seen)
    advantage = head.advantage(features)
    assert torch.allclose(values.mean(dim=1, keepdim=True), head.value(features), atol=1e-6)
    assert torch.allclose(
        values - values.mean(dim=1, keepdim=True),
        advantage - advantage.mean(dim=1, keepdim=True),
        atol=1e-6,
    )


@pytest.mark.heavy
def test_steps_are_drawn_by_their_priorities_and_weighted(make):
    args = {"learning_starts": 8, "batch_size": 4, "buffer_size": 64}
    model = make("prioritized-dqn", args)
    model.learn(40, log_interval=None)
    buffer = model.replay_buffer
    buffer.load_priorities(np.where(np.arange(64) == 7, 100.0, (np.arange(64) < 40) * 1.0), 100.0)
    np.random.seed(0)
    buffer.sample(20_000)
    shares = np.bincount(buffer.drawn, minlength=64) / 20_000
    expected = buffer.priorities**0.6 / (buffer.priorities**0.6).sum()
    assert np.allclose(shares, expected, atol=0.005) and shares[40:].sum() == 0
    weights = buffer.weights(1.0)
    rare, often = weights[buffer.drawn != 7], weights[buffer.drawn == 7]
    assert np.allclose(rare, 1.0) and np.allclose(often, 100.0**-0.6, rtol=1e-3)
    model.train(1, 16)
    assert not np.isin(buffer.priorities[buffer.drawn], (1.0, 100.0)).any()


def test_rainbow_rates_what_the_online_network_chooses(make):
    model = make("rainbow", {"buffer_size": 50, "policy_kwargs": {"net_arch": [8]}})
    for network, biases in ((model.q_net, (0.0, 1.0)), (model.q_net_target, (50.0, 5.0))):
        for parameter in network.parameters():
            parameter.data.zero_()
        network.q_net[-1].advantage.bias.data = torch.tensor(biases)

    class Data:
        next_observations, rewards, dones = torch.zeros(1, 4), torch.ones(1, 1), torch.zeros(1, 1)
        discounts = None

    # Its duelling target network has the values 22.5 and -22.5; the second one was chosen.
    assert float(model._target(Data)) == pytest.approx(1 - 0.99 * 22.5)


def test_masks_are_asked_for_and_kept_to(make):
    model = make("maskable-ppo", {"n_steps": 16, "batch_size": 16}, MASKED, n_envs=2)
    playing = Playing(model.policy, False, model.env)
    seen = model.env.reset()
    for copy in range(2):
        playing.begin(copy)
    for _ in range(60):  # the world raises at an action that is not possible
        seen, _, dones, _ = model.env.step(playing.act(seen))
        for copy in np.flatnonzero(dones):
            playing.begin(int(copy))
    without = small("CartPole-v1", learner={"algorithm": "maskable-ppo"}, train={"steps": 4096})
    with pytest.raises(SpaceMismatch, match="does not say"):
        RlWorkload().check(without, None)


def test_a_memory_is_each_copys_own_and_begins_with_the_episode(make):
    args = {"n_steps": 16, "batch_size": 16, "policy_kwargs": {"lstm_hidden_size": 8}}
    model = make("recurrent-ppo", args, "Pendulum-v1", n_envs=2)
    first, second = (np.random.default_rng(i).normal(size=(2, 3)).astype("f") for i in (1, 2))

    def play(*steps):
        playing = Playing(model.policy, True, model.env)
        playing.begin(0)
        playing.begin(1)
        for seen, begins in steps:
            for copy in begins:
                playing.begin(copy)
            action = playing.act(seen)
        return action

    fresh, remembered = play((second, ())), play((first, ()), (second, ()))
    mixed = play((first, ()), (second, (0,)))
    assert not np.allclose(fresh, remembered)
    assert np.allclose(mixed[0], fresh[0], atol=1e-6)
    assert np.allclose(mixed[1], remembered[1], atol=1e-6)


@pytest.mark.heavy
def test_ars_counts_the_steps_of_the_simulator(make):
    model = make("ars", {"n_delta": 2}, n_envs=2)
    lengths = []

    class Counts:
        def __getattr__(self, name):
            return lambda *args: None

        def update_locals(self, values):
            ended = np.flatnonzero(values["dones"])
            lengths.extend(values["infos"][int(i)]["episode"]["l"] for i in ended)

    model._setup_learn(1000)
    model._do_one_update(Counts(), None)
    assert len(lengths) == 4 and model.num_timesteps == sum(lengths)


def test_policies_of_algorithms_that_have_names_of_their_own():
    from gymnasium import spaces

    box, image = spaces.Box(-1, 1, (4,)), spaces.Box(0, 255, (36, 36, 3), np.uint8)
    assert auto_policy(box, "recurrent-ppo") == "MlpLstmPolicy"
    check_spaces("ars", "LinearPolicy", {}, box, box)
    with pytest.raises(SpaceMismatch, match="no network for images"):
        check_spaces("crossq", None, {}, image, box)
    with pytest.raises(SpaceMismatch, match="cannot act"):
        check_spaces("maskable-ppo", None, {}, box, box)


@pytest.mark.parametrize(
    ("algorithm", "args", "field"),
    [
        ("ars", {"n_top": 9}, "n_top"),
        ("ppo", {"policy_kwargs": {"n_quantiles": 3}}, "policy_kwargs.n_quantiles"),
        ("recurrent-ppo", {"batch_size": 100}, "batch_size"),
        ("tqc", {"top_quantiles_to_drop_per_net": -1}, "top_quantiles_to_drop_per_net"),
        ("ppo", {"max_grad_norm": None}, "max_grad_norm"),
        (
            "rainbow",
            {
                "optimize_memory_usage": True,
                "replay_buffer_kwargs": {"handle_timeout_termination": False},
            },
            "optimize_memory_usage",
        ),
    ],
)
def test_what_cannot_work_is_refused(algorithm, args, field):
    errors = refusals(validate_arguments, algorithm, args, Sizes(1, 1000))
    assert [e.field for e in errors] == [f"learner.args.{field}"]
    validate_arguments("qr-dqn", {"max_grad_norm": None}, Sizes(1, 1000))


@pytest.mark.heavy
def test_a_model_leaves_no_folder_of_its_logger(make, tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    make("dqn", {"policy_kwargs": {"net_arch": [8]}})._setup_learn(8)
    assert not list(tmp_path.iterdir())
