"""A simulator that cannot be saved is restored by replaying its open episode."""

from __future__ import annotations

import random
import time
from typing import Any

import numpy as np
import pytest

from drillyard.simulators.episode_replay import EpisodeReplay
from drillyard.simulators.make import make_env
from drillyard.simulators.replay_probe import probe
from drillyard.simulators.streams import REPLAYED
from drillyard.simulators.wrappers import (
    layers,
    load_stack,
    saved_layers,
    silent_layers,
    stack_state,
)
from drillyard.spec.learning import SimulatorSpec
from drillyard.system.watchdog import listen
from tests.helpers.resume_worlds import Forgetful
from tests.helpers.steady_world import Steady

HERE = "tests.unit.simulators.test_episode_replay"
CARTPOLE: dict[str, Any] = {"id": "CartPole-v1"}
FORGETFUL: dict[str, Any] = {
    "id": "tests.helpers.resume_worlds:Forgetful",
    "lesson": {"start": {"min": -1, "max": 1}},
}
TANK: dict[str, Any] = {
    "id": "tests.helpers.resume_worlds:Tank",
    "agent": {
        "observes": {"level": {"min": 0, "max": 2}},
        "acts": {"inflow": {"min": 0, "max": 1}},
        "reward": "-abs(level - 1)",
    },
}
CLIPPED = {**FORGETFUL, "wrappers": ["gymnasium.wrappers:ClipAction"], "metrics": {"far": "max"}}


class DrawsShared(Forgetful):
    """Draws from the generators of the process."""

    def __init__(self, source: str = "random", when: str = "step") -> None:
        super().__init__()
        self._source, self._when = source, when

    def _draw(self) -> float:
        return random.random() if self._source == "random" else float(np.random.rand())

    def reset(self, **given: Any) -> Any:
        observation, info = super().reset(**given)
        if self._when == "reset":
            observation[2] = self._draw()
        return observation, info

    def step(self, action: Any) -> Any:
        observation, reward, *rest = super().step(action)
        if self._when == "step":
            reward += self._draw()
        elif self._when == "unseen":
            self._draw()
        return observation, reward, *rest


class Remembers(Forgetful):
    """Wears out from one episode to the next."""

    worn = 0.0

    def step(self, action: Any) -> Any:
        self.worn += 0.01
        observation, reward, *rest = super().step(action)
        return observation, reward - self.worn, *rest


class LooksAtTheClock(Forgetful):
    """Its reward is the time."""

    def step(self, action: Any) -> Any:
        observation, _, *rest = super().step(action)
        return observation, time.perf_counter(), *rest


class TakesOptions(Forgetful):
    """Takes its options out of the mapping that it was given."""

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        start = options.pop("start") + options["far"].pop()
        return super().reset(seed=seed, options={"start": start})


class Raises(Forgetful):
    """Fails in a replay, as where a licence is for one copy."""

    made = 0

    def __init__(self) -> None:
        super().__init__()
        Raises.made += 1
        self.number = Raises.made

    def step(self, action: Any) -> Any:
        if self.number > 1:
            raise RuntimeError("no licence")
        return super().step(action)


def made(simulator: dict[str, Any]) -> Any:
    return make_env(SimulatorSpec.model_validate(simulator), seed=5, streams=REPLAYED)


def play(env: Any, steps: int, seed: int) -> list[Any]:
    """What random steps return."""
    env.action_space.seed(seed)
    seen = []
    for _ in range(steps):
        observation, reward, terminated, truncated, info = env.step(env.action_space.sample())
        seen.append((observation.tolist(), reward, terminated, truncated, info.get("episode")))
        if terminated or truncated:
            seen.append(env.reset()[0].tolist())
    return seen


@pytest.mark.parametrize("simulator", [CARTPOLE, FORGETFUL, TANK, CLIPPED])
@pytest.mark.parametrize("steps", [0, 3, 50])
def test_a_fresh_copy_continues_in_the_middle_of_an_episode(simulator, steps):
    env, other = made(simulator), made(simulator)
    env.reset(seed=11)
    play(env, steps, 1)
    saved = stack_state(env)
    assert silent_layers(env) == []
    other.reset(seed=99)
    assert load_stack(other, saved) == ""
    assert play(other, 120, 2) == play(env, 120, 2)
    # What was replayed can be saved again.
    again = stack_state(other)
    assert str(again) == str(stack_state(env))


def test_the_state_ends_at_the_layer_that_replays():
    env = made(CLIPPED)
    names = [type(layer).__name__ for layer in saved_layers(env)]
    assert names == ["EpisodeMonitor", "LessonWrapper", "EpisodeReplay"]
    assert isinstance(layers(env)[-1], Forgetful)


def test_a_simulator_that_can_be_saved_and_an_older_experiment_are_not_replayed():
    drift = SimulatorSpec.model_validate({**FORGETFUL, "id": "tests.helpers.resume_worlds:Drift"})
    older = SimulatorSpec.model_validate(FORGETFUL)
    for env in (
        make_env(drift, streams=REPLAYED),
        make_env(older, streams=REPLAYED - 1),
        make_env(older, streams=REPLAYED, training=False),
    ):
        assert not any(isinstance(layer, EpisodeReplay) for layer in layers(env))


def test_each_episode_has_its_own_seed_and_a_seeded_reset_begins_again():
    seeds: list[int | None] = []

    class Seen(Forgetful):
        def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
            seeds.append(seed)
            return super().reset(seed=seed, options=options)

    env = EpisodeReplay(Seen())
    for seed in (7, None, None, 7, None, 8):
        env.reset(seed=seed)
    assert None not in seeds
    assert len(set(seeds[:3])) == 3
    assert seeds[:2] == seeds[3:5] and seeds[5] not in seeds[:5]


@pytest.mark.parametrize(
    ("change", "difference"),
    [
        ({"rewards": "bent"}, "the reward of step 2 is"),
        ({"observation": "another"}, "the observation after step 4 is another one"),
        ({"actions": "cut"}, "it raised ValueError"),
    ],
)
def test_a_difference_is_returned_and_not_raised(change, difference):
    env = EpisodeReplay(Forgetful())
    env.reset(seed=1)
    play(env, 4, 1)
    state = env.state()
    for name in change:
        if name == "rewards":
            state["rewards"][1] += 1e-9
        elif name == "actions":
            state["actions"] = state["actions"][:-3]
        else:
            state["observation"] = "0" * 64
    env.load_state(state)
    assert env.difference.startswith(difference)


def test_a_replay_has_the_options_as_they_were_and_reports_each_step():
    env, other = EpisodeReplay(TakesOptions()), EpisodeReplay(TakesOptions())
    env.reset(seed=1, options={"start": 0.5, "far": [0.25]})
    play(env, 4, 1)
    reported: list[str] = []
    with listen(reported.append):
        other.load_state(env.state())
    assert other.difference == "" and len(reported) == 4
    assert other.state()["options"] == {"start": 0.5, "far": [0.25]}


def test_an_episode_that_ends_in_its_replay_differs():
    env, short = EpisodeReplay(Ends()), EpisodeReplay(Ends(3))
    env.reset(seed=1)
    play(env, 5, 1)
    short.load_state(env.state())
    assert short.difference == "the episode ended with step 3 of 5"


class Ends(Steady):
    """Ends after some steps."""

    def __init__(self, length: int = 100) -> None:
        self.length = length


@pytest.mark.parametrize(
    ("simulator", "difference"),
    [
        (CARTPOLE, ""),
        (FORGETFUL, ""),
        (TANK, ""),
        ({"id": f"{HERE}:DrawsShared", "args": {"source": "random"}}, "the reward of step"),
        ({"id": f"{HERE}:DrawsShared", "args": {"source": "numpy"}}, "the reward of step"),
        (
            {"id": f"{HERE}:DrawsShared", "args": {"source": "numpy", "when": "unseen"}},
            "it draws from random generators that all code of a process shares",
        ),
        (
            {"id": f"{HERE}:DrawsShared", "args": {"when": "reset"}},
            "it goes on in another way",
        ),
        ({"id": f"{HERE}:Remembers"}, "the reward of step 1 is"),
        ({"id": f"{HERE}:LooksAtTheClock"}, "the reward of step 1 is"),
        ({"id": f"{HERE}:Raises"}, "it raised RuntimeError: no licence"),
    ],
)
def test_the_probe_finds_what_cannot_be_replayed(simulator, difference):
    found = probe(SimulatorSpec.model_validate(simulator))
    assert found is not None
    assert found.difference.startswith(difference)
    assert bool(found.difference) == bool(difference)


def test_what_can_be_saved_is_not_probed():
    assert probe(SimulatorSpec(id="cstr")) is None
