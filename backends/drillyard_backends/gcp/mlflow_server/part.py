"""What a part of the server is to those who make, show and remove it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from drillyard.errors import UserError
from drillyard_backends.gcp.mlflow_server.names import LABELS


@dataclass(frozen=True, slots=True)
class State:
    """What is there of a part.

    Attributes:
        there: It exists.
        ready: It does its work.
        words: For people.
    """

    there: bool
    ready: bool
    words: str = ""


MISSING = State(False, False, "not there")


class Part(Protocol):
    """One thing on Google Cloud, named by the choices alone."""

    title: str
    keeps_data: bool
    """Survives ``down``."""

    def look(self) -> State:
        """What is there; changes nothing."""

    def ensure(self) -> str:
        """Creates or repairs it and waits until it is ready; returns what was done."""

    def delete(self) -> bool:
        """Remove it and wait until it is gone; False when it was not there."""


def must_be_ours(what: str, labels: Mapping[str, object] | None) -> None:
    """Refuses to touch a resource of the same name that is not ours.

    Raises:
        UserError: It lacks our label.
    """
    if not LABELS.items() <= (labels or {}).items():
        raise UserError(
            f"{what} exists, and drillyard did not make it",
            hint="choose another --name; or, if it is to be used, label it managed-by=drillyard",
        )


def covers(actual: object, wanted: object) -> bool:
    """Returns True if what is there has everything that is wanted; more is fine."""
    if isinstance(wanted, dict):
        return isinstance(actual, dict) and all(
            covers(actual.get(k), v) for k, v in wanted.items()
        )
    if isinstance(wanted, list):
        return (
            isinstance(actual, list)
            and len(actual) == len(wanted)
            and all(covers(a, w) for a, w in zip(actual, wanted, strict=True))
        )
    return bool(actual == wanted) or (wanted in (False, None) and actual in (False, None))
