"""What an experiment consists of, as it is shown before it is deleted or archived."""

from __future__ import annotations

from dataclasses import dataclass

from drillyard.mailbox import Mailbox
from drillyard.mailbox.store import ObjectInfo
from drillyard.system.tables import Grid, Table

KINDS = {
    "runs": "runs: policies, checkpoints, metrics, logs",
    "report": "the report",
    "code": "the code that it ran with",
    "trials": "the trials of its study",
    "leases": "records of its machines",
    "tracking": "notes about what MLflow has",
}
"""First part of a key -> what it is, in words."""


@dataclass(frozen=True, slots=True)
class Contents:
    """The objects of an experiment.

    Attributes:
        place: ``STORE/NAME``.
        objects: All of them, by key.
    """

    place: str
    objects: tuple[ObjectInfo, ...]

    @property
    def size(self) -> int:
        """Bytes of all objects."""
        return sum(info.size for info in self.objects)

    def grid(self, experiment: str) -> Grid:
        """One line for each kind of content, the largest first."""
        sizes: dict[str, list[int]] = {}
        for info in self.objects:
            first, slash, _ = info.key.removeprefix(f"{experiment}/").partition("/")
            kind = KINDS.get(first, "other records") if slash else "other records"
            sizes.setdefault(kind, []).append(info.size)
        ordered = sorted(sizes.items(), key=lambda item: -sum(item[1]))
        table = Table(self.place, [*ordered, ("all", [info.size for info in self.objects])])
        table.text("what", lambda item: item[0])
        table.number("objects", lambda item: len(item[1]))
        return table.number("size", lambda item: readable(sum(item[1])))


def contents(mailbox: Mailbox) -> Contents:
    """List everything that an experiment has in its store.

    Args:
        mailbox: The experiment.
    """
    return Contents(
        f"{mailbox.store.url.rstrip('/')}/{mailbox.experiment}",
        tuple(mailbox.store.list(mailbox.key(""))),
    )


def readable(size: float) -> str:
    """``312 B``, ``4.2 MB``: powers of 1,000."""
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} TB"
