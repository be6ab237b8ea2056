"""Schedules of learning rate and clip range by name: ``lin_3e-4``, ``cos_3e-4``, or a mapping.

A schedule is a function of the progress that remains: 1 at the start of training, 0 at its end. It
depends on nothing else, so a resumed training continues exactly. Needs neither torch nor
Stable-Baselines3.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from drillyard.documents.json_types import Json, JsonObject
from drillyard.errors import ConfigError, nearest
from drillyard.registry import load_object

SHORT = {"lin": "linear", "cos": "cosine", "exp": "exponential", "const": "constant"}
"""Before the first ``_`` of a text -> the schedule."""
TORCH = {
    "cosineannealinglr": "cos",
    "linearlr": "lin",
    "polynomiallr": "lin",
    "exponentiallr": "exp",
    "constantlr": "const",
    "steplr": "step",
    "multisteplr": "step",
}
"""Schedulers of torch, in small letters -> the short name of what comes nearest here."""
SETTINGS_SHORT = {**SHORT, "step": "step"}
SETTINGS: dict[str, tuple[str, ...]] = {
    "constant": ("start",),
    "linear": ("start", "end", "warm_up"),
    "cosine": ("start", "end", "warm_up"),
    "exponential": ("start", "end", "warm_up"),
    "step": ("start", "factor", "every"),
}
"""Schedule -> what it can be told. ``every`` and ``warm_up`` are shares of the training."""
ALLOWED = (
    "a finite number above 0; lin_<start>, cos_<start> (to 0, or to lin_<start>_<end>), "
    "exp_<start>_<end>; {name: " + "|".join(SETTINGS) + ", start: …}; or module:function"
)


@dataclass(frozen=True)
class Schedule:
    """A value over the course of training.

    Args:
        name: One of ``SETTINGS``.
        start: Value at the start (after the warm-up).
        end: Value at the end.
        factor: ``step``: what each step multiplies by.
        every: ``step``: share of the training between two steps.
        warm_up: Share of the training over which the value rises from 0 to ``start``.
    """

    name: str
    start: float
    end: float = 0.0
    factor: float = 0.5
    every: float = 0.25
    warm_up: float = 0.0

    def __call__(self, remaining: float) -> float:
        """The value.

        Args:
            remaining: 1 at the start of training, 0 at its end.
        """
        done = min(max(1.0 - remaining, 0.0), 1.0)
        if done < self.warm_up:
            return self.start * done / self.warm_up
        passed = (done - self.warm_up) / (1.0 - self.warm_up)
        if self.name == "linear":  # as Stable-Baselines3's own, to the last bit
            return self.start + passed * (self.end - self.start)
        if self.name == "cosine":
            return self.end + 0.5 * (self.start - self.end) * (1 + math.cos(math.pi * passed))
        if self.name == "exponential":
            return float(self.start * (self.end / self.start) ** passed)
        if self.name == "step":
            return float(self.start * self.factor ** math.floor(done / self.every + 1e-9))
        return self.start

    def __str__(self) -> str:
        if self.name == "constant":
            return f"{self.start:g}"
        if self.name == "step":
            return f"step {self.start:g} x {self.factor:g} each {self.every:g} of the training"
        warm = f", warm-up {self.warm_up:g}" if self.warm_up else ""
        return f"{self.name} {self.start:g} to {self.end:g}{warm}"


def parse(value: Json) -> Schedule | None:
    """A number, text or mapping as a schedule; None when it is none of ours.

    Args:
        value: The value in ``learner.args``.
    """
    return None if any(problems("", value)) else _made(value)


def problems(field: str, value: Json) -> Iterator[ConfigError]:
    """What is wrong with a schedule; nothing for ``module:function``.

    Args:
        field: For the messages.
        value: The value in ``learner.args``.
    """
    wrong = partial(ConfigError, field=field, value=value, allowed=ALLOWED)
    if isinstance(value, Mapping):
        yield from _of_mapping(field, value)
    elif isinstance(value, str) and ":" in value:
        yield from _of_path(field, value)
    elif isinstance(value, str):
        yield from _of_text(field, value)
    elif isinstance(value, bool) or not isinstance(value, int | float):
        yield wrong("is neither a number nor a schedule")
    elif not math.isfinite(value):
        yield wrong("is not finite")
    elif value <= 0:
        yield wrong("must be above 0")


def function(value: Any) -> Any:
    """What Stable-Baselines3 is given: a number, or a function of the progress that remains.

    Args:
        value: Checked by ``problems``.

    Raises:
        PluginError: ``module:function`` does not import.
    """
    path = value.get("name") if isinstance(value, Mapping) else value
    if isinstance(path, str) and ":" in path:
        maker = load_object(path)
        settings = {k: v for k, v in value.items() if k != "name"} if value is not path else {}
        # A class, or a function that takes settings, makes the schedule; a plain one is it.
        return maker(**settings) if settings or isinstance(maker, type) else maker
    schedule = _made(value)
    return schedule.start if schedule.name == "constant" else schedule


def _made(value: Any) -> Schedule:
    if isinstance(value, Mapping):
        return Schedule(value["name"], **{k: float(v) for k, v in value.items() if k != "name"})
    if isinstance(value, str):
        word, *numbers = value.split("_")
        return Schedule(SHORT[word], *map(float, numbers))
    return Schedule("constant", float(value))


def _of_text(field: str, text: str) -> Iterator[ConfigError]:
    wrong = partial(ConfigError, "is neither a number nor a schedule", field=field, value=text)
    word, *words = text.split("_")
    numbers = [_as_number(w) for w in words]
    if word not in SHORT:
        yield wrong(allowed=ALLOWED, hint=_instead(text))
    elif not 1 <= len(words) <= (1 if word == "const" else 2) or None in numbers:
        ends = "_1e-5" if word == "exp" else ""
        yield wrong(allowed=ALLOWED, hint=f"for example {word}_3e-4{ends}")
    else:
        given = dict(zip(("start", "end"), numbers, strict=False))
        yield from _settings(field, text, SHORT[word], given)


def _instead(text: str) -> str:
    """What who wrote ``text`` wants: ``cosine``, ``linear_3e-4``, ``CosineAnnealingLR``."""
    if _as_number(text) is not None:
        return f"write {text} without quotes"
    name, _, rest = text.partition("_")
    plain = name.lower()
    short = TORCH.get(plain) or {v: k for k, v in SETTINGS_SHORT.items()}.get(plain)
    if short is None:
        close = nearest(plain, [*SHORT, *SETTINGS])
        return (close if close.startswith("did") else "name a schedule") + " as in lin_3e-4"
    if short == "step":
        return "write {name: step, start: 3.0e-4, factor: 0.5, every: 0.25}"
    numbers = rest if rest and all(_as_number(n) is not None for n in rest.split("_")) else "3e-4"
    return f"write {short}_{numbers}" + ("_1e-5" if short == "exp" and "_" not in numbers else "")


def _of_mapping(field: str, value: JsonObject) -> Iterator[ConfigError]:
    name = value.get("name")
    if isinstance(name, str) and ":" in name:
        yield from _of_path(f"{field}.name", name)
        return
    if not isinstance(name, str) or name not in SETTINGS:
        yield ConfigError(
            "is not a schedule",
            field=f"{field}.name",
            value=name,
            allowed=", ".join(SETTINGS) + ", or module:function",
            hint=_named_instead(name),
        )
        return
    settings = {k: v for k, v in value.items() if k != "name"}
    for key, setting in settings.items():
        wrong = partial(ConfigError, field=f"{field}.{key}", value=setting)
        if key not in SETTINGS[name]:
            yield wrong(f"the schedule {name} has no such setting", keys=SETTINGS[name])
            return
        if _as_number(setting) is None or isinstance(setting, str | bool):
            yield wrong("is not a number", allowed="a finite number")
            return
    given = {key: _as_number(setting) for key, setting in settings.items()}
    yield from _settings(field, value, name, given)


def _named_instead(name: object) -> str:
    plain = str(name).lower()
    full = SETTINGS_SHORT.get(TORCH.get(plain, plain))
    return f"write name: {full}" if full else nearest(plain, list(SETTINGS))


def _settings(
    field: str, value: Json, name: str, given: Mapping[str, float | None]
) -> Iterator[ConfigError]:
    wrong = partial(ConfigError, field=field, value=value, allowed=ALLOWED)
    start, end = given.get("start"), given.get("end")
    if start is None:
        yield wrong("has no start", hint=f"for example {{name: {name}, start: 3.0e-4}}")
        return
    if not math.isfinite(start):
        yield wrong("is not finite")
    elif start <= 0:
        yield wrong("must be above 0")
    if end is not None and (not math.isfinite(end) or end < 0):
        yield wrong("ends below 0")
    if name == "exponential" and not end:
        yield wrong(
            "falls exponentially and needs an end above 0",
            hint=f"for example exp_{start:g}_{start / 100:g}",
        )
    for key in ("every", "warm_up"):
        share = given.get(key)
        if share is not None and not 0 < share < 1:
            yield ConfigError(
                "is not a share of the training",
                field=f"{field}.{key}",
                value=share,
                allowed="a number above 0 and below 1",
            )
    factor = given.get("factor")
    if factor is not None and not (math.isfinite(factor) and factor > 0):
        yield ConfigError("must be above 0", field=f"{field}.factor", value=factor)


def _of_path(field: str, path: str) -> Iterator[ConfigError]:
    module, _, attribute = path.partition(":")
    if not attribute.isidentifier() or not all(p.isidentifier() for p in module.split(".")):
        yield ConfigError("is not a module:function", field=field, value=path, allowed=ALLOWED)


def _as_number(value: Any) -> float | None:
    try:
        return float(value)
    except (TypeError, ValueError):
        return None
