"""A rehearsal on the emulated Google Cloud."""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

from drillyard.documents.json_types import Json, JsonObject
from drillyard.errors import InfrastructureError, UserError
from drillyard.runs.wheels import THIS_PYTHON
from drillyard_emulators.bare.root import Recipe, cache, root_of, unable
from drillyard_emulators.bare.wheels import wheelhouse
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
    refused,
    roles,
    several,
    share,
    trouble,
    troubles,
)
from drillyard_emulators.http.fields import Document, Fields, members, number
from drillyard_emulators.http.handle import GcpEmulator
from drillyard_emulators.http.states import CloudState, MachineState
from drillyard_emulators.rehearsal import Rehearsal, shipped

_API = r" (compute|storage)\.googleapis\.com"
_RATE: Document = {"status": 403, "reason": "rateLimitExceeded"}


def _stockout(fault: Fault, _rehearsal: Rehearsal) -> Ask:
    zone, _, times = fault.value.partition(":")
    stockout: Document = {"zone": _zone(fault, zone)}
    if times:
        stockout["times"] = int(number_of(Fault(fault.name, times), 1, MOST))
    return "physics", {"stockouts": [stockout]}


def _quota(fault: Fault, _rehearsal: Rehearsal) -> Ask:
    metric, _, limit = fault.value.partition(":")
    if not re.fullmatch(r"[A-Z0-9_]+", metric) or not re.fullmatch(r"\d+", limit):
        example = "--fault quota=PREEMPTIBLE_CPUS:8"
        raise refused(fault.name, "is not a quota", fault.value, "METRIC:LIMIT", example)
    return "catalogue", {"all_quotas": {metric: float(limit)}}


def _false_done(fault: Fault, _: Rehearsal) -> Ask:
    kinds = ("delete", "compute.instanceGroupManagers.deleteInstances")
    chance = number_of(fault, 0, 0.9)
    return "physics", {"false_done": [{"kind": kind, "probability": chance} for kind in kinds]}


def _false_dones(physics: Fields, _: Fault, place: int) -> int:
    rules = members(physics, "false_done")[2 * place : 2 * place + 2]
    return sum(int(number(rule, "played")) for rule in rules)


def _soft_delete(fault: Fault, rehearsal: Rehearsal) -> Ask:
    kept: Document = {"retentionDurationSeconds": str(int(number_of(fault, 7, 90) * 86_400))}
    bucket = str(rehearsal.values["bucket"])
    return "bucket", {"name": bucket, "document": {"softDeletePolicy": kept}}


def _denied(fault: Fault, _: Rehearsal) -> Ask:
    from drillyard_backends.gcp import rights

    return "project", {"denied": [one_of(fault, (*rights.DRIVER, *rights.BUCKET))]}


def _throttle(fault: Fault, rehearsal: Rehearsal) -> Ask:
    return "fault", {**trouble(fault, _API, rehearsal.seed), **_RATE, "lose": False}


def _in_zone(value: str, match: str, status: int, reason: str, message: str) -> Kind:
    """Returns a rule for the requests of one zone."""

    def ask(fault: Fault, _: Rehearsal) -> Ask:
        zone = _zone(fault, fault.value)
        text = message.replace("ZONE", zone)
        place = match.replace("ZONE", zone)
        return "fault", {"match": place, "status": status, "reason": reason, "message": text}

    return Kind(value, ask)


def _zone(fault: Fault, zone: str) -> str:
    """Returns the zone of a fault.

    Raises:
        ConfigError: It is not a zone.
    """
    if not re.fullmatch(r"[a-z]+-[a-z]+\d+-[a-z]", zone):
        example = f"--fault {fault.name}=europe-west1-b"
        raise refused(fault.name, "is not a zone", fault.value, "a zone", example)
    return zone


KINDS: dict[str, Kind] = {
    "preempt": event("NUMBER of machines, each after its first checkpoint, with notice"),
    "cut": event("NUMBER of machines, each after its first checkpoint, without notice"),
    "crash": event("NUMBER of machines, each after its first checkpoint: the host fails"),
    "hang": event("NUMBER of machines, each after its first checkpoint: everything stands still"),
    "boot": counted("NUMBER of machines that never start their agent", "boot_failures"),
    "stockout": Kind(
        "ZONE without machines, or ZONE:NUMBER of refused machines before there is room",
        _stockout,
        lambda physics, _, place: int(number(members(physics, "stockouts")[place], "played")),
    ),
    "quota": Kind("METRIC:LIMIT", _quota),
    "busy": share("SHARE of calls answered with 429", match=_API, status=429),
    "false-done": Kind(
        "SHARE of deletions that say DONE and do nothing", _false_done, _false_dones
    ),
    "lag": quantity("SECONDS by which listings lag", "listing_lag_s", 0, 300),
    "skew": quantity("SECONDS by which the machines' clock is wrong", "skew_s", -86_400, 86_400),
    "flip": several("NUMBER of downloads with a bit flipped", match="alt=media", flip=True),
    "truncate": several("NUMBER of downloads cut short", match="alt=media", truncate=1),
    **troubles(_API),
    "unreachable": counted(
        "NUMBER of lists of all zones that reach none of them", "unreachable_lists"
    ),
    "rate": quantity(
        "NUMBER of changes a second that one object of the bucket takes; more: 429",
        "writes_per_s",
        0.1,
        100,
        "storage",
    ),
    "soft-delete": Kind(
        "DAYS that the bucket keeps what is deleted, and has it paid for", _soft_delete
    ),
    "denied": Kind("PERMISSION that is refused to all", _denied),
    "no-groups": _in_zone(
        "ZONE in which a quota refuses every group: 403 quotaExceeded",
        r"^POST compute\S*/zones/ZONE/instanceGroupManagers(\?|$)",
        403,
        "quotaExceeded",
        "Quota 'INSTANCE_GROUP_MANAGERS' exceeded.  Limit: 0.0 in zone ZONE.",
    ),
    "policy": _in_zone(
        "ZONE in which a policy of the organization refuses every machine: 412",
        r"^POST compute\S*/zones/ZONE/\S*createInstances",
        412,
        "conditionNotMet",
        "Constraint constraints/compute.vmExternalIpAccess violated in zone ZONE.",
    ),
    "throttle": Kind(
        "SECONDS in which all calls get 403 rateLimitExceeded, once, from a call on that "
        "--seed chooses",
        _throttle,
    ),
    "boot-throttle": several(
        "NUMBER of machines' first reads of the store that get 403 rateLimitExceeded",
        match=r"^GET storage\S*\.whl\?alt=media",
        **_RATE,
    ),
    "kept-groups": several(
        "NUMBER of deletes of a group that are refused, because it is being changed",
        match=r"^DELETE compute\S*/instanceGroupManagers/",
        status=400,
        reason="resourceInUseByAnotherResource",
        message="The group is being changed.",
    ),
    "undeletable": Kind(
        "SECONDS from the first delete on in which a policy lets no machine be deleted",
        quantity("", "undeletable_s", 1, 3600).ask,
        lambda physics, _, __: int(number(physics, "denied_deletes")),
    ),
    "roles": roles(
        "shipped: you and the machines have the role files that drillyard ships, no more"
    ),
    "form": form(
        "lost-row-goes: a machine that was taken away leaves its group's list at once; "
        "one-change: a group takes one change at a time",
        {
            "lost-row-goes": {"lost_stay_listed": False},
            "one-change": {"one_change_at_a_time": True},
        },
    ),
}
# What would only be waiting at home; the file's own value wins.
_QUICK = {"LISTING_LAG_S": "1", "STOCKOUT_S": "2"}
# Where machines get drillyard from; this program's environment plays any of them.
_SOURCES = ("image", "image_family", "container", "wheelhouse", "template")


class GcpRehearsal(Rehearsal):
    """An emulated Google Cloud with the resources that one experiment's settings name."""

    _cloud: GcpEmulator
    kinds = KINDS
    always: ClassVar = (
        "a create of a name that is taken is refused",
        "a change of a group that is being made or deleted is refused, and so is a group of a "
        "template that is being made",
        "a template that a group uses cannot be deleted",
        "a machine gets a token of its own service account only",
    )
    services: ClassVar = {
        "compute": r" compute\.googleapis\.com/",
        "storage": r" storage\.googleapis\.com/",
    }
    required: ClassVar = {
        "project": "rehearsal-project",
        "bucket": "rehearsal-bucket",
        "service_account": "worker@rehearsal-project.iam.gserviceaccount.com",
    }

    def env(self) -> dict[str, str]:
        """The emulator's variables, and settings that the user has not set."""
        chosen = {f"DRILLYARD_GCP_{name.upper()}": self.required[name] for name in self.missing}
        quick = {
            f"DRILLYARD_GCP_{name}": value
            for name, value in _QUICK.items()
            if name.lower() not in self.values
        }
        if not self.bare and "python" not in self.values:
            chosen["DRILLYARD_GCP_PYTHON"] = THIS_PYTHON
        if not any(self.values.get(name) for name in _SOURCES):
            image = f"projects/{self._cloud.project}/global/images/drillyard"
            chosen["DRILLYARD_GCP_IMAGE"] = image
        return {**self._cloud.env, **quick, **chosen}

    def arguments(self) -> list[str]:
        """No container is run here: this program's environment or a wheelhouse plays it."""
        plain = ["--set", "backends.gcp.container=null"] if self.given.get("container") else []
        if self.bare:
            plain += ["--set", f"backends.gcp.wheelhouse={self._wheelhouse}"]
        return plain

    @staticmethod
    def left(state: CloudState) -> list[str]:
        """What is there and should not be; a template that was there before stays."""
        groups = [group["key"] for group in state["groups"]]
        machines = [f"zones/{m['zone']}/instances/{m['name']}" for m in state["machines"]]
        templates = [key for key in state["templates"] if key not in state["furnished"]]
        return sorted([*machines, *groups, *templates, *state["disks"]])

    @staticmethod
    def rented(state: CloudState) -> Iterator[tuple[MachineState, str, str, bool]]:
        """See ``Rehearsal``."""
        for machine in state["all_machines"]:
            yield machine, machine["zone"], machine["machine_type"], machine["spot"]

    def alone(self, place: str, kind: str, spot: bool) -> JsonObject:
        """See ``Rehearsal``."""
        return {
            **self.values,
            "machine_types": [kind],
            "zones": [place],
            "spot": spot,
            "on_demand_after": None,
            "on_demand_when_full": False,
        }

    def keep(self, folder: Path) -> None:
        """The bucket as a local store."""
        prefix = str(self.values.get("prefix") or "")
        self._cloud.ask(
            "export", bucket=self.values["bucket"], folder=str(folder.absolute()), prefix=prefix
        )

    def start(self, folder: Path) -> GcpEmulator:
        """See ``Rehearsal``."""
        project = str(self.values["project"])
        if not self.bare:
            return GcpEmulator(folder, project=project, seed=self.seed)
        if why := unable():
            raise UserError(
                f"this computer cannot run bare machines: {why}",
                hint="leave --machines out: machines are then processes of this computer",
            )
        options = ("--image", str(root_of(Recipe(), cache())))
        module = "drillyard_emulators.gcp.bare"
        return GcpEmulator(folder, project=project, seed=self.seed, options=options, module=module)

    def furnish(self) -> None:
        """What the user's settings name is there: accounts, images, networks, a template."""
        accounts = [self.values["service_account"], self._cloud.service_account, self._user]
        self._cloud.ask("project", accounts=accounts)
        self._cloud.ask("catalogue", images=["*"], networks=["*"])
        if template := self.values.get("template"):
            self._cloud.ask("template", name=template)
        self._cloud.physics(operation_s=0.2, retry_s=1.0)
        if self.bare:
            self._wheelhouse = self._publish()

    def _publish(self) -> str:
        """Puts what machines install into the bucket by the command that users have for it."""
        bucket = str(self.values["bucket"])
        self._cloud.ask("bucket", name=bucket)
        with tempfile.TemporaryDirectory() as folder:
            wheels = wheelhouse(Path(folder), cache())
            place = f"gs://{bucket}/wheelhouse"
            command = [sys.executable, "-m", "drillyard_backends.gcp.wheelhouse", place]
            done = subprocess.run(
                [*command, "--wheels", str(wheels)],
                env=self._cloud.environ(),
                check=False,
                capture_output=True,
                text=True,
            )
        if done.returncode != 0:
            raise InfrastructureError(f"no wheelhouse can be made: {done.stderr.strip()}")
        return done.stdout.split()[-1]

    def grant_roles(self) -> None:
        """What the guide tells users to grant to themselves and to the machines."""
        from drillyard_backends.gcp import rights

        bucket, prefix = str(self.values["bucket"]), str(self.values.get("prefix") or "")
        self._cloud.ask("bucket", name=bucket)  # the role of a person makes none
        where: dict[str, Json] = {"folder": f"{bucket}/{prefix}/"} if prefix else {}
        group_prefix = str(self.values.get("group_prefix") or "dy")
        machine = [
            {
                "permissions": _role("machine-role.yaml") or [*rights.MACHINE],
                "condition": rights.machine_condition(group_prefix),
            },
            {"permissions": [p for p in rights.BUCKET if ".objects." in p], **where},
        ]
        person = [
            *(_role("role.yaml") or rights.DRIVER),
            *rights.BUCKET,
            "iam.serviceAccounts.actAs",
        ]
        granted = {self._user: person, str(self.values["service_account"]): machine}
        self._cloud.ask("project", granted=granted)

    @property
    def _user(self) -> str:
        return f"user@{self._cloud.project}.iam.gserviceaccount.com"


def _role(file: str) -> list[str]:
    """Returns the permissions of a role file; empty without a checkout."""
    lines = (shipped("gcp", file) or "").partition("includedPermissions:")[2].splitlines()
    return [line.removeprefix("- ").strip() for line in lines if line.startswith("- ")]
