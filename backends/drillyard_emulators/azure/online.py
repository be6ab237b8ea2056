"""Managed online endpoints: a deployment is a local process that runs the real scoring script."""

from __future__ import annotations

import http.client
import secrets
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from drillyard_emulators.azure.answers import Denied, refused
from drillyard_emulators.azure.assets import Assets
from drillyard_emulators.azure.blobs import Blobs
from drillyard_emulators.http.fields import Document, member, number, text, text_fields
from drillyard_emulators.http.machines import Machine
from drillyard_emulators.http.wire import Request, Response

if TYPE_CHECKING:
    from drillyard_emulators.azure.manager import Manager

_ML = "Microsoft.MachineLearningServices/workspaces/onlineEndpoints"
_LOOK_S = 0.1
_SERVER = "drillyard_emulators.azure.scoring"


@dataclass
class Deployment:
    """One version behind an endpoint."""

    document: Document
    state: str = "Creating"
    machine: Machine | None = None
    log: Path = field(default_factory=Path)
    port: int = 0


@dataclass
class Endpoint:
    """One address."""

    document: Document
    state: str = "Creating"
    key: str = field(default_factory=lambda: secrets.token_urlsafe(24))
    deployments: dict[str, Deployment] = field(default_factory=dict)

    @property
    def traffic(self) -> dict[str, int]:
        """Deployment to its share, in percent."""
        shares = member(member(self.document, "properties"), "traffic")
        return {name: int(number(shares, name)) for name in shares}


class Online:
    """All endpoints of a workspace.

    Args:
        home: The workspace.
        assets: What is deployed.
        blobs: Where it lies.
        machine_env: Environment variables of a machine of that name.
    """

    def __init__(
        self,
        home: Manager,
        assets: Assets,
        blobs: Blobs,
        machine_env: Callable[[str], dict[str, str]],
    ) -> None:
        self._home, self._assets, self._blobs = home, assets, blobs
        self._machine_env = machine_env
        self._there: dict[str, Endpoint] = {}
        self._gone: dict[str, float] = {}
        """Name of a deleted endpoint -> when."""

    def endpoints(self, request: Request, parts: list[str]) -> Response:
        """``onlineEndpoints/NAME/deployments/NAME``, as Resource Manager has them."""
        if not parts:
            return self._home.page(request, [self._endpoint(n) for n in self._there])
        name = parts[0]
        if parts[1:2] == ["deployments"]:
            return self._of_deployments(request, name, parts[2:])
        if request.method == "PUT":
            return self._put(request, name)
        endpoint = self._found(name)
        if parts[1:] == ["listKeys"]:
            return Response.of({"primaryKey": endpoint.key, "secondaryKey": endpoint.key})
        if request.method == "DELETE":
            self._settled_endpoint(endpoint, name)
            for deployment in list(endpoint.deployments):
                self._remove(endpoint, deployment)
            del self._there[name]
            self._gone[name] = self._home.world.clock.now()
            return Response(202)
        return Response.of(self._endpoint(name))

    def __call__(self, request: Request) -> Response:
        """A question to a policy: ``NAME.REGION.inference.ml.azure.com/score``."""
        endpoint = self._there.get(request.host.partition(".")[0])
        if endpoint is None or request.path != "/score":
            return refused(404, "", "no such endpoint")
        if request.headers.get("authorization") != f"Bearer {endpoint.key}":
            return refused(401, "key_auth_bad_header_forbidden", "the key is not right")
        shares = endpoint.traffic
        busy = [name for name, share in shares.items() if share]
        name = request.headers.get("azureml-model-deployment") or next(iter(busy), "")
        deployment = endpoint.deployments.get(name)
        if deployment is None or deployment.state != "Succeeded":
            return refused(404, "", f"no deployment {name!r} answers")
        connection = http.client.HTTPConnection("127.0.0.1", deployment.port, timeout=60)
        try:
            connection.request("POST", "/score", request.body)
            answer = connection.getresponse()
            kind = {"Content-Type": "application/json"}
            return Response(answer.status, answer.read(), kind)
        except OSError as error:
            return refused(424, "ModelError", f"the container is gone: {error}")
        finally:
            connection.close()

    def state(self) -> Document:
        """Every endpoint with its deployments."""
        return {
            "endpoints": {
                name: {
                    "state": endpoint.state,
                    "traffic": endpoint.traffic,
                    "deployments": {d: v.state for d, v in endpoint.deployments.items()},
                }
                for name, endpoint in self._there.items()
            }
        }

    def close(self) -> None:
        """End what answers."""
        for endpoint in self._there.values():
            for name in list(endpoint.deployments):
                self._remove(endpoint, name)

    # -- endpoints ----------------------------------------------------------------------------

    def _found(self, name: str) -> Endpoint:
        if name not in self._there:
            raise Denied(404, "ResourceNotFound", f"Endpoint {name} was not found.")
        return self._there[name]

    def _settled_endpoint(self, endpoint: Endpoint, name: str) -> None:
        """Refuse a change while another one goes on."""
        if self._home.world.physics.conflicts and endpoint.state in ("Creating", "Updating"):
            text = f"Endpoint {name} is in {endpoint.state} provisioning state: try again later."
            raise Denied(409, "Conflict", text)

    def _put(self, request: Request, name: str) -> Response:
        document = request.json()
        known = self._there.get(name)
        physics = self._home.world.physics
        since = self._home.world.clock.now() - self._gone.get(name, float("-inf"))
        if known is None and since < physics.forget_s:
            raise Denied(404, "ResourceNotFound", f"Endpoint {name} was not found.")
        if known is None and name in self._home.taken:
            text = f"The endpoint name {name} is already used in {self._home.location}."
            raise Denied(409, "EndpointNameConflict", text)
        if known is not None:
            self._settled_endpoint(known, name)
        for deployment in member(member(document, "properties"), "traffic"):
            if known is None or deployment not in known.deployments:
                raise Denied(400, "BadRequest", f"traffic for {deployment}, which is not there")
        if known is None:
            endpoint = self._there[name] = Endpoint(document)
        else:
            endpoint = known
            endpoint.document, endpoint.state = document, "Updating"

        def ready() -> None:
            endpoint.state = "Succeeded"

        self._home.world.scheduler.after(physics.create_s, ready)
        return Response.of(self._endpoint(name), 201 if known is None else 200)

    def _endpoint(self, name: str) -> Document:
        endpoint = self._there[name]
        host = f"{name}.{self._home.location}.inference.ml.azure.com"
        properties = {"mirrorTraffic": {}, **member(endpoint.document, "properties")}
        return {
            "id": f"{self._home.root}/onlineEndpoints/{name}",
            "name": name,
            "type": _ML,
            "location": self._home.location,
            "kind": "Managed",
            "tags": endpoint.document.get("tags") or {},
            "systemData": self._home.stamp(),
            "identity": {"type": "SystemAssigned", "principalId": "p", "tenantId": "t"},
            "properties": {
                **properties,
                "provisioningState": endpoint.state,
                "scoringUri": f"https://{host}/score",
                "swaggerUri": f"https://{host}/swagger.json",
                "publicNetworkAccess": "Enabled",
            },
        }

    # -- deployments --------------------------------------------------------------------------

    def _of_deployments(self, request: Request, name: str, parts: list[str]) -> Response:
        endpoint = self._found(name)
        if not parts:
            listed = [self._deployment(name, d) for d in endpoint.deployments]
            return self._home.page(request, listed)
        which = parts[0]
        if request.method == "PUT":
            self._settled_endpoint(endpoint, name)
            document = request.json()
            if endpoint.deployments.get(which, Deployment({})).document != document:
                self._deploy(endpoint, name, which, document)
            return Response.of(self._deployment(name, which), 201)
        if which not in endpoint.deployments:
            raise Denied(404, "ResourceNotFound", f"Deployment {which} was not found.")
        if parts[1:] == ["getLogs"]:
            log = endpoint.deployments[which].log
            content = log.read_text(errors="replace") if log.is_file() else ""
            return Response.of({"content": content})
        if request.method == "DELETE":
            if endpoint.traffic.get(which):
                raise Denied(400, "BadRequest", f"Deployment {which} has traffic.")
            self._remove(endpoint, which)
            return Response(202)
        return Response.of(self._deployment(name, which))

    def _deploy(self, endpoint: Endpoint, name: str, which: str, document: Document) -> None:
        properties = member(document, "properties")
        kind = text(properties, "instanceType")
        size = {s.lower(): s for s in self._home.sizes}.get(kind.lower())
        if size is None:
            message = f"The instance type {kind} is not supported."
            raise Denied(400, "BadArgument", message)
        if self._home.room(size) < self._home.sizes[size][0]:
            raise Denied(400, "OutOfQuota", f"Not enough quota for {size}.")
        model = self._assets.folder("models", text(properties, "model"))
        code = self._assets.folder(
            "codes", text(member(properties, "codeConfiguration"), "codeId")
        )
        if which in endpoint.deployments:
            self._remove(endpoint, which)
        deployment = endpoint.deployments[which] = Deployment(document)
        world = self._home.world

        def start() -> None:
            if endpoint.deployments.get(which) is deployment:
                self._start(deployment, f"{name}.{which}", model, code)
                world.scheduler.after(_LOOK_S, watch)

        def watch() -> None:
            if endpoint.deployments.get(which) is deployment and not self._settled(deployment):
                world.scheduler.after(_LOOK_S, watch)

        world.scheduler.after(world.physics.image_s, start)

    def _start(self, made: Deployment, name: str, model: str, code: str) -> None:
        """A container: model and code are fetched, as Azure's storage initialiser does it."""
        folder = self._blobs.folder / "online" / name
        for prefix, place in ((model, folder / "model"), (code, folder / "code")):
            for blob in self._blobs.names(self._home.container, f"{prefix}/"):
                path = place / blob.removeprefix(f"{prefix}/")
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(self._blobs.read(self._home.container, blob) or b"")
        properties = member(made.document, "properties")
        script = text(member(properties, "codeConfiguration"), "scoringScript")
        made.log = self._blobs.folder / "serial" / f"{name}.log"
        env = {
            **self._machine_env(name),
            "AZUREML_MODEL_DIR": str(folder / "model"),
            **text_fields(properties, "environmentVariables"),
        }
        command = f"#!/bin/bash\nexec python -m {_SERVER} {folder / 'code' / script} port\n"
        machine = self._blobs.folder / "machines" / name
        made.machine = Machine(name, name, machine, made.log, env, command)

    def _settled(self, made: Deployment) -> bool:
        """Whether it answers, or never will."""
        assert made.machine is not None
        if made.machine.code is not None:
            made.state = "Failed"
            return True
        port = made.machine.folder / "port"
        if not port.is_file():
            return False
        made.port, made.state = int(port.read_text()), "Succeeded"
        return True

    def _remove(self, endpoint: Endpoint, which: str) -> None:
        deployment = endpoint.deployments.pop(which)
        if deployment.machine is not None:
            deployment.machine.cut()

    def _deployment(self, name: str, which: str) -> Document:
        known = self._there[name].deployments[which]
        return {
            "id": f"{self._home.root}/onlineEndpoints/{name}/deployments/{which}",
            "name": which,
            "type": f"{_ML}/deployments",
            "location": self._home.location,
            "tags": known.document.get("tags") or {},
            "systemData": self._home.stamp(),
            "sku": known.document.get("sku"),
            "properties": {
                **member(known.document, "properties"),
                "provisioningState": known.state,
            },
        }
