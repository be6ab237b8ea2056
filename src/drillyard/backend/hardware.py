"""Hardware by requirement: what a run needs, which machine types have it, and what they cost.

A backend that can rent by requirement lists its machine types (``HasMachineTypes``); everything
here is the same for all of them. The core knows no provider: names of types, zones and settings
are the backend's own.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from drillyard.documents.json_types import Json, JsonObject, as_integer
from drillyard.errors import ConfigError

if TYPE_CHECKING:
    from drillyard.spec.running import ResourcesSpec

NEAREST = 3
"""Number of types that a refusal names."""


@dataclass(frozen=True, slots=True)
class Hardware:
    """What one run needs.

    Attributes:
        gpu: Model of the GPU, one of ``drillyard.spec.running.Gpu``; None: any, or none.
        gpus: Number of GPUs.
        cpus: Number of virtual CPUs; None: any.
        memory_gb: Memory in GB (2**30 bytes); None: any.
        spot: Machines that can be preempted; None: as the backend's settings say.
        runs_per_machine: Runs side by side on a machine; None: as the backend's settings say.
        runs_per_gpu: Runs that share a GPU; None: as the backend's settings say.
    """

    gpu: str | None = None
    gpus: int = 0
    cpus: int | None = None
    memory_gb: float | None = None
    spot: bool | None = None
    runs_per_machine: int | None = None
    runs_per_gpu: int | None = None

    @classmethod
    def of(cls, resources: ResourcesSpec) -> Hardware | None:
        """Returns the requirement of an experiment; None if it states none."""
        asked = (
            *(resources.gpu, resources.cpus, resources.memory_gb, resources.spot),
            *(resources.runs_per_machine, resources.runs_per_gpu),
        )
        if all(value is None for value in asked):
            return None
        return cls(
            resources.gpu,
            max(resources.gpus, resources.device == "cuda"),
            resources.cpus,
            resources.memory_gb,
            resources.spot,
            resources.runs_per_machine,
            resources.runs_per_gpu,
        )

    @property
    def names_machines(self) -> bool:
        """True if it says more than ``spot``."""
        return any(value is not None for value in (self.gpu, self.cpus, self.memory_gb))

    def times(self, runs: int, per_gpu: int = 1) -> Hardware:
        """Returns what so many runs on one machine need.

        Args:
            runs: Runs side by side.
            per_gpu: Runs that share a GPU.
        """
        return dataclasses.replace(
            self,
            gpus=-(-self.gpus * runs // per_gpu),
            cpus=None if self.cpus is None else self.cpus * runs,
            memory_gb=None if self.memory_gb is None else self.memory_gb * runs,
        )

    def __str__(self) -> str:
        texts = [
            f"{self.gpus} x {self.gpu}" if self.gpu else f"{self.gpus} GPUs" if self.gpus else "",
            f"{self.cpus} CPUs" if self.cpus is not None else "",
            f"{self.memory_gb:g} GB of memory" if self.memory_gb is not None else "",
        ]
        return ", ".join(text for text in texts if text) or "any machine"


def asked(
    need: Hardware, given: JsonObject, resolved: JsonObject, names: Names
) -> tuple[JsonObject, Hardware]:
    """Returns the settings that ``resources`` states itself, and what one machine has to have.

    The latter says whether machines that can be preempted are rented.

    Args:
        need: What one run needs.
        given: The settings that the experiment itself contains.
        resolved: All settings, from every source.
        names: The backend's names of these settings, and the backend's own name.

    Raises:
        ConfigError: ``resources`` and ``backends`` say different things.
    """
    values: JsonObject = {}
    for field_name, setting, usual in (
        ("spot", names.spot, True),
        ("runs_per_machine", names.per_machine, 1),
        ("runs_per_gpu", names.per_gpu, 1),
    ):
        stated = getattr(need, field_name)
        if stated is not None and given.get(setting, stated) != stated:
            raise ConfigError(
                f"resources.{field_name} says otherwise",
                field=f"backends.{names.backend}.{setting}",
                value=given[setting],
                allowed=str(stated).lower(),
                hint="keep one of the two",
            )
        value = resolved.get(setting, usual) if stated is None else stated
        values[setting] = value if isinstance(value, int) else usual
    spot = bool(values.pop(names.spot))
    runs, per_gpu = (as_integer(value) or 1 for value in values.values())
    settings = values if need.runs_per_machine or need.runs_per_gpu else {}
    if need.spot is not None:
        settings = {names.spot: spot, **settings}
    return settings, dataclasses.replace(need, spot=spot).times(runs, per_gpu)


@dataclass(frozen=True, slots=True)
class Names:
    """What a backend calls the settings of ``asked``."""

    backend: str
    spot: str
    per_machine: str
    per_gpu: str = "runs_per_gpu"


@dataclass(frozen=True, slots=True)
class Packing:
    """How many runs share a machine.

    Attributes:
        runs: Runs side by side on a machine.
        machines: Name of each type that may be rented -> its memory in GB (2**30 bytes); None
            where it is not known.
    """

    runs: int
    machines: Mapping[str, float | None]


@dataclass(frozen=True, slots=True)
class Place:
    """A region that has a machine type.

    Attributes:
        region: Its name.
        zones: Its zones that have the type; empty if the provider has no zones.
        price: Hourly price; None if the price list does not know it.
        spot_price: Hourly price of a machine that can be preempted.
    """

    region: str
    zones: tuple[str, ...] = ()
    price: float | None = None
    spot_price: float | None = None

    def cost(self, spot: bool) -> float | None:
        """Returns the hourly price; where that of Spot is not known, the ordinary one is more."""
        return self.price if not spot or self.spot_price is None else self.spot_price


@dataclass(frozen=True, slots=True)
class MachineType:
    """One machine type, with its GPUs.

    Attributes:
        name: Name at the provider; with attached GPUs, both.
        cpus: Virtual CPUs.
        memory_gb: Memory in GB (2**30 bytes).
        gpu: Model of its GPUs; None without.
        gpus: Number of its GPUs.
        places: Regions that have it.
        settings: Settings of the backend that rent it.
        only_spot: True if it can be rented only as a machine that can be preempted.
        source: Where its numbers come from, with the date.
    """

    name: str
    cpus: int
    memory_gb: float
    gpu: str | None = None
    gpus: int = 0
    places: tuple[Place, ...] = ()
    settings: Mapping[str, Json] = field(default_factory=dict)
    only_spot: bool = False
    source: str = ""

    def lacks(self, need: Hardware) -> int:
        """Returns how many of the requirements it does not meet."""
        return sum(
            (
                # Another model counts most: the nearest types are those of the GPU asked for.
                4 * (need.gpu is not None and need.gpu != self.gpu),
                self.gpus < need.gpus,
                self.cpus < (need.cpus or 0),
                self.memory_gb < (need.memory_gb or 0),
                need.spot is False and self.only_spot,
            )
        )

    def cheapest(self, spot: bool) -> float | None:
        """Returns the lowest hourly price of all regions; None if none is known."""
        known = [cost for place in self.places if (cost := place.cost(spot)) is not None]
        return min(known, default=None)

    def __str__(self) -> str:
        gpus = f", {self.gpus} x {self.gpu}" if self.gpu else ""
        return f"{self.name} ({self.cpus} CPUs, {self.memory_gb:g} GB{gpus})"


@dataclass(frozen=True, slots=True)
class MachineList:
    """The machine types of one backend.

    Attributes:
        types: All of them.
        prices_of: Date of the price list.
        currency: Its currency.
        source: Where the price list comes from: the package, a file, a refresh.
    """

    types: tuple[MachineType, ...]
    prices_of: str
    currency: str = "USD"
    source: str = ""


def fitting(types: Iterable[MachineType], need: Hardware, spot: bool) -> list[MachineType]:
    """Returns the types that meet a requirement, cheapest first.

    A type without a price comes last. Without ``need.gpus`` a machine with GPUs is not offered:
    it would be paid for nothing.
    """
    fit = [
        kind
        for kind in types
        if kind.lacks(need) == 0 and (need.gpus or need.gpu or not kind.gpus)
    ]
    return sorted(fit, key=lambda kind: rank(kind, spot))


def rank(kind: MachineType, spot: bool) -> tuple[bool, float, int, str]:
    """Returns the sort key of a type: its price, then its size."""
    price = kind.cheapest(spot)
    return price is None, price or 0.0, kind.cpus, kind.name


def nearest_types(types: Sequence[MachineType], need: Hardware, spot: bool) -> list[MachineType]:
    """Returns the types that miss the fewest requirements, cheapest first."""
    useful = [kind for kind in types if not need.gpus or kind.gpus] or list(types)

    def key(kind: MachineType) -> tuple[int, float, tuple[bool, float, int, str]]:
        return kind.lacks(need), _short(kind, need), rank(kind, spot)

    return sorted(useful, key=key)[:NEAREST]


def _short(kind: MachineType, need: Hardware) -> float:
    """By which share a type is too small, summed over what it lacks."""
    pairs = (
        (kind.gpus, need.gpus),
        (kind.cpus, need.cpus or 0),
        (kind.memory_gb, need.memory_gb or 0),
    )
    return sum(1 - has / asked for has, asked in pairs if asked > has)


def refusal(
    types: Sequence[MachineType], need: Hardware, spot: bool, what: str, *, field: str
) -> ConfigError:
    """Returns the error for a requirement that no type meets.

    Args:
        types: The types that could be rented.
        need: What one machine needs.
        spot: Whether it can be preempted.
        what: Who has no such type, for the message.
        field: The field of the experiment to blame.
    """
    near = nearest_types(types, need, spot)
    kinds = "; ".join(map(str, near)) or "none"
    return ConfigError(
        f"{what} has no machine type with {need}"
        + (" that is not a Spot machine" if need.spot is False else ""),
        field=field,
        allowed=f"nearest: {kinds}",
        hint="change resources, or name the machine type yourself; "
        "`drillyard list machines` shows all of them",
    )


def too_small(
    kind: MachineType,
    types: Sequence[MachineType],
    need: Hardware,
    spot: bool,
    field: str,
    name: str,
) -> ConfigError:
    """Returns the error for a machine type of the user's own that lacks what is needed.

    Args:
        kind: The type.
        types: All types.
        need: What is needed.
        spot: Whether machines can be preempted.
        field: The setting that names the type.
        name: The type as the setting writes it.
    """
    return ConfigError(
        f"{kind} does not have what resources asks for: {need}",
        field=field,
        value=name,
        allowed=f"nearest: {'; '.join(map(str, nearest_types(types, need, spot)))}",
        hint=f"remove {field.rpartition('.')[2]}, so that the cheapest that fits is taken; or "
        "change resources",
    )


def blamed(need: Hardware) -> str:
    """Returns the field of ``resources`` that a refusal names."""
    if need.gpu is not None:
        return "resources.gpu"
    return "resources.cpus" if need.cpus is not None else "resources.memory_gb"
