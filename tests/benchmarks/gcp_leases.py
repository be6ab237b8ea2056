"""Leases on the emulated Google Cloud with random faults: results lost, machines left.

    python -m tests.benchmarks.gcp_leases [leases] [seed]

Each lease is of an experiment of its own, driven by a process of its own that is killed at random
moments and started again, as a user gives the same command again; some are left to themselves
until a reaper comes. The cloud loses answers, fails deletions, says DONE and does nothing, lists
late, takes machines away. Machines are threads with tiny tickets (``played_machines``); for real
ones see ``gcp_trainings``. The judge is the emulated cloud's own state; the exit code is 1 when
anything was lost or left.
"""

from __future__ import annotations

import logging
import multiprocessing
import os
import random
import sys
import tempfile
import threading
import time
import traceback
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from drillyard.backend import open_backend
from drillyard.driver import Driver
from drillyard.errors import DrillyardError, ExitCode, InfrastructureError
from drillyard.mailbox import Mailbox, open_store
from drillyard.testing.cloud.handle import GcpEmulator
from tests.contract.tiny_backend import tiny

from . import common
from .played_machines import Players
from .virtual_clock import VirtualClock

SPEED = 30.0
LAG_S = 30.0
AT_ONCE = 4
PIECE = 100
"""Leases an emulator: what it keeps of the past is looked through at every look."""
MOST_KILLS = 3
MOST_LIVES = 40
LONGEST_S = 180.0
"""Real seconds after which a driver that was not killed is taken for hung."""
ABANDONED = 0.1
CUT = 0.05
LOST_CREATES, DELETE_ERRORS, FALSE_DONE = 0.10, 0.10, 0.05
SETTINGS = {"LISTING_LAG_S": str(LAG_S), "BUCKET": "leases"}
STORE = "gs://leases"
PHASES = 3
HOURS = 12


@dataclass
class Outcome:
    """What became of some leases.

    Attributes:
        lost: Results that are not there, or not as they were written.
        left: What the cloud still had after a command said that it was done, and at the end.
        trouble: Drivers that broke, hung, or never came to an end.
    """

    leases: int = 0
    kills: int = 0
    lives: int = 0
    abandoned: int = 0
    cuts: int = 0
    results: int = 0
    faults: Counter[str] = field(default_factory=Counter)
    lost: list[str] = field(default_factory=list)
    left: list[str] = field(default_factory=list)
    trouble: list[str] = field(default_factory=list)

    def add(self, other: Outcome) -> None:
        """Add another one's figures."""
        for name, value in vars(other).items():
            if isinstance(value, Counter):
                getattr(self, name).update(value)
            else:
                setattr(self, name, getattr(self, name) + value)


def make_unlucky(cloud: GcpEmulator) -> None:
    """Put the faults in force."""
    create = r"^POST .*(instanceTemplates|instanceGroupManagers|createInstances)(\?|$)"
    cloud.fault(create, lose=True, after=True, probability=LOST_CREATES)
    for what, method in (("instanceGroupManagers/[^/]+(\\?|$)", "DELETE"),
                         ("instanceTemplates/[^/]+(\\?|$)", "DELETE"),
                         ("deleteInstances", "POST")):  # fmt: skip
        cloud.fault(what, method=method, status=503, probability=DELETE_ERRORS)
    kinds = ("delete", "compute.instanceGroupManagers.deleteInstances")
    cloud.physics(
        listing_lag_s=LAG_S,
        false_done=[{"kind": kind, "probability": FALSE_DONE} for kind in kinds],
    )  # fmt: skip


def drive(name: str, folder: Path, env: dict[str, str], clock: VirtualClock) -> None:
    """Be one driver, and end this process with its exit code."""
    os.environ.update(env)
    clock.install()
    logging.basicConfig(filename=folder / f"{name}.log", level=logging.INFO, force=True)
    try:
        live(name, folder)
    except DrillyardError as error:
        logging.warning("%s: %s", type(error).__name__, error)
        os._exit(int(error.exit_code))
    except BaseException:
        logging.exception("this driver broke")
        os._exit(99)
    os._exit(0)


def live(name: str, folder: Path) -> None:
    """A driver's life, as flow and ``drillyard.run`` lead it."""
    loaded = tiny(
        folder / name, name=name, backend="gcp", seeds=[1],
        budget={"max_hours": HOURS, "max_cost": 1000},
    )  # fmt: skip
    driver = Driver(loaded, Mailbox(open_store(STORE), name), open_backend("gcp"))
    todo = driver.open()
    if not todo:
        return
    outcome = "undecided"
    try:
        driver.provision()
        driver.setup()
        for ticket in todo:
            driver.wait(ticket.ticket)
        outcome = "succeeded"
    finally:
        try:
            if outcome == "succeeded" or driver.decided:
                driver.teardown()
        finally:
            driver.close(outcome)


class Sweep:
    """Some leases on one emulated cloud.

    Args:
        cloud: Where.
        folder: For what drivers write down.
        clock: Of the cloud.
        seed: Of the chance in it.
    """

    def __init__(self, cloud: GcpEmulator, folder: Path, clock: VirtualClock, seed: int) -> None:
        self._cloud, self._folder, self._clock = cloud, folder, clock
        self._dice = random.Random(seed)
        self._env = {k: os.environ[k] for k in os.environ}
        self._forks = multiprocessing.get_context("forkserver")
        self._forks.set_forkserver_preload([
            "drillyard_backends.gcp.backend", "google.cloud.compute_v1", "google.cloud.storage",
            "google.auth", "requests", __name__,
        ])  # fmt: skip
        self._lock = threading.Lock()
        self._typical_s = 6.0
        self.outcome = Outcome()

    def run(self, count: int) -> Outcome:
        """Rent, kill, start again, reap; then look what is lost and what is left."""
        names = [f"e{number:04}" for number in range(count)]
        given_up = {name for name in names if self._dice.random() < ABANDONED}
        seeds = {name: self._dice.random() for name in names}
        with ThreadPoolExecutor(AT_ONCE) as threads:
            list(threads.map(lambda n: self._one(n, seeds[n], n in given_up), names))
        self._reap()
        for name in sorted(given_up):
            self._check_gone(name, "after a reaper came")
        with ThreadPoolExecutor(AT_ONCE) as threads:
            list(threads.map(lambda n: self._one(n, None, False), sorted(given_up)))
        self._judge(names)
        self.outcome.leases, self.outcome.abandoned = count, len(given_up)
        return self.outcome

    # -- one lease ----------------------------------------------------------------------------

    def _one(self, name: str, seed: float | None, given_up: bool) -> None:
        """Drive an experiment to its end, or leave it after the last kill."""
        dice = random.Random(seed)
        kills = 0 if seed is None else dice.randint(int(given_up), MOST_KILLS)
        for _ in range(MOST_LIVES):
            after_s = dice.uniform(0.0, self._typical_s) if kills else None
            code, took_s = self._life(name, after_s)
            if code is None:
                kills -= 1
                if given_up and not kills:
                    return
            elif code == 0:
                if after_s is None:
                    self._typical_s += 0.1 * (took_s - self._typical_s)
                self._check_gone(name, "after its command was done")
                return
            elif code != ExitCode.INFRASTRUCTURE:
                break
        with self._lock:
            self.outcome.trouble.append(f"{name}: exit {code}; see {self._folder}/{name}.log")

    def _life(self, name: str, after_s: float | None) -> tuple[int | None, float]:
        """One process: its exit code (None: killed, as was wanted) and how long it lived."""
        process = self._forks.Process(
            target=drive, args=(name, self._folder, self._env, self._clock)
        )
        began = time.monotonic()
        process.start()
        process.join(LONGEST_S if after_s is None else after_s)
        hung = process.is_alive()
        process.kill()
        process.join()
        with self._lock:
            self.outcome.lives += 1
            self.outcome.kills += hung
            if hung and after_s is None:
                self.outcome.trouble.append(f"{name}: hung")
        return (None if hung else process.exitcode), time.monotonic() - began

    def _check_gone(self, name: str, when: str) -> None:
        listed = open_store(STORE).list(f"{name}/leases/")
        leases = {info.key.split("/")[2].removeprefix("dy-") for info in listed}
        state = self._cloud.state()
        for kind in ("machines", "groups", "disks", "templates"):
            for thing in map(str, state[kind]):
                if any(lease in thing for lease in leases):
                    self.outcome.left.append(f"{name}: {kind} {when}: {thing}")

    # -- the end ------------------------------------------------------------------------------

    def _reap(self) -> None:
        """What a user's scheduled ``drillyard reap`` does, after the limit of every lease.

        Before it, a lease with open tickets may be worked on with the lid closed.
        """
        from drillyard.reaping import reap

        self._cloud.advance((HOURS + 1) * 3600.0)
        self._clock = VirtualClock.of(self._cloud, self._clock.speed)
        self._clock.install()
        report = reap(["gcp"])
        if not report.good:
            self.outcome.trouble.append(f"the reaper: {report}")

    def _judge(self, names: list[str]) -> None:
        store = open_store(STORE)
        for name in names:
            mailbox = Mailbox(store, name)
            try:
                tickets = mailbox.tickets()
            except InfrastructureError as error:
                self.outcome.lost.append(f"{name}: {error}")
                continue
            if len(tickets) != PHASES:
                self.outcome.lost.append(f"{name}: {len(tickets)} tickets")
            for ticket in tickets:
                self.outcome.results += 1
                try:
                    accepted = mailbox.accepted(ticket.run, ticket.phase)
                    assert accepted is not None
                    said = mailbox.read_file(mailbox.manifest(accepted), "result.txt").decode()
                    assert said == f"{ticket.ticket} by attempt {accepted.attempt}"
                except Exception:  # whatever it looks like, it is lost
                    text = traceback.format_exc(limit=1)
                    self.outcome.lost.append(f"{name} {ticket.ticket}: {text}")
        state = self._cloud.state()
        for kind in ("machines", "groups", "disks", "templates"):
            self.outcome.left += [f"at the end: {kind}: {thing}" for thing in state[kind]]
        for rule in state["faults"]:
            kind = "answers lost" if rule["lose"] else "calls failed"
            self.outcome.faults[kind] += rule["played"]
        false = state["physics"]["false_done"]
        self.outcome.faults["false DONE"] += sum(rule["played"] for rule in false)


def sweep(count: int, seed: int, folder: Path, speed: float = SPEED) -> Outcome:
    """Some leases on an emulated cloud of their own. Changes this process's environment.

    Args:
        count: Of leases.
        seed: Of the faults, and of the moments of the kills.
        folder: Of its own.
        speed: Virtual seconds a real one.
    """
    with GcpEmulator(folder / "cloud", speed=speed, seed=seed) as cloud:
        mine = {**SETTINGS, "PROJECT": cloud.project, "SERVICE_ACCOUNT": cloud.service_account}
        cloud.ask("catalogue", images=["drillyard"])
        mine["IMAGE"] = f"projects/{cloud.project}/global/images/drillyard"
        os.environ.update({**cloud.env, **{f"DRILLYARD_GCP_{k}": v for k, v in mine.items()}})
        os.environ["DRILLYARD_HOME"] = str(folder / "home")
        clock = VirtualClock.of(cloud, speed)
        clock.install()
        make_unlucky(cloud)
        cloud.physics(processes=False, boot_s=5.0)
        with Players(cloud, STORE, CUT, seed) as players:
            outcome = Sweep(cloud, folder, clock, seed).run(count)
            outcome.cuts = players.cuts
        return outcome


def main() -> None:
    """Sweep in pieces, and print."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 1000
    seed = int(sys.argv[2]) if len(sys.argv) > 2 else 1
    total, began = Outcome(), time.monotonic()
    with tempfile.TemporaryDirectory(prefix="dy-", ignore_cleanup_errors=True) as name:
        while total.leases < count:
            folder = Path(name) / str(seed)
            total.add(sweep(min(PIECE, count - total.leases), seed, folder))
            seed += 1
            seconds = time.monotonic() - began
            print(
                f"{total.leases} leases, {total.kills} kills, {len(total.lost)} results lost, "
                f"{len(total.left)} things left, {seconds:.0f} s", flush=True,
            )  # fmt: skip
    bad = [*total.lost, *total.left, *total.trouble]
    for line in bad:
        print(line)
    common.table("leases with random faults", [
        ("leases", f"{total.leases}, {total.abandoned} of them left to themselves"),
        ("drivers", f"{total.lives}, {total.kills} of them killed"),
        ("machines taken away", str(total.cuts)),
        *((kind, str(number)) for kind, number in total.faults.items()),
        ("results lost", f"{len(total.lost)} of {total.results}"),
        ("machines, groups, disks, templates left", str(len(total.left))),
        ("drivers that broke or hung", str(len(total.trouble))),
    ])  # fmt: skip
    sys.exit(bool(bad))


if __name__ == "__main__":
    main()
