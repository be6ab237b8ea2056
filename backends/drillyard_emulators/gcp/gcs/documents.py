"""Buckets and objects as the JSON API shows them."""

from __future__ import annotations

from urllib.parse import quote

from drillyard_emulators.gcp.gcs.objects import Bucket, StoredObject
from drillyard_emulators.http.clock import rfc3339
from drillyard_emulators.http.fields import Document, member, number

_API = "https://www.googleapis.com/storage/v1/b"
MEDIA = "https://storage.googleapis.com/download/storage/v1/b"


def object_document(stored: StoredObject) -> Document:
    """The object resource."""
    where = f"{quote(stored.bucket)}/o/{quote(stored.name, safe='')}"
    document: Document = {
        "kind": "storage#object",
        "id": f"{stored.bucket}/{stored.name}/{stored.generation}",
        "selfLink": f"{_API}/{where}",
        "mediaLink": f"{MEDIA}/{where}?generation={stored.generation}&alt=media",
        "name": stored.name,
        "bucket": stored.bucket,
        "generation": str(stored.generation),
        "metageneration": str(stored.metageneration),
        "contentType": "application/octet-stream",
        "storageClass": "STANDARD",
        "size": str(len(stored.data)),
        "crc32c": stored.crc32c,
        "etag": etag(stored),
        "timeCreated": rfc3339(stored.created),
        "timeFinalized": rfc3339(stored.created),
        "updated": rfc3339(stored.updated),
        "timeStorageClassUpdated": rfc3339(stored.created),
        **stored.fields,
    }
    if stored.md5:
        document["md5Hash"] = stored.md5
    if stored.components:
        document["componentCount"] = stored.components
    if stored.metadata:
        document["metadata"] = stored.metadata
    if stored.deleted is not None:
        document["timeDeleted"] = rfc3339(stored.deleted)
    return document


def etag(stored: StoredObject) -> str:
    """Changes with the content and with the metadata."""
    return f"{stored.generation:x}/{stored.metageneration:x}"


def new_bucket(resource: Document, project: str, now: float) -> Document:
    """A bucket resource from what its creator wrote."""
    location = str(resource.get("location") or "US").upper()
    kind = "multi-region" if location in ("US", "EU", "ASIA") else "region"
    iam: Document = {
        "uniformBucketLevelAccess": {"enabled": False},
        "publicAccessPrevention": "inherited",
    }
    name = resource["name"]
    return {
        "kind": "storage#bucket",
        "id": name,
        "selfLink": f"{_API}/{name}",
        "projectNumber": project,
        "storageClass": "STANDARD",
        "etag": "CAE=",
        **resource,
        "location": location,
        "locationType": kind,
        "metageneration": "1",
        "timeCreated": rfc3339(now),
        "updated": rfc3339(now),
        "iamConfiguration": {**iam, **member(resource, "iamConfiguration")},
    }


def patched(bucket: Bucket, resource: Document, now: float) -> Document:
    """Lay a patch over a bucket's resource; None removes a key."""
    document = {**bucket.document, **resource}
    if isinstance(resource.get("labels"), dict):
        labels = {**member(bucket.document, "labels"), **member(resource, "labels")}
        document["labels"] = {key: value for key, value in labels.items() if value is not None}
    bucket.document = {key: value for key, value in document.items() if value is not None}
    bucket.document["metageneration"] = str(int(number(bucket.document, "metageneration")) + 1)
    bucket.document["updated"] = rfc3339(now)
    return bucket.document
