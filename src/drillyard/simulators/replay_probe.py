"""Finds out whether a simulator can be replayed, with two copies, one after the other.

The first copy plays the beginning of an episode and a part of the next one. The second, fresh copy
replays that part. After it both take the same actions. A simulator that remembers an earlier
episode, looks at a clock, or draws from generators of the process or of the machine differs.
"""

from __future__ import annotations

import contextlib
import hashlib
import time
from collections.abc import Sequence
from dataclasses import dataclass

from drillyard.simulators.episode_replay import EpisodeReplay, add_observation
from drillyard.simulators.make import make_env
from drillyard.simulators.random_actions import random_action
from drillyard.simulators.streams import REPLAYED, globals_state
from drillyard.simulators.types import Action, Env
from drillyard.simulators.wrappers import load_stack, saved_layers, stack_state
from drillyard.spec.learning import SimulatorSpec
from drillyard.system.user_code import described
from drillyard.system.watchdog import report_activity

LIMIT_S = 60.0
"""A replay of more seconds than this is not worth it."""
STEPS = 32
"""Steps of each part."""
PART_S = 2.0
"""Seconds after which a slow simulator is given no more steps of a part."""
_SEED = 31_415


@dataclass(frozen=True)
class Probe:
    """Whether a simulator can be replayed."""

    difference: str
    """How the replay differed; empty if it did not."""
    step_s: float
    """Seconds of one step."""


def probe(spec: SimulatorSpec) -> Probe | None:
    """Replays a part of an episode in a fresh copy.

    Args:
        spec: The simulator part of an experiment.

    Returns:
        None if it needs no replay, because its state can be saved.
    """
    try:
        before, first = globals_state(), make_env(spec, seed=_SEED, streams=REPLAYED)
        with contextlib.closing(first):
            if not any(isinstance(layer, EpisodeReplay) for layer in saved_layers(first)):
                return None
            first.action_space.seed(_SEED)
            first.reset(seed=_SEED)
            _play(first)
            first.reset()
            _play(first)
            saved = stack_state(first)
            actions, expected, step_s = _play(first)
        with contextlib.closing(make_env(spec, seed=_SEED, streams=REPLAYED)) as second:
            second.reset(seed=_SEED)
            difference = load_stack(second, saved)
            if not difference:
                _, again, again_s = _play(second, actions)
                difference = "" if again == expected else "it goes on in another way"
                step_s = min(step_s, again_s)
    except Exception as error:  # the training raises it again, at its step
        return Probe(f"it raised {described(error)}", 0.0)
    if not difference and globals_state() != before:
        difference = "it draws from random generators that all code of a process shares"
    return Probe(difference, step_s)


def _play(env: Env, actions: Sequence[Action] | None = None) -> tuple[list[Action], str, float]:
    """Steps a copy, with random actions or with given ones.

    Returns:
        The actions, a hash over everything that came back, and the seconds of one step.
    """
    digest, taken, began = hashlib.sha256(), list[Action](), time.monotonic()
    most = STEPS if actions is None else len(actions)
    while len(taken) < most and (actions is not None or not _enough(taken, began)):
        report_activity(f"step {len(taken) + 1} of a replay, seed {_SEED}")
        action = random_action(env) if actions is None else actions[len(taken)]
        taken.append(action)
        observation, reward, terminated, truncated, _ = env.step(action)
        add_observation(digest, observation)
        digest.update(repr((float(reward), bool(terminated), bool(truncated))).encode())
        if terminated or truncated:
            add_observation(digest, env.reset()[0])
    return taken, digest.hexdigest(), (time.monotonic() - began) / len(taken)


def _enough(taken: Sequence[Action], began: float) -> bool:
    return len(taken) >= 2 and time.monotonic() - began > PART_S
