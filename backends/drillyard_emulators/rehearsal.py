"""A rehearsal: a user's own experiment on an emulated cloud, with bad luck, and an account.

What differs from cloud to cloud stands behind ``Rehearsal``; ``drillyard rehearse`` knows no more.
"""

from __future__ import annotations

import random
import time
from abc import abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, Protocol

from drillyard.documents.json_types import JsonObject
from drillyard.errors import ConfigError, UserError
from drillyard.registry import load, names, nearest
from drillyard.system.optional_packages import must_have
from drillyard_backends.prove.record import read
from drillyard_emulators.http.fields import Document
from drillyard_emulators.http.handle import Emulator
from drillyard_emulators.http.states import CloudState

CHECKPOINTS = r"/checkpoints/[^/]+/manifest\.json$"
"""A checkpoint exists when its manifest is written."""
TROUBLES = {
    "slow": "SHARE of calls that take 3 to 30 seconds",
    "outage": "SECONDS in which no call is answered, once, from a call on that --seed chooses",
}
"""What can go wrong with the calls to every emulated cloud."""
EVENTS = ("preempt", "cut", "crash", "hang")
"""What can happen to a machine of every emulated cloud."""


@dataclass(frozen=True, slots=True)
class Fault:
    """One value of ``--fault``.

    Attributes:
        name: What goes wrong.
        value: How often, where, how much; as it was typed.
    """

    name: str
    value: str

    @property
    def text(self) -> str:
        """As it was typed."""
        return f"{self.name}={self.value}"


@dataclass(frozen=True, slots=True)
class MachineRow:
    """One machine of the account.

    Attributes:
        lived_s: From its boot to its end, seconds.
        ended_by: In words; empty while it is there.
        cost: What it would have cost; None where the price list does not know it.
    """

    name: str
    zone: str
    kind: str
    spot: bool
    lived_s: float
    ended_by: str
    cost: float | None


@dataclass(frozen=True, slots=True)
class Account:
    """The account of a rehearsal.

    Attributes:
        machines: All that were ever made.
        left: What is still there, by name: machines, groups, templates, disks.
        faults: What was asked for, how often it was played.
        calls: Requests by service.
        refused_hosts: Hosts outside the emulated cloud that were requested.
        currency: Currency of the costs.
        prices_of: Date of the price list.
    """

    machines: list[MachineRow] = field(default_factory=list)
    left: list[str] = field(default_factory=list)
    faults: list[tuple[str, int]] = field(default_factory=list)
    calls: dict[str, int] = field(default_factory=dict)
    refused_hosts: list[str] = field(default_factory=list)
    currency: str = "USD"
    prices_of: str = ""

    @property
    def cost(self) -> float:
        """The sum, of the machines whose price is known."""
        return sum(machine.cost or 0.0 for machine in self.machines)

    def as_dict(self) -> Document:
        """As a program reads it."""
        names = ("name", "zone", "kind", "spot", "lived_s", "ended_by", "cost")
        return {
            "schema_version": 1,
            "made": len(self.machines),
            "left": self.left,
            "machines": [{n: getattr(m, n) for n in names} for m in self.machines],
            "cost": self.cost,
            "currency": self.currency,
            "prices_of": self.prices_of,
            "faults": [{"fault": text, "played": played} for text, played in self.faults],
            "calls": self.calls,
            "refused_hosts": self.refused_hosts,
        }


class Rehearsal(Protocol):
    """An emulated cloud for one experiment."""

    def env(self) -> dict[str, str]:
        """What ``drillyard run`` needs in its environment, beside the user's own."""

    def arguments(self) -> list[str]:
        """What ``drillyard run`` needs on its command line."""

    def behave(self, physics: JsonObject) -> None:
        """Behave as a service did, by the record of a proof.

        Raises:
            UserError: This emulated cloud cannot behave so.
        """

    def account(self, patience_s: float) -> Account:
        """The account, when everything is gone or the time is over."""

    def keep(self, folder: Path) -> None:
        """Copy what is in the store into a folder, as a local store."""

    def close(self) -> None:
        """End it."""


class Start(Protocol):
    """What an entry point of the group ``drillyard.rehearsals`` is, named as its backend."""

    faults: Mapping[str, str]
    """What can go wrong there: name to what its value is."""
    always: Sequence[str]
    """How that emulated cloud is stricter than a service may be, without any fault."""

    def __call__(
        self,
        backend: str,
        given: JsonObject,
        faults: Sequence[Fault],
        folder: Path,
        seed: int,
    ) -> Rehearsal:
        """Start the emulated cloud; see ``rehearsal_of``."""


class OnEmulator:
    """The common part of rehearsals on every emulated cloud; subclasses add the rest.

    Attributes:
        services: Word for people to pattern over the requests of a service.
    """

    services: ClassVar[Mapping[str, str]]
    _cloud: Emulator
    _counters: Sequence[tuple[Fault, Callable[[CloudState], int]]]
    """Each fault, and how often it was played by the emulator's state."""

    @staticmethod
    @abstractmethod
    def left(state: CloudState) -> list[str]:
        """What is there and should not be."""

    @abstractmethod
    def priced(self, state: CloudState) -> tuple[list[MachineRow], str, str]:
        """Rows of the account, currency and date of the price list."""

    def behave(self, physics: JsonObject) -> None:
        """See ``Rehearsal``."""
        if physics:
            self._cloud.physics(**physics)

    def account(self, patience_s: float) -> Account:
        """The account, by the emulator's own books."""
        deadline = time.monotonic() + patience_s
        state = self._cloud.state()
        while self.left(state) and time.monotonic() < deadline:
            time.sleep(0.2)
            state = self._cloud.state()
        rows, currency, date = self.priced(state)
        return Account(
            machines=rows,
            left=self.left(state),
            faults=[(fault.text, count(state)) for fault, count in self._counters],
            calls={word: len(self._cloud.log(match)) for word, match in self.services.items()},
            refused_hosts=state["refused_hosts"],
            currency=currency,
            prices_of=date,
        )

    def close(self) -> None:
        """End it."""
        self._cloud.close()


def event(fault: Fault) -> tuple[str, Document]:
    """What to ask an emulator for, so that something happens to a machine."""
    times = int(number_of(fault, 1, 10_000))
    return "trigger", {"objects": CHECKPOINTS, "what": fault.name, "times": times}


def trouble(fault: Fault, match: str, seed: int) -> Document:
    """Returns the rule for one of ``TROUBLES``.

    Args:
        fault: The fault.
        match: Pattern over the calls to the cloud.
        seed: Seed of the rehearsal.
    """
    if fault.name == "slow":
        share = number_of(fault, 0, 0.9)
        return {"match": match, "delay_s": 3.0, "delay_most_s": 30.0, "probability": share}
    first = random.Random(seed).randrange(10, 100)
    lasts_s = number_of(fault, 1, 600)
    return {"match": match, "lose": True, "lasts_s": lasts_s, "skip": first}


_TOGETHER = ("physics", "project", "manager")


def merged(calls: Iterable[tuple[str, Document]]) -> list[tuple[str, Document]]:
    """Returns what to ask an emulator for, where the later of two lists would replace the first.

    Args:
        calls: What each fault asks for: verb and arguments.
    """
    kept: list[tuple[str, Document]] = []
    together: dict[str, Document] = {}
    for verb, arguments in calls:
        if verb not in _TOGETHER:
            kept.append((verb, arguments))
            continue
        so_far = together.setdefault(verb, {})
        for name, value in arguments.items():
            old = so_far.get(name)
            so_far[name] = (
                [*old, *value] if isinstance(old, list) and isinstance(value, list) else value
            )
    return [*kept, *together.items()]


def one_of(fault: Fault, known: Iterable[str]) -> str:
    """Returns a fault's value, which is one of several words.

    Raises:
        ConfigError: It is another word.
    """
    words = sorted(known)
    if fault.value not in words:
        near = nearest(fault.value, words)
        hint = f"--fault {fault.name}={near or words[0]}"
        raise refused(fault.name, "is not known", fault.value, ", ".join(words), hint)
    return fault.value


def rehearsal_of(
    backend: str, given: JsonObject, faults: Sequence[Fault], folder: Path, seed: int
) -> Rehearsal:
    """Start the emulated cloud of a backend.

    Args:
        backend: Its text form: ``gcp``, ``gcp/prod``.
        given: The experiment's settings of it.
        faults: What goes wrong.
        folder: The emulator's own folder.
        seed: Seed of its random choices.

    Raises:
        UserError: The backend cannot be rehearsed, packages are missing, or a fault is none.
    """
    kind = backend.partition("/")[0]
    _check_known(kind)
    must_have(kind, f"backend {kind}")
    return start_of(kind)(backend, given, faults, folder, seed)


def physics_of(path: Path, kind: str) -> JsonObject:
    """Returns how a service behaved, by a record of ``drillyard prove``.

    Args:
        path: The record.
        kind: The backend that is rehearsed.

    Raises:
        UserError: It is not a record, or one of another backend.
    """
    found = read(path)
    if found.kind != kind:
        raise ConfigError(
            f"is a record of {found.kind}, and {kind} is rehearsed",
            file="command line",
            field="--like",
            value=str(path),
            hint=f"--on {found.kind}; or a record of `drillyard prove {kind}`",
        )
    return found.physics


def start_of(kind: str) -> Start:
    """Returns what starts the emulated cloud of a backend; it names its faults.

    Raises:
        UserError: The backend cannot be rehearsed.
    """
    _check_known(kind)
    start: Start = load("rehearsals", kind)
    return start


def _check_known(kind: str) -> None:
    known = names("rehearsals")
    if kind not in known:
        raise UserError(
            f"backend {kind!r} cannot be rehearsed",
            hint=f"there is an emulated cloud for: {', '.join(sorted(known))}",
        )


def parse_faults(texts: Sequence[str], known: Mapping[str, str]) -> list[Fault]:
    """Returns the faults of a command line.

    Args:
        texts: ``preempt=2``, ``stockout=europe-west1-b``.
        known: Name -> description of its value.

    Raises:
        ConfigError: An unknown name, or a missing value.
    """
    faults = []
    for text in texts:
        name, sign, value = text.partition("=")
        if name not in known:
            allowed = ", ".join(f"{n}={v}" for n, v in known.items())
            raise refused("", "no such fault", text, allowed, nearest(name, list(known)))
        if not sign or not value:
            usage = f"{name}={known[name]}"
            raise refused("", "has no value", text, usage, f"--fault {usage}")
        faults.append(Fault(name, value))
    return faults


def refused(name: str, message: str, value: str, allowed: str, hint: str | None) -> ConfigError:
    """Returns the error for a fault of the command line that cannot be used.

    Args:
        name: Name of the fault; empty if the whole option is wrong.
        message: What is wrong.
        value: The value that was given.
        allowed: The values that are allowed.
        hint: A correct example.
    """
    return ConfigError(
        message,
        file="command line",
        field=f"--fault {name}".rstrip(),
        value=value,
        allowed=allowed,
        hint=hint,
    )


def number_of(fault: Fault, low: float, high: float) -> float:
    """A fault's value as a number.

    Raises:
        ConfigError: It is not a number, or out of bounds.
    """
    try:
        value = float(fault.value)
    except ValueError:
        value = float("nan")
    if not low <= value <= high:
        example = f"--fault {fault.name}={max(low, min(high, 1)):g}"
        allowed = f"{low:g} to {high:g}"
        raise refused(fault.name, "is not such a number", fault.value, allowed, example)
    return value
