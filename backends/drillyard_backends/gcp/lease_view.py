"""What is there of a lease, read from the groups themselves.

Listings of the whole project may lag behind, so a lease's own groups are asked for by name: all
that could be there once, then those that are.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import replace

from drillyard.system.clock import SYSTEM, Clock
from drillyard_backends.gcp import naming
from drillyard_backends.gcp.errors import Missing
from drillyard_backends.gcp.groups import Groups
from drillyard_backends.gcp.managed import Group, Managed, Stage
from drillyard_backends.gcp.zones import Candidate

FRESH_S = 0.5
"""A look so young serves several questions of one driver."""


class Viewer:
    """Looks at one lease.

    Args:
        groups: Makes the calls.
        base: What the lease's names begin with.
        candidates: Where its groups can be.
        clock: For the age of a look.
        lag_s: Seconds for which a group with machines that is suddenly missing is believed to be
            there. Whether Google may answer 404 for it once is not known.
    """

    def __init__(
        self,
        groups: Groups,
        base: str,
        candidates: Sequence[Candidate],
        clock: Clock = SYSTEM,
        lag_s: float = 0.0,
    ) -> None:
        self._groups = groups
        self._base = base
        self._everywhere = sorted({Group(c.place, c.variant) for c in candidates})
        self._known: set[Group] | None = None
        self._seen: tuple[float, dict[Group, list[Managed]]] | None = None
        self._clock = clock
        self._lag_s = lag_s
        self._missing_since: dict[Group, float] = {}
        self._expected: dict[Group, float | None] = {}
        """Groups that are being made (None), or were made at that time: missing ones, too, are
        asked for."""
        self._lock = threading.Lock()

    def look(self, max_age_s: float = 0.0) -> dict[Group, list[Managed]]:
        """Its groups and their machines.

        Args:
            max_age_s: A look of before may serve when it is not older.
        """
        with self._lock:
            now = self._clock.monotonic()
            if self._seen is not None and now - self._seen[0] < max_age_s:
                return self._seen[1]
            view: dict[Group, list[Managed]] = {}
            known = None if self._known is None else sorted({*self._known, *self._expected})
            for group in self._everywhere if known is None else known:
                name = naming.group_name(self._base, group.variant)
                try:
                    view[group] = self._groups.machines(group.place, name)
                    self._missing_since.pop(group, None)
                except Missing:
                    machines = self._in_doubt(group, now)
                    if machines:
                        view[group] = machines
            self._known = set(view)
            self._expected = {
                group: made_at
                for group, made_at in self._expected.items()
                if made_at is None or (group not in view and now - made_at < self._lag_s)
            }
            self._seen = (now, view)
            return view

    def making(self, candidate: Candidate) -> None:
        """Look at a group from now on that is about to be made.

        Its machines may begin to work while the answer to the request is still waited for, and
        the driver asks meanwhile whether they live.
        """
        with self._lock:
            self._expected[Group(candidate.place, candidate.variant)] = None
            self._look_again()

    def expect(self, groups: set[Group]) -> None:
        """Groups that were just made: looked at from now on."""
        with self._lock:
            self._known = (self._known or set()) | groups
            self._expected.update(dict.fromkeys(groups, self._clock.monotonic()))
            self._look_again()

    def forget(self) -> None:
        """Look everywhere again."""
        with self._lock:
            self._known = self._seen = None
            self._missing_since.clear()

    def _look_again(self) -> None:
        """The last look is too old from now on, but tells what was there: see ``_in_doubt``."""
        if self._seen is not None:
            self._seen = float("-inf"), self._seen[1]

    def _in_doubt(self, group: Group, now: float) -> list[Managed]:
        """The machines of a group that was listed before and is missing: neither up nor gone."""
        since = self._missing_since.setdefault(group, now)
        seen = self._seen[1].get(group, []) if self._seen is not None else []
        if now - since >= self._lag_s:
            return []
        # One that never had a status never lived: its group was deleted because of that.
        lived = [m for m in seen if m.sure or m.stage is Stage.UP]
        return [replace(m, stage=Stage.COMING, trouble=None) for m in lived]
