"""The error tree as a table."""

from __future__ import annotations

from drillyard.errors import DrillyardError


def markdown() -> str:
    """Returns one row for each error, in the order of the tree."""
    rows = ["| error | exit code | repeated by itself | meaning |", "|---|---|---|---|"]
    return "\n".join([*rows, *_rows(DrillyardError, 0)]) + "\n"


def _rows(error: type[DrillyardError], depth: int) -> list[str]:
    meaning = (error.__doc__ or "").strip().splitlines()[0]
    again = "yes" if error.retryable else "no"
    name = f"{' &nbsp; ' * depth}`{error.__name__}`"
    row = f"| {name} | {error.exit_code.value} | {again} | {meaning} |"
    return [row, *(line for sub in error.__subclasses__() for line in _rows(sub, depth + 1))]
