"""A space is shown to people in one line, without the columns of NumPy."""

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces

from drillyard.agents.baselines import Hold
from drillyard.documents.space_text import space_text
from drillyard.errors import SpaceMismatch
from drillyard.simulators.check import check_env_contract
from drillyard.simulators.far_outside import a_little
from drillyard.spec.algorithms.networks import check_spaces

WIDE = spaces.Box(np.linspace(-9, 0, 12), np.linspace(1e-6, 9.5, 12), dtype=np.float64)


@pytest.mark.parametrize("space", [WIDE, spaces.Dict(a=WIDE, b=spaces.Discrete(2))])
def test_no_runs_of_blanks_and_no_line_breaks(space):
    assert "\n" in str(space) or "  " in str(space)  # as Gymnasium prints it
    text = space_text(space)
    assert "  " not in text and "\n" not in text and "[ " not in text
    assert text.replace(" ", "") == "".join(str(space).split())


def test_cartpole_is_shown_as_one_would_write_it():
    env = gym.make("CartPole-v1")
    shown = {f.subject: f.message for f in check_env_contract(env)}
    assert shown["simulator: observation space"] == (
        "Box([-4.8 -inf -0.41887903 -inf], [4.8 inf 0.41887903 inf], (4,), float32)"
    )
    env.close()


def test_a_refusal_shows_the_space_in_the_same_way():
    with pytest.raises(SpaceMismatch) as refused:
        check_spaces("dqn", None, {}, spaces.Box(-1, 1, (2,)), WIDE)
    assert space_text(WIDE) in refused.value.message
    assert space_text(WIDE) in a_little(WIDE, np.full(12, 99.0))


def test_a_baseline_without_an_idle_action_names_the_space_in_the_same_way():
    space = spaces.Tuple((WIDE, spaces.Discrete(2)))
    env = gym.make("CartPole-v1").unwrapped
    env.action_space = space  # type: ignore[assignment]
    with pytest.raises(SpaceMismatch, match="has no idle action") as refused:
        Hold(env)
    assert space_text(space) in str(refused.value)
