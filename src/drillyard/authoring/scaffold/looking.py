"""Finds the names, ranges and reset keys of a plain simulator by calling it.

What cannot be observed is guessed, and marked as a guess.
"""

from __future__ import annotations

import inspect
import math
import sys
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from types import ModuleType
from typing import Any

import gymnasium
import numpy as np

from drillyard.errors import UserError
from drillyard.registry import load_object
from drillyard.system.user_code import place
from drillyard.system.watchdog import report_activity

METHODS = ("reset", "step", "terminated", "truncated")
EPISODES, STEPS = 4, 200
_SEED = 7
_REFERENCES = ("wanted", "target", "setpoint", "set_point", "reference", "goal", "desired")


@dataclass(frozen=True)
class Seen:
    """A state: its observed values, and a range around them.

    Attributes:
        name: The simulator's name for it.
        low: Smallest observed value.
        high: Largest observed value.
        range: (min, max) for the agent, rounded outwards.
        counts: Whether it grows by the same amount at each step, as time or a counter does.
    """

    name: str
    low: float
    high: float
    range: tuple[float, float]
    counts: bool = False


@dataclass(frozen=True)
class Look:
    """What the trial calls showed.

    Attributes:
        id: ``module:Class``.
        states: The states in the simulator's order.
        acts: Names that ``step`` read.
        resets: Keys that ``reset`` read -> the simulator's default.
        ends: Whether an episode ended by itself.
        steps: Number of steps.
        lowest: The lowest value that an action had; the highest was 1.
    """

    id: str
    states: list[Seen]
    acts: list[str]
    resets: dict[str, Any] = field(default_factory=dict)
    ends: bool = True
    steps: int = 0
    lowest: float = -1.0

    def reward(self) -> str:
        """Guesses a reward: near a reference, or near the middle of the observed values."""
        named = [s for s in self.states if s.name.isidentifier() and not s.counts]
        references = [s for s in named if any(r in s.name.lower() for r in _REFERENCES)]
        rest = [s for s in named if s not in references]
        if not rest:
            return "0"
        goal = (
            references[0].name if references else f"{_round((rest[0].low + rest[0].high) / 2):g}"
        )
        return f"-abs({rest[0].name} - {goal})"


class _Asked(dict[str, Any]):
    """A mapping that has a value for every key, and remembers the keys."""

    def __init__(self, value: Any) -> None:
        super().__init__()
        self._value = value
        self.names: dict[str, Any] = {}

    def __missing__(self, name: str) -> Any:
        return self.names.setdefault(name, self._value())

    def get(self, name: str, default: Any = None) -> Any:
        self.names.setdefault(name, default)
        return self[name] if default is None else default


def look(file: Path, class_name: str | None) -> Look:
    """Calls the simulator of a file, whose folder is on ``sys.path``.

    Args:
        file: A Python file.
        class_name: Name of the class; None if there is only one.

    Raises:
        UserError: There is no class or more than one, or the class cannot be used.
        PluginError: The file cannot be imported.
    """
    if file.stem in sys.stdlib_module_names:
        raise UserError(
            f"{file.name} has the name of a module of Python's own, which is imported instead",
            hint="rename the file",
        )
    report_activity(f"importing {file.name}")
    kind = _class(file, class_name)
    try:
        simulator = kind()
    except TypeError as error:
        raise UserError(
            f"{kind.__name__} cannot be created without arguments: {error}",
            hint="give them defaults; an experiment can change them with simulator.args",
        ) from error
    try:
        return _looked(file, kind, simulator, -1.0)
    except _Raised as raised:
        if not raised.acted:
            raise _told(kind, raised, "every action was 0") from raised.error
    # A flow, for example, cannot be negative.
    try:
        return _looked(file, kind, kind(), 0.0)
    except _Raised as raised:
        raise _told(
            kind, raised, "every action was from -1 to 1, then from 0 to 1"
        ) from raised.error


class _Raised(Exception):
    """The simulator raised ``error`` at ``where``, after actions that were not 0 if ``acted``."""

    def __init__(self, where: str, error: Exception, *, acted: bool) -> None:
        super().__init__(where)
        self.where, self.error, self.acted = where, error, acted


def _told(kind: Any, raised: _Raised, actions: str) -> UserError:
    cause = raised.error
    line = f" ({where})" if (where := place(cause)) else ""
    return UserError(
        f"{kind.__name__} raised at {raised.where}: {type(cause).__name__}: {cause}{line}",
        hint=f"fix that line; {actions}: if it needs others, write the experiment by hand, as "
        "`drillyard new simulator NAME` does",
    )


def _looked(file: Path, kind: Any, simulator: Any, lowest: float) -> Look:
    """What a simulator does under actions from ``lowest`` to 1.

    Raises:
        _Raised: It raised.
        UserError: It returned something else than states by name.
    """
    rng = np.random.default_rng(_SEED)
    more = {"rng": rng} if "rng" in inspect.signature(simulator.reset).parameters else {}
    observed: list[dict[str, float]] = []
    starts: list[int] = []
    resets: dict[str, Any] = {}
    acts: dict[str, Any] = {}
    ended = False
    for episode in range(EPISODES):
        config, step = _Asked(float), 0
        try:
            report_activity(f"reset {episode + 1}")
            states = _numbers("reset", simulator.reset(config, **more))
            resets |= config.names
            starts.append(len(observed))
            observed.append(states)
            for step in range(1, STEPS + 1):
                report_activity(f"step {step} of episode {episode + 1}")
                # One episode with zero actions, the others with random ones.
                actions = _Asked(lambda: float(rng.uniform(lowest, 1.0)) if episode else 0.0)  # noqa: B023
                observed.append(_numbers("step", simulator.step(actions)))
                acts |= actions.names
                if simulator.terminated() or simulator.truncated():
                    ended = True
                    break
        except UserError:
            raise
        except Exception as error:
            where = f"step {step}" if step else "the reset"
            spot = f"{where} of episode {episode + 1}"
            raise _Raised(spot, error, acted=bool(episode and acts)) from error
    if not acts:
        raise UserError(
            f"{kind.__name__}.step read no action by name",
            hint='read them as actions["name"]',
        )
    states_seen = [seen(name, observed, starts) for name in observed[0]]
    return Look(
        f"{file.stem}:{kind.__qualname__}",
        states_seen,
        list(acts),
        resets,
        ended,
        len(observed) - len(starts),
        lowest,
    )


def _class(file: Path, class_name: str | None) -> Any:
    if class_name is not None:
        return load_object(f"{file.stem}:{class_name}")
    module = inspect.getmodule(load_object(f"{file.stem}:__name__")) or __import__(file.stem)
    kinds = [
        kind
        for _, kind in inspect.getmembers(module, inspect.isclass)
        if kind.__module__ == module.__name__
        and all(callable(getattr(kind, m, None)) for m in METHODS)
    ]
    if len(kinds) == 1:
        return kinds[0]
    ready = _gymnasium_class(module)
    if not kinds and ready is not None:
        raise UserError(
            f"{file.name} has the Gymnasium environment {ready}, which needs no package around it",
            hint=f"name it in an experiment: simulator: {{id: '{file.stem}:{ready}'}}",
        )
    names = ", ".join(kind.__name__ for kind in kinds) or "none"
    raise UserError(
        f"{file.name} has no single class with {', '.join(METHODS)} (found: {names})",
        hint=f"name a class: --from {file}:Class"
        if kinds
        else "`drillyard new simulator NAME` without --from writes one to complete",
    )


def _gymnasium_class(module: ModuleType) -> str | None:
    """The name of the first Gymnasium environment that a module defines."""
    for name, kind in inspect.getmembers(module, inspect.isclass):
        if kind.__module__ == module.__name__ and issubclass(kind, gymnasium.Env):
            return name
    return None


def _numbers(method: str, states: Any) -> dict[str, float]:
    if not isinstance(states, dict):
        what = "None" if states is None else f"a {type(states).__name__}"
        raise UserError(
            f"{method}() returned {what} instead of a dict of states",
            hint=f'end {method}() with a return of all states by name: return {{"level": 0.5}}',
        )
    kept = {
        str(name): float(value)
        for name, value in states.items()
        if isinstance(value, int | float | np.number | np.bool_) and math.isfinite(value)
    }
    if not kept:
        raise UserError("no state is a finite number", hint="return numbers by name")
    return kept


def seen(name: str, observed: list[dict[str, float]], starts: list[int]) -> Seen:
    """A state of the trial calls.

    Args:
        name: Its name.
        observed: What each reset and step returned.
        starts: Positions of the resets.
    """
    values = [states[name] for states in observed if name in states]
    low, high = min(values), max(values)
    margin = 0.25 * (high - low) or max(abs(high), 1.0)
    least = 0.0 if low >= 0 else -math.inf
    return Seen(
        name,
        low,
        high,
        (_round(max(low - margin, least), down=True), _round(high + margin)),
        _counts(values, starts),
    )


def _counts(values: list[float], starts: list[int]) -> bool:
    begins = set(starts)
    changes = [b - a for i, (a, b) in enumerate(pairwise(values), 1) if i not in begins]
    return bool(changes) and changes[0] > 0 and max(changes) - min(changes) < 1e-9


def _round(value: float, down: bool = False) -> float:
    """Rounds to two digits, away from the observed values."""
    if value == 0:
        return 0.0
    unit = 10.0 ** (math.floor(math.log10(abs(value))) - 1)
    return round((math.floor if down else math.ceil)(value / unit) * unit, 12)
