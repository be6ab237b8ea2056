"""Frequent fields as options: ``--steps 50k`` and ``--seeds 3``, laid over the file.

A parameter of the file with the same name wins, so that older files mean what they meant.
"""

from __future__ import annotations

from collections.abc import Callable

from drillyard.documents.json_types import Json
from drillyard.documents.yaml_safe import typed
from drillyard.errors import BadValue, ConfigError, ConfigErrors
from drillyard.spec.learning import MAX_STEPS
from drillyard.spec.precedence import Merged, Place
from drillyard.spec.strict import MAX_SEED, read_steps

STEPS, SEEDS = "steps", "seeds"
MAX_SEEDS = 10_000
_FOR_A_START = {"algorithm": "learner.algorithm", "simulator": "simulator.id"}
"""Options that start without a file -> the field that they mean."""


def steps_of(text: str) -> int:
    """Reads ``--steps``: ``50_000``, ``50k`` or ``1.5M``.

    Raises:
        ConfigError: It is not a number of steps.
    """
    hint = "write 50_000 or 50k"
    try:
        value = read_steps(typed(text))
    except BadValue as error:
        value, hint = None, error.hint or hint
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= MAX_STEPS:
        raise ConfigError(
            "is not a number of steps",
            file="command line",
            field="--steps",
            value=text,
            allowed=f"a whole number from 1 to {MAX_STEPS:,}, also with k or M: 50k, 1.5M",
            hint=hint,
        )
    return value


def seeds_of(text: str) -> list[int]:
    """Reads ``--seeds``: ``3`` means 1, 2 and 3; ``5,7`` and ``[5, 7]`` mean these two.

    Raises:
        ConfigError: It is neither a number nor a list of seeds.
    """
    value = typed(f"[{text}]" if "," in text and not text.lstrip().startswith("[") else text)
    seeds: list[Json] = []
    if isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= MAX_SEEDS:
        seeds = list(range(1, value + 1))
    elif isinstance(value, list):
        seeds = value
    good = [s for s in seeds if isinstance(s, int) and not isinstance(s, bool)]
    distinct = len(set(good)) == len(seeds) and all(0 <= s <= MAX_SEED for s in good)
    if not seeds or not distinct:
        raise ConfigError(
            "is neither a number of seeds nor a list of different seeds",
            file="command line",
            field="--seeds",
            value=text,
            allowed=f"a number from 1 to {MAX_SEEDS:,}, or a list with each seed once",
            hint="write --seeds 3 for the seeds 1, 2 and 3, or --seeds 5,7 for these two",
        )
    return good


def lay_seeds(merged: Merged, values: dict[str, str], problems: list[ConfigError]) -> None:
    """Lays ``--seeds`` over the file; no file can have a parameter of that name.

    Args:
        merged: The file; changed.
        values: Options without a meaning of their own; loses ``seeds``.
        problems: Gets what is wrong with it.
    """
    text = values.pop(SEEDS, None)
    if text == "auto":
        merged.put((SEEDS,), text, Place("--seeds"))
    elif text is not None:
        _lay(merged, (SEEDS,), lambda: [*seeds_of(text)], problems)


def lay_steps(
    merged: Merged, values: dict[str, str], declared: set[str], problems: list[ConfigError]
) -> None:
    """Lays ``--steps`` over ``train.steps``, unless the file has a parameter of that name.

    Args:
        merged: The file; changed.
        values: Options without a meaning of their own; loses ``steps``.
        declared: Parameters that the file and its children declare.
        problems: Gets what is wrong with it.
    """
    if STEPS in values and STEPS not in declared and merged.tree.get("workload", "rl") == "rl":
        text = values.pop(STEPS)
        _lay(merged, ("train", STEPS), lambda: steps_of(text), problems)
    for option in _FOR_A_START:
        if option in values and option not in declared:
            problems.append(started_with_a_file(option, values.pop(option)))


def started_with_a_file(option: str, value: str) -> ConfigError:
    """Returns the error about a file together with an option that starts without one."""
    return ConfigError(
        "cannot be given together with an experiment file, which has its own",
        file="command line",
        field=f"--{option}",
        value=value,
        allowed="either FILE, or --algorithm and --simulator",
        hint=f"leave out one of them; to change the file's, write --set {_FOR_A_START[option]}="
        f"{value}",
    )


def _lay(
    merged: Merged,
    path: tuple[str, ...],
    read: Callable[[], Json],
    problems: list[ConfigError],
) -> None:
    try:
        merged.put(path, read(), Place(f"--{path[-1]}"))
    except (ConfigError, ConfigErrors) as error:
        problems += error.errors
