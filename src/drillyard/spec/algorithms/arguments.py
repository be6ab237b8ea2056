"""Checks of ``learner.args`` that need neither torch nor Stable-Baselines3.

Every finding is a ``ConfigError`` with the field, the value, what is allowed and a way out; all of
them are raised together.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from drillyard.errors import ConfigError, ConfigErrors
from drillyard.registry import nearest
from drillyard.spec.algorithms import schedules
from drillyard.spec.algorithms.networks import NOT_TAKEN, check_policy_kwargs
from drillyard.spec.algorithms.signatures import (
    ARGUMENTS,
    FROM_EPISODES,
    NOISES,
    ON_POLICY,
    OURS,
    PRIORITISED,
)

FIELD = "learner.args"
Checks = Iterator[ConfigError]


@dataclass(frozen=True)
class Sizes:
    """What the arguments are compared with."""

    n_envs: int
    total_steps: int | None = None
    """Budget in environment steps, where known."""


def validate_arguments(algorithm: str, args: Mapping[str, Any], sizes: Sizes) -> None:
    """Check the arguments of a built-in algorithm.

    Args:
        algorithm: A key of ``ARGUMENTS``.
        args: As written in the file.
        sizes: Copies and budget.

    Raises:
        ConfigErrors: Every argument that cannot work.
    """
    errors = list(_names(algorithm, args))
    bad = {e.field for e in errors}
    for name, value in args.items():
        field = f"{FIELD}.{name}"
        if field in bad or (value is None and ARGUMENTS[algorithm][name] is None):
            continue
        if name == "policy_kwargs":
            errors += check_policy_kwargs(field, value, algorithm)
        elif name in _RULES:
            errors += _RULES[name](field, value)
    if not errors:
        errors += _together(algorithm, {**ARGUMENTS[algorithm], **clean(args)}, sizes)
    if errors:
        raise ConfigErrors(errors)


def clean(args: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments with whole floats as integers where the argument is one (``64.0`` -> 64)."""
    return {
        name: int(value)
        if isinstance(value, float) and value.is_integer() and name in _INTEGERS
        else value
        for name, value in args.items()
    }


def _names(algorithm: str, args: Mapping[str, Any]) -> Checks:
    known = [a for a in ARGUMENTS[algorithm] if a not in OURS]
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
        elif name not in known:
            yield ConfigError(
                f"{algorithm} has no such argument",
                field=field,
                value=value,
                allowed=", ".join(sorted(known)),
                hint=nearest(name, known),
            )


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _number(
    low: float | None = None,
    high: float | None = None,
    *,
    open_low: bool = False,
    null: bool = False,
    words: tuple[str, ...] = (),
) -> Callable[[str, Any], Checks]:
    allowed = _span(low, high, open_low) + (" or null" if null else "")
    allowed += "".join(f" or {w!r}" for w in words)

    def check(field: str, value: Any) -> Checks:
        if (null and value is None) or (isinstance(value, str) and value in words):
            return
        if not _is_number(value):
            yield ConfigError(
                "is not a number", field=field, value=value, allowed=allowed, hint=_unquote(value)
            )
        elif not math.isfinite(value):
            yield ConfigError("is not finite", field=field, value=value, allowed=allowed)
        elif (low is not None and (value < low or (open_low and value == low))) or (
            high is not None and value > high
        ):
            yield ConfigError("is out of range", field=field, value=value, allowed=allowed)

    return check


def _span(low: float | None, high: float | None, open_low: bool) -> str:
    if low is not None and high is not None:
        return f"a number {'above' if open_low else 'from'} {low:g} to {high:g}"
    if low is not None:
        return f"a finite number {'above' if open_low else 'of at least'} {low:g}"
    return "a finite number"


def _unquote(value: Any) -> str | None:
    try:
        float(value)
    except (TypeError, ValueError):
        return None
    return f"write {value} without quotes"


def _integer(
    low: int, *, also: tuple[Any, ...] = (), null: bool = False
) -> Callable[[str, Any], Checks]:
    allowed = f"a whole number of at least {low}" + "".join(f" or {a!r}" for a in also)

    def check(field: str, value: Any) -> Checks:
        if (null and value is None) or value in also:
            return
        whole = _is_number(value) and math.isfinite(value) and float(value).is_integer()
        if not whole:
            yield ConfigError(
                "is not a whole number",
                field=field,
                value=value,
                allowed=allowed,
                hint=_unquote(value),
            )
        elif value < low:
            yield ConfigError("is too small", field=field, value=value, allowed=allowed)
        elif value > 2**53:
            yield ConfigError("is too large", field=field, value=value, allowed=allowed)

    return check


def _flag(field: str, value: Any) -> Checks:
    if not isinstance(value, bool):
        yield ConfigError("is not true or false", field=field, value=value, allowed="true, false")


def _schedule_or_null(field: str, value: Any) -> Checks:
    if value is not None:
        yield from schedules.problems(field, value)


def _entropy(field: str, value: Any) -> Checks:
    if isinstance(value, str):
        start = value.removeprefix("auto").removeprefix("_")
        try:
            good = value.startswith("auto") and (not start or float(start) > 0)
        except ValueError:
            good = False
        if not good:
            yield ConfigError(
                "is no entropy coefficient",
                field=field,
                value=value,
                allowed="a number, 'auto' or 'auto_<start>'",
            )
    else:
        yield from _number(0)(field, value)


def _train_freq(field: str, value: Any) -> Checks:
    count, unit = (
        (value, "step")
        if not isinstance(value, list | tuple)
        else ((value[0], value[1]) if len(value) == 2 else (None, None))
    )
    if (
        isinstance(count, bool)
        or not isinstance(count, int)
        or count < 1
        or unit
        not in (
            "step",
            "episode",
        )
    ):
        yield ConfigError(
            "is no training frequency",
            field=field,
            value=value,
            allowed="a number of steps, or [number, step|episode]",
        )


def _noise(field: str, value: Any) -> Checks:
    known = {"name", "sigma", "theta", "dt"}
    given = {"name": value} if isinstance(value, str) else value
    if value is None:
        return
    if not isinstance(given, Mapping) or given.get("name") not in NOISES:
        name = given.get("name") if isinstance(given, Mapping) else value
        yield ConfigError(
            "is no action noise",
            field=field,
            value=value,
            allowed=f"{', '.join(NOISES)}, or {{name, sigma}}",
            hint=nearest(name, list(NOISES)) if isinstance(name, str) else None,
        )
        return
    for key in set(given) - known:
        yield ConfigError(
            "no such setting of the noise",
            field=f"{field}.{key}",
            hint=nearest(str(key), sorted(known)),
        )
    for key in ("sigma", "theta", "dt"):
        if key in given:
            yield from _number(0)(f"{field}.{key}", given[key])


def _replay_kwargs(field: str, value: Any) -> Checks:
    if value is None:
        return
    if not isinstance(value, Mapping) or set(value) - {"handle_timeout_termination"}:
        yield ConfigError(
            "has settings that cannot be resumed",
            field=field,
            value=value,
            allowed="{handle_timeout_termination: true|false}",
        )


_UNIT = _number(0, 1)
_RULES: dict[str, Callable[[str, Any], Checks]] = {
    "learning_rate": schedules.problems,
    "clip_range": schedules.problems,
    "clip_range_vf": _schedule_or_null,
    "gamma": _UNIT,
    "gae_lambda": _UNIT,
    "exploration_fraction": _number(0, 1, open_low=True),
    "exploration_initial_eps": _UNIT,
    "exploration_final_eps": _UNIT,
    "tau": _number(0, 1, open_low=True),
    "n_steps": _integer(1),
    "batch_size": _integer(1),
    "n_epochs": _integer(1),
    "buffer_size": _integer(1),
    "learning_starts": _integer(0),
    "gradient_steps": _integer(0, also=(-1,)),
    "policy_delay": _integer(1),
    "target_update_interval": _integer(1),
    "stats_window_size": _integer(1),
    "sde_sample_freq": _integer(1, also=(-1,)),
    "ent_coef": _entropy,
    "vf_coef": _number(0),
    "max_grad_norm": _number(0, open_low=True),
    "rms_prop_eps": _number(0, open_low=True),
    "target_kl": _number(0, open_low=True, null=True),
    "target_policy_noise": _number(0),
    "target_noise_clip": _number(0),
    "target_entropy": _number(words=("auto",)),
    "use_sde": _flag,
    "use_sde_at_warmup": _flag,
    "normalize_advantage": _flag,
    "use_rms_prop": _flag,
    "optimize_memory_usage": _flag,
    "train_freq": _train_freq,
    "action_noise": _noise,
    "replay_buffer_kwargs": _replay_kwargs,
    "cg_max_steps": _integer(1),
    "cg_damping": _number(0),
    "line_search_max_iter": _integer(1),
    "line_search_shrinking_factor": _number(0, 1, open_low=True),
    "n_critic_updates": _integer(1),
    "sub_sampling_factor": _integer(1),
    "top_quantiles_to_drop_per_net": _integer(0),
    "n_delta": _integer(1),
    "n_top": _integer(1),
    "delta_std": schedules.problems,
    "zero_policy": _flag,
    "alive_bonus_offset": _number(),
    "n_eval_episodes": _integer(1),
}
_INTEGERS = frozenset(
    {
        "n_steps",
        "batch_size",
        "n_epochs",
        "buffer_size",
        "learning_starts",
        "gradient_steps",
        "policy_delay",
        "target_update_interval",
        "stats_window_size",
        "sde_sample_freq",
        "cg_max_steps",
        "line_search_max_iter",
        "n_critic_updates",
        "sub_sampling_factor",
        "top_quantiles_to_drop_per_net",
        "n_delta",
        "n_top",
        "n_eval_episodes",
    }
)


def _together(algorithm: str, args: Mapping[str, Any], sizes: Sizes) -> Checks:
    """Arguments that are wrong only beside one another."""
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
                hint="leave it out to take them all",
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
            "is not offered with priorities",
            field=f"{FIELD}.optimize_memory_usage",
            value=True,
            allowed="false",
            hint="leave it out",
        )
    handles = (args["replay_buffer_kwargs"] or {}).get("handle_timeout_termination", True)
    if args["optimize_memory_usage"] and handles:
        yield ConfigError(
            "cannot be had with the right handling of time limits",
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
