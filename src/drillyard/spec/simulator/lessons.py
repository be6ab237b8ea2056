"""Lessons: what the keys of ``reset(options=…)`` are drawn from at each episode.

A lesson is a mapping from reset key to one of the forms of ``lesson_draws``. A draw is a pure
function of (seed, copy, episode), so that a resume needs the episode counter only, copies never
share their draws, and more copies change nothing for those that there were.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import numpy as np

from drillyard.documents.json_types import Json, JsonObject
from drillyard.errors import ConfigError
from drillyard.spec.simulator.lesson_draws import read_rule

Lesson = Mapping[str, Any]


def validate_lesson(
    lesson: Lesson, known_keys: Collection[str] | None = None, field: str = "simulator.lesson"
) -> None:
    """Checks a lesson before anything runs.

    Args:
        lesson: Reset key -> what to draw.
        known_keys: Keys that the simulator's reset understands; None when it does not say.
        field: Path of the lesson in the experiment file.

    Raises:
        ConfigError: A form that is none, two forms at once, a range upside down, or a key that
            the simulator does not know; names the key.
    """
    for key, rule in lesson.items():
        if not isinstance(key, str):  # YAML reads `null:`, `yes:` and `1:` as other things
            raise ConfigError(
                "the key of a lesson is not text",
                field=f"{field}.{key}",
                value=key,
                allowed="names of reset keys",
                hint=f'write it in quotes: "{key}"',
            )
        if known_keys is not None and key not in known_keys:
            raise ConfigError(
                f"the simulator has no reset key {key!r}",
                field=f"{field}.{key}",
                keys=sorted(known_keys),
            )
        read_rule(rule, f"{field}.{key}")


def draw(
    lesson: Lesson, seed: int, copy: int, episode: int, word: int | None = None
) -> JsonObject:
    """Draws the reset values of one training episode.

    Args:
        lesson: A valid lesson.
        seed: Seed of the run (or of the last seeded reset).
        copy: Index of the simulator's copy, from 0.
        episode: Episodes that this copy has begun before, from 0.
        word: Keeps the draws apart from what else is drawn from the seed; None: nothing does.
    """
    apart = [] if word is None else [word]
    rng = np.random.default_rng(np.random.SeedSequence([seed, copy, episode, *apart]))
    # In the order of the names, so that the order in a file changes nothing.
    return {key: read_rule(lesson[key], key).draw(rng) for key in sorted(lesson)}


def draw_in_order(
    lesson: Lesson, seed: int, episode: int, word: int | None = None
) -> dict[str, Any]:
    """Returns the reset values of one evaluation episode; ``values`` are used in order.

    With several lists, every combination is used; the first key of the file changes fastest.
    Weights are ignored.

    Args:
        lesson: A valid lesson.
        seed: Seed of the evaluation, for values drawn from a range.
        episode: Index of the episode, from 0.
        word: As of ``draw``.
    """
    # The word is the last of four, as in `draw`: NumPy takes [seed, 0] for seed.
    apart = [] if word is None else [0, word]
    rng = np.random.default_rng(np.random.SeedSequence([seed, episode, *apart]))
    drawn = {
        key: read_rule(lesson[key], key).draw(rng)
        for key in sorted(lesson)
        if not listed(lesson[key])
    }
    rest = episode
    for key, rule in lesson.items():
        if listed(rule):
            rest, index = divmod(rest, len(rule["values"]))
            drawn[key] = rule["values"][index]
    return drawn


def listed(rule: Json) -> bool:
    """True for ``{values: […]}``."""
    return isinstance(rule, Mapping) and "values" in rule
