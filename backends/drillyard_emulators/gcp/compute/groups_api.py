"""Managed instance groups, of zones and regions."""

from __future__ import annotations

import re
from collections.abc import Iterator

from drillyard_emulators.gcp.compute.catalogue import region_of
from drillyard_emulators.gcp.compute.documents import group_document
from drillyard_emulators.gcp.compute.effects import Effects, local, named
from drillyard_emulators.gcp.compute.groups import managed_document
from drillyard_emulators.gcp.compute.lists import listing
from drillyard_emulators.gcp.compute.model import Group
from drillyard_emulators.gcp.compute.routing import Call, Routes
from drillyard_emulators.gcp.compute.world import World
from drillyard_emulators.http.fields import Document, member, members, text, texts
from drillyard_emulators.http.wire import Refusal

_INSTANCE = re.compile(
    r"(?:https://(?:www|compute)\.googleapis\.com/compute/v1/projects/[^/]+/)?"
    r"zones/[^/]+/instances/[^/]+"
)


class GroupsApi(Effects):
    """Adds its methods to the routes."""

    def __init__(self, world: World, routes: Routes) -> None:
        super().__init__(world)
        add = routes.add
        base, each = "{where}/instanceGroupManagers", "{where}/instanceGroupManagers/{name}"
        name = "instanceGroupManagers"
        add("POST", base, f"{name}.insert", self._new_group)
        self.add_lists(
            routes, "instanceGroupManager", base, self._groups, self._group, everywhere=True
        )
        add("DELETE", each, f"{name}.delete", self._delete_group)
        add("POST", f"{each}/createInstances", f"{name}.createInstances", self._create)
        add("POST", f"{each}/deleteInstances", f"{name}.deleteInstances", self._delete_managed)
        add("POST", f"{each}/resize", f"{name}.resize", self._resize)
        change = f"{name}.setInstanceTemplate"
        add("POST", f"{each}/setInstanceTemplate", change, self._set_template)
        add("POST", f"{each}/listManagedInstances", f"{name}.listManagedInstances", self._managed)
        add("GET", f"{each}/listErrors", f"{name}.listErrors", self._errors)

    def _new_group(self, call: Call) -> Document:
        body, world = call.body, self._world
        name = named(body)
        key = f"{call.where}/instanceGroupManagers/{name}"
        if key in world.groups.living and (refusal := self.taken(call, key)):
            raise refusal
        versions = members(body, "versions") or [{}]
        template = local(text(body, "instanceTemplate") or text(versions[0], "instanceTemplate"))
        if template not in world.templates:
            raise self.missing(template or "global/instanceTemplates")
        self.must_be_ready(call, template)
        zones = self._zones_of(call, body)
        return self.do(
            call, "insert", key, lambda: world.groups.create(call.where, body, zones, template)
        )

    def _zones_of(self, call: Call, body: Document) -> list[str]:
        kind, _, place = call.where.partition("/")
        zones = self._world.catalogue.zones
        if kind == "zones":
            if place not in zones:
                raise self.missing(call.where)
            return [place]
        asked = members(member(body, "distributionPolicy"), "zones")
        named = [str(each.get("zone")).rpartition("/")[2] for each in asked]
        used = named or [zone for zone in zones if region_of(zone) == place][:3]
        if not used or any(zone not in zones or region_of(zone) != place for zone in used):
            text = f"Invalid value for field 'distributionPolicy': zones {used} of region {place}"
            raise Refusal(400, "invalid", text)
        return used

    def _found_group(self, call: Call) -> Group:
        key = f"{call.where}/instanceGroupManagers/{call.name}"
        group = self._world.groups.living.get(key)
        if group is None:
            raise self.missing(key)
        return group

    def _steady(self, call: Call) -> Group:
        """The group, unless it is being made or deleted."""
        group = self._found_group(call)
        if group.deleting:
            text = f"The resource '{group.key}' is not ready"
            raise Refusal(400, "resourceNotReady", text)
        self.must_be_ready(call, group.key)
        return group

    def _groups(self, where: str) -> Iterator[Document]:
        for group in self._world.listed_groups():
            if group.where == where:
                yield group_document(self._world.api, group)

    def _group(self, call: Call) -> Document:
        return group_document(self._world.api, self._found_group(call))

    def _delete_group(self, call: Call) -> Document:
        world, group = self._world, self._found_group(call)
        if not group.deleting:
            self.must_be_ready(call, group.key)
        return self.do(
            call,
            "delete",
            group.key,
            lambda: world.groups.delete(group),
            lambda: world.groups.living.get(group.key) is not group,
        )

    def _create(self, call: Call) -> Document:
        world, group = self._world, self._steady(call)
        asked = members(call.body, "instances")
        kind = "compute.instanceGroupManagers.createInstances"
        for machine in asked:
            named(machine)
        return self.do(call, kind, group.key, lambda: world.groups.create_instances(group, asked))

    def _delete_managed(self, call: Call) -> Document:
        world, group = self._world, self._steady(call)
        links = texts(call.body, "instances")
        for link in links:
            if not _INSTANCE.fullmatch(link):
                # The reference names these two forms, and says that others fail always.
                text = f"Invalid value for field 'instances': malformed instance URL '{link}'."
                raise Refusal(400, "invalid", text)
        names = [link.rpartition("/")[2] for link in links]
        strangers = [name for name in names if name not in group.managed]
        if strangers and not call.body.get("skipInstancesOnValidationError"):
            repeated = world.operations.replay(
                f"{call.method} {call.where}", call.request.query.get("requestId")
            )
            if repeated is None:
                text = f"Invalid value for field 'instances': {strangers[0]} is not a member of"
                raise Refusal(400, "invalid", f"{text} '{group.key}'.")
        kind = "compute.instanceGroupManagers.deleteInstances"
        members = [name for name in names if name in group.managed]
        return self.do(
            call, kind, group.key, lambda: world.groups.delete_instances(group, members)
        )

    def _resize(self, call: Call) -> Document:
        world, group = self._world, self._steady(call)
        size = int(call.request.query.get("size") or 0)
        kind = "compute.instanceGroupManagers.resize"
        return self.do(call, kind, group.key, lambda: world.groups.resize(group, size))

    def _set_template(self, call: Call) -> Document:
        world, group = self._world, self._steady(call)
        template = local(str(call.body.get("instanceTemplate") or ""))
        if template not in world.templates:
            raise self.missing(template)

        def effect() -> None:
            group.template = template
            group.counter += 1

        return self.do(call, "setInstanceTemplate", group.key, effect)

    def _managed(self, call: Call) -> Document:
        group = self._found_group(call)
        managed = [group.managed[name] for name in sorted(group.managed)]
        documents = (managed_document(self._world.api, group, each) for each in managed)
        return listing(call, "", documents, "managedInstances")

    def _errors(self, call: Call) -> Document:
        group = self._found_group(call)
        found = []
        for problem in group.problems:
            zone = group.zones[0]
            link = f"{self._world.api}/zones/{zone}/instances/{problem['instance']}"
            details = {"action": problem["action"], "instance": link}
            found.append({**problem, "instanceActionDetails": details})
        entries = (
            {k: entry[k] for k in ("error", "timestamp", "instanceActionDetails")}
            for entry in found
        )
        return listing(call, "", entries)
