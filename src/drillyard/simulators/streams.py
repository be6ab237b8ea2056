"""From the seed of a run to the random numbers of each copy of its simulator.

There are four versions. An experiment keeps the version that it began with, also for seeds that
are added later:

1. Copy ``i`` is reset with ``seed + i``. Runs whose seeds are neighbours share the random numbers
   of most copies, and the first draw of a lesson shares those of the simulator. The trial that
   confirms the winner of a search plays the episodes that chose it.
2. Copy ``i`` is reset with a word of ``SeedSequence([seed, i, purpose])``. Lessons draw from
   separate sequences. The trial that confirms the winner plays episodes that no choice used.
3. As 2. The lessons of the final evaluation draw from separate sequences too; before, the first
   draw of its first episode was the simulator's own.
4. As 3. A simulator that cannot be saved is reset with a separate seed for each episode, so that
   an episode can be replayed (``episode_replay``). Checkpoints are at each tenth of the budget.

The episodes of evaluations do not depend on the run's seed: they are the same for all policies
that are compared, and never those of a training.
"""

from __future__ import annotations

import random
import sys

import numpy as np

# The last of four words: NumPy fills shorter sequences with zeros, and so [1, 0] is [1].
_TRAINING = 0x7472_6169
_LESSONS = 0x6C65_7373
_GLOBALS = 0x676C_6F62
_EVALUATION = 0x6576_616C
_EPISODES = 0x6570_6973

REPLAYED = 4
"""The first version in which a simulator that cannot be saved is replayed."""


def copy_seeds(seed: int, n: int, version: int) -> list[int]:
    """The seeds with which the copies of a training are reset.

    Args:
        seed: Seed of the run.
        n: Copies.
        version: See this module.

    Returns:
        One seed a copy; from version 2 on 31 bits, because simulators often take no more.
    """
    return [copy_seed(seed, copy, version) for copy in range(n)]


def copy_seed(seed: int, copy: int, version: int, successor: int = 0) -> int:
    """The seed of one copy, see ``copy_seeds``.

    Args:
        seed: Seed of the run.
        copy: Its index.
        version: See this module.
        successor: Number of earlier copies with this index.
    """
    return seed + copy if version < 2 else _word(seed, copy, successor, _TRAINING)


def episode_seed(seed: int, episode: int) -> int:
    """The seed of one episode, from version 4 on.

    Args:
        seed: Seed of the copy.
        episode: Number of the episode since its seeded reset, from 0.
    """
    return _word(seed, episode, 0, _EPISODES)


def lesson_word(version: int) -> int | None:
    """Separates the draws of lessons from those of the simulator; None if nothing does.

    Args:
        version: See this module.
    """
    return None if version < 2 else _LESSONS


def evaluation_word(version: int) -> int | None:
    """As ``lesson_word``, for the episodes of an evaluation.

    Args:
        version: See this module.
    """
    return None if version < 3 else _EVALUATION


def seed_globals(seed: int) -> None:
    """Seeds the generators that all code of this process shares.

    Args:
        seed: Seed of the only copy in this process.
    """
    word = _word(seed, 0, 0, _GLOBALS)
    random.seed(word)
    np.random.seed(word)
    # A host of copies does not import it for this alone.
    if "torch" in sys.modules:
        import torch

        torch.manual_seed(word)


def globals_state() -> str:
    """The state of the generators that all code of this process shares."""
    states = [random.getstate(), np.random.get_state()]
    if "torch" in sys.modules:
        import torch

        states.append(torch.get_rng_state().tolist())
    return repr(states)


def _word(*entropy: int) -> int:
    return int(np.random.SeedSequence(entropy).generate_state(1)[0]) & 0x7FFF_FFFF


class SeededCopies:
    """Mixin before a ``VecEnv``: its copies are reset with ``copy_seeds``."""

    streams = 1
    """Version of the random numbers."""
    num_envs: int
    _seeds: list[int | None]

    def seed(self, seed: int | None = None) -> list[int | None]:
        """Sets the seeds of the next reset.

        Args:
            seed: Seed of the run; None for a random one.
        """
        if seed is None:
            seed = int(np.random.randint(0, 2**31))
        self._seeds = list(copy_seeds(seed, self.num_envs, self.streams))
        return self._seeds
