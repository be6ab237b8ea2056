"""What is around a workspace: the locks of its resource group, and its storage account."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

from drillyard_emulators.azure.access import Access
from drillyard_emulators.azure.answers import Denied
from drillyard_emulators.azure.blobs import Blobs
from drillyard_emulators.http.wire import Request, Response

_LOCKS = re.compile(
    r"/subscriptions/[^/]+/resourceGroups/[^/]+/providers/Microsoft\.Authorization/locks\Z", re.I
)
_STORAGE = re.compile(
    r"(?P<id>/subscriptions/[^/]+/resourceGroups/[^/]+/providers/Microsoft\.Storage/"
    r"storageAccounts/(?P<name>[^/]+))(?P<service>/blobServices/default)?\Z",
    re.I,
)


@dataclass
class Around:
    """Read at the subscription, where a role in the workspace does not count.

    Attributes:
        access: Who may read it.
        blobs: The storage.
        locks: Scope to level (``CanNotDelete``, ``ReadOnly``) of a lock, which is named ``kept``.
        kept_days: How long deleted and overwritten blobs are kept; 0: not at all.
    """

    access: Access
    blobs: Blobs
    locks: dict[str, str] = field(default_factory=dict)
    kept_days: int = 0

    def __call__(self, request: Request) -> Response | None:
        """Answer a request; None: it is not of these things."""
        if _LOCKS.match(request.path):
            self.access.need("subscription", "Microsoft.Authorization/locks/read")
            return Response.of({"value": [self._lock(*lock) for lock in self.locks.items()]})
        match = _STORAGE.match(request.path)
        if match is None:
            return None
        kind = "Microsoft.Storage/storageAccounts"
        self.access.need(
            "subscription", f"{kind}/blobServices/read" if match["service"] else f"{kind}/read"
        )
        if match["name"] != self.blobs.account:
            raise Denied(404, "ResourceNotFound", f"{match['name']} was not found.")
        return Response.of(self._service() if match["service"] else self._account(match["id"]))

    @staticmethod
    def _lock(scope: str, level: str) -> dict[str, Any]:
        place = f"{scope}/providers/Microsoft.Authorization/locks/kept"
        return {
            "id": place,
            "name": "kept",
            "type": "Microsoft.Authorization/locks",
            "properties": {"level": level, "notes": "by policy"},
        }

    def _account(self, place: str) -> dict[str, Any]:
        properties: dict[str, Any] = {"provisioningState": "Succeeded"}
        if self.blobs.hierarchical:
            properties["isHnsEnabled"] = True  # without one the answer does not name it
        return {
            "id": place,
            "name": self.blobs.account,
            "kind": "StorageV2",
            "properties": properties,
        }

    def _service(self) -> dict[str, Any]:
        policy: dict[str, Any] = {"enabled": self.kept_days > 0}
        if self.kept_days:
            policy["days"] = self.kept_days
        return {"name": "default", "properties": {"deleteRetentionPolicy": policy}}
