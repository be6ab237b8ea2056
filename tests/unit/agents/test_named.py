"""Controllers that receive and return values by name, in units."""

from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest

from drillyard.agents.baselines import check_baselines, make_baseline
from drillyard.errors import ConfigError, SpaceMismatch
from drillyard.evaluation.episodes import Planned, run_baseline
from drillyard.simulators.make import make_env
from drillyard.spec.experiment import ExperimentSpec
from drillyard.spec.learning import SimulatorSpec
from tests.helpers.documents import blocks

HERE = "tests.unit.agents.test_named"
TARGET = 20.0


class Room:
    """A room that loses heat to 0 °C; its heater has 0 to 1 (kW)."""

    def reset(self, config):
        self.steps, self.room = 0, config.get("room", 5.0)
        return self.states()

    def step(self, actions):
        self.steps += 1
        self.power = actions["heater"]
        self.room += 2.0 * self.power - 0.05 * self.room
        return self.states()

    def states(self):
        return {"room": self.room, "load": 3.0, "hidden": 1.0}

    def terminated(self):
        return False

    def truncated(self):
        return self.steps == 100


class Gain:
    """Proportional, and fed forward."""

    def __init__(self):
        self.seen = []

    def reset(self, seed, options):
        self.seen.clear()

    def act_named(self, states):
        self.seen.append(states)
        return {"heater": 0.5 + 0.1 * (TARGET - states["room"])}


class Wrong(Gain):
    answer: object = {}

    def __init__(self, environment):
        super().__init__()

    def act_named(self, states):
        return self.answer


def room(low=0.0, high=30.0, **acts):
    return SimulatorSpec.model_validate(
        {
            "id": f"{HERE}:Room",
            "agent": {
                "observes": {"room": {"min": low, "max": high, "unit": "°C"}},
                "acts": {"heater": {"min": 0, "max": 1, "unit": "kW", **acts}},
                "reward": f"-abs(room - {TARGET})",
                "logs": ["load"],
            },
        }
    )


def returns(spec, controller="Gain"):
    planned = [Planned(i, i, {"room": 5.0 + 10 * i}) for i in range(2)]
    played = run_baseline(f"{HERE}:{controller}", spec, planned)
    return [episode.episode_return for episode in played.episodes]


def test_a_controller_acts_the_same_whatever_the_ranges_in_the_file():
    """The second range is so narrow that the agent's view of the room is clipped."""
    expected = returns(room())
    assert expected[0] > -400
    assert returns(room(10, 12)) == expected
    assert returns(room(-600, 600)) == expected
    wider = returns(room(min=-2, max=4))  # the same values reach the simulator
    assert wider != expected  # Gain does not limit what the file does not


@pytest.mark.heavy
def test_an_action_that_is_a_change_is_moved_towards_the_value():
    spec = room(change=0.25, start=0.0)
    with make_env(spec, training=False) as env:
        baseline = make_baseline(f"{HERE}:Gain", env)
        observation, _ = env.reset(seed=1, options={"room": 5.0})
        baseline.reset(1, {})
        powers = []
        for _ in range(4):
            observation, *_, info = env.step(baseline.act(observation))
            powers.append(info["state_heater"])
    assert powers == [0.25, 0.5, 0.75, 1.0]
    assert np.isfinite(returns(spec)).all()


def test_states_are_those_of_the_file_and_what_noise_makes_of_them():
    spec = room(0, 30)
    with make_env(spec, training=False) as env:
        baseline = make_baseline(f"{HERE}:Gain", env)
        observation, _ = env.reset(seed=1, options={"room": 33.0})
        baseline.act(observation)
        baseline.act(np.array([0.5], np.float32))  # as a wrapper of sensor noise gives it
        exact, noisy = baseline._controller.seen
    assert exact == {"room": 33.0, "load": 3.0}
    assert noisy == {"room": pytest.approx(22.5)}


def test_choices_are_returned_as_values():
    spec = room()
    acts = {"heater": {"values": [0, 0.5, 1]}}
    agent = spec.agent.model_dump(mode="json", exclude_none=True) | {"acts": acts}
    spec = SimulatorSpec.model_validate({"id": spec.id, "agent": agent})
    Wrong.answer = {"heater": 0.5}
    with make_env(spec, training=False) as env:
        assert make_baseline(f"{HERE}:Wrong", env).act(env.reset(seed=1)[0]) == 1
    Wrong.answer = {"heater": 0.7}
    with pytest.raises(ConfigError, match=r"returned 0.7 for 'heater'"):
        checked(spec, "Wrong")


def checked(spec, controller):
    experiment = ExperimentSpec.model_validate(
        {
            "schema": 1,
            "name": "room",
            "simulator": spec.model_dump(mode="json", exclude_none=True),
            "learner": {"algorithm": "ppo"},
            "train": {"steps": 10},
            "baselines": [f"{HERE}:{controller}"],
        }
    )
    with make_env(spec, training=False) as env:
        return check_baselines(experiment, env)


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        ({}, "no value for 'heater'"),
        ({"heatr": 1}, "no value for 'heater'"),
        (None, "no value for 'heater': None"),
        ([0.5], "no value for 'heater'"),
        ({"heater": float("nan")}, "nan for 'heater'"),
        ({"heater": "on"}, "'on' for 'heater'"),
    ],
)
def test_check_names_what_a_controller_returns_wrongly(answer, words):
    Wrong.answer = answer
    with pytest.raises(ConfigError, match=words) as refusal:
        checked(room(), "Wrong")
    assert refusal.value.field == "baselines[0]" and refusal.value.hint


def test_a_simulator_without_names_is_refused():
    with gym.make("CartPole-v1") as env, pytest.raises(SpaceMismatch, match="names and units"):
        make_baseline(f"{HERE}:Gain", env)


def test_the_reactor_and_the_building_give_their_names_too():
    for name, act in (("cstr", "Tc_adjust"), ("building", "heating")):
        Wrong.answer = {act: 0.0, "cooling": 25.0, "heating": 20.0}
        with make_env(SimulatorSpec(id=name), training=False) as env:
            action = make_baseline(f"{HERE}:Wrong", env).act(env.reset(seed=1)[0])
            assert env.action_space.contains(action)


def test_the_documented_pi_does_not_wind_up():
    """A wish far out of reach for long, and then one within it: it reacts at once."""
    page = (Path(__file__).parents[3] / "docs/how-to/evaluation.md").read_text()
    (code,) = (block.body for block in blocks(page) if "class PI" in block.body)
    names: dict[str, type] = {}
    exec(code, names)  # noqa: S102
    pi = names["PI"]()
    pi.reset(1, {})
    for _ in range(500):
        assert pi.act_named({"room": 5.0}) == {"heater": 1.0}
    falling = [pi.act_named({"room": 22.0})["heater"] for _ in range(30)]
    assert falling[0] < 1.0 and falling[-1] < 0.4
    steady = Room()
    states = steady.reset({})
    pi.reset(1, {})
    for _ in range(400):
        states = steady.step(pi.act_named(states))
    assert states["room"] == pytest.approx(20.0, abs=0.05)
