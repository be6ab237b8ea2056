"""Managed groups: they create and delete instances by name, and retry without end."""

from __future__ import annotations

import random
import string
from collections.abc import Iterable

from drillyard_emulators.gcp.compute.instances import Instances, NoCapacity
from drillyard_emulators.gcp.compute.model import Group, Instance, Managed, Template
from drillyard_emulators.http.clock import EmulatedClock, compute_stamp
from drillyard_emulators.http.fields import Document, Fields, member, number, text_fields
from drillyard_emulators.http.scheduler import Scheduler
from drillyard_emulators.http.wire import Refusal

_LIMIT = 1000
_PROBLEMS_KEPT = 50


class Groups:
    """All managed groups, of zones and regions.

    Args:
        clock: Emulated time.
        scheduler: For what happens later.
        instances: Where machines are made.
        templates: Templates by key, as the world keeps them.
    """

    def __init__(
        self,
        clock: EmulatedClock,
        scheduler: Scheduler,
        instances: Instances,
        templates: dict[str, Template],
    ) -> None:
        self._clock, self._scheduler = clock, scheduler
        self._instances, self._templates = instances, templates
        self.living: dict[str, Group] = {}
        self.past: list[Group] = []
        self._random = random.Random(0)
        self._denied_until: float | None = None
        instances.ended.append(self.on_end)

    def create(self, where: str, body: Document, zones: list[str], template: str) -> Group:
        """A new group; instances follow where it has a size."""
        now = self._clock.now()
        group = Group(
            self._instances.next_id(),
            str(body["name"]),
            where,
            body,
            template,
            0,
            zones,
            now,
            listed_from=now + self._instances.lag(),
        )
        self.living[group.key] = group
        self.resize(group, int(number(body, "targetSize")))
        return group

    def resize(self, group: Group, size: int) -> None:
        """Grow with names of the group's choice, shrink by deleting any."""
        while group.target < size:
            group.target += 1
            ending = "".join(self._random.choices(string.ascii_lowercase + string.digits, k=4))
            base = group.document.get("baseInstanceName") or group.name
            self._add(group, f"{base}-{ending}", {})
        if size < group.target:
            going = [name for name, row in group.managed.items() if row.action != "DELETING"]
            self.delete_instances(group, going[size - group.target :])

    def create_instances(self, group: Group, wanted: Iterable[Fields]) -> None:
        """Make instances by name, each with its own metadata.

        Raises:
            Refusal: 400 for a taken or bad name; nothing is made then.
        """
        asked = list(wanted)
        names = [str(machine.get("name") or "") for machine in asked]
        taken = [name for name in names if name in group.managed]
        if taken or len(set(names)) < len(names) or len(names) > _LIMIT:
            text = f"Instance name '{(taken or names or ['?'])[0]}' already exists in the group"
            raise Refusal(400, "invalid", f"Invalid value for field 'instances': {text}.")
        for machine in asked:
            metadata = text_fields(member(machine, "preservedState"), "metadata")
            group.target += 1
            self._add(group, str(machine["name"]), metadata)

    def delete_instances(self, group: Group, names: Iterable[str]) -> None:
        """Delete instances through the group, which gets smaller by as many."""
        for name in list(names):
            managed = group.managed[name]
            if managed.action == "DELETING":
                continue
            group.target -= 1
            managed.action = "DELETING"
            self._delete(group, managed)

    def abandon(self, instance: Instance) -> None:
        """A member leaves its group and lives on, as a person can order in the console."""
        group = self.living.get(instance.group or "")
        if group is not None and group.managed.pop(instance.name, None) is not None:
            group.target -= 1
            instance.group = None

    def delete(self, group: Group) -> None:
        """The group and all its instances go; the group last."""
        group.deleting = True
        group.target = 0
        for managed in list(group.managed.values()):
            if managed.action != "DELETING":
                managed.action = "DELETING"
                self._delete(group, managed)
        self._perhaps_gone(group)

    def _add(self, group: Group, name: str, metadata: dict[str, str]) -> None:
        managed = Managed(name, metadata=dict(metadata), template=group.template)
        group.managed[name] = managed
        self._scheduler.after(0.0, lambda: self._make(group, managed))

    def _make(self, group: Group, managed: Managed) -> None:
        """One attempt; a failure is kept and tried again, for ever."""
        waiting = managed.action in ("CREATING", "RECREATING") and managed.instance is None
        if not waiting or group.managed.get(managed.name) is not managed:
            return
        template = self._templates.get(managed.template)
        errors: list[Document] = []
        for zone in self._zones(group):
            if template is None:
                errors.append({"code": "RESOURCE_NOT_FOUND", "message": "The template is gone."})
                break
            number = 123456789012
            owner = {"created-by": f"projects/{number}/{group.key}"}
            properties = member(template.document, "properties")
            try:
                managed.instance = self._instances.create(
                    zone, managed.name, properties, {**owner, **managed.metadata}, group.key
                )
            except NoCapacity as error:
                errors.append(error.error)
                continue
            managed.zone, managed.errors = zone, []
            boot = self._instances.physics.boot_s
            self._scheduler.after(boot, lambda: self._settle(managed))
            return
        managed.errors = errors[-1:]
        stamped: Document = {"timestamp": compute_stamp(self._clock.now()), "error": errors[-1]}
        action = {"action": managed.action, "instance": managed.name}
        group.problems = [*group.problems[1 - _PROBLEMS_KEPT :], {**stamped, **action}]
        retry = self._instances.physics.retry_s
        self._scheduler.after(retry, lambda: self._make(group, managed))

    def _zones(self, group: Group) -> list[str]:
        """In the order in which a group tries its zones: the emptiest first."""
        count = dict.fromkeys(group.zones, 0)
        for managed in group.managed.values():
            if managed.instance is not None and managed.zone in count:
                count[managed.zone] += 1
        policy = member(group.document, "distributionPolicy")
        if policy.get("targetShape") == "EVEN" and len(group.zones) > 1:
            return sorted(group.zones, key=lambda zone: count[zone])[:1]
        return sorted(group.zones, key=lambda zone: count[zone])

    def _settle(self, managed: Managed) -> None:
        if managed.action in ("CREATING", "RECREATING") and managed.instance is not None:
            managed.action = "NONE"

    def _delete(self, group: Group, managed: Managed) -> None:
        def gone(*_: object) -> None:
            group.managed.pop(managed.name, None)
            self._perhaps_gone(group)

        if managed.instance is None or managed.instance.gone is not None:
            self._scheduler.after(0.0, gone)
        elif self._denied(managed):
            retry = self._instances.physics.retry_s
            self._scheduler.after(retry, lambda: self._delete(group, managed))
        else:
            self._instances.delete(managed.instance, done=gone)

    def _denied(self, managed: Managed) -> bool:
        """Whether a policy denies this deletion now; the row then says so."""
        physics, now = self._instances.physics, self._clock.now()
        if physics.undeletable_s <= 0:
            return False
        if self._denied_until is None:
            self._denied_until = now + physics.undeletable_s
        if now >= self._denied_until:
            managed.errors = []
            return False
        physics.denied_deletes += 1
        text = f"Required 'compute.instances.delete' permission for '{managed.name}' is denied."
        managed.errors = [{"code": "PERMISSIONS_ERROR", "message": text}]
        return True

    def _perhaps_gone(self, group: Group) -> None:
        if group.deleting and not group.managed and group.key in self.living:
            del self.living[group.key]
            group.listed_until = self._clock.now() + self._instances.lag()
            self.past.append(group)

    def on_end(self, instance: Instance, why: str) -> None:
        """An instance of a group stopped without an order from the group."""
        group = self.living.get(instance.group or "")
        managed = group.managed.get(instance.name) if group else None
        if group is None or managed is None or managed.instance is not instance:
            return
        if managed.action == "DELETING":
            self._delete(group, managed)
        elif group.repairs:
            managed.action = "RECREATING"

            def again(*_: object) -> None:
                managed.instance = None
                self._make(group, managed)

            if instance.gone is None:
                self._instances.delete(instance, done=again)
            else:
                self._scheduler.after(0.0, again)
        elif why == "reached its limit":
            # The group itself deletes a machine at its limit, and does not miss it.
            group.target -= 1
            group.managed.pop(managed.name, None)
        elif instance.gone is not None and self._instances.physics.lost_stay_listed:
            managed.instance, managed.action = None, "NONE"
        elif instance.gone is not None:
            group.managed.pop(managed.name, None)


def managed_document(api: str, group: Group, managed: Managed) -> Document:
    """One entry of ``listManagedInstances``."""
    zone = managed.zone or group.zones[0]
    document: Document = {
        "name": managed.name,
        "instance": f"{api}/zones/{zone}/instances/{managed.name}",
        "currentAction": managed.action,
        "version": {"instanceTemplate": f"{api}/{managed.template}"},
    }
    if managed.instance is not None and managed.instance.gone is None:
        document["id"] = str(managed.instance.instance_id)
        document["instanceStatus"] = managed.instance.status
    if managed.errors:
        document["lastAttempt"] = {"errors": {"errors": managed.errors}}
    if managed.metadata:
        document["preservedStateFromConfig"] = {"metadata": managed.metadata}
    return document
