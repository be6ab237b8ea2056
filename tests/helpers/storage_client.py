"""The real Storage client in this process, pointed at an emulator."""

from __future__ import annotations

from typing import Any

from google.auth.credentials import AnonymousCredentials
from google.cloud import storage

from drillyard_emulators.http.handle import GcpEmulator


def a_client(cloud: GcpEmulator) -> storage.Client:
    return storage.Client(
        project="p",
        credentials=AnonymousCredentials(),
        client_options={"api_endpoint": cloud.storage_url},
        use_auth_w_custom_endpoint=False,
    )


def put(bucket: storage.Bucket, name: str, data: bytes = b"x", **more: Any) -> storage.Blob:
    blob = bucket.blob(name)
    blob.upload_from_string(data, **more)
    return blob


def names(found: Any) -> list[str]:
    return [blob.name for blob in found]
