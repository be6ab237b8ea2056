"""Leases with random faults, on any emulated cloud: what is lost, and what is left.

Each lease is of an experiment of its own. A driver process drives a few dozen of them side by
side, as one laptop may; it is killed with SIGKILL at random moments and started again, at once or
when its machines have long gone on alone, and some experiments are left to themselves until a
reaper comes. The judge is the emulated cloud's own state.
"""

from __future__ import annotations

import contextlib
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
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from drillyard.backend import Backend, open_backend
from drillyard.driver.driver import Driver
from drillyard.errors import DrillyardError, ExitCode, InfrastructureError
from drillyard.leases.reaper.reaper import GRACE_S, reap
from drillyard.mailbox import Mailbox, Store, open_store
from drillyard_emulators.http.handle import Emulator
from tests.helpers.tiny_backend import tiny

from . import common
from .virtual_clock import VirtualClock

PIECE = 100
"""Leases an emulator: what it keeps of the past is looked through at every look."""
BATCH = 25
"""Leases a driver process."""
AT_ONCE = 2
"""Driver processes."""
MOST_KILLS = 3
LONGEST_S = 600.0
"""Real seconds after which a driver that was not killed is taken for hung."""
MOST_LIVES = 10
ABANDONED = 0.1
PHASES = 3
HOURS = 12


@dataclass(frozen=True)
class Place:
    """What is tried; its functions are those of a module, so that a process can be told.

    Attributes:
        backend: Its name.
        store: The mailbox of all.
        modules: What a driver imports.
        prepare: Run in each driver process before anything else.
        left: What costs money in an emulator's state; each text has the lease's id.
        count: Writes down the faults that were played.
        later: The clock after so many seconds more.
        start_within_s: Virtual seconds: a driver's leases begin within these; ...
        away_s: ... who comes back later than at once does so within these; ...
        typical_s: ... and kills come within these.
        grace_s: For which the reaper leaves alone what is useless, by the store's own clock.
    """

    backend: str
    store: str
    modules: tuple[str, ...]
    prepare: Callable[[], None]
    left: Callable[[Mapping[str, Any]], list[str]]
    count: Callable[[Mapping[str, Any], Outcome], None]
    later: Callable[[Any, VirtualClock, float], VirtualClock]
    start_within_s: float
    away_s: float
    typical_s: float
    grace_s: float = GRACE_S


@dataclass
class Outcome:
    """What became of some leases.

    Attributes:
        lives: Driver processes.
        killed: Experiments whose driver was killed under them; one may be counted thrice.
        lost: Results that are not there, or not as they were written.
        left: What the cloud still had after a command said that it was done, and at the end.
        trouble: Drivers that broke, hung, or never came to an end.
    """

    leases: int = 0
    lives: int = 0
    kills: int = 0
    killed: int = 0
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


# -- a driver process --------------------------------------------------------------------------


def drive(
    place: Place,
    names: Sequence[str],
    folder: Path,
    env: dict[str, str],
    clock: VirtualClock,
    seed: float,
    done: Connection,
) -> None:
    """Be the driver of some experiments; say each one's exit code as it ends."""
    place.prepare()
    os.environ.update(env)
    clock.install()
    logging.basicConfig(
        filename=folder / "drivers.log",
        level=logging.INFO,
        force=True,
        format="%(asctime)s %(process)d %(threadName)s %(message)s",
    )
    for noisy in ("google", "urllib3", "azure"):
        logging.getLogger(noisy).setLevel(logging.ERROR)
    dice, never = random.Random(seed), threading.Event()
    store, backend = open_store(place.store), open_backend(place.backend)
    waits = {name: dice.uniform(0.0, place.start_within_s) for name in names}
    turn = threading.Lock()

    def one(name: str) -> None:
        threading.current_thread().name = name
        clock.wait(never, waits[name])
        code = _exit_code(name, folder, store, backend)
        with turn:
            done.send((name, code))

    with ThreadPoolExecutor(len(names)) as threads:
        list(threads.map(one, names))


def _exit_code(name: str, folder: Path, store: Store, backend: Backend) -> int:
    for _ in range(MOST_LIVES):
        try:
            live(name, folder, store, backend)
        except InfrastructureError as error:
            logging.warning("%s: %s", type(error).__name__, error)
        except DrillyardError as error:
            logging.exception("%s", name)
            return int(error.exit_code)
        except BaseException:
            logging.exception("the driver of %s broke", name)
            return int(ExitCode.BUG)
        else:
            return 0
    return int(ExitCode.INFRASTRUCTURE)


def live(name: str, folder: Path, store: Store, backend: Backend) -> None:
    """A driver's life, as flow and ``drillyard.run`` lead it."""
    loaded = tiny(
        folder / name,
        name=name,
        backend=backend.kind,
        seeds=[1],
        budget={"max_hours": HOURS, "max_cost": 1000},
    )
    driver = Driver(loaded, Mailbox(store, name), backend)
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


# -- all of them -------------------------------------------------------------------------------


class Sweep:
    """Some leases on one emulated cloud.

    Args:
        place: What is tried.
        cloud: Where.
        folder: For what drivers write down.
        clock: Of the cloud.
        seed: Of the chance in it.
    """

    def __init__(
        self, place: Place, cloud: Emulator, folder: Path, clock: VirtualClock, seed: int
    ) -> None:
        self._place, self._cloud, self._folder, self._clock = place, cloud, folder, clock
        self._dice = random.Random(seed)
        self._env = dict(os.environ)
        self._forks = multiprocessing.get_context("forkserver")
        self._forks.set_forkserver_preload([*place.modules, "scipy.stats", __name__])
        self._lock = threading.Lock()
        self.outcome = Outcome()

    def run(self, count: int) -> Outcome:
        """Rent, kill, start again, reap; then look what is lost and what is left."""
        names = [f"e{number:04}" for number in range(count)]
        given_up = {name for name in names if self._dice.random() < ABANDONED}
        batches = [names[start : start + BATCH] for start in range(0, count, BATCH)]
        seeds = [self._dice.random() for _ in batches]
        with ThreadPoolExecutor(AT_ONCE) as threads:
            list(threads.map(lambda b, s: self._batch(b, s, given_up), batches, seeds))
        self._reap()
        left = sorted(given_up)
        self._check_gone(left, "after a reaper came")
        if left:
            self._batch(left, None, set())
        self._judge(names)
        self.outcome.leases, self.outcome.abandoned = count, len(given_up)
        return self.outcome

    # -- a batch ------------------------------------------------------------------------------

    def _batch(self, names: Sequence[str], seed: float | None, given_up: set[str]) -> None:
        """Drive experiments to their ends; those that are given up, until the first kill.

        Args:
            names: Of the experiments.
            seed: Of kills and pauses; None: nobody is killed.
            given_up: Which of them are not driven again after a kill.
        """
        dice = random.Random(seed)
        open_ = list(names)
        kills = 0 if seed is None else dice.randint(1, MOST_KILLS)
        for _ in range(MOST_LIVES):
            if not open_:
                return
            kill_s = dice.uniform(0.0, self._place.typical_s) if kills else None
            open_ = self._life(open_, dice.random(), kill_s)
            if kills:
                open_ = [name for name in open_ if name not in given_up]
                kills -= 1
                if dice.random() < 0.5:  # meanwhile the machines go on alone, to their ends
                    self._clock.wait(threading.Event(), dice.uniform(0.0, self._place.away_s))
        with self._lock:
            self.outcome.trouble += [f"{name}: was never done" for name in open_]

    def _life(self, names: Sequence[str], seed: float, kill_s: float | None) -> list[str]:
        """One process: the names of what it has not ended when it was killed (or hung)."""
        ours, theirs = self._forks.Pipe(duplex=False)
        process = self._forks.Process(
            target=drive,
            args=(self._place, names, self._folder, self._env, self._clock, seed, theirs),
        )
        process.start()
        theirs.close()
        until = time.monotonic()
        until += LONGEST_S if kill_s is None else kill_s / self._clock.speed
        open_ = list(names)
        with contextlib.suppress(EOFError, OSError), ours:
            while open_ and ours.poll(max(0.0, until - time.monotonic())):
                name, code = ours.recv()
                open_.remove(name)
                if code:
                    with self._lock:
                        self.outcome.trouble.append(f"{name}: exit {code}")
                else:
                    self._check_gone([name], "after its command was done")
        process.kill()
        process.join()
        with self._lock:
            self.outcome.lives += 1
            self.outcome.kills += bool(open_)
            self.outcome.killed += len(open_)
            if open_ and kill_s is None:
                self.outcome.trouble += [f"{name}: hung, or its process ended" for name in open_]
        return open_

    def _check_gone(self, names: Sequence[str], when: str) -> None:
        state = self._cloud.state()
        for name in names:
            listed = open_store(self._place.store).list(f"{name}/leases/")
            leases = {info.key.split("/")[2].removeprefix("dy-") for info in listed}
            for thing in self._place.left(state):
                if any(lease in thing for lease in leases):
                    with self._lock:
                        self.outcome.left.append(f"{name}: {when}: {thing}")

    # -- the end ------------------------------------------------------------------------------

    def _reap(self) -> None:
        """What a user's scheduled ``drillyard reap`` does, after the limit of every lease.

        Before it, a lease with open tickets may be worked on with the lid closed.
        """
        self._clock = self._place.later(self._cloud, self._clock, (HOURS + 1) * 3600.0)
        self._clock.install()
        report = reap([self._place.backend], grace_s=self._place.grace_s)
        if not report.good:
            self.outcome.trouble.append(f"the reaper: {report}")

    def _judge(self, names: list[str]) -> None:
        store = open_store(self._place.store)
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
        self.outcome.left += [f"at the end: {thing}" for thing in self._place.left(state)]
        self._place.count(state, self.outcome)


def main(sweep: Callable[[int, int, Path, float], Outcome], speed: float, left: str) -> None:
    """Sweep in pieces, and print.

    Args:
        sweep: Of (leases, seed, folder, speed).
        speed: Unless the command line has another.
        left: What may be left, in words.
    """
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 1000
    seed = int(sys.argv[2]) if len(sys.argv) > 2 else 1
    speed = float(sys.argv[3]) if len(sys.argv) > 3 else speed
    total, began = Outcome(), time.monotonic()
    with tempfile.TemporaryDirectory(prefix="dy-", ignore_cleanup_errors=True) as name:
        while total.leases < count:
            folder = Path(name) / str(seed)
            total.add(sweep(min(PIECE, count - total.leases), seed, folder, speed))
            seed += 1
            seconds = time.monotonic() - began
            print(
                f"{total.leases} leases, {total.kills} kills, {len(total.lost)} results lost, "
                f"{len(total.left)} things left, {len(total.trouble)} drivers that broke or hung, "
                f"{seconds:.0f} s",
                flush=True,
            )
    bad = [*total.lost, *total.left, *total.trouble]
    for line in bad:
        print(line)
    common.table(
        "leases with random faults",
        [
            ("leases", f"{total.leases}, {total.abandoned} of them left to themselves"),
            ("driver processes", f"{total.lives}, {total.kills} of them killed"),
            ("drives of an experiment that were killed", str(total.killed)),
            ("machines taken away", str(total.cuts)),
            *((kind, str(number)) for kind, number in total.faults.items()),
            ("results lost", f"{len(total.lost)} of {total.results}"),
            (f"{left} left", str(len(total.left))),
            ("drivers that broke or hung", str(len(total.trouble))),
        ],
    )
    sys.exit(bool(bad))
