"""The JSON API: buckets, objects, copies, compositions and rights."""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Callable
from urllib.parse import unquote

from drillyard_emulators.gcp.gcs.documents import new_bucket, object_document, patched
from drillyard_emulators.gcp.gcs.listing import list_objects
from drillyard_emulators.gcp.gcs.objects import Conditions, Storage, StoredObject
from drillyard_emulators.gcp.gcs.reading import media
from drillyard_emulators.gcp.grants import bucket_name, folder_name, object_name
from drillyard_emulators.http.fields import Document, member, members, text
from drillyard_emulators.http.wire import Refusal, Request, Response

Authorise = Callable[[str | None, str, str], bool]
"""Decides whether a caller has a permission on a resource."""

_BUCKET_RIGHT = {"GET": "get", "PATCH": "update", "PUT": "update", "DELETE": "delete"}
_OBJECT_RIGHT = {"GET": "get", "PATCH": "update", "PUT": "update", "DELETE": "delete"}


class JsonApi:
    """``/storage/v1``.

    Args:
        storage: What is kept.
        may: Decides on rights.
        project: Number of the project that owns new buckets.
    """

    def __init__(self, storage: Storage, may: Authorise, project: str) -> None:
        self._storage, self._may, self._project = storage, may, project

    def serve(self, request: Request, path: str) -> Response:
        """``path`` is what follows ``/storage/v1/``, undecoded."""
        # Object names keep their encoded slashes until here.
        parts = [unquote(part) for part in path.split("/")]
        match parts:
            case ["b"]:
                return self._buckets(request)
            case ["b", name]:
                return self._bucket(request, name)
            case ["b", name, "iam", "testPermissions"]:
                return self._test(request, name)
            case ["b", name, "iam"]:
                return self._policy(request, name)
            case ["b", name, "managedFolders"]:
                return self._new_folder(request, name)
            case ["b", name, "managedFolders", folder, "iam"]:
                return self._policy(request, name, folder)
            case ["b", name, "o"]:
                self.need(request, "storage.objects.list", name, list_=True)
                return Response.of(list_objects(self._storage.bucket(name), request.query))
            case ["b", bucket, "o", name]:
                return self._object(request, bucket, name)
            case ["b", bucket, "o", name, "compose"]:
                return self._compose(request, bucket, name)
            case ["b", bucket, "o", name, "moveTo", "o", to]:
                return self._move(request, bucket, name, to)
            case ["b", bucket, "o", name, "copyTo" | "rewriteTo" as verb, "b", into, "o", to]:
                return self._copy(request, (bucket, name), (into, to), verb)
            case ["projects", _, "serviceAccount"]:
                address = "service-1@gs-project-accounts.iam.gserviceaccount.com"
                return Response.of({"kind": "storage#serviceAccount", "email_address": address})
        raise Refusal(404, "notFound", "Not Found")

    def need(
        self, request: Request, permission: str, bucket: str, name: str = "", list_: bool = False
    ) -> None:
        """Insists on a permission on a bucket or on an object in it.

        Args:
            request: The caller's request.
            permission: The permission.
            bucket: Name of the bucket; empty for the project.
            name: Name of the object; empty for the bucket itself.
            list_: A listing: a managed folder may allow it for the prefix of the request.

        Raises:
            Refusal: 403.
        """
        names = [object_name(bucket, name) if name else bucket_name(bucket)]
        if list_:
            names.append(folder_name(bucket, request.query.get("prefix", "")))
        if not any(self._may(request.caller, permission, each) for each in names):
            who = request.caller or "Anonymous caller"
            text = f"{who} does not have {permission} access to {name or bucket or 'the project'}."
            raise Refusal(403, "forbidden", text)

    def _buckets(self, request: Request) -> Response:
        storage = self._storage
        if request.method == "GET":
            self.need(request, "storage.buckets.list", "")
            prefix = request.query.get("prefix", "")
            items = [
                b.document for n, b in sorted(storage.buckets.items()) if n.startswith(prefix)
            ]
            return Response.of({"kind": "storage#buckets", "items": items})
        self.need(request, "storage.buckets.create", "")
        resource = request.json()
        with storage.lock:
            resource.setdefault("name", "")
            return Response.of(
                storage.create(new_bucket(resource, self._project, storage.clock.now())).document
            )

    def _bucket(self, request: Request, name: str) -> Response:
        with self._storage.lock:
            self.need(request, f"storage.buckets.{_BUCKET_RIGHT[request.method]}", name)
            bucket = self._storage.bucket(name)
            if request.method == "DELETE":
                if bucket.live or bucket.archived:
                    raise Refusal(409, "conflict", "The bucket you tried to delete is not empty.")
                del self._storage.buckets[name]
                return Response(204)
            if request.method in ("PATCH", "PUT"):
                patched(bucket, request.json(), self._storage.clock.now())
            return Response.of(bucket.document)

    def _policy(self, request: Request, name: str, folder: str = "") -> Response:
        with self._storage.lock:
            self._storage.bucket(name)
            key, kind = (f"{name}/{folder}", "managedFolders") if folder else (name, "buckets")
            if folder and key not in self._storage.policies:
                raise Refusal(404, "notFound", "The managed folder does not exist.")
            policy = {"kind": "storage#policy", "etag": "CAE=", "bindings": []}
            if request.method == "PUT":
                self.need(request, f"storage.{kind}.setIamPolicy", name)
                self._storage.policies[key] = {**policy, **request.json()}
            else:
                self.need(request, f"storage.{kind}.getIamPolicy", name)
            return Response.of(self._storage.policies.get(key, policy))

    def _new_folder(self, request: Request, bucket: str) -> Response:
        self.need(request, "storage.managedFolders.create", bucket)
        folder = text(request.json(), "name")
        if not folder.endswith("/"):
            raise Refusal(400, "invalid", "The name of a managed folder ends with a slash.")
        with self._storage.lock:
            uniform = member(
                member(self._storage.bucket(bucket).document, "iamConfiguration"),
                "uniformBucketLevelAccess",
            )
            if not uniform.get("enabled"):
                message = "Managed folders need uniform bucket-level access."
                raise Refusal(412, "conditionNotMet", message)
            if f"{bucket}/{folder}" in self._storage.policies:
                raise Refusal(409, "conflict", "The managed folder already exists.")
            self._storage.policies[f"{bucket}/{folder}"] = {"bindings": []}
        return Response.of({"kind": "storage#managedFolder", "name": folder, "bucket": bucket})

    def _test(self, request: Request, name: str) -> Response:
        self._storage.bucket(name)
        asked = re.findall(r"permissions=([^&]*)", request.query_text)
        held = [p for p in map(unquote, asked) if self._may(request.caller, p, bucket_name(name))]
        document: Document = {"kind": "storage#testIamPermissionsResponse"}
        return Response.of({**document, **({"permissions": held} if held else {})})

    def _object(self, request: Request, bucket: str, name: str) -> Response:
        self.need(request, f"storage.objects.{_OBJECT_RIGHT[request.method]}", bucket, name)
        storage, generation = self._storage, request.query.get("generation")
        conditions = Conditions.of(request.query)
        if request.method == "DELETE":
            storage.delete(bucket, name, generation, conditions)
            return Response(204)
        with storage.lock:
            stored = storage.get(bucket, name, generation)
            conditions.check(stored, reading=request.method == "GET")
            if request.method == "GET":
                if request.query.get("alt") == "media":
                    return media(request, stored)
                return Response.of(object_document(stored))
            storage.patch(stored, request.json(), replace=request.method == "PUT")
            return Response.of(object_document(stored))

    def _compose(self, request: Request, bucket: str, name: str) -> Response:
        self.need(request, "storage.objects.create", bucket, name)
        asked = request.json()
        sources = members(asked, "sourceObjects")
        if not 1 <= len(sources) <= 32:
            text = "The number of source components provided is not between 1 and 32."
            raise Refusal(400, "invalid", text)
        with self._storage.lock:
            parts: list[StoredObject] = []
            for source in sources:
                generation = source.get("generation")
                part = self._storage.get(
                    bucket, str(source["name"]), str(generation) if generation else None
                )
                expected = member(source, "objectPreconditions").get("ifGenerationMatch")
                Conditions(generation=None if expected is None else int(str(expected))).check(part)
                parts.append(part)
            stored = self._storage.write(
                bucket,
                name,
                b"".join(part.data for part in parts),
                member(asked, "destination"),
                Conditions.of(request.query),
                request.caller,
                components=sum(max(1, part.components) for part in parts),
            )
        return Response.of(object_document(stored))

    def _source(self, request: Request, bucket: str, name: str) -> StoredObject:
        stored = self._storage.get(bucket, name, request.query.get("sourceGeneration"))
        Conditions.of(request.query, "ifSource").check(stored)
        return stored

    def _copy(
        self, request: Request, source: tuple[str, str], target: tuple[str, str], verb: str
    ) -> Response:
        self.need(request, "storage.objects.get", *source)
        self.need(request, "storage.objects.create", *target)
        with self._storage.lock:
            original = self._source(request, *source)
            stored = self._duplicate(request, original, *target)
        document = object_document(stored)
        if verb == "rewriteTo":
            size = str(len(stored.data))
            kind = "storage#rewriteResponse"
            document = {
                "kind": kind,
                "totalBytesRewritten": size,
                "objectSize": size,
                "done": True,
                "resource": document,
            }
        return Response.of(document)

    def _move(self, request: Request, bucket: str, name: str, to: str) -> Response:
        self.need(request, "storage.objects.move", bucket, name)
        with self._storage.lock:
            original = self._source(request, bucket, name)
            stored = self._duplicate(request, original, bucket, to)
            self._storage.delete(bucket, name, None, Conditions())
        return Response.of(object_document(stored))

    def _duplicate(
        self, request: Request, found: StoredObject, bucket: str, to: str
    ) -> StoredObject:
        resource = {**found.fields, "metadata": dict(found.metadata), **request.json()}
        return self._storage.write(
            bucket,
            to,
            found.data,
            resource,
            Conditions.of(request.query),
            request.caller,
            components=found.components,
        )


def batch_answer(answers: list[tuple[str, Response]]) -> Response:
    """The answers of a batch, each as an HTTP message of its own."""
    mark = f"batch_{uuid.uuid4().hex}"
    pieces = []
    for key, answer in answers:
        body = answer.body or (json.dumps({}).encode() if answer.status == 200 else b"")
        content = answer.headers.get("Content-Type", "application/json; charset=UTF-8")
        pieces.append(
            f"--{mark}\r\nContent-Type: application/http\r\nContent-ID: <response-{key}>\r\n\r\n"
            f"HTTP/1.1 {answer.status} -\r\nContent-Type: {content}\r\n"
            f"Content-Length: {len(body)}\r\n\r\n".encode()
            + body
            + b"\r\n"
        )
    headers = {"Content-Type": f"multipart/mixed; boundary={mark}"}
    return Response(200, b"".join(pieces) + f"--{mark}--\r\n".encode(), headers)
