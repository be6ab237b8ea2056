"""``REGION.api.azureml.ms``: the history of runs, which knows why a job failed."""

from __future__ import annotations

import re
from collections.abc import Callable

from drillyard_emulators.azure.access import ML, Access
from drillyard_emulators.azure.answers import Denied, refused
from drillyard_emulators.azure.entra import Entra
from drillyard_emulators.azure.world import World
from drillyard_emulators.http.fields import Document
from drillyard_emulators.http.wire import Request, Response


def history(access: Access, world: World, entra: Entra) -> Callable[[Request], Response]:
    """Returns the service.

    Args:
        access: Permissions of the callers.
        world: Keeps the jobs.
        entra: Knows the callers.
    """
    details = re.compile(r"/history/v1\.0/.*/runs/(?P<name>[^/]+)/details\Z")

    def serve(request: Request) -> Response:
        request.caller = entra.who(request, "management") or entra.who(request, "ml")
        if request.caller is None:
            return refused(401, "", "The access token is not valid.")
        match = details.match(request.path)
        job = world.jobs.get(match["name"]) if match else None
        if job is None:
            return refused(404, "UserError", "no such run")
        try:
            access.need("workspace", f"{ML}/workspaces/experiments/runs/read")
        except Denied as denied:
            return denied.response()
        document: Document = {"runId": job.name, "status": job.shown, "logFiles": {}}
        if job.error is not None:
            document["error"] = {"error": job.error}
        return Response.of(document)

    return serve
