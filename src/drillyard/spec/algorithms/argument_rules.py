"""The rules for single arguments in ``learner.args``."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from typing import TypeGuard

from drillyard.documents.json_types import Json
from drillyard.errors import ConfigError
from drillyard.registry import nearest
from drillyard.spec.algorithms import schedules
from drillyard.spec.algorithms.signatures import (
    NOISES,
)

Checks = Iterator[ConfigError]


Rule = Callable[[str, Json], Checks]


def _is_number(value: Json) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _number(
    low: float | None = None,
    high: float | None = None,
    *,
    open_low: bool = False,
    null: bool = False,
    words: tuple[str, ...] = (),
) -> Rule:
    allowed = _span(low, high, open_low) + (" or null" if null else "")
    allowed += "".join(f" or {w!r}" for w in words)

    def check(field: str, value: Json) -> Checks:
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


def _unquote(value: Json) -> str | None:
    try:
        float(value) if isinstance(value, str | float | int) else float("")
    except (TypeError, ValueError):
        return None
    return f"write {value} without quotes"


def _integer(low: int, *, also: tuple[Json, ...] = (), null: bool = False) -> Rule:
    allowed = f"a whole number of at least {low}" + "".join(f" or {a!r}" for a in also)

    def check(field: str, value: Json) -> Checks:
        if (null and value is None) or value in also:
            return
        if not (_is_number(value) and math.isfinite(value) and float(value).is_integer()):
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


def _flag(field: str, value: Json) -> Checks:
    if not isinstance(value, bool):
        yield ConfigError("is not true or false", field=field, value=value, allowed="true, false")


def _schedule_or_null(field: str, value: Json) -> Checks:
    if value is not None:
        yield from schedules.problems(field, value)


def _entropy(field: str, value: Json) -> Checks:
    if isinstance(value, str):
        start = value.removeprefix("auto").removeprefix("_")
        try:
            good = value.startswith("auto") and (not start or float(start) > 0)
        except ValueError:
            good = False
        if not good:
            yield ConfigError(
                "is not an entropy coefficient",
                field=field,
                value=value,
                allowed="a number, 'auto' or 'auto_<start>'",
            )
    else:
        yield from _number(0)(field, value)


def _train_freq(field: str, value: Json) -> Checks:
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
            "is not a training frequency",
            field=field,
            value=value,
            allowed="a number of steps, or [number, step|episode]",
        )


def _noise(field: str, value: Json) -> Checks:
    known = {"name", "sigma", "theta", "dt"}
    given = {"name": value} if isinstance(value, str) else value
    if value is None:
        return
    if not isinstance(given, Mapping) or given.get("name") not in NOISES:
        name = given.get("name") if isinstance(given, Mapping) else value
        yield ConfigError(
            "is not an action noise",
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


def _replay_kwargs(field: str, value: Json) -> Checks:
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
RULES: dict[str, Rule] = {
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
