"""When things are due, and the random numbers that a barrier begins with.

A barrier is a rollout boundary at which a run can be resumed. A running and a resumed run draw all
later random numbers from (seed, number of the barrier), so the generators need not be stored.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field

import numpy as np
import torch

from drillyard.learners.types import Space
from drillyard.simulators.state import State

_WORD = 0x6472696C
"""Separates the barrier seeds from every other use of the run's seed."""
NEVER = 2**62


@dataclass(frozen=True)
class BarrierSeeds:
    """The seeds of all generators after a barrier."""

    python: int
    numpy: int
    torch: int
    actions: int
    simulators: int


def barrier_seeds(seed: int, barrier: int) -> BarrierSeeds:
    """The seeds of one barrier.

    Args:
        seed: The seed of the run.
        barrier: Number of the barrier, from 1.
    """
    words = np.random.SeedSequence([seed, barrier, _WORD]).generate_state(5)
    # Many simulators accept only 31 bits.
    return BarrierSeeds(*(int(word) & 0x7FFFFFFF for word in words))


def reseed(seeds: BarrierSeeds, action_space: Space) -> None:
    """Seed all generators of this process."""
    random.seed(seeds.python)
    np.random.seed(seeds.numpy)
    torch.manual_seed(seeds.torch)
    action_space.seed(seeds.actions)


@contextmanager
def preserved_randomness() -> Iterator[None]:
    """Restore the state of all generators at the end, whatever was drawn inside."""
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
    """The position of a run: counts, and the steps at which work is due. Part of a checkpoint."""

    episodes: int = 0
    episodes_cut: int = 0
    barrier: int = 0
    resumes: int = 0
    next_point: int = NEVER
    next_barrier: int = NEVER
    """The first step at which the next barrier may be."""
    next_evaluation: int = NEVER
    next_evaluation_episode: int = NEVER
    last_point: int = -1
    last_evaluation: int = -1
    elapsed_s: float = 0.0
    """Training time of all attempts so far."""
    began: list[int] = field(default_factory=list)
    """Step at which the open episode of each copy began."""
    copies_changed: bool = False
    """The run was resumed with another number of copies than before."""
    platform_changed: bool | str = False
    """What differed when the run was resumed where rounding may differ: ``processor, threads``.

    The mark is permanent. True in checkpoints of earlier versions, which did not say what.
    """
    replay_differed: bool = False
    """The replay of an open episode differed, so that all copies began new episodes."""
    changed_at: int | None = None
    """Step of the last resume with other settings (``--allow-change``)."""

    def to_json(self) -> State:
        """As a mapping."""
        return asdict(self)

    @property
    def next_event(self) -> int:
        """The first step at which anything is due."""
        return min(self.next_point, self.next_barrier, self.next_evaluation)

    def replan(self, step: int, every: int | None, after_episodes: int | None) -> None:
        """Switch evaluations while training on or off; this may change between attempts.

        Args:
            step: Environment steps so far.
            every: Steps between two evaluations; None for no such evaluations.
            after_episodes: Episodes between two evaluations; None for no such evaluations.
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
