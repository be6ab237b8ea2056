"""A rehearsal on the emulated Azure."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import ClassVar

from drillyard.documents.json_types import JsonObject
from drillyard.errors import DrillyardError
from drillyard_emulators.azure import blobs
from drillyard_emulators.http.fields import Document
from drillyard_emulators.http.handle import AzureEmulator
from drillyard_emulators.http.states import CloudState
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
    trouble,
)

FAULTS = {
    "preempt": "NUMBER of nodes, each after its first checkpoint, with notice",
    "cut": "NUMBER of nodes, each after its first checkpoint, without notice",
    "evict": "NUMBER of nodes, each after its first checkpoint, without notice: the job fails",
    "crash": "NUMBER of nodes, each after its first checkpoint: the job fails with its node",
    "hang": "NUMBER of nodes, each after its first checkpoint: everything stands still",
    "kill": "NUMBER of jobs, each after its first checkpoint: their program is killed",
    "build": "NUMBER of image builds that fail",
    "stuck": "NUMBER of jobs that are prepared for ever",
    "silent": "NUMBER of jobs, each after its first checkpoint: Azure does not hear of them again",
    "scarce": "NUMBER of low-priority nodes that are to be had",
    "full": "SIZE or REGION that has no node",
    "quota": "CORES of every family of sizes",
    "cores": "CORES that clusters get in all, whatever Azure's list of quotas says",
    "throttle": "SECONDS that Azure asks to wait for, in 429 to one call and its repetitions",
    "sign-in": "unreachable: no answer of the sign-in; busy: 429; node-busy: 429 for the nodes",
    "unending": "SECONDS that a cancelled job takes to end, as on a frozen node",
    "lost": "SHARE of changing calls whose answer is lost",
    "errors": "SHARE of calls answered with 503",
    "busy": "SHARE of calls to Resource Manager answered with 429",
    "token": "SECONDS that a sign-in is good for",
    **TROUBLES,
    "not-responding": "NUMBER of jobs, each after its first checkpoint, for a minute",
    "lag": "SECONDS by which lists of jobs and clusters lag",
    "soft-delete": "DAYS that the storage account keeps what is deleted, and has it paid for",
    "denied": "PERMISSION that is refused to all",
    "roles": "shipped: you have the role files that drillyard ships, the nodes one container",
    "form": "NAME of an answer in which sources differ: {forms}",
}
ALWAYS = (
    "a change of a cluster that is being made or deleted is refused (409)",
    "a cancel of a job that is over or ending is refused",
    "a second job of the same name is refused, also with the same body",
    "a token without client id is refused where the cluster has an identity of yours",
    "a build folder of more than 100 files or 1 MB is refused",
    "an identity reads and writes what its roles on the storage account allow, and no more",
)
_FORMS: dict[str, Document] = {
    "cancel-404": {"cancel_status": 404},
    "cancel-409": {"cancel_status": 409},
    "empty-tags-kept": {"empty_tags": True},
    "no-cluster-tags": {"cluster_tags": False},
    "no-tag-filter": {"tag_filter": False},
    "preparing-first": {"preparing_first": True},
    "repeated-job-accepted": {"repeats": True},
    "resizing-refuses": {"resizing_conflicts": True},
}
FAULTS["form"] = FAULTS["form"].format(forms=", ".join(_FORMS))
_DEEDS = (*EVENTS, "evict", "kill", "silent", "not-responding")
_API = r" (management\.azure\.com|\S+\.blob\.core\.windows\.net)"
_SHARES: dict[str, Document] = {
    "lost": {"match": r"^(POST|PUT|PATCH|DELETE)" + _API, "lose": True, "after": True},
    "errors": {"match": _API, "status": 503},
    "busy": {"match": r" management\.azure\.com", "status": 429},
}
_SIGN_IN: dict[str, Document] = {
    "unreachable": {"match": r" login\.microsoftonline\.com", "lose": True},
    "busy": {"match": r" login\.microsoftonline\.com/.*/token", "status": 429},
}
_PHYSICS = {"build": "broken_builds", "stuck": "stuck", "scarce": "low_priority"}
# What would only be waiting at home; the file's own value wins.
_QUICK = {"preparing_s": "20", "build_s": "20", "listing_lag_s": "0"}
_ADDRESS = {"subscription_id": "subscription", "resource_group": "group", "workspace": "workspace"}
_SOURCES = ("environment", "image", "build")


class AzureRehearsal(OnEmulator):
    """An emulated Azure that has what the settings of one experiment name.

    Args:
        backend: ``azure``, or ``azure/NAME``.
        given: The experiment's settings.
        faults: What goes wrong.
        folder: The emulator's own folder.
        seed: Seed of its random choices.

    Raises:
        ConfigError: A setting or a fault that cannot be.
        UserError: Azurite is not installed.
        InfrastructureError: The emulator did not start.
    """

    _cloud: AzureEmulator
    faults: ClassVar[Mapping[str, str]] = FAULTS
    always: ClassVar[Sequence[str]] = ALWAYS
    services: ClassVar = {
        "management": r" management\.azure\.com/",
        "blob": r"\.blob\.core\.windows\.net/",
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

        blobs.find()  # here: the emulator's own process could only say it in its log
        resolved, problems, _ = gather(backend, given)
        if problems:
            raise problems[0]
        self._values = dict(resolved.values)
        calls = [_call(fault, seed) for fault in faults]  # all refused before anything is started
        rules = [fault for fault, (verb, _) in zip(faults, calls, strict=True) if verb == "fault"]
        self._counters = [
            (fault, partial(_played, fault, rules.index(fault) if fault in rules else 0))
            for fault in faults
        ]
        self._cloud = AzureEmulator(folder, seed=seed)
        try:
            mine = {
                theirs: self._values[ours]
                for ours, theirs in _ADDRESS.items()
                if self._values.get(ours)
            }
            self._cloud.ask("manager", **mine)
            if environment := self._values.get("environment"):
                name, _, version = str(environment).partition(":")
                self._cloud.ask("environment", name=f"{name}/versions/{version}")
            if identity := self._values.get("identity"):
                self._cloud.ask("identity", id=str(identity))
            for verb, arguments in merged(calls):
                self._cloud.ask(verb, **arguments)
            if any(fault.name == "roles" for fault in faults):
                self._cloud.ask("access", **_shipped_roles())
                nodes = str(self._values.get("identity") or self._cloud.identity)
                self._cloud.ask("identity", id=nodes, containers=[self._container])
        except BaseException:
            self._cloud.close()
            raise

    def env(self) -> dict[str, str]:
        """The emulator's variables, and settings that the user has not set."""
        there = self._cloud.workspace
        chosen = {
            "subscription_id": there["subscription_id"],
            "resource_group": there["resource_group"],
            "workspace": there["workspace_name"],
            "identity": self._cloud.identity,
            **_QUICK,
        }
        if not any(self._values.get(name) for name in _SOURCES):
            chosen["image"] = "mcr.microsoft.com/azureml/openmpi4.1.0-ubuntu22.04:latest"
        own = {
            f"DRILLYARD_AZURE_{name.upper()}": value
            for name, value in chosen.items()
            if not self._values.get(name)
        }
        return {**self._cloud.env, **own}

    def arguments(self) -> list[str]:
        """Nothing: this program's environment plays the image of every environment."""
        return []

    def keep(self, folder: Path) -> None:
        """The container as a local store."""
        prefix = str(self._values.get("prefix", "drillyard") or "")
        self._cloud.ask(
            "export", container=self._container, folder=str(folder.absolute()), prefix=prefix
        )

    @property
    def _container(self) -> str:
        return str(self._values.get("container") or self._cloud.container)

    @staticmethod
    def left(state: CloudState) -> list[str]:
        """What is there and should not be; a cluster that is kept, with no job, stays."""
        over = ("Completed", "Failed", "Canceled")
        jobs = [f"jobs/{n}" for n, job in state["jobs"].items() if job["status"] not in over]
        own = [
            f"computes/{name}"
            for name, one in state["computes"].items()
            if "drillyard-lease" in one["tags"]
        ]
        nodes = [f"nodes/{node['name']}" for node in state["nodes"] if node["gone"] is None]
        return sorted([*jobs, *own, *nodes])

    def priced(self, state: CloudState) -> tuple[list[MachineRow], str, str]:
        """Rows of the account, currency and date of the price list."""
        from drillyard.backend import Order
        from drillyard.registry import load

        known: dict[tuple[str, bool], float | None] = {}
        currency, date = "USD", ""
        order = Order(lease_id="dy-0000000000", experiment="rehearsal", store_url="")
        rows = []
        for node in state["nodes"]:
            key = str(node["size"]), bool(node["low_priority"])
            if key not in known:
                settings = {**self._values, **self._filled()}
                settings.update(vm_size=key[0], vm_sizes=[], locations=[], low_priority=key[1])
                try:
                    cost = load("backends", "azure")(**settings).estimate(order)
                    known[key], currency, date = cost.per_hour, cost.currency, cost.prices_of
                except DrillyardError:
                    known[key] = None
            price = known[key]
            lived = float(node["lived_s"])
            ended_by = node["ended_by"] if node["gone"] is not None else ""
            cost_now = None if price is None else price * lived / 3600
            row = MachineRow(node["name"], node["compute"], *key, lived, ended_by, cost_now)
            rows.append(row)
        return rows, currency, date

    def _filled(self) -> dict[str, str]:
        start = "DRILLYARD_AZURE_"
        return {
            name.removeprefix(start).lower(): value
            for name, value in self.env().items()
            if name.startswith(start)
        }


def _shipped_roles() -> Document:
    """What the guide tells users to grant to themselves, by scope."""
    from drillyard_backends.azure import rights

    run = [*rights.RUN, *rights.CLUSTER, *rights.ENVIRONMENT, *rights.BUILD, *rights.SUBMIT]
    return {
        "workspace": [_role("role.json", run)],
        "subscription": [_role("quota-role.json", [])],
        "identity": [{"actions": [rights.ASSIGN], "notActions": []}],
    }


def _role(file: str, otherwise: Sequence[str]) -> Document:
    """The permissions of a role file; without a checkout what the package knows of it."""
    path = Path(__file__).parents[3] / "deployments" / "azure" / file
    if not path.is_file():
        return {"actions": [*otherwise], "notActions": []}
    role = json.loads(path.read_text("utf-8"))
    return {"actions": role["Actions"], "notActions": role["NotActions"]}


def _call(fault: Fault, seed: int) -> tuple[str, Document]:
    """What to ask the emulator for."""
    name = fault.name
    if name in TROUBLES:
        return "fault", trouble(fault, _API, seed)
    if name == "lag":
        return "physics", {"listing_lag_s": number_of(fault, 0, 300)}
    if name == "soft-delete":
        return "around", {"kept_days": int(number_of(fault, 1, 365))}
    if name == "denied":
        from drillyard_backends.azure import rights

        known = (*rights.RUN, *rights.CLUSTER, *rights.ENVIRONMENT)
        return "manager", {"denied": [one_of(fault, known)]}
    if name == "roles":
        one_of(fault, ("shipped",))
        return "manager", {}  # see ``_shipped_roles``
    if name == "throttle":
        wait_s = int(number_of(fault, 1, 3600))
        rule = {"match": _SHARES["busy"]["match"], "status": 429, "retry_after_s": wait_s}
        return "fault", {**rule, "skip": 30, "times": 6}
    if name == "sign-in":
        if one_of(fault, (*_SIGN_IN, "node-busy")) == "node-busy":
            return "entra", {"nodes_busy": True}
        return "fault", _SIGN_IN[fault.value]
    if name == "cores":
        return "physics", {"cores": int(number_of(fault, 0, 100_000))}
    if name == "unending":
        return "physics", {"cancel_s": number_of(fault, 1, 3600)}
    if name == "form":
        return "physics", _FORMS[one_of(fault, _FORMS)]
    if name == "full":
        return "physics", {"full": [fault.value.lower()]}
    if name in _DEEDS:
        return event(fault)
    if name in _SHARES:
        return "fault", {**_SHARES[name], "probability": number_of(fault, 0, 0.9)}
    if name in _PHYSICS:
        return "physics", {_PHYSICS[name]: int(number_of(fault, 1, 10_000))}
    if name == "token":
        return "entra", {"life_s": number_of(fault, 1, 86_400)}
    cores = int(number_of(fault, 0, 100_000))
    return "manager", {"everywhere": cores}


def _played(fault: Fault, place: int, state: CloudState) -> int:
    """How often a fault was played, from the emulator's state."""
    if fault.name in _DEEDS:
        return sum(t["played"] for t in state["triggers"] if t["what"] == fault.name)
    if _call(fault, 0)[0] == "fault":
        return state["faults"][place]["played"]
    if fault.name in ("build", "stuck"):
        physics = state["physics"]
        left = physics["broken_builds"] if fault.name == "build" else physics["stuck"]
        return int(number_of(fault, 1, 10_000)) - left
    return 1  # a state of the world, not an event
