"""The small services around identity: tokens, accounts, tested rights, switched-on APIs."""

from __future__ import annotations

import re
from urllib.parse import parse_qsl, unquote

from drillyard_emulators.gcp.project import SERVICES, Project, claims
from drillyard_emulators.http.fields import Document, texts
from drillyard_emulators.http.wire import App, Refusal, Request, Response

TOKEN_LIFE_S = 3600


def token_endpoint(project: Project) -> App:
    """``oauth2.googleapis.com``: a signed assertion for an access token."""

    def serve(request: Request) -> Response:
        form = dict(parse_qsl(request.body.decode("latin-1")))
        account = str(claims(form.get("assertion", "")).get("iss"))
        if request.path != "/token" or account not in project.accounts:
            text = "Invalid grant: account not found"
            return Response.of({"error": "invalid_grant", "error_description": text}, 400)
        token = project.issue(account)
        return Response.of(
            {"access_token": token, "expires_in": TOKEN_LIFE_S - 1, "token_type": "Bearer"}
        )

    return serve


def rights_services(project: Project) -> dict[str, App]:
    """``iam``, ``iamcredentials``, ``cloudresourcemanager`` and ``serviceusage``, by host name."""
    services = Rights(project)
    return {
        "cloudresourcemanager.googleapis.com": project.guarded(services.projects),
        "serviceusage.googleapis.com": project.guarded(services.usage),
        "iam.googleapis.com": project.guarded(services.accounts),
        "iamcredentials.googleapis.com": project.guarded(services.credentials),
    }


class Rights:
    """What these services answer about a project.

    Args:
        project: The project.
    """

    def __init__(self, project: Project) -> None:
        self._project = project

    def projects(self, request: Request) -> Response:
        """``cloudresourcemanager.googleapis.com``."""
        match = _matched(r"/v[13]/projects/([^/:]+)(:testIamPermissions)?", request.path)
        self._known(match[1])
        if match[2]:
            return self._held(request, match[1])
        name = self._project.project_id
        number = self._project.number
        document = {"projectId": name, "projectNumber": number, "lifecycleState": "ACTIVE"}
        return Response.of({**document, "name": name})

    def usage(self, request: Request) -> Response:
        """``serviceusage.googleapis.com``."""
        path = r"/v1/projects/([^/]+)/services(:batchGet|/[^/:]+)?"
        match = _matched(path, request.path)
        self._known(match[1])
        if match[2] == ":batchGet":
            names = [unquote(n) for n in re.findall(r"names=([^&]*)", request.query_text)]
            return Response.of({"services": [self._service(n.rpartition("/")[2]) for n in names]})
        if match[2]:
            return Response.of(self._service(match[2][1:]))
        services = [self._service(name) for name in SERVICES]
        if "ENABLED" in request.query.get("filter", ""):
            services = [service for service in services if service["state"] == "ENABLED"]
        return Response.of({"services": services})

    def accounts(self, request: Request) -> Response:
        """``iam.googleapis.com``."""
        path = r"/v1/projects/([^/]+)/serviceAccounts/([^/:]+)(:\w+)?"
        match = _matched(path, unquote(request.path))
        if match[2] not in self._project.accounts:
            raise Refusal(404, "notFound", f"Unknown service account: {match[2]}")
        if match[3] == ":testIamPermissions":
            return self._held(request, match[2])
        project = self._project.project_id
        name = f"projects/{project}/serviceAccounts/{match[2]}"
        return Response.of(
            {"name": name, "projectId": project, "email": match[2], "uniqueId": "1"}
        )

    def credentials(self, request: Request) -> Response:
        """``iamcredentials.googleapis.com``."""
        # google-auth asks in the background where a credential may be used. Whether the network of
        # a rented machine lets it is not known, so here it does not.
        if request.path.endswith("/allowedLocations"):
            raise Refusal(403, "forbidden", "Permission denied.")
        raise Refusal(404, "notFound", "Not Found")

    def _known(self, name: str) -> None:
        if name not in (self._project.project_id, self._project.number):
            text = f"The caller does not have permission on project {name}, or it does not exist."
            raise Refusal(403, "forbidden", text)

    def _held(self, request: Request, resource: str) -> Response:
        asked = texts(request.json(), "permissions")
        held = [p for p in asked if self._project.may(request.caller, p, resource)]
        return Response.of({"permissions": held} if held else {})

    def _service(self, name: str) -> Document:
        off = name in self._project.disabled or name not in SERVICES
        parent = f"projects/{self._project.number}"
        state = "DISABLED" if off else "ENABLED"
        return {"name": f"{parent}/services/{name}", "parent": parent, "state": state}


def _matched(pattern: str, path: str) -> re.Match[str]:
    """Returns the match of a path.

    Raises:
        Refusal: 404 for a path that is not this one.
    """
    match = re.fullmatch(pattern, path)
    if match is None:
        raise Refusal(404, "notFound", "Not Found")
    return match
