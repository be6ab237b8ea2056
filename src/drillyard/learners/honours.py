"""Which fields of an experiment file a learner honours. The others are refused by name."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from drillyard.agents.base import Declares
from drillyard.documents.json_types import Json
from drillyard.documents.scalars import dotted
from drillyard.errors import ConfigError, ConfigErrors, nearest
from drillyard.spec import ExperimentSpec
from drillyard.spec.simulator.wrapper_catalogue import VEC_WRAPPERS

ARGUMENTS = "learner.args"
ALWAYS = ("train.steps", "train.checkpoint_every")
"""What every learner honours, because its contract says so."""
HONOURABLE: dict[str, str] = {
    "simulator.wrappers.normalize": "write `rescale_observation`, which is around each copy",
    "simulator.wrappers.frame_stack": "write `history`, which is around each copy",
    "simulator.curriculum": "write `simulator.lesson`",
    "simulator.copies_on": "delete copies_on",
    "learner.policy": "delete it",
    "learner.init_from": "delete it",
    "learner.clone_from": "delete it",
    "learner.callbacks": "delete it",
    "train.episodes": "write train.steps",
    "train.max_time_s": "write budget.max_hours",
    "train.n_envs": "delete it",
    "train.copies": "delete it",
    "train.keep_checkpoints": "delete it",
    "train.stop": "delete it",
    "train.log_interval": "delete it",
    "evaluate.every.steps": "delete evaluate.every",
    "evaluate.every.after_episodes": "write evaluate.every.steps",
    "evaluate.keep_best": "delete it",
    "evaluate.videos.every": "delete `every`; the evaluation makes videos all the same",
}
"""Field that a learner may honour -> what to do where it does not. drillyard itself does the rest
of ``simulator:``, ``learner:``, ``train:`` and ``evaluate:`` for every learner."""
EVERYTHING = (*HONOURABLE, ARGUMENTS)


def refuse_ignored(spec: ExperimentSpec, learner: object) -> None:
    """Refuses what a file asks for and its learner would ignore.

    Args:
        spec: An ``rl`` experiment.
        learner: The learner; one that does not declare ``honours`` honours ``ALWAYS``.

    Raises:
        ConfigErrors: One error for each such field.
    """
    asked = spec.learner
    assert asked is not None
    name = asked.algorithm
    honoured = sorted({*ALWAYS, *(learner.honours if isinstance(learner, Declares) else ())})
    known = [h.removeprefix(f"{ARGUMENTS}.") for h in honoured if h.startswith(f"{ARGUMENTS}.")]
    errors = [
        ConfigError(
            f"{name} has no such argument",
            field=f"{ARGUMENTS}.{argument}",
            value=_short(value),
            allowed=", ".join(known) or "none",
            hint=nearest(argument, known) if known else "delete it",
        )
        for argument, value in asked.args.items()
        if argument not in known and ARGUMENTS not in honoured
    ]
    errors += [
        ConfigError(
            f"is ignored by {name}",
            field=field,
            value=_short(value),
            allowed=f"{', '.join(honoured)} with {name}",
            hint=f"{HONOURABLE[declaration]}, or choose an algorithm that honours it, such as ppo",
        )
        for field, declaration, value in _given(spec)
        if declaration not in honoured
    ]
    if errors:
        raise ConfigErrors(errors)


def _given(spec: ExperimentSpec) -> Iterator[tuple[str, str, Json]]:
    """Yields what a file asks for and not every learner honours: field, declaration, value."""
    sections = {"simulator", "learner", "train", "evaluate"}
    tree: dict[str, Json] = spec.model_dump(include=sections, exclude_defaults=True)
    for number, wrapper in enumerate(spec.simulator.wrappers if spec.simulator else ()):
        if wrapper.name in VEC_WRAPPERS:
            field = f"simulator.wrappers[{number}]"
            yield field, f"simulator.wrappers.{wrapper.name}", wrapper.name
    # A trial may give a value that the file's own value does not show.
    by_run = {dotted(tuple(late.at)): late.text for late in spec.parameters.per_run or ()}
    for field, value in {**by_run, **dict(_leaves(tree))}.items():
        if field in HONOURABLE and value != []:  # a list with a serializer is dumped when empty
            yield field, field, value


def _short(value: Json) -> Json:
    return value if isinstance(value, str | int | float) else str(value)


def _leaves(tree: Mapping[str, Json], path: str = "") -> Iterator[tuple[str, Json]]:
    """Yields each mapping's values, and the mappings themselves, by dotted path."""
    for key, value in tree.items():
        yield f"{path}{key}", value
        if isinstance(value, dict):
            yield from _leaves(value, f"{path}{key}.")
