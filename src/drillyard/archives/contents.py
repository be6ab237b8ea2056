"""What an experiment consists of, as it is shown before it is deleted or archived."""

from __future__ import annotations

from dataclasses import dataclass

from drillyard.mailbox import Mailbox
from drillyard.mailbox.store import ObjectInfo
from drillyard.results.table import Grid

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
        rows = tuple((kind, f"{len(own):,}", readable(sum(own))) for kind, own in ordered)
        total = ("all", f"{len(self.objects):,}", readable(self.size))
        return Grid(self.place, ("what", "objects", "size"), (*rows, total), frozenset({1, 2}))


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
