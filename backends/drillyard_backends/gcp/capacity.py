"""Keeps a lease at full strength: another zone on a stock-out, another machine for a lost one.

Google accepts any request for machines and tries for ever; only the listing shows that a zone has
no capacity. So each step here compares the desired machines with the listed ones and changes one
thing. The state between steps (how long a zone was waited for, what was tried) only concerns
waiting: a new process starts the search again and does no harm.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from drillyard.backend import Order
from drillyard.errors import InfrastructureError, UserError
from drillyard.system.clock import SYSTEM, Clock
from drillyard_backends.gcp import naming
from drillyard_backends.gcp.boots import FailedBoots
from drillyard_backends.gcp.errors import Exists, InUse, Missing, NoRoom
from drillyard_backends.gcp.groups import Groups
from drillyard_backends.gcp.lives import Lives, View, missing_machines, surplus
from drillyard_backends.gcp.managed import Group, Managed, Stage
from drillyard_backends.gcp.settings import GcpConfig
from drillyard_backends.gcp.zones import Candidate, candidates, choices

ROUND_PAUSE_S = 30.0
"""After all candidates were tried in vain, before they are tried again."""
log = logging.getLogger(__name__)


@dataclass
class Search:
    """A search for machines that are missing.

    Attributes:
        began: Machine -> when it was first missing, in monotonic seconds.
        tried: Candidate -> why it cannot be used now.
        round_over: When all candidates were tried in vain, or None.
        settled_for: How many machines are lacking that are searched for no more.
    """

    began: dict[naming.Machine, float] = field(default_factory=dict)
    tried: dict[tuple[int, str], Exception] = field(default_factory=dict)
    round_over: float | None = None
    settled_for: int = 0

    def since(self, missing: Sequence[naming.Machine], now: float) -> float:
        """Returns when the newest of the missing machines was first missing.

        A machine that was lost is another one than its successor, so its search begins now, and
        what was tried in vain for others, maybe hours ago, is tried again.
        """
        if any(machine not in self.began for machine in missing):
            self.tried.clear()
            self.round_over = None
        return max((self.began.setdefault(machine, now) for machine in missing), default=now)


class CapacityReconciler:
    """Keeps one lease.

    Args:
        groups: Makes the calls.
        config: Settings.
        order: The order of the lease.
        prepare: Creates what a candidate's group needs (its template), idempotently.
        save_log: Called with lost machines before they are removed, to save their logs.
        lives: Which machines have lived, and how often each was lost.
        boots: Which machines never worked.
        clock: Clock for waiting.
        time: Returns the time by which the order's deadline is written; None: the clock's.
    """

    def __init__(
        self,
        groups: Groups,
        config: GcpConfig,
        order: Order,
        prepare: Callable[[Candidate, str], None],
        save_log: Callable[[Group, Managed], None],
        lives: Lives,
        boots: FailedBoots,
        clock: Clock = SYSTEM,
        time: Callable[[], float] | None = None,
    ) -> None:
        self._groups = groups
        self._config = config
        self._order = order
        self._prepare = prepare
        self._save_log = save_log
        self._lives = lives
        self._boots = boots
        self._clock = clock
        self._time = time or clock.now
        self._base = naming.base_name(config.group_prefix, order.lease_id)
        self._candidates = candidates(config)
        self._refused_since: dict[tuple[Group, str], float] = {}
        self._lost_since: dict[tuple[Group, str], float] = {}
        self._search: Search | None = None
        self._unplaced = False
        self._said_worn = False

    @property
    def searching(self) -> bool:
        """True while there are machines that no place has taken an order for yet."""
        return self._unplaced

    @property
    def tried(self) -> dict[str, str]:
        """What was tried in vain, and why."""
        search = self._search
        if search is None:
            return {}
        return {
            c.words: str(search.tried[key])
            for c in self._candidates
            if (key := (c.variant, c.place.path)) in search.tried
        }

    def step(self, view: View, wanted: int) -> tuple[int, set[Group]]:
        """Compare, and move one step.

        Args:
            view: What is listed now.
            wanted: How many machines there should be.

        Returns:
            How many machines can be expected, and the groups that were used (made or added to).

        Raises:
            NoRoom: The search is over and there are none, or too few for all-or-nothing; or two
                machines ended in the same way before they did any work.
            UserError: A right is missing.
        """
        refused = self._refused(view)
        silent = self._boots.look(view, self._clock.monotonic())
        lost = self._lost(view, silent)
        self._lives.remember(view)
        for group, machines in surplus(view, self._candidates).items():
            lost.setdefault(group, []).extend(m for m in machines if m not in lost[group])
        self._remove(view, refused, lost)
        counted = _counted(view, refused, lost)
        have, missing = len(counted), wanted - len(counted)
        if missing <= 0:
            # One that is coming may be refused yet: what was tried counts until all are up.
            self._unplaced = False
            if sum(m.stage is Stage.UP for m in counted) >= wanted:
                self._search = None
            return have, set()
        now = self._clock.monotonic()
        if self._search is None or missing > self._search.settled_for > 0:
            self._search = Search()
        search = self._search
        if search.settled_for:
            return have, set()
        new = missing_machines(view, counted, missing, self._lives.generations)
        newest = search.since(new, now)
        self._note(refused, search)
        worn = [m for m in new if self._lives.losses(m) > self._config.replacements]
        used, placed = self._make([m for m in new if m not in worn], search)
        if worn:
            self._stop_replacing(worn, have, wanted)
        # A refused request places none, and the next step asks in the next place.
        self._unplaced = placed < len(new) - len(worn)
        if self._unplaced and not used and now - newest >= self._config.capacity_s:
            return self._give_up(have, wanted, search), set()
        return wanted - len(worn), used

    # -- what is there ------------------------------------------------------------------------

    def _lost(self, view: View, silent: set[naming.Machine]) -> dict[Group, list[Managed]]:
        """Machines that are lost for certain, and those that will never begin.

        That a status is missing says little: Google may show a change of the group before that of
        its machine. It is believed when it is still missing after the time by which listings lag.
        """
        now = self._clock.monotonic()
        lost: dict[Group, list[Managed]] = {group: [] for group in view}
        listed: set[tuple[Group, str]] = set()
        for group, machines in view.items():
            for machine in machines:
                if machine.stage is not Stage.LOST:
                    if machine.machine in silent:
                        lost[group].append(machine)
                    continue
                key = (group, machine.name)
                listed.add(key)
                since = self._lost_since.setdefault(key, now)
                if machine.sure or now - since >= self._config.listing_lag_s:
                    lost[group].append(machine)
        for key in self._lost_since.keys() - listed:
            del self._lost_since[key]
        return lost

    def _refused(self, view: View) -> dict[Group, list[Managed]]:
        """Machines that could not be made for longer than a zone is waited for."""
        now = self._clock.monotonic()
        refused: dict[Group, list[Managed]] = {}
        listed: set[tuple[Group, str]] = set()
        for group, machines in view.items():
            for machine in machines:
                if machine.stage is not Stage.COMING or machine.trouble is None:
                    continue
                if isinstance(machine.trouble, UserError):
                    raise machine.trouble
                key = (group, machine.name)
                listed.add(key)
                since = self._refused_since.setdefault(key, now)
                if now - since >= self._config.stockout_s:
                    refused.setdefault(group, []).append(machine)
        for key in self._refused_since.keys() - listed:
            del self._refused_since[key]
        return refused

    def _remove(
        self,
        view: View,
        refused: Mapping[Group, list[Managed]],
        lost: Mapping[Group, list[Managed]],
    ) -> None:
        for group, machines in view.items():
            gone = [*refused.get(group, []), *lost.get(group, [])]
            for machine in lost.get(group, []):
                self._save_log(group, machine)
            try:
                if gone and len(gone) == len(machines) and not lost.get(group):
                    # Nothing ever lived there: the empty group must not stay behind.
                    self._groups.delete(group.place, self._name(group))
                elif gone:
                    self._groups.delete_machines(group.place, self._name(group), gone)
            except (InUse, Exists) as error:
                # One of them is deleting itself just now: what is left, the next look removes.
                log.info("in %s: %s", group.place.name, error)
                continue
            for machine in gone:
                self._boots.remove(machine.machine)
                log.info(
                    "removed %s in %s: %s",
                    machine.name,
                    group.place.name,
                    machine.trouble or "it was taken away",
                )

    # -- making -------------------------------------------------------------------------------

    def _note(self, refused: Mapping[Group, list[Managed]], search: Search) -> None:
        for group, machines in refused.items():
            if machines[0].trouble is not None:
                search.tried[(group.variant, group.place.path)] = machines[0].trouble

    def _make(self, missing: Sequence[naming.Machine], search: Search) -> tuple[set[Group], int]:
        """Requests machines; returns the groups that were used, and how many were accepted."""
        used: set[Group] = set()
        placed = 0
        placed_in: dict[tuple[int, str], list[naming.Machine]] = {}
        by_key = {(c.variant, c.place.path): c for c in self._candidates}
        for machine in missing:
            choice = self._choice(machine, search)
            if choice is not None:
                placed_in.setdefault((choice.variant, choice.place.path), []).append(machine)
        for key, machines in placed_in.items():
            candidate = by_key[key]
            group = Group(candidate.place, candidate.variant)
            try:
                self._fill(candidate, group, machines)
            except UserError:
                raise
            except (InfrastructureError, Exists, InUse, Missing) as error:
                log.info("%s: %s", candidate.words, error)
                search.tried[key] = error
            else:
                placed += len(machines)
            # Also after an error: half of it may be there.
            used.add(group)
        return used, placed

    def _choice(self, machine: naming.Machine, search: Search) -> Candidate | None:
        failed = sum(m.index == machine.index for m in self._boots.machines)
        losses = max(0, self._lives.losses(machine) - failed)
        allowed = choices(self._config, losses, self._candidates)
        open_ = [c for c in allowed if (c.variant, c.place.path) not in search.tried]
        if open_:
            return open_[0]
        now = self._clock.monotonic()
        if search.round_over is None:
            search.round_over = now
        elif now - search.round_over >= ROUND_PAUSE_S:
            search.round_over = None
            for candidate in allowed:
                search.tried.pop((candidate.variant, candidate.place.path), None)
        return None

    def _fill(
        self, candidate: Candidate, group: Group, machines: Sequence[naming.Machine]
    ) -> None:
        name = self._name(group)
        self._prepare(candidate, name)
        self._groups.make(group.place, name, self._order.lease_id, repair=self._config.repair)
        # That takes seconds to minutes. A machine of a lease that is over is paid for nothing.
        if self._order.deadline is not None and self._time() >= self._order.deadline:
            log.info("the time of lease %s is over: no machine is made", self._order.lease_id)
            return
        self._groups.make_machines(
            group.place,
            name,
            {
                machine.name(self._base): {
                    naming.WORKER_KEY: str(machine.index),
                    naming.GROUP_KEY: f"{group.place.path}/{name}",
                }
                for machine in machines
            },
        )
        log.info("asked for %d x %s", len(machines), candidate.words)

    def _give_up(self, have: int, wanted: int, search: Search) -> int:
        reasons = "\n".join(f"  {words}: {why}" for words, why in self.tried.items())
        if have == 0 or self._config.partial == "all":
            theirs = [getattr(error, "hint", None) for error in search.tried.values()]
            hints = dict.fromkeys(
                ["add zones or machine types", *(hint for hint in theirs if hint)]
            )
            raise NoRoom(
                f"no room for {wanted} machines ({have} are there) after "
                f"{self._config.capacity_s:.0f} s:\n{reasons}",
                hint="; or ".join(hints),
            )
        log.warning("%d of %d machines; no room for more:\n%s", have, wanted, reasons)
        search.settled_for = wanted - have
        return have

    def _stop_replacing(self, worn: Sequence[naming.Machine], have: int, wanted: int) -> None:
        """Machines that die again and again would do so for ever."""
        names = ", ".join(f"w{machine.index}" for machine in worn[:8])
        text = (
            f"{len(worn)} of {wanted} machines ({names}) were lost more often than "
            f"{self._config.replacements} times and are no longer replaced"
        )
        if have == 0 or self._config.partial == "all":
            raise NoRoom(
                text,
                hint="`drillyard logs` has their last words; see backends.gcp."
                "replacements and on_demand_after",
            )
        if not self._said_worn:
            log.warning("%s", text)
        self._said_worn = True

    def _name(self, group: Group) -> str:
        return naming.group_name(self._base, group.variant)


def _counted(view: View, *ending: Mapping[Group, list[Managed]]) -> list[Managed]:
    """Returns the machines that are listed and not about to end."""
    return [
        machine
        for group, machines in view.items()
        for machine in machines
        if machine.stage is not Stage.GOING
        and not any(machine in of_groups.get(group, []) for of_groups in ending)
    ]
