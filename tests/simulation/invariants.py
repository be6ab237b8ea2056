"""What must hold after each step, and at the end of a schedule."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from drillyard.leases.ended_alone import LATE_S
from drillyard.leases.ledger import Gone, Intent
from drillyard.mailbox.mailbox import sha256_hex
from drillyard.mailbox.records import Accepted, Claim, DriverRecord, Ending, Manifest, Reopened
from drillyard.mailbox.retries import RETRIES
from drillyard.mailbox.status import Cause
from tests.simulation import studies
from tests.simulation.losses import Losses
from tests.simulation.world import EPOCH

if TYPE_CHECKING:
    from tests.simulation.world import Process, World

MONEY_MARGIN_S = 120.0
"""By how much the ledger may be wrong about a lease, besides what stands in ``_money``."""
IN_FLIGHT = {"store": 4, "cloud": 4}
"""Requests of a superseded driver that were on their way: those of one verb of a backend, with its
records, which it may have been suspended in."""
_ACCEPTED = re.compile(r"[^/]+/runs/[^/]+/\w+\.accepted\.json\Z")
_CLAIM = re.compile(r"[^/]+/claims/(?P<ticket>.+)\.(?P<attempt>\d+)\.json\Z")
_ENDING = re.compile(r"[^/]+/claims/.+\.ended\.json\Z")
_TRIAL = re.compile(r"[^/]+/trials/t\d+\.json\Z")
_CANCEL = "toy/control/cancel.json"
LIMITS = dict(RETRIES)
"""As they are meant, also when a defect changes them."""
BREAKS = {
    *("crash_loop", "kill", "preempt", "ghost", "ghost-before", "die-before", "die-after"),
    *("break_stage", "break_trial", "full", "stuck", "provider"),
}
"""Faults that may use up attempts or leases."""
ENDS_A_COMMAND = (
    *("full", "cores", "no right", "words", "silent", "undeletable", "frozen", "unreachable"),
    *("stuck", "unready", "deleted", "broken"),
)
"""Troubles of a provider after which a command may give up, for the next one to try again."""
NOTICED_S = 30.0
"""Within this time a worker that can read its mailbox knows of an order to stop."""
_DRIVER = re.compile(r"[^/]+/driver/(?P<number>\d+)\.json\Z")
_ENDS = re.compile(r"DELETE |POST .*(deleteInstances|/cancel)|teardown ")
_LEASE = re.compile(r"dy-[0-9a-f]{10}")
_OWN = re.compile(r"[^/]+/(driver|timings|notified)/")


class Invariants:
    """Watches one world.

    Args:
        world: Its store and its provider are looked at.
    """

    def __init__(self, world: World) -> None:
        self._world = world
        self._losses = Losses(world)
        self._accepted: dict[str, bytes] = {}
        self._claims: set[str] = set()
        self._claimers: dict[tuple[str, int], tuple[Process, float]] = {}
        """Ticket and attempt -> the worker that took it, and when."""
        self._drivers: dict[int, int] = {}
        """Number of a driver -> pid of its process."""
        self._late: dict[tuple[int, str], int] = {}
        self._seen: set[int] = set()
        self._records: dict[str, bytes] = {}
        self._endings: set[str] = set()
        self._cancelled_at: float | None = None

    def after_change(self, key: str) -> None:
        """Look at what just changed; called at the moment of each change."""
        if key.startswith("cloud/"):
            self._rented(key.partition("/")[2])
            return
        data = self._world.objects.data.get(key)
        writer = self._world.current.process if self._world.current else None
        self._result_stays(key, data[0] if data else None)
        if data is not None and any(k.match(key) for k in (_CLAIM, _ENDING, _TRIAL)):
            self._once(key, data[0])
        if data is not None and key.endswith("/gone.json"):
            self._gone(key, Gone.from_bytes(data[0]))
        if writer is not None and writer.kind == "driver":
            self._superseded_is_mute(key, writer)
        match = _CLAIM.match(key)
        if key == _CANCEL:
            self._cancelled_at = self._world.time if data is not None else None
        if match is not None and data is not None and key not in self._claims:
            self._claims.add(key)
            if writer is not None:
                self._claimers[match["ticket"], int(match["attempt"])] = writer, self._world.time
                self._judge(self._losses.claimed(Claim.from_bytes(data[0]), writer))
            told = self._cancelled_at is not None and self._world.time - self._cancelled_at
            if told and told > NOTICED_S and writer and self._healthy(writer, NOTICED_S):
                self._broken(f"{key} was claimed {told:.0f} s after the order to stop")
            self._attempt(match["ticket"], int(match["attempt"]))

    def cloud_change(self, process: Process, what: str) -> None:
        """A request that changes something at the provider."""
        if process.kind == "driver":
            if not self._gives_back(what):
                self._count_late(process, "cloud", what)
        elif process.kind == "reaper":
            self._spared(process, what)

    def _gives_back(self, what: str) -> bool:
        """Whether it ends something of a lease that is over or being ended, which harms nobody."""
        lease = _LEASE.search(what) if _ENDS.match(what) else None
        if lease is None:
            return False
        records = (f"toy/leases/{lease[0]}/{name}.json" for name in ("gone", "ending"))
        return any(key in self._world.objects.data for key in records)

    def _spared(self, reaper: Process, what: str) -> None:
        """No reaper ends a lease that a driver looks after, unless its time is over."""
        world, lease = self._world, _LEASE.search(what)
        since, until = world.protected.get(lease[0] if lease else "", (0.0, 0.0))
        # The record of the protection is in the store.
        blind = world.plan.away("store", reaper.host.name, reaper.held_at)
        if since < reaper.started and world.time < until and not blind:
            self._broken(f"{reaper.name} did {what}, which is protected")
        data = world.objects.data.get(f"toy/leases/{lease[0]}/intent.json") if lease else None
        if lease is None or data is None or not self._drivers:
            return
        if max(reaper.held_at, reaper.host.held_at) > reaper.started:
            return  # it judged before it was held up
        deadline = Intent.from_bytes(data[0]).order.deadline
        over = deadline is not None and EPOCH + world.time > deadline
        if over or f"toy/leases/{lease[0]}/gone.json" in world.objects.data:
            return
        for driver in world.living("driver"):
            newest = driver.pid == self._drivers[max(self._drivers)]
            if newest and self._healthy(driver, 120.0):
                self._broken(f"{reaper.name} did {what}, and {driver.name} drives")

    # -- each step ----------------------------------------------------------------------------

    def _once(self, key: str, data: bytes) -> None:
        """Claims, endings and trials are written once; an ending is true."""
        before = self._records.setdefault(key, data)
        if before != data:
            self._broken(f"{key} was written over")
        elif _ENDING.match(key) and key not in self._endings:
            self._endings.add(key)
            self._buried(Ending.from_bytes(data))
            self._begun(Ending.from_bytes(data))
            self._judge(self._losses.ended(Ending.from_bytes(data)))

    def _buried(self, ending: Ending) -> None:
        """Nobody closes an attempt whose process works."""
        if ending.cause not in (Cause.INFRASTRUCTURE, Cause.PREEMPTION):
            return
        writer = self._world.current.process if self._world.current else None
        for process in self._world.living("ticket"):
            if process.attempt != (ending.ticket, ending.attempt) or process.host.cut_at:
                continue
            # An orphan is ended by whoever closes its attempt, on its own machine.
            orphan = process.parent is None or not process.parent.alive
            if writer is not None and writer.host is not process.host and not orphan:
                self._broken(
                    f"attempt {ending.attempt} of {ending.ticket} was closed, and its process "
                    f"{process.name} works"
                )

    def _begun(self, ending: Ending) -> None:
        """What a worker has claimed, it begins, or it says that it cannot."""
        attempt = ending.ticket, ending.attempt
        writer = self._world.current.process if self._world.current else None
        claimer, at = self._claimers.get(attempt, (None, 0.0))
        if claimer is None or writer is claimer or claimer.refused > 1:
            return
        if not claimer.alive and claimer.result != 0:
            return  # it was killed
        if self._healthy(claimer, self._world.time - at - 1.0) and not any(
            p.attempt == attempt for p in self._world.processes
        ):
            self._broken(f"attempt {ending.attempt} of {ending.ticket} was claimed, and not begun")

    def _gone(self, key: str, gone: Gone) -> None:
        lease = key.split("/")[-2]
        if gone.confirmed and any(
            v.lease == lease and v.gone_at is None for v in self._world.cloud.vms
        ):
            self._broken(f"{lease} was written down as gone, and its machines exist")

    def _healthy(self, process: Process, for_s: float, new: bool = False) -> bool:
        """Whether nothing has held a process up lately; ``new``: it may have begun since."""
        world = self._world
        since = world.time - for_s
        if process.held_at > since or process.host.held_at > since:
            return False
        if process.started > since and not new:
            return False
        return not any(
            f.kind == "outage" and f.at < world.time and f.at + f.for_s > since
            for f in world.plan.faults
        )

    def _result_stays(self, key: str, data: bytes | None) -> None:
        before = self._accepted.get(key)
        if before is not None and data != before and key.split("/")[2] in self._world.damaged:
            before = self._accepted.pop(key) and None  # it is done again
        if before is not None and data != before:
            self._broken(f"the accepted result {key} {'changed' if data else 'disappeared'}")
        if data is not None and before is None and _ACCEPTED.match(key):
            self._accepted[key] = data
            self._readable(key, data)

    def _readable(self, key: str, data: bytes) -> None:
        accepted = Accepted.from_bytes(data)
        if self._world.current is not None:
            self._judge(self._losses.accepted(accepted, self._world.current.looked_at))
        objects, root = self._world.objects.data, key.partition("/")[0]
        manifest = objects.get(f"{root}/{accepted.manifest}")
        if manifest is None or sha256_hex(manifest[0]) != accepted.manifest_sha256:
            self._broken(f"{key}: its manifest is missing or not what was accepted")
            return
        for name, entry in Manifest.from_bytes(manifest[0]).files.items():
            there = objects.get(f"{root}/{entry.key}")
            if there is None or sha256_hex(there[0]) != entry.sha256:
                self._broken(f"{key}: its file {name} is missing or was changed")

    def _superseded_is_mute(self, key: str, writer: Process) -> None:
        match = _DRIVER.match(key)
        if match is not None:
            self._driver(int(match["number"]), writer)
        if not _OWN.match(key):
            self._count_late(writer, "store", f"wrote {key}")

    def _driver(self, number: int, writer: Process) -> None:
        """One process is a driver, and nobody takes over from one that works."""
        if self._drivers.setdefault(number, writer.pid) != writer.pid:
            self._broken(f"two processes are driver {number}")
        if number in self._seen:
            return
        self._seen.add(number)
        for process in self._world.living("driver"):
            before = process.pid == self._drivers.get(number - 1)
            works = before and self._healthy(process, 60.0, new=True)
            if works and process.result is None:
                record = self._world.objects.data.get(f"toy/driver/{number - 1}.json")
                if record and DriverRecord.from_bytes(record[0]).ended_at is None:
                    self._broken(
                        f"driver {number} took over from driver {number - 1}, which works"
                    )

    def _count_late(self, writer: Process, service: str, what: str) -> None:
        mine = max((n for n, pid in self._drivers.items() if pid == writer.pid), default=0)
        if not mine or mine == max(self._drivers):
            return
        self._late[mine, service] = self._late.get((mine, service), 0) + 1
        if self._late[mine, service] > IN_FLIGHT[service]:
            self._broken(f"driver {mine} {what} after driver {max(self._drivers)} took over")

    def _rented(self, lease: str) -> None:
        if not any(f"/leases/{lease}/intent.json" in k for k in self._world.objects.data):
            self._broken(f"machines of {lease} exist, and no ledger has it")

    def _attempt(self, ticket: str, attempt: int) -> None:
        """A new attempt follows the ending of the one before it, within the limits."""
        endings = [e for n in range(1, attempt) if (e := self._ending(ticket, n)) is not None]
        if attempt > 1 and len(endings) < attempt - 1:
            self._broken(f"attempt {attempt} of {ticket} began before the one before had ended")
        reopened = self._world.objects.data.get("toy/control/reopened.json")
        after = Reopened.from_bytes(reopened[0]).after.get(ticket, 0) if reopened else 0
        causes = [e.cause for e in endings if e.attempt > after and e.cause is not None]
        for cause in set(causes) - {Cause.CANCELLED}:
            if causes.count(cause) > LIMITS[cause]:
                self._broken(f"attempt {attempt} of {ticket} after {causes.count(cause)} {cause}")

    def _ending(self, ticket: str, attempt: int) -> Ending | None:
        there = self._world.objects.data.get(f"toy/claims/{ticket}.{attempt}.ended.json")
        return Ending.from_bytes(there[0]) if there else None

    # -- the end ------------------------------------------------------------------------------

    def at_end(self) -> None:
        """Everything is decided, and nothing is left."""
        world = self._world
        for key, data in self._accepted.items():
            self._readable(key, data)
        for left in world.cloud.left():
            self._broken(f"{left} exists still")
        for process in world.processes:
            if process.alive:
                self._broken(f"{process.name} lives still, on {process.host.name}")
            if process.error is not None or " Bug " in str(process.result):
                self._broken(f"{process.kind} ended with {process.error!r} {process.result!r}")
        self._answers()
        self._ledger()
        last = [p.result for p in world.processes if p.kind == "driver" and p.result is not None]
        if world.plan.study and str(last[-1]).startswith("succeeded"):
            for problem in studies.at_the_end(world):
                self._broken(problem)
        self._judge(self._losses.rented())

    def _answers(self) -> None:
        """No command gives up, and no experiment fails, without a reason in the plan."""
        plan = self._world.plan
        kinds = {f.kind for f in plan.faults}
        commands = [
            p for p in self._world.processes if p.kind == "driver" and p.result is not None
        ]
        for process in commands:
            result = str(process.result)
            slept = process.host.held_at > process.started
            # One request is enough where a later stage opens, as it is where a command begins.
            most = 0 if plan.stages else 1
            away = slept or process.held_s > 5.0 or process.refused > most
            away |= "full" in kinds and " NoCapacity " in result
            away |= any(plan.troubles(name) for name in ENDS_A_COMMAND)
            if result.startswith("undecided") and " Superseded " not in result and not away:
                self._broken(f"a command gave up without a reason: {result}")
        last = str(commands[-1].result) if commands else ""
        if last.startswith("failed TimedOut") and min(plan.max_hours, plan.max_cost) > 1.0:
            self._broken(f"the time was used up for nothing: {last}")
        for fault in plan.faults:  # one request of each attempt that its worker may make
            if fault.who == "ticket" and fault.left > LIMITS[Cause.INFRASTRUCTURE]:
                kinds = kinds | BREAKS
        if last.startswith("failed") and "TimedOut" not in last and not kinds & BREAKS:
            self._broken(f"the experiment failed without a reason: {last}")

    def _ledger(self) -> None:
        data = self._world.objects.data
        booked, per_hour = 0.0, 0.0
        for key in sorted(k for k in data if k.endswith("/intent.json")):
            lease = key.split("/")[-2]
            intent = Intent.from_bytes(data[key][0])
            gone = data.get(key.replace("intent.json", "gone.json"))
            if gone is None:
                self._broken(f"the ledger has {lease} as open, and it is gone")
                continue
            ended = Gone.from_bytes(gone[0])
            booked, per_hour = booked + ended.cost, max(per_hour, intent.cost.per_hour)
            self._money(intent, ended)
        # No lease is rented beyond the limit, and each ends at it, up to three minutes later.
        limit = self._world.wish.max_cost + per_hour * (LATE_S + MONEY_MARGIN_S) / 3600.0
        if booked > limit:
            self._broken(
                f"{booked:.3f} were booked, with a max_cost of {self._world.wish.max_cost}"
            )

    def _money(self, intent: Intent, gone: Gone) -> None:
        lease = intent.order.lease_id
        vms = [v for v in self._world.cloud.vms if v.lease == lease]
        spent_s = sum((v.gone_at or self._world.time) - v.born_at for v in vms)
        if any(p.refused or p.hit for p in self._world.processes if p.kind == "reaper"):
            # It ended what a provider left beyond the limit, and nobody else knows until when.
            ends = (intent.order.deadline or 0.0) - EPOCH + LATE_S
            spent_s = sum(min(v.gone_at or self._world.time, ends) - v.born_at for v in vms)
        counted_s = gone.lived_s * self._world.plan.machines(intent.order.workers)
        if counted_s < spent_s - MONEY_MARGIN_S * max(1, len(vms)):
            self._broken(f"{lease}: {counted_s:.0f} machine seconds counted, {spent_s:.0f} spent")
        # Somebody may look days after it ended: no machine lives on after its limit and its end.
        last = EPOCH + max((v.gone_at or self._world.time for v in vms), default=0.0)
        most_s = max(last, intent.order.deadline or 0.0) - intent.written_at
        if gone.lived_s > most_s + LATE_S + MONEY_MARGIN_S:
            self._broken(
                f"{lease}: {gone.lived_s:.0f} s counted, it can have lived {most_s:.0f} s"
            )

    def _judge(self, problem: str | None) -> None:
        if problem is not None:
            self._broken(problem)

    def _broken(self, what: str) -> None:
        self._world.trouble.append(what)
