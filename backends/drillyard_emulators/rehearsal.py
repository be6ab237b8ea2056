"""A rehearsal: a user's own experiment on an emulated cloud, with bad luck, and an account.

What differs from cloud to cloud is in its subclasses; ``drillyard rehearse`` knows no more.
"""

from __future__ import annotations

import os
import time
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import ClassVar
from urllib.parse import urlsplit

import certifi

from drillyard.documents.json_types import JsonObject
from drillyard.errors import ConfigError, DrillyardError, UserError
from drillyard.registry import load, names
from drillyard.system.optional_packages import must_have
from drillyard_backends.prove.record import read
from drillyard_emulators.faults import Fault, Kind, merged
from drillyard_emulators.http.fields import Document
from drillyard_emulators.http.handle import Emulator
from drillyard_emulators.http.states import CloudState, MachineState, NodeState


def way_to_index(network: Mapping[str, str]) -> dict[str, str]:
    """Returns variables by which pip reaches the user's package index, past the emulated network.

    The command resolves ``requirements:`` on this computer, as it does without a rehearsal.

    Args:
        network: Variables of the emulated network.
    """
    emulated, given = Path(network["REQUESTS_CA_BUNDLE"]), os.environ
    trusted = (given.get(name) for name in ("PIP_CERT", "REQUESTS_CA_BUNDLE", "SSL_CERT_FILE"))
    both = emulated.with_name("index-too.pem")
    both.write_bytes(
        emulated.read_bytes() + Path(next(filter(None, trusted), certifi.where())).read_bytes()
    )
    own = urlsplit(given.get("PIP_INDEX_URL", "")).hostname or "localhost"
    hosts = f"127.0.0.1,localhost,pypi.org,files.pythonhosted.org,{own}"
    proxy = given.get("https_proxy") or given.get("HTTPS_PROXY")
    way = {"PIP_PROXY": proxy} if proxy else {"NO_PROXY": hosts, "no_proxy": hosts}
    return {"REQUESTS_CA_BUNDLE": str(both), "PIP_CERT": str(both), **way}


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
        return {
            "schema_version": 1,
            "made": len(self.machines),
            "left": self.left,
            "machines": [asdict(machine) for machine in self.machines],
            "cost": self.cost,
            "currency": self.currency,
            "prices_of": self.prices_of,
            "faults": [{"fault": text, "played": played} for text, played in self.faults],
            "calls": self.calls,
            "refused_hosts": self.refused_hosts,
        }


class Rehearsal(ABC):
    """An emulated cloud for one experiment, made by an entry point of ``drillyard.rehearsals``.

    Args:
        backend: Its text form: ``gcp``, ``gcp/prod``.
        given: The experiment's settings.
        faults: What goes wrong.
        folder: The emulator's own folder.
        seed: Seed of its random choices.
        bare: Machines have nothing of this computer; see ``drillyard_emulators.bare``.

    Attributes:
        kinds: What can go wrong there, by name.
        always: How that emulated cloud is stricter than a service may be, without any fault.
        services: Word for people to pattern over the requests of a service.
        required: Settings for a user who has none.

    Raises:
        ConfigError: A setting or a fault that cannot be.
        InfrastructureError: The emulator did not start.
    """

    kinds: ClassVar[Mapping[str, Kind]]
    always: ClassVar[Sequence[str]]
    services: ClassVar[Mapping[str, str]]
    required: ClassVar[Mapping[str, str]] = {}
    _cloud: Emulator

    def __init__(
        self,
        backend: str,
        given: JsonObject,
        faults: Sequence[Fault],
        folder: Path,
        seed: int = 0,
        bare: bool = False,
    ) -> None:
        from drillyard.backend.settings.resolve import gather

        resolved, problems, _ = gather(backend, given)
        if problems:
            raise problems[0]
        self.bare = bare
        self.seed, self._kind, self.given = seed, backend.partition("/")[0], dict(given)
        self.values: JsonObject = {**self.required, **resolved.values}
        self.missing = [name for name in self.required if name not in resolved.values]
        # All are refused before anything is started.
        asks = [self.kinds[fault.name].ask(fault, self) for fault in faults]
        self._faults = [*zip(faults, (verb for verb, _ in asks), strict=True)]
        self._cloud = self.start(folder)
        try:
            self.furnish()
            for verb, arguments in merged(asks):
                self._cloud.ask(verb, **arguments)
            if any(fault.name == "roles" for fault in faults):
                self.grant_roles()
        except BaseException:
            self._cloud.close()
            raise

    @abstractmethod
    def env(self) -> dict[str, str]:
        """What ``drillyard run`` needs in its environment, beside the user's own."""

    @abstractmethod
    def keep(self, folder: Path) -> None:
        """Copies what is in the store into a folder, as a local store."""

    @abstractmethod
    def start(self, folder: Path) -> Emulator:
        """Starts the emulator."""

    @abstractmethod
    def furnish(self) -> None:
        """Makes what the settings name, and lets little time pass."""

    @abstractmethod
    def grant_roles(self) -> None:
        """Gives everybody what the role files that drillyard ships give them, and no more."""

    @staticmethod
    @abstractmethod
    def left(state: CloudState) -> list[str]:
        """What is there and should not be."""

    @staticmethod
    @abstractmethod
    def rented(state: CloudState) -> Iterator[tuple[MachineState | NodeState, str, str, bool]]:
        """Yields each machine that ever was, its place and type, and whether it can be lost."""

    @abstractmethod
    def alone(self, place: str, kind: str, spot: bool) -> JsonObject:
        """Returns settings that rent one machine of a type, for its price."""

    def arguments(self) -> list[str]:
        """What ``drillyard run`` needs on its command line."""
        return []

    def behave(self, physics: JsonObject) -> None:
        """Behaves as a service did, by the record of a proof.

        Raises:
            UserError: This emulated cloud cannot behave so.
        """
        if physics:
            self._cloud.physics(**physics)

    def account(self, patience_s: float) -> Account:
        """The account by the emulator's own books, when all is gone or the time is over."""
        deadline = time.monotonic() + patience_s
        state = self._cloud.state()
        while self.left(state) and time.monotonic() < deadline:
            time.sleep(0.2)
            state = self._cloud.state()
        rows, currency, date = self._priced(state)
        return Account(
            machines=rows,
            left=self.left(state),
            faults=list(self._played(state)),
            calls={word: len(self._cloud.log(match)) for word, match in self.services.items()},
            refused_hosts=state["refused_hosts"],
            currency=currency,
            prices_of=date,
        )

    def close(self) -> None:
        """End it."""
        self._cloud.close()

    def _played(self, state: CloudState) -> Iterator[tuple[str, int]]:
        """Yields each fault as it was typed, and how often it was played."""
        places: Counter[str] = Counter()
        for fault, verb in self._faults:
            played = self.kinds[fault.name].played
            kept_in = verb if verb in ("fault", "trigger") else fault.name
            place = places[kept_in]
            places[kept_in] += 1
            if verb == "fault":
                yield fault.text, state["faults"][place]["played"]
            elif verb == "trigger":
                yield fault.text, state["triggers"][place]["played"]
            else:
                yield fault.text, 1 if played is None else played(state["physics"], fault, place)

    def _priced(self, state: CloudState) -> tuple[list[MachineRow], str, str]:
        """Rows of the account, currency and date of the backend's own price list."""
        from drillyard.backend import Order

        order = Order(lease_id="dy-0000000000", experiment="rehearsal", store_url="")
        known: dict[tuple[str, str, bool], float | None] = {}
        currency, date, rows = "USD", "", []
        for machine, *key_ in self.rented(state):
            place, kind, spot = key = (str(key_[0]), str(key_[1]), bool(key_[2]))
            if key not in known:
                try:
                    cost = load("backends", self._kind)(**self.alone(*key)).estimate(order)
                    known[key], currency, date = cost.per_hour, cost.currency, cost.prices_of
                except DrillyardError:
                    known[key] = None
            price, lived_s = known[key], float(machine["lived_s"])
            ended_by = machine["ended_by"] if machine["gone"] is not None else ""
            cost_now = None if price is None else price * lived_s / 3600
            rows.append(
                MachineRow(machine["name"], place, kind, spot, lived_s, ended_by, cost_now)
            )
        return rows, currency, date


def shipped(cloud: str, file: str) -> str | None:
    """Returns the text of a role file that drillyard ships; None without a checkout."""
    path = Path(__file__).parents[2] / "deployments" / cloud / file
    return path.read_text("utf-8") if path.is_file() else None


def rehearsal_of(
    backend: str,
    given: JsonObject,
    faults: Sequence[Fault],
    folder: Path,
    seed: int,
    bare: bool = False,
) -> Rehearsal:
    """Start the emulated cloud of a backend.

    Args:
        backend: Its text form: ``gcp``, ``gcp/prod``.
        given: The experiment's settings of it.
        faults: What goes wrong.
        folder: The emulator's own folder.
        seed: Seed of its random choices.
        bare: Machines have nothing of this computer.

    Raises:
        UserError: The backend cannot be rehearsed, packages are missing, or a fault is none.
    """
    kind = backend.partition("/")[0]
    start = start_of(kind)
    must_have(kind, f"backend {kind}")
    return start(backend, given, faults, folder, seed, bare)


def physics_of(path: Path, kind: str) -> JsonObject:
    """Returns how a service behaved, by a record of ``drillyard prove``.

    Args:
        path: The record.
        kind: The backend that is rehearsed.

    Raises:
        UserError: It is not a record, or one of another backend.
    """
    record = read(path)
    if record.kind != kind:
        raise ConfigError(
            f"is a record of {record.kind}, and {kind} is rehearsed",
            file="command line",
            field="--like",
            value=str(path),
            hint=f"--on {record.kind}; or a record of `drillyard prove {kind}`",
        )
    return record.physics


def start_of(kind: str) -> type[Rehearsal]:
    """Returns what starts the emulated cloud of a backend; it names its faults.

    Raises:
        UserError: The backend cannot be rehearsed.
    """
    known = names("rehearsals")
    if kind not in known:
        raise UserError(
            f"backend {kind!r} cannot be rehearsed",
            hint=f"there is an emulated cloud for: {', '.join(sorted(known))}",
        )
    start: type[Rehearsal] = load("rehearsals", kind)
    return start
