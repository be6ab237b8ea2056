"""Plays fresh episodes with stored policies: alone, beside baselines, and in pairs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from drillyard.documents.json_types import JsonObject
from drillyard.evaluation.episodes import Planned, Played, run_baseline, run_episodes
from drillyard.evaluation.summary import summarise
from drillyard.mailbox.records import STREAMS
from drillyard.policies.loaded import LoadedBundle
from drillyard.simulators.streams import evaluation_word
from drillyard.spec.learning import SimulatorSpec
from drillyard.spec.simulator.lessons import draw_in_order
from drillyard.statistics import RAREST, Ends, Tail, mean_interval, obstacles, tail


def plan(lesson: JsonObject, episodes: int, seed: int) -> list[Planned]:
    """Plans episodes that no training and no evaluation of an experiment has used.

    Args:
        lesson: What to draw at each; ``values`` are gone through in order.
        episodes: How many.
        seed: Another one gives other episodes.
    """
    words = np.random.SeedSequence([seed, 0x61737365]).generate_state(episodes)
    apart = evaluation_word(STREAMS)
    return [
        Planned(i, int(word), draw_in_order(lesson, int(word), i, apart))
        for i, word in enumerate(words)
    ]


def play(
    policy: LoadedBundle,
    planned: Sequence[Planned],
    simulator: SimulatorSpec | None = None,
    deterministic: bool = True,
) -> Played:
    """Play episodes with a stored policy.

    Raises:
        SpaceMismatch: It does not fit the simulator.
        RunFailed: Something is not finite.
    """
    world = simulator or policy.simulator
    policy.must_fit(world)
    return run_episodes(
        world,
        policy.player(deterministic),
        planned,
        name=policy.name,
        normalisation=policy.normalisation,
        trajectory=True,
    )


def beside(
    baselines: Sequence[str], simulator: SimulatorSpec, planned: Sequence[Planned]
) -> dict[str, Played]:
    """The same episodes with baselines."""
    return {name: run_baseline(name, simulator, planned) for name in baselines}


def summary(played: Played, lesson: JsonObject) -> dict[str, Any]:
    """The numbers of a policy that tables show; see ``summarise``."""
    return summarise(played.episodes, lesson)


@dataclass(frozen=True)
class Comparison:
    """A challenger against a champion on the same episodes."""

    episodes: int
    seed: int
    challenger: float
    champion: float
    """Mean returns."""
    difference: float
    """Mean of challenger - champion, episode by episode."""
    interval: Ends | None
    """Its 95 % interval over episodes; None where they say too little, or all are alike."""
    margin: float
    tail: Tail
    """The worst episodes of both."""
    obstacles: tuple[str, ...]
    """Why the challenger does not become champion: see ``drillyard.statistics.obstacles``."""

    @property
    def better(self) -> bool:
        """True when the challenger becomes champion."""
        return not self.obstacles

    @property
    def sure(self) -> str:
        """The interval in words: ``-0.31 to 1.20``."""
        interval = self.interval
        return "none" if interval is None else f"{interval[0]:.2f} to {interval[1]:.2f}"

    def to_json(self) -> JsonObject:
        """As a mapping."""
        return {**asdict(self), "better": self.better}


def compare(
    challenger: LoadedBundle,
    champion: LoadedBundle,
    episodes: int,
    seed: int,
    margin: float,
    rarest: float = RAREST,
) -> Comparison:
    """Plays the same fresh episodes with both, in the challenger's simulator.

    Args:
        challenger: Who wants to be champion.
        champion: Who is.
        episodes: At least 2.
        seed: Seed of the episodes.
        margin: By how much it has to be better, in units of the return.
        rarest: Probability of the rarest failure that the episodes have to show.

    Raises:
        SpaceMismatch: They are of different worlds.
    """
    planned = plan(challenger.lesson, episodes, seed)
    challenging = play(challenger, planned)
    # Each with its own wrappers, around the same simulator.
    kept = champion.simulator.wrappers
    world = challenger.simulator.model_copy(update={"wrappers": kept})
    other = play(champion, planned, world)
    returns = [[e.episode_return for e in p.episodes] for p in (challenging, other)]
    differences = [a - b for a, b in zip(*returns, strict=True)]
    means = [math.fsum(each) / episodes for each in returns]
    return Comparison(
        episodes,
        seed,
        means[0],
        means[1],
        math.fsum(differences) / episodes,
        mean_interval(differences),
        margin,
        tail(returns[0], returns[1]),
        obstacles(returns[0], returns[1], margin, rarest),
    )
