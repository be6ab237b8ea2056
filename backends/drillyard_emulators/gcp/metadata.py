"""The metadata server: each machine has an identity of its own, by the path it was given.

A machine's environment has ``GCE_METADATA_HOST=127.0.0.1:PORT/vm/ID``, which Google's libraries
take as it is: one server then serves all machines, and none can ask in another's name by accident.
"""

from __future__ import annotations

import base64
import hashlib
import json
import time
from email.utils import formatdate

from drillyard.documents.json_types import JsonView
from drillyard_emulators.gcp.compute.model import Instance
from drillyard_emulators.gcp.compute.world import World
from drillyard_emulators.http.fields import Document, member, members, text, texts
from drillyard_emulators.http.wire import Refusal, Request, Response, parts_of

_SCOPES = ["https://www.googleapis.com/auth/cloud-platform"]
_TOKEN_LIFE_S = 3599
_FLAVOR = {"Metadata-Flavor": "Google", "Server": "Metadata Server for VM"}


class MetadataService:
    """``metadata.google.internal``, as its machines see it.

    Args:
        world: Where machines are.
    """

    def __init__(self, world: World) -> None:
        self._world = world

    def __call__(self, request: Request) -> Response:
        """Answer one request; both sides must say that they mean a metadata server."""
        headers = dict(_FLAVOR)
        if self._world.physics.skew_s:
            now = self._world.clock.now() + self._world.physics.skew_s
            headers["Date"] = formatdate(now, usegmt=True)
        try:
            answer = self._answer(request)
        except Refusal as refusal:
            answer = Response(refusal.status, refusal.message.encode())
        return Response(answer.status, answer.body, {**answer.headers, **headers})

    def _answer(self, request: Request) -> Response:
        parts = parts_of(request.path)
        if len(parts) < 2 or parts[0] != "vm":
            raise Refusal(404, "notFound", "no such machine")
        instance = self._world.instances.by_id.get(int(parts[1])) if parts[1].isdigit() else None
        if instance is None or instance.gone is not None:
            raise Refusal(404, "notFound", "no such machine")
        if len(parts) == 2:
            return Response(200, b"computeMetadata/\n")
        if request.headers.get("metadata-flavor") != "Google":
            raise Refusal(403, "forbidden", "Missing Metadata-Flavor:Google header.")
        request.caller = f"machine/{instance.name}"
        path = [part for part in parts[3:] if part]
        if parts[2:4] and parts[2] != "computeMetadata":
            raise Refusal(404, "notFound", "not found")
        if path and path[0] == "v1":
            path = path[1:]
        if request.query.get("wait_for_change") == "true":
            self._wait(request, instance, path)
        return self._value(request, instance, path)

    def _wait(self, request: Request, instance: Instance, path: list[str]) -> None:
        """Hold the answer until the value is another, or the client's patience is over."""
        known = request.query.get("last_etag")
        first = _etag(self._tree(instance), path)
        if known not in (None, "0", first):
            return
        deadline = time.monotonic() + float(request.query.get("timeout_sec") or 60)
        while time.monotonic() < deadline and instance.gone is None:
            if _etag(self._tree(instance), path) != first:
                return
            with self._world.clock.changed:
                self._world.clock.changed.wait(0.2)

    def _value(self, request: Request, instance: Instance, path: list[str]) -> Response:
        if path[:2] == ["instance", "service-accounts"] and path[3:4] in (["token"], ["identity"]):
            return self._credential(request, instance, path[3])
        tree = self._tree(instance)
        node: JsonView = tree
        for part in path:
            if not isinstance(node, dict) or part not in node:
                raise Refusal(404, "notFound", f"/{'/'.join(path)} not found")
            node = node[part]
        etag = {"ETag": _etag(tree, path)}
        recursive = request.query.get("recursive", "").lower() == "true"
        if recursive or request.query.get("alt") == "json":
            answer = Response.of(node)
            answer.headers.update(etag)
            return answer
        if isinstance(node, dict):
            lines = (f"{key}/" if isinstance(value, dict) else key for key, value in node.items())
            content = "\n".join(lines) + "\n"
        else:
            content = "\n".join(map(str, node)) if isinstance(node, list) else str(node)
        return Response(200, content.encode(), {"Content-Type": "application/text", **etag})

    def _account(self, instance: Instance) -> str:
        accounts = members(instance.properties, "serviceAccounts")
        if not accounts:
            raise Refusal(404, "notFound", "this machine has no service account")
        email = text(accounts[0], "email", "default")
        return self._world.project.worker if email == "default" else email

    def _credential(self, request: Request, instance: Instance, kind: str) -> Response:
        email = self._account(instance)
        if kind == "token":
            token = self._world.project.issue(f"{email}|{instance.name}")
            document: Document = {
                "access_token": token,
                "expires_in": _TOKEN_LIFE_S,
                "token_type": "Bearer",
            }
            return Response.of(document)
        claims = {
            "aud": request.query.get("audience"),
            "sub": instance.instance_id,
            "email": email,
        }
        body = base64.urlsafe_b64encode(json.dumps(claims).encode()).decode().rstrip("=")
        return Response(200, f"e30.{body}.emulated".encode())

    def _tree(self, instance: Instance) -> Document:
        project, zone = self._world.project, instance.zone
        accounts: Document = {}
        if instance.properties.get("serviceAccounts"):
            email = self._account(instance)
            account = {"aliases": ["default"], "email": email, "scopes": _SCOPES}
            accounts = {"default": account, email: account}
        scheduling = instance.scheduling
        restart = scheduling.get("automaticRestart", True)
        return {
            "instance": {
                "attributes": dict(instance.metadata),
                "cpu-platform": "Emulated",
                "hostname": f"{instance.name}.{zone}.c.{project.project_id}.internal",
                "id": str(instance.instance_id),
                "image": "",
                "machine-type": f"projects/{project.number}/machineTypes/{instance.machine_type}",
                "maintenance-event": "NONE",
                "name": instance.name,
                "preempted": "TRUE" if instance.preempted else "FALSE",
                "scheduling": {
                    "automatic-restart": str(restart).upper(),
                    "on-host-maintenance": scheduling.get("onHostMaintenance", "MIGRATE"),
                    "preemptible": str(instance.spot).upper(),
                },
                "service-accounts": accounts,
                "tags": texts(member(instance.properties, "tags"), "items"),
                "zone": f"projects/{project.number}/zones/{zone}",
            },
            "project": {
                "attributes": {},
                "numeric-project-id": project.number,
                "project-id": project.project_id,
            },
            "universe": {"universe-domain": "googleapis.com"},
        }


def _etag(tree: Document, path: list[str]) -> str:
    value: JsonView = tree
    for part in path:
        value = value.get(part) if isinstance(value, dict) else None
    text = json.dumps(value, sort_keys=True).encode()
    return hashlib.sha256(text).hexdigest()[:16]
