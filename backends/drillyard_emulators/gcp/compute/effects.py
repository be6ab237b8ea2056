"""What methods share: one effect a request, one operation for it, refusals."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TypeAlias

from drillyard_emulators.gcp.compute.catalogue import REGIONS
from drillyard_emulators.gcp.compute.instances import NoCapacity, check_name, metadata_items
from drillyard_emulators.gcp.compute.lists import aggregated, listing
from drillyard_emulators.gcp.compute.routing import Call, Handler, Routes
from drillyard_emulators.gcp.compute.world import World
from drillyard_emulators.http.fields import Document, Fields, member, text_fields
from drillyard_emulators.http.wire import Refusal

Documents: TypeAlias = Callable[[str], Iterable[Document]]
"""Makes the resources of a kind in a place."""
_METADATA_LIMIT = 512 * 1024


class Effects:
    """Base of the methods.

    Args:
        world: What they read and change.
    """

    def __init__(self, world: World) -> None:
        self._world = world

    def add_lists(
        self,
        routes: Routes,
        kind: str,
        path: str,
        documents: Documents,
        get: Handler | None = None,
        *,
        everywhere: bool = False,
    ) -> None:
        """Adds the methods that list and read the resources of a kind.

        Args:
            routes: Where they are added.
            kind: Google's word for one of them.
            path: Path of the list.
            documents: What is listed in a place.
            get: Reads one of them; default: it is looked for in the list.
            everywhere: There is a list of all places, too.
        """

        def every(call: Call) -> Iterable[Document]:
            if call.where.startswith("zones/") and call.where not in self.places():
                raise self.missing(call.where)
            return documents(call.where)

        def list_(call: Call) -> Document:
            of_region = call.where.startswith("regions/") and kind == "instanceGroupManager"
            listed = "regionInstanceGroupManager" if of_region else kind
            return listing(call, f"compute#{listed}List", every(call))

        def get_listed(call: Call) -> Document:
            for document in every(call):
                if document["name"] == call.name:
                    return document
            raise self.missing(f"{call.where}/{kind}s/{call.name}".lstrip("/"))

        def list_everywhere(call: Call) -> Document:
            places = [*self.places(), *(f"regions/{region}" for region in REGIONS)]
            placed = ((place, each) for place in places for each in documents(place))
            unreachable = self._world.unreachable(self.places())
            listed = f"compute#{kind}AggregatedList"
            return aggregated(call, listed, f"{kind}s", placed, self.places(), unreachable)

        routes.add("GET", path, f"{kind}s.list", list_)
        routes.add("GET", f"{path}/{{name}}", f"{kind}s.get", get or get_listed)
        if everywhere:
            every_path = f"aggregated/{kind}s"
            routes.add("GET", every_path, f"{kind}s.aggregatedList", list_everywhere)

    def do(
        self,
        call: Call,
        kind: str,
        target: str,
        effect: Callable[[], object],
        finished: Callable[[], bool] | None = None,
    ) -> Document:
        """Change something once, however often the request comes, and answer its operation."""
        operations, query = self._world.operations, call.request.query
        request_id = query.get("requestId")
        scope = f"{call.method} {call.where}"
        known = operations.replay(scope, request_id)
        if known is not None:
            return operations.document(known)
        errors: list[Document] = []
        if self._world.lies(kind, target):
            finished = None
        else:
            try:
                effect()
            except NoCapacity as error:
                errors, finished = [error.error], None
        operation = operations.begin(
            scope,
            call.where,
            kind,
            target,
            call.request.caller,
            self._world.physics.operation_s,
            request_id,
            finished,
            errors,
        )
        return operations.document(operation)

    def must_be_ready(self, call: Call, key: str) -> None:
        """Refuse a change of what is being made, and on demand of what is being changed.

        "This operation is marked as DONE when the group is created", says the reference of
        ``instanceGroupManagers.insert``: before that there may be none. Refusals are reported by
        others (G43 of the assumptions); whether a group takes several changes at once is assumed.

        Raises:
            Refusal: 400 ``resourceNotReady``.
        """
        operations = self._world.operations
        if operations.replay(f"{call.method} {call.where}", call.request.query.get("requestId")):
            return
        other = operations.changing(key)
        alone = self._world.physics.one_change_at_a_time
        if other is not None and (other.kind == "insert" or alone):
            text = f"The resource 'projects/{self._world.project.project_id}/{key}' is not ready"
            raise Refusal(400, "resourceNotReady", text)

    def missing(self, what: str) -> Refusal:
        """404."""
        text = f"The resource 'projects/{self._world.project.project_id}/{what}' was not found"
        return Refusal(404, "notFound", text)

    def taken(self, call: Call, key: str) -> Refusal | None:
        """Why a name cannot be given; a repeated request does not conflict with itself."""
        text = f"The resource 'projects/{self._world.project.project_id}/{key}' already exists"
        repeated = self._world.operations.replay(
            f"{call.method} {call.where}", call.request.query.get("requestId")
        )
        return None if repeated else Refusal(409, "alreadyExists", text)

    def places(self) -> list[str]:
        """All zones, as aggregated lists name them."""
        return [f"zones/{zone}" for zone in self._world.catalogue.zones]


def named(body: Fields) -> str:
    """The name in a request.

    Raises:
        Refusal: 400 for what Google does not take as a name.
    """
    name = str(body.get("name") or "")
    if not check_name(name):
        text = f"Invalid value for field 'resource.name': '{name}'. Must be a match of regex"
        raise Refusal(400, "invalid", f"{text} '(?:[a-z](?:[-a-z0-9]{{0,61}}[a-z0-9])?)'")
    return name


def local(link: str) -> str:
    """A link without host and project: ``global/instanceTemplates/NAME``."""
    parts = (
        link.split("/projects/")[-1] if "/projects/" in link else link.removeprefix("projects/")
    )
    if link.startswith(("global/", "regions/")):
        return link
    return parts.partition("/")[2] or link


def check_properties(properties: Fields) -> None:
    """Refuse what Google refuses in the properties of a machine.

    Raises:
        Refusal: 400, 413.
    """
    _check_scheduling(properties)
    for key, value in text_fields(properties, "labels").items():
        if len(key) > 63 or len(value) > 63 or key != key.lower():
            raise Refusal(400, "invalid", f"Invalid value for field 'labels': {key}={value}")
    size = sum(len(i["key"]) + len(i.get("value") or "") for i in metadata_items(properties))
    if size > _METADATA_LIMIT:
        raise Refusal(413, "invalid", "Metadata is larger than 512 KB.")


def _check_scheduling(properties: Fields) -> None:
    scheduling = member(properties, "scheduling")
    policy = scheduling.get("onHostMaintenance")
    kind = str(properties["machineType"]).rpartition("/")[2]
    needs = bool(properties.get("guestAccelerators")) or kind.startswith(("a2-", "g2-"))
    if (needs or scheduling.get("provisioningModel") == "SPOT") and policy == "MIGRATE":
        text = "Scheduling must have preemptible or GPU instances terminate on host maintenance."
        raise Refusal(400, "invalid", text)
    if properties.get("guestAccelerators") and not kind.startswith("n1-"):
        text = f"Accelerators can be attached to N1 machines only, not to {kind}."
        raise Refusal(400, "invalid", text)
    limit = member(scheduling, "maxRunDuration").get("seconds")
    if limit is not None and not 30 <= int(str(limit)) <= 120 * 24 * 3600:
        text = f"Invalid value for field 'scheduling.maxRunDuration': {limit} s; 30 s to 120 days."
        raise Refusal(400, "invalid", text)
    if limit is not None and scheduling.get("terminationTime"):
        text = "Invalid value for field 'scheduling': either maxRunDuration or terminationTime."
        raise Refusal(400, "invalid", text)
    if limit is not None and not scheduling.get("instanceTerminationAction"):
        text = "Invalid value for field 'scheduling.instanceTerminationAction': it is needed with"
        raise Refusal(400, "invalid", f"{text} maxRunDuration.")
