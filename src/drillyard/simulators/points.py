"""Rules for points that have names, units and ranges: in an FMU, in EnergyPlus, on a server."""

from __future__ import annotations

from typing import Protocol

from drillyard.errors import BadValue, SimulatorError
from drillyard.spec.expressions import Expression, read_expression


class Ranged(Protocol):
    """A point with a range, as its model or server declares it."""

    @property
    def low(self) -> float | None:
        """Its lowest value; None: not declared."""

    @property
    def high(self) -> float | None:
        """Its highest value; None: not declared."""

    @property
    def unit(self) -> str:
        """The unit of both."""


def must_be_same_unit(what: str, units: dict[str, str], field: str) -> None:
    """Refuses units that contradict; "" and "1" contradict nothing."""
    given = {where: unit for where, unit in units.items() if unit not in ("", "1")}
    if len(set(given.values())) > 1:
        (one, unit), (other, another) = list(given.items())[:2]
        raise SimulatorError(
            f"{what} has two units: {unit} {one}, {another} {other}",
            field=field,
            value=another,
            allowed=unit,
            hint=f"write the value and its range in {unit}, and `unit: {unit}`",
        )


def must_be_inside(name: str, point: Ranged, value: float, field: str) -> None:
    """Refuses a value outside the model's own range."""
    low = -float("inf") if point.low is None else point.low
    high = float("inf") if point.high is None else point.high
    if not low <= value <= high:
        raise SimulatorError(
            f"{name} is outside the range of the model",
            field=field,
            value=value,
            allowed=f"{low:g} to {high:g}" + (f" {point.unit}" if point.unit else ""),
            hint="correct the value; ranges are in the unit of the model",
        )


def end_condition(text: str | None) -> Expression | None:
    """Returns the condition of ``ends``, read.

    Raises:
        SimulatorError: It is not a condition.
    """
    try:
        return None if text is None else read_expression(text, "condition", "level > 1.9")
    except BadValue as error:
        raise SimulatorError(
            str(error),
            field="simulator.args.ends",
            value=text,
            allowed=error.allowed,
            hint=error.hint,
        ) from error
