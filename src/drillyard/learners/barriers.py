"""What is due when, and the random numbers that a barrier begins with.

A barrier is a rollout boundary at which a run can be resumed. A running and a resumed run draw all
later random numbers from (seed, number of the barrier), so nothing of the generators need be kept.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch

_WORD = 0x6472696C
"""Keeps barrier seeds apart from every other use of the run's seed."""
NEVER = 2**62


@dataclass(frozen=True)
class BarrierSeeds:
    """Seeds of every generator after a barrier."""

    python: int
    numpy: int
    torch: int
    actions: int
    simulators: int


def barrier_seeds(seed: int, barrier: int) -> BarrierSeeds:
    """The seeds of one barrier.

    Args:
        seed: Of the run.
        barrier: Number of the barrier, from 1.
    """
    words = np.random.SeedSequence([seed, barrier, _WORD]).generate_state(5)
    # Simulators often take 31 bits only.
    return BarrierSeeds(*(int(word) & 0x7FFFFFFF for word in words))


def reseed(seeds: BarrierSeeds, action_space: Any) -> None:
    """Begin all generators of this process anew."""
    random.seed(seeds.python)
    np.random.seed(seeds.numpy)
    torch.manual_seed(seeds.torch)
    action_space.seed(seeds.actions)


@contextmanager
def preserved_randomness() -> Iterator[None]:
    """Whatever is drawn inside, the generators outside do not notice."""
    python, numpy, cpu = random.getstate(), np.random.get_state(), torch.get_rng_state()
    used = torch.cuda.is_initialized()  # type: ignore[no-untyped-call]
    cuda = torch.cuda.get_rng_state_all() if used else None
    try:
        yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)
        torch.set_rng_state(cpu)
        if cuda is not None:
            torch.cuda.set_rng_state_all(cuda)


@dataclass
class Marks:
    """Where a run is: counts, and the steps at which something is due. Part of a checkpoint."""

    episodes: int = 0
    episodes_cut: int = 0
    barrier: int = 0
    resumes: int = 0
    next_point: int = NEVER
    next_barrier: int = NEVER
    next_evaluation: int = NEVER
    next_evaluation_episode: int = NEVER
    last_point: int = -1
    last_evaluation: int = -1
    elapsed_s: float = 0.0
    """Training time of all attempts so far."""
    copies_changed: bool = False
    """It was resumed with another number of copies than it was stopped with."""
    platform_changed: bool = False
    """It was resumed where numbers may round otherwise, and stays so marked."""
    changed_at: int | None = None
    """Step at which it went on with other settings the last time (``--allow-change``)."""

    def to_json(self) -> dict[str, Any]:
        """As a mapping."""
        return asdict(self)

    @property
    def next_event(self) -> int:
        """The first step at which anything is due."""
        return min(self.next_point, self.next_barrier, self.next_evaluation)

    def replan(self, step: int, every: int | None, after_episodes: int | None) -> None:
        """Evaluations while training may be switched on and off between attempts.

        Args:
            step: Environment steps so far.
            every: Steps between two evaluations; None: none.
            after_episodes: Episodes between two of them; None: none.
        """
        if every is None:
            self.next_evaluation = NEVER
        elif self.next_evaluation == NEVER:
            self.next_evaluation = next_multiple(step, every)
        if after_episodes is None:
            self.next_evaluation_episode = NEVER
        elif self.next_evaluation_episode == NEVER:
            self.next_evaluation_episode = next_multiple(self.episodes, after_episodes)


def next_multiple(step: int, interval: int) -> int:
    """The first multiple of an interval after a step."""
    return (step // interval + 1) * interval
