"""A rehearsal on the emulated Azure."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import ClassVar

from drillyard.documents.json_types import JsonObject
from drillyard.errors import UserError
from drillyard.runs.wheels import THIS_PYTHON
from drillyard_emulators.azure import blobs
from drillyard_emulators.faults import (
    MOST,
    Ask,
    Fault,
    Kind,
    counted,
    event,
    form,
    number_of,
    one_of,
    quantity,
    roles,
    share,
    troubles,
)
from drillyard_emulators.http.fields import Document
from drillyard_emulators.http.handle import AzureEmulator
from drillyard_emulators.http.states import CloudState, NodeState
from drillyard_emulators.rehearsal import Rehearsal, shipped

_API = r" (management\.azure\.com|\S+\.blob\.core\.windows\.net)"
_MANAGEMENT = r" management\.azure\.com"
_SIGN_IN: dict[str, Ask] = {
    "unreachable": ("fault", {"match": r" login\.microsoftonline\.com", "lose": True}),
    "busy": ("fault", {"match": r" login\.microsoftonline\.com/.*/token", "status": 429}),
    "node-busy": ("entra", {"nodes_busy": True}),
}
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


def _throttle(fault: Fault, _: Rehearsal) -> Ask:
    rule: Document = {"match": _MANAGEMENT, "status": 429, "skip": 30, "times": 6}
    return "fault", {**rule, "retry_after_s": int(number_of(fault, 1, 3600))}


def _denied(fault: Fault, _: Rehearsal) -> Ask:
    from drillyard_backends.azure import rights

    known = (*rights.RUN, *rights.CLUSTER, *rights.ENVIRONMENT)
    return "manager", {"denied": [one_of(fault, known)]}


KINDS: dict[str, Kind] = {
    "preempt": event("NUMBER of nodes, each after its first checkpoint, with notice"),
    "cut": event("NUMBER of nodes, each after its first checkpoint, without notice"),
    "evict": event(
        "NUMBER of nodes, each after its first checkpoint, without notice: the job fails"
    ),
    "crash": event(
        "NUMBER of nodes, each after its first checkpoint: the job fails with its node"
    ),
    "hang": event("NUMBER of nodes, each after its first checkpoint: everything stands still"),
    "kill": event("NUMBER of jobs, each after its first checkpoint: their program is killed"),
    "build": counted("NUMBER of image builds that fail", "broken_builds"),
    "stuck": counted("NUMBER of jobs that are prepared for ever", "stuck"),
    "silent": event(
        "NUMBER of jobs, each after its first checkpoint: Azure does not hear of them again"
    ),
    "scarce": quantity(
        "NUMBER of low-priority nodes that are to be had", "low_priority", 1, MOST, whole=True
    ),
    "full": Kind(
        "SIZE or REGION that has no node",
        lambda fault, _: ("physics", {"full": [fault.value.lower()]}),
    ),
    "quota": quantity(
        "CORES of every family of sizes", "everywhere", 0, 100_000, "manager", whole=True
    ),
    "cores": quantity(
        "CORES that clusters get in all, whatever Azure's list of quotas says",
        "cores",
        0,
        100_000,
        whole=True,
    ),
    "throttle": Kind(
        "SECONDS that Azure asks to wait for, in 429 to one call and its repetitions", _throttle
    ),
    "sign-in": Kind(
        "unreachable: no answer of the sign-in; busy: 429; node-busy: 429 for the nodes",
        lambda fault, _: _SIGN_IN[one_of(fault, _SIGN_IN)],
    ),
    "unending": quantity(
        "SECONDS that a cancelled job takes to end, as on a frozen node", "cancel_s", 1, 3600
    ),
    "busy": share(
        "SHARE of calls to Resource Manager answered with 429", match=_MANAGEMENT, status=429
    ),
    "token": quantity("SECONDS that a sign-in is good for", "life_s", 1, 86_400, "entra"),
    **troubles(_API),
    "not-responding": event("NUMBER of jobs, each after its first checkpoint, for a minute"),
    "lag": quantity("SECONDS by which lists of jobs and clusters lag", "listing_lag_s", 0, 300),
    "soft-delete": quantity(
        "DAYS that the storage account keeps what is deleted, and has it paid for",
        "kept_days",
        1,
        365,
        "around",
        whole=True,
    ),
    "denied": Kind("PERMISSION that is refused to all", _denied),
    "roles": roles(
        "shipped: you have the role files that drillyard ships, the nodes one container"
    ),
    "form": form(f"NAME of an answer in which sources differ: {', '.join(_FORMS)}", _FORMS),
}
# What would only be waiting at home; the file's own value wins.
_QUICK = {"preparing_s": "20", "build_s": "20", "listing_lag_s": "0"}
_ADDRESS = {"subscription_id": "subscription", "resource_group": "group", "workspace": "workspace"}
_SOURCES = ("environment", "image", "build")


class AzureRehearsal(Rehearsal):
    """An emulated Azure that has what the settings of one experiment name."""

    _cloud: AzureEmulator
    kinds = KINDS
    always: ClassVar = (
        "a change of a cluster that is being made or deleted is refused (409)",
        "a cancel of a job that is over or ending is refused",
        "a second job of the same name is refused, also with the same body",
        "a token without client id is refused where the cluster has an identity of yours",
        "a build folder of more than 100 files or 1 MB is refused",
        "an identity reads and writes what its roles on the storage account allow, and no more",
    )
    services: ClassVar = {
        "management": r" management\.azure\.com/",
        "blob": r"\.blob\.core\.windows\.net/",
    }

    def env(self) -> dict[str, str]:
        """The emulator's variables, and settings that the user has not set."""
        filled = {f"DRILLYARD_AZURE_{name.upper()}": text for name, text in self._filled.items()}
        return {**self._cloud.env, **filled}

    def keep(self, folder: Path) -> None:
        """The container as a local store."""
        prefix = str(self.values.get("prefix", "drillyard") or "")
        self._cloud.ask(
            "export", container=self._container, folder=str(folder.absolute()), prefix=prefix
        )

    @property
    def _container(self) -> str:
        return str(self.values.get("container") or self._cloud.container)

    @staticmethod
    def left(state: CloudState) -> list[str]:
        """What is there and should not be; a cluster that is kept, with no job, stays."""
        over = ("Completed", "Failed", "Canceled")
        jobs = [f"jobs/{n}" for n, job in state["jobs"].items() if job["status"] not in over]
        leased = [
            f"computes/{name}"
            for name, compute in state["computes"].items()
            if "drillyard-lease" in compute["tags"]
        ]
        nodes = [f"nodes/{node['name']}" for node in state["nodes"] if node["gone"] is None]
        return sorted([*jobs, *leased, *nodes])

    @staticmethod
    def rented(state: CloudState) -> Iterator[tuple[NodeState, str, str, bool]]:
        """See ``Rehearsal``."""
        for node in state["nodes"]:
            yield node, node["compute"], node["size"], node["low_priority"]

    def alone(self, place: str, kind: str, spot: bool) -> JsonObject:
        """See ``Rehearsal``."""
        size: JsonObject = {"vm_size": kind, "vm_sizes": [], "locations": [], "low_priority": spot}
        return {**self.values, **self._filled, **size}

    def start(self, folder: Path) -> AzureEmulator:
        """See ``Rehearsal``.

        Raises:
            UserError: Azurite is not installed, or bare machines are asked for.
        """
        if self.bare:
            raise UserError(
                "--machines bare is for Google Cloud: nodes of Azure ML are processes here",
                hint="leave --machines out",
            )
        blobs.find()  # here: the emulator's own process could only say it in its log
        return AzureEmulator(folder, seed=self.seed)

    def furnish(self) -> None:
        """What the user's settings name is there: a workspace, an environment, an identity."""
        named = {
            theirs: self.values[ours] for ours, theirs in _ADDRESS.items() if self.values.get(ours)
        }
        self._cloud.ask("manager", **named)
        if environment := self.values.get("environment"):
            name, _, version = str(environment).partition(":")
            self._cloud.ask("environment", name=f"{name}/versions/{version}")
        if identity := self.values.get("identity"):
            self._cloud.ask("identity", id=str(identity))

    def grant_roles(self) -> None:
        """What the guide tells users to grant to themselves, by scope, and to the nodes."""
        from drillyard_backends.azure import rights

        run = [*rights.RUN, *rights.CLUSTER, *rights.ENVIRONMENT, *rights.BUILD, *rights.SUBMIT]
        self._cloud.ask(
            "access",
            workspace=[_role("role.json", run)],
            subscription=[_role("quota-role.json", [])],
            identity=[{"actions": [rights.ASSIGN], "notActions": []}],
        )
        nodes = str(self.values.get("identity") or self._cloud.identity)
        self._cloud.ask("identity", id=nodes, containers=[self._container])

    @property
    def _filled(self) -> dict[str, str]:
        """Settings that the user has not set."""
        there = self._cloud.workspace
        chosen = {
            "subscription_id": there["subscription_id"],
            "resource_group": there["resource_group"],
            "workspace": there["workspace_name"],
            "identity": self._cloud.identity,
            "python": THIS_PYTHON,
            **_QUICK,
        }
        if not any(self.values.get(name) for name in _SOURCES):
            chosen["image"] = "mcr.microsoft.com/azureml/openmpi4.1.0-ubuntu22.04:latest"
        return {name: value for name, value in chosen.items() if not self.values.get(name)}


def _role(file: str, otherwise: Sequence[str]) -> Document:
    """The permissions of a role file; without a checkout what the package knows of it."""
    text = shipped("azure", file)
    if text is None:
        return {"actions": [*otherwise], "notActions": []}
    role = json.loads(text)
    return {"actions": role["Actions"], "notActions": role["NotActions"]}
