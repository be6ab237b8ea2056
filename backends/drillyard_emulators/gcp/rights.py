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
        said = claims(form.get("assertion", ""))
        account = str(said.get("iss"))
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

    def guarded(app: App) -> App:
        def serve(request: Request) -> Response:
            try:
                request.caller = project.identify(request)
                return app(request)
            except Refusal as refusal:
                return refusal.response()

        return serve

    def known(request: Request, name: str) -> None:
        if name not in (project.project_id, project.number):
            text = f"The caller does not have permission on project {name}, or it does not exist."
            raise Refusal(403, "forbidden", text)

    def held(request: Request, resource: str) -> Response:
        asked = texts(request.json(), "permissions")
        found = [p for p in asked if project.may(request.caller, p, resource)]
        return Response.of({"permissions": found} if found else {})

    def manager(request: Request) -> Response:
        match = re.fullmatch(r"/v[13]/projects/([^/:]+)(:testIamPermissions)?", request.path)
        if match is None:
            raise Refusal(404, "notFound", "Not Found")
        known(request, match[1])
        if match[2]:
            return held(request, match[1])
        document = {
            "projectId": project.project_id,
            "projectNumber": project.number,
            "lifecycleState": "ACTIVE",
            "name": project.project_id,
        }
        return Response.of(document)

    def service(name: str) -> Document:
        state = "DISABLED" if name in project.disabled or name not in SERVICES else "ENABLED"
        full = f"projects/{project.number}/services/{name}"
        return {"name": full, "parent": f"projects/{project.number}", "state": state}

    def usage(request: Request) -> Response:
        match = re.fullmatch(r"/v1/projects/([^/]+)/services(:batchGet|/[^/:]+)?", request.path)
        if match is None:
            raise Refusal(404, "notFound", "Not Found")
        known(request, match[1])
        if match[2] == ":batchGet":
            names = [unquote(n) for n in re.findall(r"names=([^&]*)", request.query_text)]
            return Response.of({"services": [service(n.rpartition("/")[2]) for n in names]})
        if match[2]:
            return Response.of(service(match[2][1:]))
        found = [service(name) for name in SERVICES]
        if "ENABLED" in request.query.get("filter", ""):
            found = [one for one in found if one["state"] == "ENABLED"]
        return Response.of({"services": found})

    def accounts(request: Request) -> Response:
        path = unquote(request.path)
        match = re.fullmatch(r"/v1/projects/([^/]+)/serviceAccounts/([^/:]+)(:\w+)?", path)
        if match is None:
            raise Refusal(404, "notFound", "Not Found")
        if match[2] not in project.accounts:
            text = f"Unknown service account: {match[2]}"
            raise Refusal(404, "notFound", text)
        if match[3] == ":testIamPermissions":
            return held(request, match[2])
        name = f"projects/{project.project_id}/serviceAccounts/{match[2]}"
        document = {"name": name, "projectId": project.project_id, "email": match[2]}
        return Response.of({**document, "uniqueId": "1"})

    def credentials(request: Request) -> Response:
        # google-auth asks in the background where a credential may be used. Whether the network of
        # a rented machine lets it is not known, so here it does not.
        if request.path.endswith("/allowedLocations"):
            raise Refusal(403, "forbidden", "Permission denied.")
        raise Refusal(404, "notFound", "Not Found")

    return {
        "cloudresourcemanager.googleapis.com": guarded(manager),
        "serviceusage.googleapis.com": guarded(usage),
        "iam.googleapis.com": guarded(accounts),
        "iamcredentials.googleapis.com": guarded(credentials),
    }
