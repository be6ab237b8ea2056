"""Several trainings in one program: what each has does not depend on its neighbours."""

import hashlib
import os
import threading

import numpy as np
import pytest
import torch

from drillyard.learners.sb3_build import build
from drillyard.simulators.make_copies import make_vec
from drillyard.spec.learning import SimulatorSpec
from drillyard.system.turns import Turns
from tests.helpers.patience import PATIENCE_S

pytest.importorskip("jax", reason="extra `jax`: pip install 'drillyard[jax]'")

pytestmark = pytest.mark.heavy
PPO = {"n_steps": 16, "batch_size": 12, "n_epochs": 2, "policy_kwargs": {"net_arch": [8]}}
A2C = {"n_steps": 16, "policy_kwargs": {"net_arch": [8]}}
POLE = {"id": "CartPole-v1"}
REACTOR = {
    "id": "cstr",
    "lesson": {"Cref_signal": {"values": [1, 2, 3]}},
    "wrappers": [{"name": "time_limit", "args": {"max_episode_steps": 5}}, "normalize"],
}
STEPS = 96


@pytest.fixture
def of_this_process():
    kept = [os.dup(1), os.dup(2)]
    yield
    for number, descriptor in enumerate(kept, 1):
        os.dup2(descriptor, number)
        os.close(descriptor)


def trained(seed, algorithm, args, simulator, rollouts=3):
    """The parameters, the optimiser's state and the statistics after a training, as a hash."""
    torch.manual_seed(seed), np.random.seed(seed)
    venv = make_vec(
        SimulatorSpec.model_validate(simulator), 3, seed, gamma=0.99, how="compiled", streams=2
    )
    model = build(algorithm, None, args, venv, seed, "cpu", "jax")
    model.learn(rollouts * 48)
    assert model._fused is not None and np.isfinite(model._core.weights.state).all()
    found = hashlib.sha256(model._core.weights.state.tobytes())
    normalize = model.get_vec_normalize_env()
    if normalize is not None:
        found.update(np.array(normalize.obs_rms.mean).tobytes())
    return found.hexdigest()


def together(folder, room, *members):
    """The results of members that train in one program of so many lanes."""
    turns, found = Turns(len(members), room), {}

    def body(number):
        with turns.member(number, folder / "log.txt", lambda: None):
            found[number] = members[number]()

    threads = [threading.Thread(target=body, args=(n,), daemon=True) for n in range(len(members))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE_S)
        assert not thread.is_alive()
    return [found.get(number) for number in range(len(members))]


@pytest.mark.parametrize(
    ("algorithm", "args", "simulator"),
    [("ppo", PPO, POLE), ("ppo", PPO, REACTOR), ("a2c", A2C, POLE)],
    ids=["ppo", "ppo-reactor", "a2c"],
)
def test_neighbours_change_no_bit(tmp_path, of_this_process, algorithm, args, simulator):
    def one(seed, rollouts=3, **more):
        return lambda: trained(seed, algorithm, {**args, **more}, simulator, rollouts)

    (alone,) = together(tmp_path, 3, one(1))
    first, other, _ = together(tmp_path, 3, one(1), one(2), one(3))
    assert first == alone != other
    # In another lane, beside one that leaves and one with another learning rate.
    *_, last = together(tmp_path, 3, one(4, 1), one(2, learning_rate=1e-2), one(1))
    assert last == alone


def test_one_that_fails_leaves_and_the_others_go_on(tmp_path, of_this_process):
    def breaks():
        try:
            trained(2, "ppo", {**PPO, "learning_rate": "no schedule"}, POLE)
        except Exception as error:
            return type(error).__name__
        return "nothing"

    def good():
        return trained(1, "ppo", PPO, POLE)

    (alone,) = together(tmp_path, 2, good)
    error, one = together(tmp_path, 2, breaks, good)
    assert error != "nothing" and one == alone


def test_hyperparameters_that_are_numbers_share_a_program(tmp_path, of_this_process):
    from drillyard.learners.jax_engine import fused

    before = len(fused._calls)
    same = [
        lambda n=n: trained(
            n,
            "ppo",
            {
                **PPO,
                "n_epochs": 3,
                "learning_rate": 1e-3 * n,
                "gamma": 1 - 0.01 * n,
                "gae_lambda": 0.9 + 0.01 * n,
                "clip_range": 0.1 * n,
                "ent_coef": 0.01 * n,
                "vf_coef": 0.4 + 0.01 * n,
                "max_grad_norm": 0.1 * n,
            },
            POLE,
        )
        for n in (1, 2)
    ]
    one, other = together(tmp_path, 5, *same)
    assert one != other
    assert len(fused._calls) == before + 1
