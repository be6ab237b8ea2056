"""What a workspace registers: datastores, environments, models and code, by name and version."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from drillyard_emulators.azure.answers import Denied
from drillyard_emulators.azure.world import World
from drillyard_emulators.http.fields import Document, Fields, member
from drillyard_emulators.http.wire import Request, Response

if TYPE_CHECKING:
    from drillyard_emulators.azure.manager import Manager

_ML = "Microsoft.MachineLearningServices/workspaces"
FIXED = {
    "environments": ("image", "condaFile", "build"),
    "models": ("modelUri",),
    "codes": ("codeUri",),
}
"""What of a version cannot be changed."""
MOST_FILES, MOST_BYTES = 100, 1_000_000
"""Largest build context: "Service limits in Azure Machine Learning", learn.microsoft.com."""
_ADDED: dict[str, Document] = {
    "environments": {"environmentType": "UserCreated", "osType": "Linux"},
    "models": {"flavors": {}},
    "codes": {},
}
"""What Azure adds to a version."""


class Assets:
    """The registered things of a workspace.

    Args:
        workspace: Whose.
        world: Keeps the environments, which jobs ask for.
    """

    def __init__(self, workspace: Manager, world: World) -> None:
        self._workspace = workspace
        self._too_large_to_build = world.nodes.too_large
        self._kept: dict[str, dict[str, Document]] = {
            "environments": world.environments,
            "models": {},
            "codes": {},
        }

    def datastores(self, request: Request, parts: list[str]) -> Response:
        """The workspace's own, and the key of its account."""
        home = self._workspace
        if parts[1:] == ["listSecrets"]:
            return Response.of({"secretsType": "AccountKey", "key": home.key})
        there = {"workspaceblobstore": home.container, "workspaceartifactstore": home.artifacts}
        stores: dict[str, Document] = {
            name: {
                "id": f"{home.root}/datastores/{name}",
                "name": name,
                "type": f"{_ML}/datastores",
                "systemData": home.stamp(),
                "properties": {
                    "datastoreType": "AzureBlob",
                    "isDefault": name == "workspaceblobstore",
                    "accountName": home.account,
                    "containerName": container,
                    "endpoint": "core.windows.net",
                    "protocol": "https",
                    "credentials": {"credentialsType": "AccountKey"},
                    "tags": {},
                    "properties": {},
                },
            }
            for name, container in there.items()
        }
        if not parts:
            return Response.of({"value": list(stores.values())})
        if parts[0] not in stores:
            raise Denied(404, "UserError", f"Datastore {parts[0]} was not found.")
        return Response.of(stores[parts[0]])

    def folder(self, kind: str, asset_id: str) -> str:
        """Where in the container the files of a model or code are.

        Raises:
            Denied: There is no such asset, or it lies elsewhere.
        """
        key = asset_id.partition(f"/{kind}/")[2]
        asset = self._kept[kind].get(key)
        if asset is None:
            raise Denied(400, "UserError", f"The specified {kind} {key!r} does not exist.")
        uri = str(asset["modelUri" if kind == "models" else "codeUri"])
        inside = re.search(r"/datastores/workspaceblobstore/paths/(.+)\Z", uri)
        outside = re.search(rf"/{re.escape(self._workspace.container)}/(.+)\Z", uri)
        match = inside or outside
        if match is None:
            raise Denied(400, "UserError", f"{uri} is not in this workspace.")
        return match[1].rstrip("/")

    def _too_large(self, build: Fields) -> bool:
        """Whether a build context is beyond Azure's limits.

        It is registered all the same; that the build then fails without a log is reported by
        others (Azure/azure-cli-extensions#5560).
        """
        uri = str((build or {}).get("contextUri") or "")
        folder = uri.partition(f"/{self._workspace.container}/")[2].rstrip("/")
        if not folder:
            return False
        blobs, container = self._workspace.blobs, self._workspace.container
        names = blobs.names(container, f"{folder}/")
        return len(names) > MOST_FILES or (
            sum(len(blobs.read(container, name) or b"") for name in names) > MOST_BYTES
        )

    def versioned(self, kind: str, request: Request, parts: list[str]) -> Response:
        """``KIND/NAME/versions/VERSION`` of environments, models and codes."""
        there, home = self._kept[kind], self._workspace
        name = parts[0]
        if len(parts) < 3:
            raise Denied(404, "UserError", f"{kind} {name} is requested by its version here")
        key = f"{name}/versions/{parts[2]}"
        if request.method == "PUT":
            properties = dict(member(request.json(), "properties"))
            old = there.get(key)
            if old and any(old.get(f) != properties.get(f) for f in FIXED[kind]):
                raise Denied(400, "UserError", f"An existing {kind[:-1]} cannot be changed.")
            there[key] = properties
            if kind == "environments" and self._too_large(member(properties, "build")):
                self._too_large_to_build.add(key)
        if key not in there:
            raise Denied(404, "UserError", f"{kind[:-1]} {name}:{parts[2]} was not found.")
        return Response.of(
            {
                "id": f"{home.root}/{kind}/{name}/versions/{parts[2]}",
                "name": parts[2],
                "type": f"{_ML}/{kind}/versions",
                "properties": {**there[key], **_ADDED[kind]},
                "systemData": home.stamp(),
            },
            201 if request.method == "PUT" else 200,
        )
