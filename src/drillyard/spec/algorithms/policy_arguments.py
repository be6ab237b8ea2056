"""Checks of ``policy_kwargs``, without torch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial

from drillyard.documents.json_types import Json
from drillyard.errors import ConfigError, nearest
from drillyard.spec.algorithms import optimisers
from drillyard.spec.algorithms.argument_rules import widths
from drillyard.spec.algorithms.signatures import (
    ACTIVATIONS,
    EXTRACTORS,
    OPTIMISERS,
    POLICY_ARGUMENTS,
    class_name,
)

_FLAGS = (
    "ortho_init",
    "full_std",
    "use_expln",
    "squash_output",
    "share_features_extractor",
    "normalize_images",
)


_PLAIN = (
    "log_std_init",
    "n_critics",
    "clip_mean",
    "features_extractor_kwargs",
    "optimizer_kwargs",
)


_NAMED = {
    "activation_fn": ACTIVATIONS,
    "optimizer_class": OPTIMISERS,
    "features_extractor_class": EXTRACTORS,
}
"""Argument -> the names that it takes."""
_CLASSES = (*_NAMED, "net_arch")


_KNOWN = (*_CLASSES, *_PLAIN, *_FLAGS)


_SCHEDULER = (
    "a scheduler of torch would change nothing: Stable-Baselines3 sets the learning rate anew "
    "before each update",
    "write the schedule as learner.args.learning_rate: cos_3e-4, lin_3e-4, exp_3e-4_1e-5, "
    "{name: step, start: 3.0e-4, factor: 0.5, every: 0.25}, or module:function",
)


_LOSS = (
    "the losses of these algorithms are fixed; none of them takes a criterion",
    "delete it; a learner of your own can take one: `drillyard new learner my-learner`",
)


NOT_TAKEN = {
    **dict.fromkeys(
        (
            "scheduler",
            "lr_scheduler",
            "scheduler_class",
            "lr_scheduler_class",
            "scheduler_kwargs",
            "lr_scheduler_kwargs",
        ),
        _SCHEDULER,
    ),
    **dict.fromkeys(("criterion", "loss", "loss_fn", "loss_function"), _LOSS),
}
"""Argument of other libraries -> why it is refused, and what to write instead."""


def check_policy_kwargs(field: str, value: Json, algorithm: str) -> Iterator[ConfigError]:
    """Yields the errors in ``policy_kwargs``."""
    known = (*_KNOWN, *POLICY_ARGUMENTS.get(algorithm, ()))
    if value is None:
        return
    if not isinstance(value, Mapping):
        yield ConfigError("is not a mapping", field=field, value=value)
        return
    for key, given in value.items():
        where = f"{field}.{key}"
        wrong = partial(ConfigError, field=where)
        if key in NOT_TAKEN:
            reason, hint = NOT_TAKEN[key]
            yield wrong(reason, value=str(given), allowed=", ".join(known), hint=hint)
        elif key not in known:
            yield wrong("there is no such policy argument", value=given, keys=known)
        elif key == "net_arch":
            yield from _net_arch(where, given)
        elif key in _NAMED:
            yield from _named(where, given, _NAMED[key])
        elif key in _FLAGS and not isinstance(given, bool):
            yield wrong("is not true or false", value=given)
        elif key not in ("optimizer_kwargs", "features_extractor_kwargs"):
            continue
        elif given is not None and not isinstance(given, Mapping):
            yield wrong("is not a mapping", value=given, allowed="arguments by name")
        elif key == "optimizer_kwargs":
            name = value.get("optimizer_class", "adam")
            yield from optimisers.problems(where, name, given or {})


def _named(field: str, value: Json, table: dict[str, str]) -> Iterator[ConfigError]:
    if isinstance(value, str) and ":" in value:
        module, _, attribute = value.partition(":")
        if not attribute.isidentifier() or not all(p.isidentifier() for p in module.split(".")):
            yield ConfigError("is not a class", field=field, value=value, allowed="module:Class")
    elif not isinstance(value, str) or class_name(value, table) is None:
        yield ConfigError(
            "is not in the list",
            field=field,
            value=value,
            allowed=", ".join(table) + ", or module:Class",
            hint=_written_as(str(value), table),
        )


def _written_as(value: str, table: dict[str, str]) -> str:
    """How a name is written here: ``torch.optim.Adam`` is ``adam``."""
    module, _, last = value.rpartition(".")
    known = class_name(last, table)
    if module and known is not None:
        return f"write {next(name for name, kind in table.items() if kind == known)}"
    if module and last.isidentifier():
        return f"write {module}:{last}"
    return nearest(value, [*table, *table.values()])


def _net_arch(field: str, value: Json) -> Iterator[ConfigError]:
    parts = {field: value}
    if isinstance(value, Mapping):
        for key in set(value) - {"pi", "vf", "qf"}:
            yield ConfigError(
                "no such network",
                field=f"{field}.{key}",
                value=value[key],
                allowed="pi, vf, qf",
                hint="pi is the actor, vf (off-policy: qf) the critic",
            )
        parts = {f"{field}.{k}": v for k, v in value.items() if k in {"pi", "vf", "qf"}}
    for where, layers in parts.items():
        for error in widths(where, layers):
            if not isinstance(layers, list | tuple):
                error = error.but(allowed="[64, 64] or {pi: […], vf: […]} ({pi, qf} off-policy)")
            yield error
