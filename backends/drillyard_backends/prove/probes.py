"""The parts of a proof: claims about a service, and the probes that test them.

A claim is one row of a backend's ``ASSUMPTIONS.md``. A probe tests one or several claims. It says
beforehand how long it takes at most and what it creates, so that a proof has a price before it
begins. What a probe creates belongs to the one lease of the proof.
"""

from __future__ import annotations

import enum
import re
import secrets
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass, field
from typing import ClassVar, Generic, Protocol, TypeVar

from drillyard.backend import Backend, Lease, Order, ProvidesStore, open_backend
from drillyard.backend.settings.resolve import resolve
from drillyard.documents.json_types import Json, JsonObject
from drillyard.mailbox import Mailbox
from drillyard.mailbox.records import WorkerRecord
from drillyard.runs.wheels import wheels_of
from drillyard.system.clock import Clock
from drillyard.system.safe_names import user_name
from drillyard.worker.gpu import NOT_USABLE

EXPERIMENT = "drillyard-prove"
"""Folder of the store, and name of the experiment in labels and in the ledger."""
POLL_S = 1.0
"""Seconds between two looks of a probe."""


class Verdict(enum.StrEnum):
    """What a proof found about a claim."""

    HOLDS = "holds"
    FAILS = "does not hold"
    UNTESTED = "could not be tested"


class Untestable(Exception):
    """A claim cannot be tested here; the message says why. Does not leave the package."""


@dataclass(frozen=True, slots=True)
class Claim:
    """A fact about a service that the code relies on.

    Attributes:
        id: Its row in ``ASSUMPTIONS.md``.
        fact: The fact, in one sentence.
        otherwise: What happens if it is wrong.
        matters: False if drillyard works either way; then a wrong one is only told.
    """

    id: str
    fact: str
    otherwise: str
    matters: bool = True

    def holds(self, evidence: str, **physics: float | bool | str) -> Observation:
        """The service behaved so.

        Args:
            evidence: What was seen.
            physics: Settings with which an emulator behaves as the service did.
        """
        return Observation(self, Verdict.HOLDS, evidence, dict(physics))

    def fails(self, evidence: str, **physics: float | bool | str) -> Observation:
        """The service behaved otherwise; see ``holds``."""
        return Observation(self, Verdict.FAILS, evidence, dict(physics))

    def judged(self, holds: bool, evidence: str, **physics: float | bool | str) -> Observation:
        """``holds`` or ``fails``."""
        return (self.holds if holds else self.fails)(evidence, **physics)

    def untested(self, why: str) -> Observation:
        """Nothing was found out."""
        return Observation(self, Verdict.UNTESTED, why, {})


class Claims:
    """Claims by their ids, as attributes.

    Args:
        text: Two lines for each: its id and the fact; then, indented, what happens if it is wrong,
            which may go on in further lines. An id ends with ``?`` if drillyard works either way.
    """

    def __init__(self, text: str) -> None:
        self._claims: dict[str, Claim] = {}
        for row in re.split(r"\n(?=\S)", text.strip()):
            first, *rest = row.splitlines()
            name, _, fact = first.partition(" ")
            otherwise = " ".join(line.strip() for line in rest)
            claim = Claim(name.rstrip("?"), fact, otherwise, not name.endswith("?"))
            self._claims[claim.id] = claim

    def __getattr__(self, name: str) -> Claim:
        if name in self._claims:
            return self._claims[name]
        raise AttributeError(name)

    def of(self, names: str) -> tuple[Claim, ...]:
        """Returns the claims with these ids, which are separated by spaces."""
        return tuple(self._claims[name] for name in names.split())


@dataclass(frozen=True, slots=True)
class Observation:
    """What a probe saw about a claim."""

    claim: Claim
    verdict: Verdict
    evidence: str
    physics: JsonObject


@dataclass
class Scene:
    """Where the probes of one proof work.

    Attributes:
        backend: Rents and ends the lease.
        order: The order of the proof's lease.
        mailbox: The proof's folder in the user's store.
        clock: For waiting.
        pace: Factor of all waiting; tests on emulators shorten it.
        ends_at: Monotonic seconds; no probe waits longer.
        lease: The lease, once it is rented.
        idle: Why nothing of the lease ever worked; empty: something did, or nothing is known.
        software: What a machine has whose worker got ready.
    """

    backend: Backend
    order: Order
    mailbox: Mailbox
    clock: Clock
    pace: float = 1.0
    ends_at: float = float("inf")
    lease: Lease | None = None
    idle: str = ""
    software: dict[str, str] = field(default_factory=dict)
    _never: threading.Event = field(default_factory=threading.Event)

    def until(self, reached: Callable[[], object], seconds: float) -> float | None:
        """Waits for a condition.

        Args:
            reached: The condition.
            seconds: Longest time, before ``pace``.

        Returns:
            Seconds that it took, 0 if it was reached at the first look; None if it was not
            reached in time.
        """
        if reached():
            return 0.0
        began = self.clock.monotonic()
        ends_at = min(began + seconds * self.pace, self.ends_at)
        while not reached():
            if self.clock.monotonic() >= ends_at:
                return None
            self.clock.wait(self._never, POLL_S * min(1.0, self.pace))
        return self.clock.monotonic() - began

    @property
    def rented(self) -> Lease:
        """The lease.

        Raises:
            Untestable: Nothing could be rented.
        """
        if self.lease is None:
            raise Untestable("nothing could be rented")
        return self.lease


S = TypeVar("S", bound=Scene)


@dataclass(frozen=True, slots=True)
class Probe(Generic[S]):
    """A test of claims.

    Attributes:
        name: What it tests, in a few words.
        claims: What it says something about.
        check: Yields what it sees. Claims of which it yields nothing could not be tested.
        seconds: Longest time.
        creates: What it creates; empty: it only reads.
        paid: True while machines of the lease may run.
        only: ``account``: not in the proof of an experiment; ``experiment``: only in that.
    """

    name: str
    claims: tuple[Claim, ...]
    check: Callable[[S], Iterator[Observation]]
    seconds: float
    creates: str = ""
    paid: bool = False
    only: str = ""

    @property
    def reads(self) -> bool:
        """True if it changes nothing."""
        return not self.creates and not self.paid


class Provider(Backend, ProvidesStore, Protocol):
    """A cloud: it rents, and has a store that its machines reach."""


B = TypeVar("B", bound=Provider)


class Prover(ABC, Generic[S]):
    """What a proof has to know of one cloud.

    Attributes:
        backend: Rents and ends the lease.
        pace: Factor of all waiting.
        probes: The probes in their order: those that read, those of the store, the paid ones.
        stays: What a proof may create and does not delete, because every later run uses it.
        ordered: Fields of the order of the proof's only lease.
    """

    kind: ClassVar[str]
    """Name of the backend."""
    page: ClassVar[str]
    """Page of the documents."""
    usual: ClassVar[frozenset[str]] = frozenset({"drillyard", "root"})
    """Values that tell nothing about an account."""
    probes: tuple[Probe[S], ...]
    stays: tuple[str, ...]

    def __init__(
        self, backend: Provider, pace: float, uses: Order | None, **ordered: Json
    ) -> None:
        """Takes what both clouds need.

        Args:
            backend: Rents and ends the lease.
            pace: Factor of all waiting.
            uses: The order of the experiment that is tried, on one machine; None: none is.
            **ordered: Fields of the order of the proof's only lease.
        """
        self.backend, self.pace, self.ordered = backend, pace, ordered
        if uses is not None:
            fields = {"gpus", "jax", "threads", "requirements"}
            self.ordered |= {**uses.model_dump(mode="json", include=fields), "workers": 1}
        left_out = "account" if uses else "experiment"
        self.probes = tuple(each for each in type(self).probes if each.only != left_out)

    def order(self, lease_id: str, store_url: str, deadline: float) -> Order:
        """Returns the order of the proof's only lease."""
        fields: JsonObject = {
            "lease_id": lease_id,
            "experiment": EXPERIMENT,
            "store_url": store_url,
            "deadline": deadline,
            "deadline_of": "drillyard prove",
            **self.ordered,
        }
        return Order.model_validate(fields)

    def private(self) -> dict[str, str]:
        """Returns what must not be in a record: value to what stands for it."""
        named = {**self.named(), user_name(): "USER"}
        return {value: word for value, word in named.items() if value not in {*self.usual, ""}}

    @abstractmethod
    def scene(self, order: Order, mailbox: Mailbox, clock: Clock) -> S:
        """Returns where the probes work."""

    @abstractmethod
    def named(self) -> dict[str, str]:
        """Returns the values that name the account: value to what stands for it."""


def opened(text: str, kind: type[B], settings: JsonObject) -> tuple[B, JsonObject]:
    """Returns a backend of a cloud with settings over the user's own, and all of them.

    The lease keeps them, so that a reaper finds its machines without the file or the block.
    """
    backend = open_backend(text, settings)
    if not isinstance(backend, kind):
        raise TypeError(f"{text} is not a {kind.__name__}")
    return backend, resolve(text, settings).values


def of_worker(
    scene: Scene,
    claims: tuple[Claim, Claim, Claim],
    seconds: float,
    ended: Callable[[], bool],
    last_words: Callable[[], str],
) -> Iterator[Observation]:
    """Waits until a worker has set up its machine for the experiment.

    Args:
        scene: Where it is rented.
        claims: That a worker gets ready, that it installs ``requirements:``, that it has a GPU.
        seconds: Longest time.
        ended: Whether the machine has ended.
        last_words: Returns what it has printed last.
    """
    ready, wheels, gpu = claims
    order = scene.order

    def worker() -> WorkerRecord | None:
        everyone = scene.mailbox.workers()
        return next((each for each in everyone if each.lease == order.lease_id), None)

    def decided() -> bool:
        seen = worker()
        return ended() if seen is None or seen.state == "starting" else True

    scene.until(decided, seconds)
    seen = worker()
    if seen is None:
        yield ready.fails(f"no worker began; the machine's last lines: {last_words()}")
        raise Untestable("no worker began")
    if seen.ready_at is None:
        why = seen.message or f"it is {seen.state}; the machine's last lines: {last_words()}"
        at_fault = gpu if NOT_USABLE in why else wheels if order.requirements else ready
        yield at_fault.fails(why)
        raise Untestable(f"no worker got ready: {why}")
    scene.software = seen.software
    yield ready.holds(", ".join(f"{name} {text}" for name, text in seen.software.items()))
    if not order.requirements:
        yield wheels.untested("the experiment has no `requirements:`")
    elif sent := wheels_of(scene.mailbox, order.lease_id):
        size = sum(file.size for file in sent.files) / 1e6
        yield wheels.holds(f"{len(sent.files)} wheels of the store, {size:.1f} MB")
    else:
        yield wheels.untested("they came from the package index, not from the store")
    if order.gpus:
        driver, build = (seen.software.get(name, "?") for name in ("driver", "torch"))
        yield gpu.holds(f"driver {driver}, torch {build}")
    else:
        yield gpu.untested("the experiment asks for no GPU")


def of_store(scene: Scene, alone: Claim, fresh: Claim) -> Generator[Observation, None, str]:
    """Writes, reads, lists and deletes an object of some bytes.

    Args:
        scene: Where it is written.
        alone: Only the first of two creates of one object succeeds.
        fresh: A read, a listing and a delete see every earlier write at once.

    Returns:
        The key of the object.
    """
    store, where = scene.mailbox.store, scene.mailbox.key("canary")
    key = f"{where}/{secrets.token_hex(6)}"
    first, second = store.put_if_absent(key, b"1"), store.put_if_absent(key, b"2")
    kept = store.get(key)
    good = first and not second and kept == b"1"
    yield alone.judged(good, f"first {first}, second {second}, kept {kept!r}")
    listed = [info.key for info in store.list(f"{where}/")]
    store.delete(key)
    after = [info.key for info in store.list(f"{where}/")]
    stale = key not in listed or key in after or store.stat(key) is not None
    yield fresh.judged(not stale, "stale" if stale else "written, listed, deleted: seen at once")
    return key
