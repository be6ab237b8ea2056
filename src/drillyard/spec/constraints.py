"""Constraints between tunables: expressions that are walked as a tree, never evaluated as code.

What they may hold is in ``drillyard.spec.expressions``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from drillyard.documents.json_types import Json
from drillyard.errors import BadValue, ConfigError
from drillyard.spec.expressions import ALLOWED, Expression, read_expression
from drillyard.spec.tunables.space import not_active


@dataclass(frozen=True)
class Constraint:
    """A condition on an assignment.

    Attributes:
        expression: What must be true.
    """

    expression: Expression

    def holds(self, assignment: Mapping[str, Json]) -> bool:
        """Returns whether an assignment fulfils the condition.

        Args:
            assignment: Name -> value; all of those that it reads.

        Raises:
            ConfigError: It cannot be computed for these values (a text plus a number).
        """
        try:
            return bool(self.expression.value(assignment))
        except ZeroDivisionError:
            return False
        except (TypeError, ValueError, OverflowError) as error:
            read = {name: assignment[name] for name in sorted(self.expression.names)}
            raise ConfigError(
                f"cannot be computed for {read}: {error}",
                field="study.constraints",
                value=self.expression.text,
                allowed="a condition that every assignment has an answer to",
                hint="compare numbers with numbers and texts with texts",
            ) from None


def parse(text: str) -> Constraint:
    """Reads a condition.

    Raises:
        BadValue: It is not a condition, names no tunable, or contains something forbidden.
    """
    expression = read_expression(text, "condition", "n_steps % batch == 0")
    if not expression.names:
        raise BadValue(
            "names no tunable",
            value=text,
            allowed=ALLOWED,
            hint="delete it, because it would always hold or never",
        )
    return Constraint(expression)


def parse_all(texts: Sequence[str], known: Sequence[str]) -> list[Constraint]:
    """Reads conditions on known tunables.

    Args:
        texts: The conditions.
        known: Names of the active tunables.

    Raises:
        ConfigError: One names something else.
    """
    constraints = []
    for number, text in enumerate(texts):
        constraint = parse(text)
        for name in sorted(constraint.expression.names - set(known)):
            raise not_active(name, known, f"study.constraints[{number}]", text)
        constraints.append(constraint)
    return constraints
