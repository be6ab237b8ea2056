"""``compute.googleapis.com``."""

from __future__ import annotations

from drillyard_emulators.gcp.compute.groups_api import GroupsApi
from drillyard_emulators.gcp.compute.instances_api import InstancesApi
from drillyard_emulators.gcp.compute.reading import Reading
from drillyard_emulators.gcp.compute.routing import Routes, permissions_of
from drillyard_emulators.gcp.compute.templates_api import TemplatesApi
from drillyard_emulators.gcp.compute.world import World
from drillyard_emulators.http.fields import Document
from drillyard_emulators.http.wire import Refusal, Request, Response


class ComputeService:
    """The Compute API of an emulated cloud.

    Args:
        world: What exists.
    """

    def __init__(self, world: World) -> None:
        self._world = world
        self._routes = Routes()
        for methods in (Reading, TemplatesApi, GroupsApi, InstancesApi):
            methods(world, self._routes)

    def __call__(self, request: Request) -> Response:
        """Answer one request."""
        try:
            return Response.of(self._answer(request))
        except Refusal as refusal:
            return refusal.response()

    def _answer(self, request: Request) -> Document:
        path = request.path
        for prefix in ("/compute/v1/projects/", "/projects/"):
            if path.startswith(prefix):
                project, _, rest = path[len(prefix) :].partition("/")
                break
        else:
            raise Refusal(404, "notFound", "Not Found")
        ours = project in (self._world.project.project_id, self._world.project.number)
        if not ours and not rest.startswith("global/images"):
            raise Refusal(404, "notFound", f"The resource 'projects/{project}' was not found")
        route = self._routes.find(request, rest)
        if route is None:
            raise Refusal(404, "notFound", f"No such method: {request.method} {path}")
        handler, call = route
        if ours:
            for permission in permissions_of(call.method, call.where):
                self._world.project.need(request.caller, permission, f"projects/{project}/{rest}")
        with self._world.lock:
            return handler(call)
