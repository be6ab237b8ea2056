"""Wrappers by name: what they do, that they are frozen, and orders that are refused."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces
from gymnasium.utils.env_checker import check_env

from drillyard.errors import ConfigError, SpaceMismatch
from drillyard.simulators.make import make_env, raw_world
from drillyard.simulators.make_copies import make_vec
from drillyard.simulators.vec_state import load_vec_state, silent_layers, vec_state
from drillyard.simulators.wrappers import layers
from drillyard.spec.learning import SimulatorSpec
from drillyard.spec.simulator.wrapper_catalogue import check_wrappers
from drillyard.workloads.rl import RlWorkload
from tests.helpers.specs import small


class Plant(gym.Env):
    """Dict in, Tuple out, rewards in terms. It remembers what it was told."""

    reset_keys = ("at",)
    max_episode_steps = 8

    def __init__(self, actions: str = "floats", low: float = -10.0) -> None:
        self.observation_space = spaces.Dict(
            {"b": spaces.Box(low, 10.0, (1,), np.float32), "a": spaces.Discrete(3)}
        )
        self.action_space = {
            "floats": spaces.Dict(
                {"y": spaces.Box(0, 4, (2,), np.float32), "x": spaces.Box(-1, 1, (1,), np.float32)}
            ),
            "integers": spaces.Tuple(
                (spaces.Discrete(3, start=5), spaces.Box(-10, 10, (1,), np.int32))
            ),
            "mixed": spaces.Dict(
                {"y": spaces.Box(0, 4, (2,), np.float32), "n": spaces.Discrete(2)}
            ),
        }[actions]
        self.told: list[Any] = []
        self.at, self.n = 0.0, 0

    def look(self) -> Any:
        return {"b": np.array([self.at], np.float32), "a": self.n % 3}

    def reset(self, *, seed: Any = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        self.at, self.n = float((options or {}).get("at", 0.0)), 0
        return self.look(), {}

    def step(self, action: Any) -> Any:
        assert self.action_space.contains(action), action
        self.told.append(action)
        self.at, self.n = self.at + 1.0, self.n + 1
        info = {"reward_near": -self.at, "reward_cost": 2.0}
        return self.look(), 2.0 - self.at, False, self.n >= 8, info

    def state(self) -> dict[str, Any]:
        return {"at": self.at, "n": self.n}

    def load_state(self, state: dict[str, Any]) -> None:
        self.at, self.n = state["at"], state["n"]


def plant(*wrappers: Any, **args: Any) -> SimulatorSpec:
    return SimulatorSpec.model_validate(
        {"id": f"{__name__}:Plant", "args": args, "wrappers": list(wrappers)}
    )


def told(env: Any) -> list[Any]:
    return layers(env)[-1].told  # type: ignore[no-any-return, attr-defined]


def by(name: str, **args: Any) -> dict[str, Any]:
    return {"name": name, "args": args}


FLAT = "flatten_observation"
ALL = [
    by("reward_terms", weights={"near": 1.0, "cost": 0.5}),
    by("reward_scale", factor=0.1),
    "flatten_action",
    "rescale_action",
    by("discretise_action", bins=3),
    FLAT,
    "rescale_observation",
    "time_aware",
    by("history", n=3),
]


@pytest.mark.filterwarnings("ignore:.*different from the unwrapped version")
def test_everything_at_once_is_a_gymnasium_environment_and_goes_on_in_mid_episode():
    env = make_env(plant(*ALL))
    check_env(env, skip_render_check=True)
    assert env.action_space == spaces.MultiDiscrete([3, 3, 3])
    assert env.observation_space.shape == ((3 + 1 + 1) * 3,)
    one, two = make_vec(plant(*ALL), 2, 1), make_vec(plant(*ALL), 2, 9)
    assert not silent_layers(one)

    def walk(venv: Any, n: int) -> str:
        return repr([venv.step(np.ones((2, 3), np.int64)) for _ in range(n)])

    one.reset()
    walk(one, 5)
    state = vec_state(one)
    assert state is not None
    two.reset()
    load_vec_state(two, state)
    assert walk(one, 20) == walk(two, 20)


def test_wrappers_of_observations_apply_in_order():
    env = make_env(plant(FLAT, "rescale_observation", "time_aware", by("history", n=2)))
    first, _ = env.reset(options={"at": 5.0})
    # One-hot of 0 in 3 from 0 … 1 to -1 … 1; 5 of -10 … 10; no time gone; twice.
    assert first.tolist() == [1, -1, -1, 0.5, 0] * 2
    second, *_ = env.step({"y": np.zeros(2, np.float32), "x": np.zeros(1, np.float32)})
    assert second.tolist() == pytest.approx([1, -1, -1, 0.5, 0, -1, 1, -1, 0.6, 1 / 8])
    given = make_env(plant(FLAT, by("rescale_observation", low=[0, 0, 0, 0], high=[1, 1, 0, 4])))
    seen, _ = given.reset(options={"at": 9.0})
    assert seen.tolist() == [1, -1, 0, 1]  # a range that is a point is its middle; 9 is clipped


def test_actions_become_the_simulators_own():
    env = make_env(plant("flatten_action", "rescale_action"))
    assert env.action_space == spaces.Box(-1, 1, (3,), np.float32)
    env.reset()
    env.step(np.array([0.5, -1.0, 1.0], np.float32))  # x, then y: by name, as Gymnasium sorts
    assert told(env)[0]["x"].tolist() == [0.5]
    assert told(env)[0]["y"].tolist() == [0.0, 4.0]
    env = make_env(plant("flatten_action", actions="integers"))
    assert env.action_space == spaces.MultiDiscrete([3, 21])
    env.reset()
    env.step(np.array([2, 0]))
    assert told(env)[0] == (7, np.array([-10], np.int32))
    env = make_env(plant("flatten_action", by("discretise_action", bins=5)))
    env.reset()
    env.step(np.array([0, 4, 2]))
    assert (told(env)[0]["x"].tolist(), told(env)[0]["y"].tolist()) == ([-1.0], [4.0, 2.0])


def test_wrappers_of_rewards_apply_in_order():
    def paid(*wrappers: Any) -> float:
        env = make_env(plant(*wrappers))
        env.reset(options={"at": 2.0})
        return float(env.step({"y": np.zeros(2, np.float32), "x": np.zeros(1, np.float32)})[1])

    assert paid() == -1.0
    assert paid(by("reward_terms", weights={"near": 2.0})) == -6.0
    assert (
        paid(by("reward_terms", weights={"cost": 1.0}), by("reward_scale", factor=3, shift=1))
        == 7.0
    )
    with pytest.raises(ConfigError, match="no such reward term") as caught:
        paid(by("reward_terms", weights={"nera": 1.0}))
    assert "'near'" in str(caught.value.hint)


def test_baselines_keep_the_task_and_lose_what_is_for_the_learner():
    spec = plant(by("time_limit", max_episode_steps=4), *ALL, "normalize")
    assert [w.name for w in raw_world(spec).wrappers] == [
        "time_limit",
        "reward_terms",
        "reward_scale",
    ]


def test_a_baseline_is_checked_against_what_it_will_see():
    world = {"wrappers": ["time_aware", by("history", n=3)]}
    spec = small(world, train={"steps": 4096}, baselines=["p-controller"])
    said = {f.subject: f.message for f in RlWorkload().check(spec, None)}
    assert said["baselines"] == "p-controller can act here"


@pytest.mark.parametrize(
    ("wrappers", "words"),
    [
        (["rescale_action", "flatten_action"], ["flatten_action before rescale_action"]),
        (["discretise_action", "rescale_action"], ["rescale_action before discretise_action"]),
        ([by("history"), "rescale_observation"], ["rescale_observation before history"]),
        (["time_aware", FLAT], ["flatten_observation before time_aware"]),
        (["reward_scale", "reward_terms"], ["terms are what the simulator gave"]),
        (["history", "frame_stack"], ["both repeat"]),
        (["history", "history"], ["twice"]),
        (["normalize", "history"], ["last"]),
        (["histroy"], ["'history'"]),
    ],
)
def test_an_order_that_makes_no_sense_is_refused(wrappers, words):
    with pytest.raises(ConfigError) as caught:
        check_wrappers(plant(*wrappers))
    said = f"{caught.value} {caught.value.hint}"
    assert caught.value.field == f"simulator.wrappers[{len(wrappers) - 1}]"
    for word in words:
        assert word in said


@pytest.mark.parametrize(
    ("wrappers", "args", "error", "words"),
    [
        (["history"], {}, SpaceMismatch, ["flatten_observation before history"]),
        ([FLAT, "rescale_observation"], {"low": -np.inf}, ConfigError, ["part 3", "no range"]),
        ([FLAT, by("rescale_observation", low=[1, 2])], {}, ConfigError, ["4 parts"]),
        ([FLAT, by("history", n=1)], {}, ConfigError, ["history.args", "at least 2"]),
        (["flatten_action"], {"actions": "mixed"}, SpaceMismatch, ["does not mix"]),
        (["discretise_action"], {}, SpaceMismatch, ["flatten_action before"]),
        ([by("reward_scale", factor=0)], {}, ConfigError, ["factor", "not 0"]),
        ([by("reward_scale", fctor=1)], {}, ConfigError, ["fctor", "factor"]),
        ([by("reward_terms", weights={})], {}, ConfigError, ["weights by name"]),
    ],
)
def test_a_world_that_a_wrapper_does_not_fit(wrappers, args, error, words):
    with pytest.raises(error) as caught:
        make_env(plant(*wrappers, **args))
    said = f"{caught.value} {caught.value.hint}"
    for word in words:
        assert word in said


def test_numbered_observations_cannot_be_scaled_and_their_rewards_can():
    spec = SimulatorSpec.model_validate({"id": "FrozenLake-v1", "wrappers": ["normalize"]})
    with pytest.raises(ConfigError, match=r"cannot scale these observations.*Discrete") as caught:
        make_vec(spec, 1, 1)
    assert "norm_obs: false" in caught.value.hint
    rewards = {"name": "normalize", "args": {"norm_obs": False}}
    copies = make_vec(spec.model_validate({"id": spec.id, "wrappers": [rewards]}), 1, 1)
    assert copies.reset().shape == (1,)
    copies.close()
