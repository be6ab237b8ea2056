"""``management.azure.com``: what the real azure-ai-ml asks of Resource Manager and a workspace."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial
from urllib.parse import urlencode

from drillyard_emulators.azure import usages, vm_sizes
from drillyard_emulators.azure.access import ML, Access, operation
from drillyard_emulators.azure.answers import Denied
from drillyard_emulators.azure.around import Around
from drillyard_emulators.azure.assets import FIXED, Assets
from drillyard_emulators.azure.blobs import Blobs
from drillyard_emulators.azure.entra import CLIENT, Entra
from drillyard_emulators.azure.jobs_api import JobsApi
from drillyard_emulators.azure.model import Compute
from drillyard_emulators.azure.online import Online
from drillyard_emulators.azure.resource_documents import compute_document
from drillyard_emulators.azure.world import World
from drillyard_emulators.http.clock import rfc3339
from drillyard_emulators.http.fields import Document, member, text
from drillyard_emulators.http.wire import Request, Response, parts_of

HOST = "management.azure.com"
_WORKSPACE = re.compile(
    r"/subscriptions/(?P<s>[^/]+)/resourceGroups/(?P<g>[^/]+)/providers/"
    r"Microsoft\.MachineLearningServices/workspaces/(?P<w>[^/]+)(?P<rest>/.*)?\Z",
    re.I,
)
_IDENTITY = re.compile(
    r"(?P<id>/subscriptions/[^/]+/resourceGroups/[^/]+/providers/Microsoft\.ManagedIdentity/"
    r"userAssignedIdentities/[^/]+)(?P<rest>/.*)?\Z",
    re.I,
)
_CLUSTER = re.compile(r"[a-zA-Z](?![a-zA-Z0-9-]*-\d+\Z)[a-zA-Z0-9\-]{2,23}\Z")
"""The specification's pattern of names in ``workspaces/computes``."""
_ASSIGN = "Microsoft.ManagedIdentity/userAssignedIdentities/assign/action"
_AGAIN = {"Retry-After": "0"}
_PERMISSIONS = ["providers", "Microsoft.Authorization", "permissions"]
_LOCATION = re.compile(
    r"/subscriptions/(?P<s>[^/]+)/providers/Microsoft\.MachineLearningServices/locations/"
    r"(?P<l>[^/]+)/(?P<rest>.*)\Z",
    re.I,
)


class Manager:
    """One subscription with one resource group with one workspace.

    Args:
        world: What is in the workspace.
        entra: Knows the callers.
        blobs: The workspace's storage.
        containers: Containers of its datastores: for data, and for the output of jobs.
        machine_env: Environment variables of a machine of that name.
    """

    subscription = "00000000-aaaa-bbbb-cccc-dddddddddddd"
    group = "rehearsal"
    workspace = "rehearsal"
    location = "westeurope"

    def __init__(
        self,
        world: World,
        entra: Entra,
        blobs: Blobs,
        containers: tuple[str, str],
        machine_env: Callable[[str], dict[str, str]],
    ) -> None:
        self.world, self._entra = world, entra
        self.blobs, (self.container, self.artifacts) = blobs, containers
        self.account, self.key = blobs.account, blobs.key
        self.access = Access()
        self.around = Around(self.access, blobs)
        self.quotas: dict[str, int] = {}
        """Cores by family of sizes (``lowPriorityCores``, ``totalDedicatedCores`` for those)."""
        self.everywhere = 100
        """Cores of every other family."""
        self.quota_form = "reported"
        """How the listing of quotas looks; see ``usages``."""
        self.sizes = dict(vm_sizes.SIZES)
        self.more_of_sizes: dict[str, Document] = {}
        """Further properties of a size: ``gpus``, ``lowPriorityCapable`` …"""
        self.taken: set[str] = set()
        """Names of clusters and endpoints of other workspaces in this region."""
        self.foreign: list[Document] = []
        """Jobs of other people, as the service lists them."""
        assets = Assets(self, world)
        self.online = Online(self, assets, blobs, machine_env)
        self._kinds: dict[str, Callable[[Request, list[str]], Response]] = {
            "workspace": self._workspace,
            "computes": self._computes,
            "operations": self._operations,
            "datastores": assets.datastores,
            "onlineendpoints": self.online.endpoints,
            "jobs": JobsApi(self).jobs,
            **{kind: partial(assets.versioned, kind) for kind in FIXED},
        }

    def __call__(self, request: Request) -> Response:
        """Answer one request."""
        try:
            request.caller = self._entra.who(request, "management")
            if request.caller is None:
                raise Denied(401, "ExpiredAuthenticationToken", "The access token is not valid.")
            if request.caller != CLIENT:
                # The identity of nodes has a role on the storage, and none in the workspace.
                raise Denied(
                    403,
                    "AuthorizationFailed",
                    f"The client '{request.caller}' does not have authorization to perform action "
                    f"'{request.method}' over scope '{request.path}' or the scope is invalid.",
                )
            with self.world.lock:
                return self._answer(request)
        except Denied as denied:
            return denied.response()

    @property
    def root(self) -> str:
        """Id of the workspace."""
        return (
            f"/subscriptions/{self.subscription}/resourceGroups/{self.group}/providers/{ML}"
            f"/workspaces/{self.workspace}"
        )

    def _answer(self, request: Request) -> Response:
        around = self.around(request)
        if around is not None:
            return around
        place = _LOCATION.match(request.path)
        if place is not None:
            self._need(place["s"], self.subscription, "Subscription")
            self.access.need("subscription", f"{ML}/locations/{place['rest']}/read")
            return self._of_location(request, place["rest"])
        identity = _IDENTITY.match(request.path)
        if identity is not None:
            return self._of_identity(identity["id"], parts_of(identity["rest"] or ""))
        match = _WORKSPACE.match(request.path)
        if match is None:
            raise Denied(404, "NotFound", f"{request.path} is not emulated")
        self._need(match["s"], self.subscription, "Subscription")
        self._need(match["g"], self.group, "ResourceGroup")
        self._need(match["w"], self.workspace, "Resource")
        parts = parts_of(match["rest"] or "")
        if parts == _PERMISSIONS:
            self.access.need("workspace", "Microsoft.Authorization/permissions/read")
            return self.page(request, self.access.given("workspace"))
        kind = parts[0] or "workspace"
        serve = self._kinds.get(kind.lower())
        if serve is None:
            raise Denied(404, "NotFound", f"{kind} is not emulated")
        if kind != "operations":
            self.access.need("workspace", operation(request.method, parts))
        return serve(request, parts[1:])

    def _of_identity(self, identity: str, parts: list[str]) -> Response:
        if self._entra.identity(identity) is None:
            raise Denied(404, "ResourceNotFound", f"The identity {identity} was not found.")
        if parts != _PERMISSIONS:
            raise Denied(404, "NotFound", "not emulated")
        return Response.of({"value": self.access.given("identity")})

    def page(self, request: Request, elements: list[Document]) -> Response:
        """A page of a listing, with the address of the next one."""
        start, size = int(request.query.get("$skip", "0")), self.world.physics.page
        document: Document = {"value": elements[start : start + size]}
        if len(elements) > start + size:
            query = {**request.query, "$skip": str(start + size)}
            document["nextLink"] = f"https://{HOST}{request.path}?{urlencode(query)}"
        return Response.of(document)

    def _need(self, asked: str, there: str, kind: str) -> None:
        if asked.lower() != there.lower():
            message = f"The {kind.lower()} '{asked}' could not be found."
            raise Denied(404, f"{kind}NotFound", message)

    # -- by the first word behind the workspace ----------------------------------------------

    def _workspace(self, request: Request, _: list[str]) -> Response:
        storage = f"/subscriptions/{self.subscription}/resourceGroups/{self.group}/providers/"
        host = f"{self.location}.api.azureml.ms"
        return Response.of(
            {
                "id": self.root,
                "name": self.workspace,
                "location": self.location,
                "type": f"{ML}/workspaces",
                "kind": "Default",
                "tags": {},
                "identity": {"type": "SystemAssigned", "principalId": "p", "tenantId": "t"},
                "properties": {
                    "friendlyName": self.workspace,
                    "provisioningState": "Succeeded",
                    "storageAccount": f"{storage}Microsoft.Storage/storageAccounts/{self.account}",
                    "keyVault": f"{storage}Microsoft.Keyvault/vaults/rehearsal",
                    "containerRegistry": None,
                    "workspaceId": "1",
                    "discoveryUrl": f"https://{host}/discovery",
                    "mlFlowTrackingUri": f"azureml://{host}/mlflow/v1.0{self.root}",
                    "publicNetworkAccess": "Enabled",
                },
            }
        )

    def _computes(self, request: Request, parts: list[str]) -> Response:
        world = self.world
        if not parts:
            return self.page(request, [self._compute(c) for c in world.listed_computes()])
        name = parts[0]
        if request.method == "PUT":
            document = request.json()
            self._check_cluster(name, document)
            new = name not in world.computes
            absent = request.headers.get("if-none-match") == "*"
            answer = Response.of(self._compute(world.put_compute(name, document, absent)), 201)
            return self.going_on(answer, f"compute/{name}") if new else answer
        if request.method == "DELETE":
            if request.query.get("underlyingResourceAction") != "Delete":
                raise Denied(400, "BadRequest", "underlyingResourceAction is required")
            world.delete_compute(name)
            return self.going_on(Response(202), f"gone/{name}")
        return Response.of(self._compute(world.compute(name)))

    def _check_cluster(self, name: str, document: Document) -> None:
        settings = member(member(document, "properties"), "properties")
        size = text(settings, "vmSize")
        if not _CLUSTER.match(name):
            raise Denied(400, "BadArgument", f"The compute name {name!r} is not allowed.")
        if name in self.taken:
            message = f"The compute name {name} is already used in {self.location}."
            raise Denied(409, "ComputeNameConflict", message)
        if size.lower() not in {s.lower() for s in self.sizes}:
            message = f"The specified VM size '{size}' is not supported in {self.location}."
            raise Denied(400, "InvalidVmSize", message)
        for identity in member(member(document, "identity"), "userAssignedIdentities"):
            self.access.need("identity", _ASSIGN)
            if self._entra.identity(identity) is None:
                raise Denied(400, "BadArgument", f"The identity {identity} was not found.")

    def _compute(self, compute: Compute) -> Document:
        nodes = [
            n for n in self.world.nodes.all if n["compute"] == compute.name and n["gone"] is None
        ]
        with_tags = self.world.physics.cluster_tags
        return compute_document(compute, nodes, self.root, self.location, with_tags)

    def _operations(self, request: Request, parts: list[str]) -> Response:
        """What is going on: the end of a long-running operation."""
        kind, name = parts[0], parts[1]
        if kind == "job":
            job = self.world.jobs.get(name)
            return Response(200 if job is None or job.over else 202, b"", _AGAIN)
        compute = self.world.computes.get(name)
        done = compute is None or (kind != "gone" and compute.state != "Creating")
        answer = Response.of({"status": "Succeeded" if done else "InProgress"})
        answer.headers.update(_AGAIN)
        return answer

    def room(self, size: str) -> int:
        """Cores that the quota has of a size's family."""
        return self._limit(self.sizes[size][2])

    def _limit(self, name: str) -> int:
        return self.quotas.get(name, self.everywhere)

    def _used(self, low_priority: bool) -> int:
        cores = {size.lower(): cores for size, (cores, _, _) in self.sizes.items()}
        there = [
            n
            for n in self.world.nodes.all
            if n["gone"] is None and n["low_priority"] is low_priority
        ]
        return sum(cores.get(str(node["size"]).lower(), 0) for node in there)

    def _of_location(self, request: Request, rest: str) -> Response:
        if rest.lower() == "vmsizes":
            return self.page(request, vm_sizes.documents(self.sizes, self.more_of_sizes))
        if rest.lower() == "usages":
            families = {family for _, _, family in self.sizes.values()}
            return self.page(
                request,
                usages.rows(
                    self.quota_form,
                    self.subscription,
                    self.root,
                    families,
                    self._limit,
                    self._used,
                ),
            )
        raise Denied(404, "NotFound", f"{rest} is not emulated")

    def going_on(self, answer: Response, what: str) -> Response:
        """Adds the address of a long-running operation to an answer."""
        url = f"https://{HOST}{self.root}/operations/{what}?api-version=2023-08-01-preview"
        answer.headers.update({"Location": url, **_AGAIN})
        if not what.startswith("job/"):
            answer.headers["Azure-AsyncOperation"] = url
        return answer

    def stamp(self, when: float | None = None) -> dict[str, str]:
        """The creator and the creation time of a resource."""
        text = rfc3339(self.world.clock.now() if when is None else when)
        return {
            "createdAt": text,
            "createdBy": "someone",
            "createdByType": "User",
            "lastModifiedAt": text,
        }
