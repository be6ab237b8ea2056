"""Managed instance groups: the calls, zonal and regional alike, each safe to repeat.

An operation that is DONE only says that a change is *scheduled*; the listing of managed instances
shows its result.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from drillyard.documents.json_types import Json, JsonObject
from drillyard.errors import ControlPlaneError, NoCapacity
from drillyard_backends.gcp import naming
from drillyard_backends.gcp.errors import Exists, InUse, Missing, of_operation
from drillyard_backends.gcp.managed import Listed, Managed, Stage, stage
from drillyard_backends.gcp.operations import Compute, request_id
from drillyard_backends.gcp.template import Template
from drillyard_backends.gcp.zones import Place

if TYPE_CHECKING:
    from google.cloud.compute_v1 import (
        Instance,
        InstanceGroupManager,
        InstanceTemplate,
        ManagedInstance,
        Operation,
    )

_ADDRESS = "https://www.googleapis.com/compute/v1/"
_GROUPS, _TEMPLATES = "InstanceGroupManagers", "InstanceTemplates"
BATCH = 500
"""Machines named in one request."""


class Groups:
    """The groups of one project.

    Args:
        compute: Makes the calls.
        prefix: Prefix of our names.
    """

    def __init__(self, compute: Compute, prefix: str) -> None:
        self._compute = compute
        self._ours = f"name eq {prefix}-[0-9a-f]{{10}}.*"

    # -- templates ----------------------------------------------------------------------------

    def insert_template(self, body: Template) -> None:
        """Creates a template.

        Raises:
            Exists: There is one of that name.
        """
        what = f"create template {body['name']}"
        resource = dict(body)
        self._compute.change(
            what, f"{_TEMPLATES}.insert_unary", None, instance_template_resource=resource
        )

    def template(self, name: str) -> InstanceTemplate:
        """Returns a template.

        Raises:
            Missing: There is no such template.
        """
        template: InstanceTemplate = self._compute.call(
            f"read template {name}", f"{_TEMPLATES}.get", None, instance_template=name
        )
        return template

    def templates(self) -> list[InstanceTemplate]:
        """Returns every template with a name of ours."""
        return self._compute.pages("list templates", f"{_TEMPLATES}.list", None, filter=self._ours)

    def delete_template(self, name: str) -> bool:
        """Deletes a template; returns False while a group uses it."""
        what = f"delete template {name}"
        try:
            self._compute.change(what, f"{_TEMPLATES}.delete_unary", None, instance_template=name)
        except InUse:
            return False
        except Missing:
            pass
        return True

    # -- groups -------------------------------------------------------------------------------

    def make(self, place: Place, name: str, lease_id: str, repair: bool = False) -> None:
        """Creates an empty group with the template of the same name unless it exists.

        Raises:
            NoRoom: A quota forbids it.
        """
        project = f"projects/{self._compute.project}"
        # Never PROACTIVE: no change of a template replaces a machine at work.
        policy: JsonObject = {"type_": "OPPORTUNISTIC"}
        body: JsonObject = {
            "name": name,
            "update_policy": policy,
            "base_instance_name": name,
            "instance_template": f"{project}/global/instanceTemplates/{name}",
            "target_size": 0,
            "description": json.dumps({"drillyard": 1, "lease": lease_id}),
            # drillyard replaces a lost machine itself, because it knows whether work is left.
            "instance_lifecycle_policy": {
                "default_action_on_failure": "REPAIR" if repair else "DO_NOTHING"
            },
        }
        if place.regional:
            zones: list[Json] = [{"zone": f"{project}/zones/{z}"} for z in place.zones]
            body["distribution_policy"] = {"zones": zones, "target_shape": "ANY"}
            policy["instance_redistribution_type"] = "NONE"
        with contextlib.suppress(Exists):
            self._compute.change(
                f"create group {name} in {place.name}",
                f"{_GROUPS}.insert_unary",
                place,
                instance_group_manager_resource=body,
            )

    def delete(self, place: Place, name: str) -> Operation | None:
        """Requests the end of a group and all its machines.

        Returns:
            The operation, or None if there is no such group.

        Raises:
            InUse: The group is being changed or deleted; try again.
        """
        with contextlib.suppress(Missing):
            operation: Operation = self._compute.call(
                f"delete group {name} in {place.name}",
                f"{_GROUPS}.delete_unary",
                place,
                instance_group_manager=name,
                request_id=request_id(),
            )
            return operation
        return None

    def wait_deleted(self, place: Place, name: str, operation: Operation, within_s: float) -> None:
        """Waits for the end of a group.

        Args:
            place: Place of the group.
            name: Name of the group.
            operation: What ``delete`` returned.
            within_s: Longest time in seconds.

        Raises:
            Missing, Exists, InUse: Google refuses its end.
            ControlPlaneError: It is not done in time.
        """
        self._compute.wait(f"delete group {name}", operation, place, within_s)

    def listed(self) -> list[Listed]:
        """Returns every group with a name of ours, in all places."""
        scopes = self._compute.pages(
            "list groups", f"{_GROUPS}.aggregated_list", None, filter=self._ours
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
        """Returns the machines of a group.

        Raises:
            Missing: There is no such group.
            ControlPlaneError: The listing lacks machines that the group counts.
        """
        listed: list[ManagedInstance] = self._compute.pages(
            f"list the machines of {name} in {place.name}",
            f"{_GROUPS}.list_managed_instances",
            place,
            instance_group_manager=name,
            max_results=BATCH,
        )
        if len(listed) % BATCH == 0:  # nothing, or full pages and then an empty one
            self._must_have(len(listed), place, name)
        return [m for item in listed if (m := self._managed(item)) is not None]

    def _must_have(self, listed: int, place: Place, name: str) -> None:
        """Asks the group itself whether it has no more machines than were listed.

        This listing has no ``kind``, unlike all others: an empty JSON document of a proxy looks
        like a listing without machines, and they would count as gone.
        """
        what = f"read group {name} in {place.name}"
        group = self._compute.call(what, f"{_GROUPS}.get", place, instance_group_manager=name)
        if group.name != name:
            raise ControlPlaneError(f"group {name} in {place.name}: the answer is not a group")
        number = _counted(group)
        if number > listed:
            raise ControlPlaneError(
                f"group {name} in {place.name}: Google lists {listed} machines, "
                f"and counts {number}",
                hint="nothing was decided; run the same command again",
            )

    def _managed(self, item: ManagedInstance) -> Managed | None:
        address = item.instance.partition("/compute/v1/")[2] or item.instance
        name = item.name or address.rsplit("/", 1)[-1]
        machine = naming.Machine.parse(name)
        if machine is None:
            return None
        state = stage(item.current_action, item.instance_status)
        going = state is Stage.GOING
        trouble = of_operation(
            item.last_attempt.errors.errors,
            f"{'delete' if going else 'create'} machine {name}",
            self._compute.project,
        )
        # The last attempt was to create it or to delete it. A machine that is up was created, and
        # a lack of room stops no deletion.
        if (item.instance_status and not going) or (going and isinstance(trouble, NoCapacity)):
            trouble = None
        sure = bool(item.instance_status)
        return Managed(name, machine, state, address, trouble, str(item.id or ""), sure)

    def make_machines(
        self, place: Place, name: str, metadata: Mapping[str, Mapping[str, str]]
    ) -> None:
        """Requests machines by name, each with its own metadata; existing machines stay.

        Raises:
            NoRoom: Google refuses at once. (A stock-out shows later, in the listing.)
            Missing: There is no such group.
        """
        names = sorted(metadata)
        for start in range(0, len(names), BATCH):
            batch = names[start : start + BATCH]
            self._make_batch(place, name, {n: metadata[n] for n in batch})

    def _make_batch(
        self, place: Place, name: str, metadata: Mapping[str, Mapping[str, str]]
    ) -> None:
        body: dict[str, object] = {
            "instances": [
                {"name": machine, "preserved_state": {"metadata": dict(items)}}
                for machine, items in metadata.items()
            ]
        }
        try:
            what = f"create {len(metadata)} machines in {place.name}"
            self._change_machines(what, "create_instances", place, name, body)
        except (Exists, ControlPlaneError):
            # Another process may have requested some of them; one taken name refuses the rest.
            existing = {m.name for m in self.machines(place, name)}
            missing = {n: items for n, items in metadata.items() if n not in existing}
            if len(missing) == len(metadata):
                raise
            if missing:
                self._make_batch(place, name, missing)

    def delete_machines(self, place: Place, name: str, machines: Sequence[Managed]) -> None:
        """Requests the end of machines through their group; skips machines that are gone.

        A refusal because the group or a machine is being changed or deleted ends nothing: a
        remaining machine is listed, and the next step tries again.
        """
        for start in range(0, len(machines), BATCH):
            batch = machines[start : start + BATCH]
            body: dict[str, object] = {
                "instances": [_ADDRESS + m.address for m in batch],
                "skip_instances_on_validation_error": True,
            }
            with contextlib.suppress(Missing, InUse, Exists):
                what = f"delete {len(batch)} machines in {place.name}"
                self._change_machines(what, "delete_instances", place, name, body)

    def _change_machines(
        self, what: str, verb: str, place: Place, name: str, body: dict[str, object]
    ) -> None:
        kind = "region_" if place.regional else ""
        field = f"{kind}instance_group_managers_{verb}_request_resource"
        method, group = f"{_GROUPS}.{verb}_unary", {"instance_group_manager": name}
        self._compute.change(what, method, place, **group, **{field: body})

    def delete_instance(self, instance: Instance) -> None:
        """Requests the end of a machine outside any group; ignores one that is already ending."""
        with contextlib.suppress(Missing, InUse, Exists):
            self._compute.call(
                f"delete {instance.name}",
                "Instances.delete_unary",
                Place.parse(instance.zone),
                instance=instance.name,
                request_id=request_id(),
            )

    def preempt(self, place: Place, machine: str) -> None:
        """Asks Google to take a Spot machine away; it then has its half minute of notice.

        Raises:
            Missing: There is no such machine.
            UserError: No permission (``compute.instances.simulateMaintenanceEvent``).
        """
        self._compute.call(
            f"simulate the preemption of {machine}",
            "Instances.simulate_maintenance_event_unary",
            place,
            instance=machine,
            request_id=request_id(),
        )

    def serial(self, place: Place, machine: str) -> str | None:
        """Returns the output of a machine's serial port; None if the machine is gone."""
        what, method = f"read the log of {machine}", "Instances.get_serial_port_output"
        try:
            output = self._compute.call(what, method, place, instance=machine, start=0)
        except Missing:
            return None
        return str(output.contents)

    def set_label(self, instance: Instance, key: str, value: str | None) -> None:
        """Sets or removes a label of an instance; ignores an instance that is gone."""
        place = Place.parse(instance.zone)
        labels = {k: v for k, v in dict(instance.labels).items() if k != key}
        if value is not None:
            labels[key] = value
        with contextlib.suppress(Missing):
            self._compute.change(
                f"label {instance.name}",
                "Instances.set_labels_unary",
                place,
                instance=instance.name,
                instances_set_labels_request_resource={
                    "labels": labels,
                    "label_fingerprint": instance.label_fingerprint,
                },
            )

    def instances(self, filter_: str) -> Iterator[Instance]:
        """Yields the instances of the project that match a filter."""
        method = "Instances.aggregated_list"
        for _, content in self._compute.pages("list machines", method, None, filter=filter_):
            yield from content.instances


def _counted(group: InstanceGroupManager) -> int:
    """Returns the number of machines that a group has, in whatever state.

    ``targetSize`` is not used: it may still count a machine that was taken away.
    """
    return sum(type(group.current_actions).to_dict(group.current_actions).values())
