"""Demonstrations: observations and actions, step by step, for ``learner.clone_from``.

A file is an ``.npz`` without objects: ``observations`` ``(steps, *observation)``, ``actions``
``(steps, *action)``, ``rewards`` ``(steps,)``, ``episodes`` ``(steps,)`` (the
number of a step's episode), and ``spaces``, the JSON of both spaces. ``read`` also reads a table.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, SupportsFloat

import numpy as np

from drillyard.agents.packing import npz_arrays, npz_bytes
from drillyard.agents.spaces import space_from_json, space_to_json
from drillyard.documents.json_types import JsonObject
from drillyard.documents.space_text import space_text
from drillyard.errors import ConfigError, CorruptObject, SpaceMismatch
from drillyard.learners.types import Env, Info, Layer, Observation, Space, SpaceKind
from drillyard.spec.learning import SimulatorSpec

if TYPE_CHECKING:
    from drillyard.policies.loaded import LoadedBundle

FIELD = "learner.clone_from.trajectories"
_ARRAYS = ("observations", "actions", "rewards", "episodes")


@dataclass(frozen=True)
class Demonstrations:
    """Steps of whole episodes, one after the other."""

    observations: np.ndarray
    actions: np.ndarray
    rewards: np.ndarray
    """Zeros if a table has no rewards."""
    episodes: np.ndarray
    spaces: dict[SpaceKind, JsonObject] | None
    """``observation`` and ``action`` as JSON; None for a table."""

    def to_bytes(self) -> bytes:
        """The content of the file."""
        arrays = {name: getattr(self, name) for name in _ARRAYS}
        return npz_bytes({**arrays, "spaces": np.array(json.dumps(self.spaces))})

    def must_fit(self, observation: Space, action: Space) -> None:
        """Refuse demonstrations of another simulator.

        Args:
            observation: Space of one copy of the simulator, with its wrappers.
            action: Its action space.

        Raises:
            SpaceMismatch: With both spaces, or with both shapes.
        """
        kinds: tuple[tuple[SpaceKind, Space, np.ndarray], ...] = (
            ("observation", observation, self.observations),
            ("action", action, self.actions),
        )
        for kind, now, recorded in kinds:
            then = self.spaces[kind] if self.spaces is not None else None
            width, wide = (int(np.prod(shape)) for shape in (recorded.shape[1:], now.shape or ()))
            same = then == space_to_json(now) if then else width == wide
            if not same:
                expected = space_text(space_from_json(then)) if then else f"{width} columns"
                raise SpaceMismatch(
                    f"the demonstrations have the {kind} space {expected}, and this simulator has "
                    f"{space_text(now)}",
                    field=FIELD,
                    allowed=expected,
                    hint="record them with the same simulator and wrappers; `normalize` may "
                    "differ",
                )


class Recorder(Layer):
    """Records the observations and actions in the first episodes of a copy.

    Args:
        env: The environment to wrap.
        episodes: Numbers of these episodes.
    """

    def __init__(self, env: Env, episodes: Sequence[int]) -> None:
        super().__init__(env)
        self._upcoming = list(episodes)
        self._observation: Observation | None = None
        self.steps: list[tuple[int, np.ndarray, np.ndarray, float]] = []

    def reset(
        self, *, seed: int | None = None, options: Info | None = None
    ) -> tuple[Observation, Info]:
        """Begin an episode."""
        observation, info = self.env.reset(seed=seed, options=options)
        self._observation = observation
        self._episode = self._upcoming.pop(0) if self._upcoming else None
        return observation, info

    def step(self, action: Observation) -> tuple[Observation, SupportsFloat, bool, bool, Info]:
        """Do and record one step."""
        before = np.array(self._observation)
        observation, reward, terminated, truncated, info = self.env.step(action)
        if self._episode is not None:
            self.steps.append((self._episode, before, np.array(action), float(reward)))
        self._observation = observation
        return observation, reward, terminated, truncated, info


def play(
    simulator: SimulatorSpec, policy: str | LoadedBundle, episodes: int, seed: int
) -> tuple[Demonstrations, float]:
    """Play episodes that no training and no evaluation uses, and record every step.

    Args:
        simulator: The simulator; the episodes are drawn from its lesson.
        policy: Name of a baseline, or a policy.
        episodes: Number of episodes.
        seed: Another seed gives other episodes.

    Returns:
        The demonstrations, and the mean return. Observations are raw for a baseline, and for a
        policy as they are before the statistics of a normalisation are applied.

    Raises:
        PluginError, SpaceMismatch, RunFailed: See ``run_episodes``.
    """
    from drillyard.evaluation.episodes import COPIES, run_baseline, run_episodes
    from drillyard.policies.assess import plan

    planned = plan(simulator.lesson_of_stage(-1), episodes, seed)
    copies = min(COPIES, episodes)
    recorders: list[Recorder] = []

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
    """Joins the recordings of all copies, in the order of the episodes.

    Args:
        recorders: One for each copy; each has played its episodes to their ends.
    """
    steps = sorted((s for r in recorders for s in r.steps), key=lambda step: step[0])
    env = recorders[0].env
    spaces: dict[SpaceKind, JsonObject] = {
        "observation": space_to_json(env.observation_space),
        "action": space_to_json(env.action_space),
    }
    episodes, observations, actions, rewards = zip(*steps, strict=True)
    return Demonstrations(
        np.stack(observations), np.stack(actions), np.array(rewards), np.array(episodes), spaces
    )


def read(path: Path) -> Demonstrations:
    """Read a file.

    Args:
        path: An ``.npz`` file of ``drillyard record``, or a ``.csv`` with a header:
            ``observation_<i>`` and ``action_<i>`` from 0, and optionally ``reward`` and
            ``episode``.

    Raises:
        ConfigError: The file is neither; the message says what is wrong with it.
    """
    try:
        if path.suffix == ".csv":
            demonstrations = _of_table(path)
        else:
            arrays = npz_arrays(path.read_bytes())
            spaces = json.loads(str(arrays["spaces"]))
            recorded = {name: arrays[name] for name in _ARRAYS}
            demonstrations = Demonstrations(**recorded, spaces=spaces)
    except (OSError, CorruptObject, KeyError, ValueError) as error:
        raise _wrong(path, f"cannot be read as demonstrations: {error}") from error
    lengths = {len(getattr(demonstrations, name)) for name in _ARRAYS}
    if len(lengths) != 1 or lengths == {0}:
        raise _wrong(path, "holds no steps, or observations and actions of different numbers")
    numbers = (demonstrations.observations, demonstrations.actions)
    if any(a.dtype.kind not in "fiub" or not np.isfinite(a).all() for a in numbers):
        raise _wrong(path, "holds values that are not finite numbers")
    return demonstrations


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

    extra = {n: np.array([float(row.get(n) or 0) for row in rows]) for n in ("reward", "episode")}
    return Demonstrations(
        columns("observation_"), columns("action_"), extra["reward"], extra["episode"], None
    )


def _wrong(path: Path, what: str) -> ConfigError:
    return ConfigError(
        what,
        field=FIELD,
        value=path.name,
        allowed="a file of `drillyard record`, or a .csv with observation_0 … and action_0 …",
        hint="drillyard record FILE --policy BASELINE --out expert.npz",
    )
