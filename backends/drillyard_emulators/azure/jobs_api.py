"""Jobs of a workspace: submit, list, read and cancel."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from drillyard_emulators.azure.answers import Denied
from drillyard_emulators.azure.model import Job
from drillyard_emulators.azure.resource_documents import job_document
from drillyard_emulators.http.fields import Document, member
from drillyard_emulators.http.wire import Request, Response

if TYPE_CHECKING:
    from drillyard_emulators.azure.manager import Manager

_NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_-]{0,254}\Z")
"""Names of jobs and of experiments."""


class JobsApi:
    """Answers requests about jobs.

    Args:
        home: The workspace.
    """

    def __init__(self, home: Manager) -> None:
        self._home = home

    def jobs(self, request: Request, parts: list[str]) -> Response:
        """``workspaces/NAME/jobs`` and below."""
        world = self._home.world
        if not parts:
            return self._home.page(request, self._listed(request.query))
        name = parts[0]
        if parts[1:] == ["cancel"]:
            world.cancel(name)
            return self._home.going_on(Response(202), f"job/{name}")
        if request.method == "PUT":
            properties = dict(member(request.json(), "properties"))
            for given in (name, str(properties.get("experimentName", "Default"))):
                if not _NAME.match(given):
                    raise Denied(400, "UserError", f"{given!r}: letters, digits, - and _ only.")
            if not world.physics.empty_tags:
                tags = member(properties, "tags")
                properties["tags"] = {k: v for k, v in tags.items() if v}
            return Response.of(self._document(world.put_job(name, properties)), 201)
        if name not in world.jobs:
            raise Denied(404, "UserError", f"Job {name} was not found.")
        return Response.of(self._document(world.jobs[name]))

    def _listed(self, query: dict[str, str]) -> list[Document]:
        """Jobs as a listing shows them: active ones, unless the request names others."""
        tag, view = query.get("tag"), query.get("listViewType", "ActiveOnly")
        kept = {"All": (False, True), "ArchivedOnly": (True,)}.get(view, (False,))
        jobs = [
            *self._home.foreign,
            *(
                self._document(job, status)
                for job, status in self._home.world.listed_jobs()
                if job.archived in kept
            ),
        ]
        if tag is None or not self._home.world.physics.tag_filter:
            return jobs
        return [job for job in jobs if tag in member(member(job, "properties"), "tags")]

    def _document(self, job: Job, shown: str | None = None) -> Document:
        stamp = self._home.stamp(job.created)
        return job_document(job, self._home.root, stamp, shown or job.shown)
