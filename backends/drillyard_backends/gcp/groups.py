"""Managed instance groups: the calls, zonal and regional alike, each safe to repeat.

An operation that is DONE says that a change is *scheduled*; what became of it only the listing of
managed instances tells.
"""

from __future__ import annotations

import contextlib
import enum
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from drillyard.errors import ControlPlaneError
from drillyard_backends.gcp import naming
from drillyard_backends.gcp.errors import Exists, InUse, Missing, of_operation
from drillyard_backends.gcp.operations import Compute, request_id
from drillyard_backends.gcp.zones import Place

_GOING = {"DELETING", "ABANDONING", "STOPPING", "SUSPENDING"}
_COMING = {
    "CREATING",
    "CREATING_WITHOUT_RETRIES",
    "RECREATING",
    "RESTARTING",
    "STARTING",
    "RESUMING",
}
_ENDING = {"STOPPING", "PENDING_STOP", "DEPROVISIONING", "SUSPENDING"}
_ENDED = {"TERMINATED", "STOPPED", "SUSPENDED"}
_ADDRESS = "https://www.googleapis.com/compute/v1/"
BATCH = 500
"""Machines named in one request."""


class Stage(enum.StrEnum):
    """Where a managed machine stands."""

    COMING = "coming"
    """Being made; see its ``trouble``."""
    UP = "up"
    GOING = "going"
    """Being stopped or deleted: it may flush still."""
    LOST = "lost"
    """KeyTaken away, crashed or stopped, and nobody makes it again."""


@dataclass(frozen=True)
class Managed:
    """A machine as its group lists it.

    Attributes:
        name: Its name.
        machine: The name's parts.
        stage: Where it stands.
        address: Of the instance, from ``projects/`` on.
        trouble: Why it could not be made so far; an error of ``errors``.
        id: Google's number of it, which tells it from an earlier machine of its name; empty where
            there is no machine.
        sure: False where nothing but an empty status says that it is lost.
    """

    name: str
    machine: naming.Machine
    stage: Stage
    address: str
    trouble: Exception | None = None
    id: str = ""
    sure: bool = True


@dataclass(frozen=True, order=True)
class Group:
    """A group of a lease: where, and which variant of machine."""

    place: Place
    variant: int


@dataclass(frozen=True)
class Listed:
    """A group as the listing of the whole project has it."""

    name: str
    place: Place
    created: str
    """RFC 3339."""
    template: str
    """Name of its template."""


class Groups:
    """The groups of one project.

    Args:
        compute: Makes the calls.
        prefix: What our names begin with.
    """

    def __init__(self, compute: Compute, prefix: str) -> None:
        self._compute = compute
        self._prefix = prefix

    # -- templates ----------------------------------------------------------------------------

    def make_template(self, body: Mapping[str, Any]) -> None:
        """Make a template, unless there is one of that name for the same order.

        One of another order is left over from an earlier experiment of that name: its machines
        would run old code until an old deadline. It goes, unless a group uses it.
        """
        name, compute = str(body["name"]), self._compute
        for _ in range(2):
            try:
                compute.change(
                    f"create template {name}",
                    compute.client("InstanceTemplatesClient").insert_unary,
                    None,
                    project=compute.project,
                    instance_template_resource=dict(body),
                )
            except Exists:
                if self._is_of(name, body) or not self.delete_template(name):
                    return
            else:
                return

    def _is_of(self, name: str, body: Mapping[str, Any]) -> bool:
        """Whether the template of a name has the order of another one."""
        wanted = {i["key"]: i["value"] for i in body["properties"]["metadata"]["items"]}
        try:
            found = self.template(name).properties.metadata.items
        except Missing:
            return False
        there = {item.key: item.value for item in found}
        return there.get(naming.ORDER_KEY) == wanted.get(naming.ORDER_KEY)

    def template(self, name: str) -> Any:
        """A template.

        Raises:
            Missing: There is none.
        """
        compute = self._compute
        return compute.call(
            f"read template {name}",
            compute.client("InstanceTemplatesClient").get,
            project=compute.project,
            instance_template=name,
        )

    def templates(self) -> list[Any]:
        """Every template that has a name of ours."""
        compute = self._compute
        return compute.pages(
            "list templates",
            compute.client("InstanceTemplatesClient").list,
            project=compute.project,
            filter=f"name eq {self._prefix}-[0-9a-f]{{10}}.*",
        )

    def delete_template(self, name: str) -> bool:
        """Delete a template; False while a group uses it."""
        compute = self._compute
        try:
            compute.change(
                f"delete template {name}",
                compute.client("InstanceTemplatesClient").delete_unary,
                None,
                project=compute.project,
                instance_template=name,
            )
        except Missing:
            return True
        except InUse:
            return False
        return True

    # -- groups -------------------------------------------------------------------------------

    def make(self, place: Place, name: str, lease_id: str, repair: bool = False) -> None:
        """Make an empty group with the template of the same name, unless it is there.

        Raises:
            NoRoom: A quota forbids even that.
        """
        compute = self._compute
        body: dict[str, Any] = {
            "name": name,
            "base_instance_name": name,
            "instance_template": f"projects/{compute.project}/global/instanceTemplates/{name}",
            "target_size": 0,
            "description": json.dumps({"drillyard": 1, "lease": lease_id}),
            # A machine that is gone is replaced by drillyard, which knows whether work is left.
            "instance_lifecycle_policy": {
                "default_action_on_failure": "REPAIR" if repair else "DO_NOTHING"
            },
        }
        if place.regional:
            zones = [{"zone": f"projects/{compute.project}/zones/{z}"} for z in place.zones]
            body["distribution_policy"] = {"zones": zones, "target_shape": "ANY"}
            body["update_policy"] = {
                "type_": "OPPORTUNISTIC",
                "instance_redistribution_type": "NONE",
            }
        with contextlib.suppress(Exists):
            compute.change(
                f"create group {name} in {place.name}",
                compute.managers(place).insert_unary,
                place,
                instance_group_manager_resource=body,
                **compute.where(place),
            )

    def delete(self, place: Place, name: str) -> Any | None:
        """Ask for the end of a group and all its machines.

        Returns:
            The operation, or None when there is no such group.

        Raises:
            InUse: It is being changed or deleted this very moment; ask again.
        """
        compute = self._compute
        with contextlib.suppress(Missing):
            return compute.call(
                f"delete group {name} in {place.name}",
                compute.managers(place).delete_unary,
                instance_group_manager=name,
                request_id=request_id(),
                **compute.where(place),
            )
        return None

    def listed(self) -> list[Listed]:
        """Every group that has a name of ours, wherever it is."""
        compute = self._compute
        scopes = compute.pages(
            "list groups",
            compute.client("InstanceGroupManagersClient").aggregated_list,
            project=compute.project,
            filter=f"name eq {self._prefix}-[0-9a-f]{{10}}.*",
        )
        return [
            Listed(
                group.name,
                Place.parse(scope),
                group.creation_timestamp,
                group.instance_template.rsplit("/", 1)[-1],
            )
            for scope, content in scopes
            for group in content.instance_group_managers
        ]

    # -- machines -----------------------------------------------------------------------------

    def machines(self, place: Place, name: str) -> list[Managed]:
        """The machines of a group.

        Raises:
            Missing: There is no such group.
        """
        compute = self._compute
        found = compute.pages(
            f"list the machines of {name} in {place.name}",
            compute.managers(place).list_managed_instances,
            instance_group_manager=name,
            max_results=BATCH,
            **compute.where(place),
        )
        return [m for item in found if (m := self._managed(item)) is not None]

    def _managed(self, item: Any) -> Managed | None:
        address = item.instance.partition("/compute/v1/")[2] or item.instance
        name = item.name or address.rsplit("/", 1)[-1]
        machine = naming.Machine.parse(name)
        if machine is None:
            return None
        # Where there is a machine, the errors of its last attempt are history.
        trouble = (
            None
            if item.instance_status
            else of_operation(
                item.last_attempt.errors.errors, f"create machine {name}", self._compute.project
            )
        )
        number = str(item.id or "")
        return Managed(
            name,
            machine,
            stage(item.current_action, item.instance_status),
            address,
            trouble,
            number,
            bool(item.instance_status),
        )

    def make_machines(
        self, place: Place, name: str, metadata: Mapping[str, Mapping[str, str]]
    ) -> None:
        """Ask for machines by name, each with metadata of its own; those there already stay.

        Raises:
            NoRoom: Refused at once. (A stock-out shows later, in the listing.)
            Missing: There is no such group.
        """
        for names in _batches(sorted(metadata)):
            self._make_batch(place, name, {n: metadata[n] for n in names})

    def _make_batch(
        self, place: Place, name: str, metadata: Mapping[str, Mapping[str, str]]
    ) -> None:
        compute = self._compute
        kind = "region_" if place.regional else ""
        body = {
            "instances": [
                {"name": machine, "preserved_state": {"metadata": dict(own)}}
                for machine, own in metadata.items()
            ]
        }
        try:
            compute.change(
                f"create {len(metadata)} machines in {place.name}",
                compute.managers(place).create_instances_unary,
                place,
                instance_group_manager=name,
                **{f"{kind}instance_group_managers_create_instances_request_resource": body},
                **compute.where(place),
            )
        except (Exists, ControlPlaneError):
            # Another process may have asked for some of them; one such name refuses the rest.
            there = {m.name for m in self.machines(place, name)}
            left = {n: own for n, own in metadata.items() if n not in there}
            if len(left) == len(metadata):
                raise
            if left:
                self._make_batch(place, name, left)

    def delete_machines(self, place: Place, name: str, machines: Sequence[Managed]) -> None:
        """Ask for the end of machines, through their group; those already gone are skipped.

        A refusal because the group or a machine is being changed or deleted just now ends nothing:
        a machine that is left is listed, and the next look asks again.
        """
        compute = self._compute
        kind = "region_" if place.regional else ""
        for start in range(0, len(machines), BATCH):
            batch = machines[start : start + BATCH]
            body = {
                "instances": [_ADDRESS + m.address for m in batch],
                "skip_instances_on_validation_error": True,
            }
            with contextlib.suppress(Missing, InUse, Exists):
                compute.change(
                    f"delete {len(batch)} machines in {place.name}",
                    compute.managers(place).delete_instances_unary,
                    place,
                    instance_group_manager=name,
                    **{f"{kind}instance_group_managers_delete_instances_request_resource": body},
                    **compute.where(place),
                )

    def delete_instance(self, instance: Any) -> None:
        """Ask for the end of a machine that no group has; one that is going already is fine."""
        compute = self._compute
        with contextlib.suppress(Missing, InUse, Exists):
            compute.call(
                f"delete {instance.name}",
                compute.client("InstancesClient").delete_unary,
                instance=instance.name,
                request_id=request_id(),
                **compute.where(Place.parse(instance.zone)),
            )

    def serial(self, place: Place, machine: str, start: int = 0) -> str:
        """What a machine wrote to its serial port; empty when it is gone.

        Args:
            place: Its zone.
            machine: Its name.
            start: Byte to begin at.
        """
        compute = self._compute
        try:
            output = compute.call(
                f"read the log of {machine}",
                compute.client("InstancesClient").get_serial_port_output,
                instance=machine,
                start=start,
                **compute.where(place),
            )
        except Missing:
            return ""
        return str(output.contents)

    def set_label(self, instance: Any, key: str, value: str | None) -> None:
        """Set a label of an instance, or take it away; gone already is fine."""
        compute, place = self._compute, Place.parse(instance.zone)
        labels = {k: v for k, v in dict(instance.labels).items() if k != key}
        if value is not None:
            labels[key] = value
        with contextlib.suppress(Missing):
            compute.change(
                f"label {instance.name}",
                compute.client("InstancesClient").set_labels_unary,
                place,
                instance=instance.name,
                instances_set_labels_request_resource={
                    "labels": labels,
                    "label_fingerprint": instance.label_fingerprint,
                },
                **compute.where(place),
            )

    def instances(self, filter_: str) -> Iterator[Any]:
        """Instances of the project by a filter."""
        compute = self._compute
        scopes = compute.pages(
            "list machines",
            compute.client("InstancesClient").aggregated_list,
            project=compute.project,
            filter=filter_,
        )
        for _, content in scopes:
            yield from content.instances


def stage(action: str, status: str) -> Stage:
    """Where a machine stands, from what its group does with it and what it does itself.

    Google's lists of both have grown before, so a word that is not known is no proof of anything:
    only what is known to have ended is lost.

    Args:
        action: ``currentAction`` of the managed instance.
        status: ``instanceStatus``; empty where there is no instance.
    """
    if action in _GOING or (action in ("", "NONE") and status in _ENDING):
        return Stage.GOING
    idle = action in ("", "NONE")
    if action in _COMING or (not idle and (not status or status in _ENDED)):
        return Stage.COMING
    return Stage.LOST if not status or status in _ENDED else Stage.UP


def _batches(names: Sequence[str]) -> Iterator[Sequence[str]]:
    for start in range(0, len(names), BATCH):
        yield names[start : start + BATCH]
