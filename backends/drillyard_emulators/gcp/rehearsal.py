"""A rehearsal on the emulated Google Cloud."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import ClassVar

from drillyard.documents.json_types import Json, JsonObject
from drillyard.errors import DrillyardError
from drillyard_emulators.http.fields import Document, Fields
from drillyard_emulators.http.handle import GcpEmulator
from drillyard_emulators.http.states import CloudState, MachineState
from drillyard_emulators.rehearsal import (
    EVENTS,
    TROUBLES,
    Fault,
    MachineRow,
    OnEmulator,
    event,
    merged,
    number_of,
    one_of,
    refused,
    trouble,
)

FAULTS = {
    "preempt": "NUMBER of machines, each after its first checkpoint, with notice",
    "cut": "NUMBER of machines, each after its first checkpoint, without notice",
    "crash": "NUMBER of machines, each after its first checkpoint: the host fails",
    "hang": "NUMBER of machines, each after its first checkpoint: everything stands still",
    "boot": "NUMBER of machines that never start their agent",
    "stockout": "ZONE without machines, or ZONE:NUMBER of refused machines before there is room",
    "quota": "METRIC:LIMIT",
    "lost": "SHARE of changing calls whose answer is lost",
    "errors": "SHARE of calls answered with 503",
    "busy": "SHARE of calls answered with 429",
    "false-done": "SHARE of deletions that say DONE and do nothing",
    "lag": "SECONDS by which listings lag",
    "skew": "SECONDS by which the machines' clock is wrong",
    "flip": "NUMBER of downloads with a bit flipped",
    "truncate": "NUMBER of downloads cut short",
    **TROUBLES,
    "unreachable": "NUMBER of lists of all zones that reach none of them",
    "rate": "NUMBER of changes a second that one object of the bucket takes; more: 429",
    "soft-delete": "DAYS that the bucket keeps what is deleted, and has it paid for",
    "denied": "PERMISSION that is refused to all",
    "no-groups": "ZONE in which a quota refuses every group: 403 quotaExceeded",
    "policy": "ZONE in which a policy of the organization refuses every machine: 412",
    "throttle": "SECONDS in which all calls get 403 rateLimitExceeded, once, from a call on that "
    "--seed chooses",
    "boot-throttle": "NUMBER of machines' first reads of the store that get 403 rateLimitExceeded",
    "kept-groups": "NUMBER of deletes of a group that are refused, because it is being changed",
    "undeletable": "SECONDS from the first delete on in which a policy lets no machine be deleted",
    "roles": "shipped: you and the machines have the role files that drillyard ships, no more",
    "form": "lost-row-goes: a machine that was taken away leaves its group's list at once; "
    "one-change: a group takes one change at a time",
}
ALWAYS = (
    "a create of a name that is taken is refused",
    "a change of a group that is being made or deleted is refused, and so is a group of a "
    "template that is being made",
    "a template that a group uses cannot be deleted",
    "a machine gets a token of its own service account only",
)
_FORMS: dict[str, Document] = {
    "lost-row-goes": {"lost_stay_listed": False},
    "one-change": {"one_change_at_a_time": True},
}
_API = r" (compute|storage)\.googleapis\.com"
_CHANGES = r"^(POST|PUT|PATCH|DELETE)" + _API
_SHARES: dict[str, Document] = {
    "lost": {"match": _CHANGES, "lose": True, "after": True},
    "errors": {"match": _API, "status": 503},
    "busy": {"match": _API, "status": 429},
}
_RATE: Document = {"status": 403, "reason": "rateLimitExceeded"}
_NUMBERS: dict[str, Document] = {
    "flip": {"match": "alt=media", "flip": True},
    "truncate": {"match": "alt=media", "truncate": 1},
    "boot-throttle": {"match": r"^GET storage\S*\.whl\?alt=media", **_RATE},
    "kept-groups": {
        "match": r"^DELETE compute\S*/instanceGroupManagers/",
        "status": 400,
        "reason": "resourceInUseByAnotherResource",
        "message": "The group is being changed.",
    },
}
_ZONES: dict[str, Document] = {
    "no-groups": {
        "match": r"^POST compute\S*/zones/ZONE/instanceGroupManagers(\?|$)",
        "status": 403,
        "reason": "quotaExceeded",
        "message": "Quota 'INSTANCE_GROUP_MANAGERS' exceeded.  Limit: 0.0 in zone ZONE.",
    },
    "policy": {
        "match": r"^POST compute\S*/zones/ZONE/\S*createInstances",
        "status": 412,
        "reason": "conditionNotMet",
        "message": "Constraint constraints/compute.vmExternalIpAccess violated in zone ZONE.",
    },
}
_AS_RULES = {*_SHARES, *_NUMBERS, *_ZONES, *TROUBLES, "throttle"}
"""Faults that the emulator keeps as rules over requests."""
# What would only be waiting at home; the file's own value wins.
_QUICK = {"LISTING_LAG_S": "1", "STOCKOUT_S": "2"}
# Where machines get drillyard from; this program's environment plays any of them.
_SOURCES = ("image", "image_family", "container", "wheelhouse", "template")
_REQUIRED = {
    "project": "rehearsal-project",
    "bucket": "rehearsal-bucket",
    "service_account": "worker@rehearsal-project.iam.gserviceaccount.com",
}


class GcpRehearsal(OnEmulator):
    """An emulated Google Cloud with the resources that one experiment's settings name.

    Args:
        backend: ``gcp``, or ``gcp/NAME``.
        given: The experiment's settings.
        faults: What goes wrong.
        folder: The emulator's own folder.
        seed: Seed of its random choices.

    Raises:
        ConfigError: A setting or a fault that cannot be.
        InfrastructureError: The emulator did not start.
    """

    _cloud: GcpEmulator
    faults: ClassVar[Mapping[str, str]] = FAULTS
    always: ClassVar[Sequence[str]] = ALWAYS
    services: ClassVar = {
        "compute": r" compute\.googleapis\.com/",
        "storage": r" storage\.googleapis\.com/",
    }

    def __init__(
        self,
        backend: str,
        given: JsonObject,
        faults: Sequence[Fault],
        folder: Path,
        seed: int = 0,
    ) -> None:
        from drillyard.backend.settings.resolve import gather

        resolved, problems, _ = gather(backend, given)
        if problems:
            raise problems[0]
        self._backend = backend
        self._values = {**_REQUIRED, **resolved.values}
        self._missing = [name for name in _REQUIRED if name not in resolved.values]
        self._given = dict(given)
        bucket = str(self._values["bucket"])
        calls = [
            _call(fault, bucket, seed) for fault in faults
        ]  # all refused before anything is started
        self._counters = [
            (fault, _counter(fault, number))
            for fault, number in zip(faults, _places(faults), strict=True)
        ]
        self._cloud = GcpEmulator(folder, project=str(self._values["project"]), seed=seed)
        try:
            self._furnish()
            self._cloud.physics(operation_s=0.2, retry_s=1.0)
            for verb, arguments in merged(calls):
                self._cloud.ask(verb, **arguments)
            if any(fault.name == "roles" for fault in faults):
                self._cloud.ask("bucket", name=bucket)  # the role of a person makes none
                self._cloud.ask("project", granted=self._shipped_roles())
        except BaseException:
            self._cloud.close()
            raise

    def env(self) -> dict[str, str]:
        """The emulator's variables, and settings that the user has not set."""
        chosen = {f"DRILLYARD_GCP_{name.upper()}": _REQUIRED[name] for name in self._missing}
        quick = {
            f"DRILLYARD_GCP_{name}": value
            for name, value in _QUICK.items()
            if name.lower() not in self._values
        }
        if not any(self._values.get(name) for name in _SOURCES):
            image = f"projects/{self._cloud.project}/global/images/drillyard"
            chosen["DRILLYARD_GCP_IMAGE"] = image
        return {**self._cloud.env, **quick, **chosen}

    def arguments(self) -> list[str]:
        """A container cannot be run here; the environment of this program plays it."""
        return ["--set", "backends.gcp.container=null"] if self._given.get("container") else []

    def priced(self, state: CloudState) -> tuple[list[MachineRow], str, str]:
        """Rows of the account, currency and date of the price list."""
        prices = _Prices(self._backend, self._given, self._values)
        rows = [_row(machine, prices) for machine in state["all_machines"]]
        return rows, prices.currency, prices.date

    @staticmethod
    def left(state: CloudState) -> list[str]:
        """What is there and should not be; a template that was there before stays."""
        groups = [group["key"] for group in state["groups"]]
        machines = [f"zones/{m['zone']}/instances/{m['name']}" for m in state["machines"]]
        templates = [key for key in state["templates"] if key not in state["furnished"]]
        return sorted([*machines, *groups, *templates, *state["disks"]])

    def keep(self, folder: Path) -> None:
        """The bucket as a local store."""
        prefix = str(self._values.get("prefix") or "")
        self._cloud.ask(
            "export", bucket=self._values["bucket"], folder=str(folder.absolute()), prefix=prefix
        )

    def _shipped_roles(self) -> Document:
        """What the guide tells users to grant to themselves and to the machines."""
        from drillyard_backends.gcp import rights

        person = [*_role("role.yaml", rights.DRIVER), *rights.BUCKET, "iam.serviceAccounts.actAs"]
        objects = [name for name in rights.BUCKET if ".objects." in name]
        prefix = str(self._values.get("prefix") or "")
        where: dict[str, Json] = (
            {"folder": f"{self._values['bucket']}/{prefix}/"} if prefix else {}
        )
        machine: list[Json] = [
            {
                "permissions": [*_role("machine-role.yaml", rights.MACHINE)],
                "condition": rights.machine_condition(
                    str(self._values.get("group_prefix") or "dy")
                ),
            },
            {"permissions": [*objects], **where},
        ]
        user = f"user@{self._cloud.project}.iam.gserviceaccount.com"
        return {user: [*person], str(self._values["service_account"]): machine}

    def _furnish(self) -> None:
        """What the user's settings name is there: accounts, images, networks, a template."""
        accounts = [self._values["service_account"], self._cloud.service_account]
        user = f"user@{self._cloud.project}.iam.gserviceaccount.com"
        self._cloud.ask("project", accounts=[*accounts, user])
        self._cloud.ask("catalogue", images=["*"], networks=["*"])
        if template := self._values.get("template"):
            self._cloud.ask("template", name=template)


def _role(file: str, otherwise: Sequence[str]) -> list[str]:
    """The permissions of a role file; without a checkout what the package knows of it."""
    path = Path(__file__).parents[3] / "deployments" / "gcp" / file
    if not path.is_file():
        return [*otherwise]
    lines = path.read_text("utf-8").partition("includedPermissions:")[2].splitlines()
    return [line.removeprefix("- ").strip() for line in lines if line.startswith("- ")]


class _Prices:
    """What a machine costs an hour, by the backend's own price list."""

    def __init__(self, backend: str, given: JsonObject, values: Fields) -> None:
        self._kind, self._values = backend.partition("/")[0], dict(values)
        self._known: dict[tuple[str, str, bool], float | None] = {}
        self.currency, self.date = "USD", ""

    def an_hour(self, machine: MachineState) -> float | None:
        """Price of a machine, or None."""
        key = (machine["machine_type"], machine["zone"], machine["spot"])
        if key not in self._known:
            self._known[key] = self._ask(*key)
        return self._known[key]

    def _ask(self, machine_type: str, zone: str, spot: bool) -> float | None:
        from drillyard.backend import Order
        from drillyard.registry import load

        settings = {
            **self._values,
            "machine_types": [machine_type],
            "zones": [zone],
            "spot": spot,
            "on_demand_after": None,
            "on_demand_when_full": False,
        }
        order = Order(lease_id="dy-0000000000", experiment="rehearsal", store_url="")
        try:
            cost = load("backends", self._kind)(**settings).estimate(order)
        except DrillyardError:
            return None
        self.currency, self.date = cost.currency, cost.prices_of
        return float(cost.per_hour)


def _row(machine: MachineState, prices: _Prices) -> MachineRow:
    price = prices.an_hour(machine)
    return MachineRow(
        name=machine["name"],
        zone=machine["zone"],
        kind=machine["machine_type"],
        spot=machine["spot"],
        lived_s=machine["lived_s"],
        ended_by=machine["ended_by"] if machine["gone"] is not None else "",
        cost=None if price is None else price * machine["lived_s"] / 3600,
    )


def _call(fault: Fault, bucket: str, seed: int) -> tuple[str, Document]:
    """What to ask the emulator for."""
    name = fault.name
    if name in TROUBLES:
        return "fault", trouble(fault, _API, seed)
    if name == "unreachable":
        return "physics", {"unreachable_lists": int(number_of(fault, 1, 10_000))}
    if name == "rate":
        return "storage", {"writes_per_s": number_of(fault, 0.1, 100)}
    if name == "soft-delete":
        kept: Document = {"retentionDurationSeconds": str(int(number_of(fault, 7, 90) * 86_400))}
        return "bucket", {"name": bucket, "document": {"softDeletePolicy": kept}}
    if name == "denied":
        from drillyard_backends.gcp import rights

        return "project", {"denied": [one_of(fault, (*rights.DRIVER, *rights.BUCKET))]}
    if name == "roles":
        one_of(fault, ("shipped",))
        return "project", {}  # see ``_shipped_roles``
    if name == "form":
        return "physics", _FORMS[one_of(fault, _FORMS)]
    if name in EVENTS:
        return event(fault)
    if name in _SHARES:
        return "fault", {**_SHARES[name], "probability": number_of(fault, 0, 0.9)}
    if name in _NUMBERS:
        return "fault", {**_NUMBERS[name], "times": int(number_of(fault, 1, 10_000))}
    if name in _ZONES:
        zone = _zone(fault, fault.value)
        rule = _ZONES[name]
        return "fault", {
            key: value.replace("ZONE", zone) if isinstance(value, str) else value
            for key, value in rule.items()
        }
    if name == "throttle":
        lasting = trouble(fault, _API, seed)
        return "fault", {**lasting, **_RATE, "lose": False}
    if name == "undeletable":
        return "physics", {"undeletable_s": number_of(fault, 1, 3600)}
    if name == "boot":
        return "physics", {"boot_failures": int(number_of(fault, 1, 10_000))}
    if name == "lag":
        return "physics", {"listing_lag_s": number_of(fault, 0, 300)}
    if name == "skew":
        return "physics", {"skew_s": number_of(fault, -86_400, 86_400)}
    if name == "false-done":
        return "physics", {
            "false_done": [
                {"kind": kind, "probability": number_of(fault, 0, 0.9)}
                for kind in ("delete", "compute.instanceGroupManagers.deleteInstances")
            ]
        }
    if name == "stockout":
        zone, _, times = fault.value.partition(":")
        stockout: Document = {"zone": _zone(fault, zone)}
        if times:
            stockout["times"] = int(number_of(Fault(name, times), 1, 10_000))
        return "physics", {"stockouts": [stockout]}
    metric, _, limit = fault.value.partition(":")
    if not re.fullmatch(r"[A-Z0-9_]+", metric) or not re.fullmatch(r"\d+", limit):
        example = "--fault quota=PREEMPTIBLE_CPUS:8"
        raise refused(name, "is not a quota", fault.value, "METRIC:LIMIT", example)
    return "catalogue", {"all_quotas": {metric: float(limit)}}


def _zone(fault: Fault, zone: str) -> str:
    """Returns the zone of a fault.

    Raises:
        ConfigError: It is not a zone.
    """
    if not re.fullmatch(r"[a-z]+-[a-z]+\d+-[a-z]", zone):
        example = f"--fault {fault.name}=europe-west1-b"
        raise refused(fault.name, "is not a zone", fault.value, "a zone", example)
    return zone


def _places(faults: Sequence[Fault]) -> list[int]:
    """For each fault its number among those that the emulator keeps in the same list."""
    seen: dict[str, int] = {}
    found = []
    for fault in faults:
        kind = _kept_in(fault)
        found.append(seen.get(kind, 0))
        seen[kind] = seen.get(kind, 0) + (2 if fault.name == "false-done" else 1)
    return found


def _kept_in(fault: Fault) -> str:
    if fault.name in EVENTS:
        return "triggers"
    if fault.name in _AS_RULES:
        return "faults"
    return {"stockout": "stockouts", "false-done": "false_done"}.get(fault.name, fault.name)


def _counter(fault: Fault, number: int) -> Callable[[CloudState], int]:
    """How often a fault was played, from the emulator's state."""
    kind = _kept_in(fault)

    def count(state: CloudState) -> int:
        if kind == "triggers":
            return state["triggers"][number]["played"]
        if kind == "faults":
            return state["faults"][number]["played"]
        if kind == "false_done":
            rules = state["physics"]["false_done"][number : number + 2]
            return sum(rule["played"] for rule in rules)
        if kind == "stockouts":
            return state["physics"]["stockouts"][number]["played"]
        if kind == "undeletable":
            return int(state["physics"]["denied_deletes"])
        if kind == "boot":
            return int(number_of(fault, 1, 10_000)) - int(state["physics"]["boot_failures"])
        if kind == "unreachable":
            return int(number_of(fault, 1, 10_000)) - int(state["physics"]["unreachable_lists"])
        return 1  # a state of the world, not an event

    return count
