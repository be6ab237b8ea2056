"""What an endpoint answers with: model, script and environment, each once for its content.

They are registered by plain REST calls over blobs that are written with our own identity.
azure-ai-ml would write them with the account's key, which many workspaces forbid, and prints dots.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from importlib.metadata import version
from platform import python_version_tuple

from drillyard_backends.azure.errors import Missing
from drillyard_backends.azure.service import Service
from drillyard_backends.azure.store import BlobStore

IMAGE = "mcr.microsoft.com/azureml/minimal-ubuntu22.04-py310-cpu-inference:latest"
PINNED = ("numpy", "onnxruntime")
"""What acts: in the versions that the policy was compared with."""


def hashed(files: Mapping[str, bytes]) -> str:
    """A version of what some files say: 16 hexadecimal digits."""
    digest = hashlib.sha256()
    for name, data in sorted(files.items()):
        digest.update(f"{name}\0{len(data)}\0".encode() + data)
    return digest.hexdigest()[:16]


def conda() -> str:
    """Returns the conda file of the environment; JSON is YAML, too."""
    major, minor, _ = python_version_tuple()
    pins = [f"{name}=={version(name)}" for name in PINNED]
    packages = [*pins, "azureml-inference-server-http"]
    return json.dumps(
        {
            "name": "drillyard-policy",
            "channels": ["conda-forge"],
            "dependencies": [f"python={major}.{minor}", "pip", {"pip": packages}],
        }
    )


class Assets:
    """Registers by content, and only what is not there.

    Args:
        service: Sends the requests.
        store: On the workspace's own datastore.
    """

    def __init__(self, service: Service, store: BlobStore) -> None:
        self._service, self._store = service, store

    def model(self, name: str, files: Mapping[str, bytes], tags: Mapping[str, str]) -> str:
        """Id of the model of a bundle."""
        key = self._upload("models", files)
        uri = f"{self._service.datastore_uri}/paths/{self._inside(key)}"
        return self._ensure(
            f"models/{name}/versions/{hashed(files)}",
            {
                "modelUri": uri,
                "modelType": "custom_model",
                "tags": dict(tags),
            },
        )

    def code(self, name: str, files: Mapping[str, bytes]) -> str:
        """Id of the folder with the scoring script."""
        key = self._upload("codes", files)
        host = f"https://{self._store.account}.blob.core.windows.net"
        uri = f"{host}/{self._store.container}/{self._inside(key)}"
        return self._ensure(f"codes/{name}/versions/{hashed(files)}", {"codeUri": uri})

    def environment(self, name: str) -> str:
        """Id of the environment that has what ``act.py`` needs."""
        text = conda()
        number = hashed({"image": IMAGE.encode(), "conda": text.encode()})
        return self._ensure(
            f"environments/{name}/versions/{number}",
            {
                "image": IMAGE,
                "condaFile": text,
                "osType": "Linux",
            },
        )

    def _upload(self, kind: str, files: Mapping[str, bytes]) -> str:
        key = f"{kind}/{hashed(files)}"
        there = set(self._store.keys(f"{key}/"))
        for name, data in files.items():
            if f"{key}/{name}" not in there:
                self._store.put(f"{key}/{name}", data)
        return key

    def _inside(self, key: str) -> str:
        """A key as a path of the container."""
        root = f"az://{self._store.account}/{self._store.container}"
        return f"{self._store.url}/{key}".removeprefix(f"{root}/")

    def _ensure(self, place: str, properties: Mapping[str, object]) -> str:
        path = f"{self._service.root}/{place}"
        try:
            return str(self._service.ask(path)["id"])
        except Missing:
            return str(self._service.put(path, {"properties": properties})["id"])
