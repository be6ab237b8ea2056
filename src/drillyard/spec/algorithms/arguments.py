"""Checks of ``learner.args`` that need neither torch nor Stable-Baselines3.

Every finding is a ``ConfigError`` with the field, the value, what is allowed and a way out; all of
them are raised together.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from drillyard.documents.json_types import Json
from drillyard.errors import ConfigError, ConfigErrors
from drillyard.spec.algorithms.argument_rules import Checks
from drillyard.spec.algorithms.argument_table import ARGUMENTS, TABLE
from drillyard.spec.algorithms.policy_arguments import NOT_TAKEN, check_policy_kwargs
from drillyard.spec.algorithms.signatures import FROM_EPISODES, ON_POLICY, OURS, PRIORITISED
from drillyard.spec.aliases import ours

FIELD = "learner.args"


@dataclass(frozen=True)
class Sizes:
    """Values that the arguments are compared with."""

    n_envs: int
    total_steps: int | None = None
    """Budget in environment steps, where known."""


def validate_arguments(algorithm: str, args: Mapping[str, Json], sizes: Sizes | None) -> None:
    """Check the arguments of a built-in algorithm.

    Args:
        algorithm: A key of ``ARGUMENTS``.
        args: As written in the file.
        sizes: Copies and budget; None: not known, so each argument is checked by itself.

    Raises:
        ConfigErrors: Every argument that cannot work.
    """
    errors = list(misnamed(algorithm, args))
    bad = {e.field for e in errors}
    for name, value in args.items():
        field = f"{FIELD}.{name}"
        if field in bad or (value is None and ARGUMENTS[algorithm][name] is None):
            continue
        if name == "policy_kwargs":
            errors += check_policy_kwargs(field, value, algorithm)
        else:
            errors += TABLE[name].rule.check(field, value)
    if not errors and sizes is not None:
        errors += _together(algorithm, {**ARGUMENTS[algorithm], **clean(args)}, sizes)
    if errors:
        raise ConfigErrors(errors)


def clean(args: Mapping[str, Json]) -> dict[str, Any]:
    """The arguments with whole floats as integers where the argument is one (``64.0`` -> 64)."""
    return {
        name: int(value)
        if isinstance(value, float) and value.is_integer() and TABLE[name].rule.whole
        else value
        for name, value in args.items()
    }


def misnamed(algorithm: str, args: Mapping[str, Json]) -> Checks:
    """Yields an error for each argument that a built-in algorithm does not have.

    Args:
        algorithm: A key of ``ARGUMENTS``.
        args: As written in the file.
    """
    known = [*ARGUMENTS[algorithm]]
    for name, value in args.items():
        field = f"{FIELD}.{name}"
        if name in NOT_TAKEN:
            reason, hint = NOT_TAKEN[name]
            yield ConfigError(
                reason, field=field, value=str(value), allowed=", ".join(sorted(known)), hint=hint
            )
        elif name in OURS:
            yield ConfigError(
                "is not for the experiment file", field=field, value=value, hint=OURS[name]
            )
        elif name not in known and (theirs := ours(name)) and theirs != field:
            yield ConfigError(
                f"unknown argument {name!r}",
                field=field,
                value=name,
                allowed="Stable-Baselines3's own argument names",
                hint=f"did you mean {theirs!r}?",
            )
        elif name not in known:
            yield ConfigError(
                f"{algorithm} has no such argument",
                field=field,
                value=value,
                keys=sorted(known),
            )


def _together(algorithm: str, args: Mapping[str, Any], sizes: Sizes) -> Checks:
    """Checks arguments against each other."""
    if algorithm in ON_POLICY:
        yield from _rollout(args, sizes.n_envs)
        return
    if algorithm in FROM_EPISODES:
        if (args["n_top"] or 0) > args["n_delta"]:
            yield ConfigError(
                "is more than there are directions",
                field=f"{FIELD}.n_top",
                value=args["n_top"],
                allowed=f"at most n_delta = {args['n_delta']}",
                hint="remove it to use all directions",
            )
        return
    starts, total = args["learning_starts"], sizes.total_steps
    if total is not None and starts >= total:
        yield ConfigError(
            f"nothing would be learned in {total} steps",
            field=f"{FIELD}.learning_starts",
            value=starts,
            allowed=f"less than the budget of {total} steps",
        )
    frequency = args["train_freq"]
    if sizes.n_envs > 1 and isinstance(frequency, list | tuple) and frequency[1] == "episode":
        yield ConfigError(
            f"training by episodes needs one copy, and `train.n_envs` is {sizes.n_envs}",
            field=f"{FIELD}.train_freq",
            value=frequency,
            hint="count in steps",
        )
    if algorithm in PRIORITISED and args["optimize_memory_usage"]:
        yield ConfigError(
            "is not available with priorities",
            field=f"{FIELD}.optimize_memory_usage",
            value=True,
            allowed="false",
            hint="remove it",
        )
    handles = (args["replay_buffer_kwargs"] or {}).get("handle_timeout_termination", True)
    if args["optimize_memory_usage"] and handles:
        yield ConfigError(
            "cannot be combined with the correct handling of time limits",
            field=f"{FIELD}.optimize_memory_usage",
            value=True,
            hint="add replay_buffer_kwargs: {handle_timeout_termination: false}",
        )


def _rollout(args: Mapping[str, Any], n_envs: int) -> Checks:
    steps = args["n_steps"] * n_envs
    product = f"n_steps x n_envs = {args['n_steps']} x {n_envs} = {steps}"
    if steps < 2 and args["normalize_advantage"]:
        yield ConfigError(
            f"a rollout is {product} step: the advantage of one sample has no spread",
            field=f"{FIELD}.n_steps",
            value=args["n_steps"],
            allowed="n_steps x n_envs above 1",
        )
    elif args.get("batch_size", 1) > steps:
        yield ConfigError(
            f"is more than a rollout has: {product}",
            field=f"{FIELD}.batch_size",
            value=args["batch_size"],
            allowed=f"a divisor of {steps}",
        )
    elif steps % args.get("batch_size", 1):
        close = _nearest_divisor(steps, args["batch_size"])
        yield ConfigError(
            f"does not divide a rollout ({product}): the last minibatch would be cut short",
            field=f"{FIELD}.batch_size",
            value=args["batch_size"],
            allowed=f"a divisor of {steps}",
            hint=f"the nearest is {close}",
        )


def _nearest_divisor(number: int, wanted: int) -> int:
    small = [d for d in range(1, math.isqrt(number) + 1) if number % d == 0]
    divisors = {*small, *(number // d for d in small)} - {1} or {number}
    return min(divisors, key=lambda d: abs(d - wanted))
