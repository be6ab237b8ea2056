"""Demonstrations: what somebody saw and did, step by step, for ``learner.clone_from``.

A file is an ``.npz`` without objects: ``observations`` ``(steps, *observation)``, ``actions``
``(steps, *action)``, ``rewards`` ``(steps,)``, ``episodes`` ``(steps,)`` (which one a step belongs
to), and ``spaces``, the JSON of both spaces. A table is read too: see ``read``.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np

from drillyard.agents.packing import npz_arrays, npz_bytes
from drillyard.agents.spaces import space_from_json, space_to_json
from drillyard.errors import ConfigError, CorruptObject, SpaceMismatch
from drillyard.simulators.wrappers import Env
from drillyard.spec.learning import SimulatorSpec

FIELD = "learner.clone_from.trajectories"
_ARRAYS = ("observations", "actions", "rewards", "episodes")


@dataclass(frozen=True)
class Demonstrations:
    """Steps of whole episodes, one after the other."""

    observations: np.ndarray
    actions: np.ndarray
    rewards: np.ndarray
    """Zeros where a table says none."""
    episodes: np.ndarray
    spaces: dict[str, Any] | None
    """``observation`` and ``action`` as JSON; None of a table."""

    def to_bytes(self) -> bytes:
        """The file."""
        arrays = {name: getattr(self, name) for name in _ARRAYS}
        return npz_bytes({**arrays, "spaces": np.array(json.dumps(self.spaces))})

    def must_fit(self, observation: Any, action: Any) -> None:
        """Refuse demonstrations of another world.

        Args:
            observation: Space of one copy of the simulator, with its wrappers.
            action: Its action space.

        Raises:
            SpaceMismatch: With both spaces, or with both shapes.
        """
        for what, now, made in (
            ("observation", observation, self.observations),
            ("action", action, self.actions),
        ):
            then = self.spaces[what] if self.spaces is not None else None
            width, wide = (int(np.prod(shape)) for shape in (made.shape[1:], now.shape or ()))
            same = then == space_to_json(now) if then else width == wide
            if not same:
                shown = space_from_json(then) if then else f"{width} columns"
                raise SpaceMismatch(
                    f"the demonstrations have the {what} space {shown}, and this simulator has "
                    f"{now}",
                    field=FIELD,
                    allowed=str(shown),
                    hint="record them with the same simulator and wrappers; `normalize` may "
                    "differ",
                )


class Recorder(gym.Wrapper[Any, Any, Any, Any]):
    """Keeps what is seen and done in the first episodes of a copy.

    Args:
        env: What to wrap.
        episodes: Numbers of these episodes.
    """

    def __init__(self, env: Env, episodes: Sequence[int]) -> None:
        super().__init__(env)
        self._upcoming = list(episodes)
        self._seen: Any = None
        self.steps: list[tuple[int, Any, Any, float]] = []

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Begin an episode."""
        self._seen, info = self.env.reset(seed=seed, options=options)
        self._episode = self._upcoming.pop(0) if self._upcoming else None
        return self._seen, info

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        """One step, kept."""
        before = np.array(self._seen)
        seen, reward, terminated, truncated, info = self.env.step(action)
        if self._episode is not None:
            self.steps.append((self._episode, before, np.array(action), float(reward)))
        self._seen = seen
        return seen, reward, terminated, truncated, info


def play(
    simulator: SimulatorSpec, policy: Any, episodes: int, seed: int
) -> tuple[Demonstrations, float]:
    """Play episodes that no training and no evaluation has met, and keep every step.

    Args:
        simulator: The world; its lesson is drawn from.
        policy: Name of a baseline, or a ``Playable``.
        episodes: How many.
        seed: Another one gives other episodes.

    Returns:
        What was seen and done in one copy of the simulator (raw for a baseline; before statistics
        of a normalisation are applied for a policy), and the mean return.

    Raises:
        PluginError, SpaceMismatch, RunFailed: See ``run_episodes``.
    """
    from drillyard.evaluation.episodes import COPIES, run_baseline, run_episodes
    from drillyard.policies.assess import plan

    planned = plan(simulator.lesson_of_stage(-1), episodes, seed)
    copies, recorders = min(COPIES, episodes), []

    def around(env: Env, copy: int) -> Env:
        recorders.append(Recorder(env, range(copy, episodes, copies)))
        return recorders[-1]

    if isinstance(policy, str):
        played = run_baseline(policy, simulator, planned, around=around)
    else:
        played = run_episodes(
            simulator,
            policy.player(True),
            planned,
            name=policy.name,
            normalisation=policy.normalisation,
            around=around,
        )
    return gathered(recorders), sum(e.episode_return for e in played.episodes) / episodes


def gathered(recorders: Sequence[Recorder]) -> Demonstrations:
    """What copies recorded, in the order of the episodes.

    Args:
        recorders: One a copy; each has played its episodes to their ends.
    """
    steps = sorted((s for r in recorders for s in r.steps), key=lambda step: step[0])
    env = recorders[0].env
    spaces = {
        "observation": space_to_json(env.observation_space),
        "action": space_to_json(env.action_space),
    }
    episodes, seen, done, rewards = zip(*steps, strict=True)
    return Demonstrations(
        np.stack(seen), np.stack(done), np.array(rewards), np.array(episodes), spaces
    )


def read(path: Path) -> Demonstrations:
    """Read a file.

    Args:
        path: An ``.npz`` of ours, or a ``.csv`` with a header: ``observation_<i>`` and
            ``action_<i>`` from 0; ``reward`` and ``episode`` if there are such.

    Raises:
        ConfigError: It is none of these; says what is wrong with it.
    """
    try:
        if path.suffix == ".csv":
            found = _of_table(path)
        else:
            arrays = npz_arrays(path.read_bytes())
            spaces = json.loads(str(arrays["spaces"]))
            found = Demonstrations(**{name: arrays[name] for name in _ARRAYS}, spaces=spaces)
    except (OSError, CorruptObject, KeyError, ValueError) as error:
        raise _wrong(path, f"cannot be read as demonstrations: {error}") from error
    lengths = {len(getattr(found, name)) for name in _ARRAYS}
    if len(lengths) != 1 or lengths == {0}:
        raise _wrong(path, "holds no steps, or observations and actions of different numbers")
    numbers = (found.observations, found.actions)
    if any(a.dtype.kind not in "fiub" or not np.isfinite(a).all() for a in numbers):
        raise _wrong(path, "holds values that are no finite numbers")
    return found


def _of_table(path: Path) -> Demonstrations:
    with path.open(newline="", encoding="utf-8-sig") as file:
        rows = list(csv.DictReader(file))
    if not rows:
        raise ValueError("no rows")

    def columns(prefix: str) -> np.ndarray:
        names = [n for n in rows[0] if n and n.removeprefix(prefix).isdigit()]
        names.sort(key=lambda n: int(n.removeprefix(prefix)))
        if [int(n.removeprefix(prefix)) for n in names] != list(range(len(names))) or not names:
            raise ValueError(f"no columns {prefix}0, {prefix}1 … without a gap")
        return np.array([[float(row[n]) for n in names] for row in rows])

    one = {n: np.array([float(row.get(n) or 0) for row in rows]) for n in ("reward", "episode")}
    return Demonstrations(
        columns("observation_"), columns("action_"), one["reward"], one["episode"], None
    )


def _wrong(path: Path, what: str) -> ConfigError:
    return ConfigError(
        what,
        field=FIELD,
        value=path.name,
        allowed="a file of `drillyard record`, or a .csv with observation_0 … and action_0 …",
        hint="drillyard record FILE --policy BASELINE --out expert.npz",
    )
