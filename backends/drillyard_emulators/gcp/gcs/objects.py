"""What the storage service keeps: buckets, and generations of objects."""

from __future__ import annotations

import base64
import bisect
import hashlib
import re
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from drillyard_emulators.http.clock import EmulatedClock
from drillyard_emulators.http.fields import Document, Fields, member, number, text, text_fields
from drillyard_emulators.http.wire import Refusal

_BUCKET_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{1,220}[a-z0-9]")
WRITABLE = (
    "contentType",
    "contentEncoding",
    "contentDisposition",
    "contentLanguage",
    "cacheControl",
    "customTime",
    "storageClass",
)


def crc32c(data: bytes) -> str:
    """CRC32C as Google writes it: big-endian, base64."""
    import google_crc32c

    return base64.b64encode(google_crc32c.value(data).to_bytes(4, "big")).decode()


def md5(data: bytes) -> str:
    """MD5 as Google writes it: base64."""
    return base64.b64encode(hashlib.md5(data, usedforsecurity=False).digest()).decode()


@dataclass(slots=True)
class StoredObject:
    """One generation of an object.

    Attributes:
        components: Number of composed parts; 0 for an object that was written whole. A composed
            one has no MD5.
    """

    bucket: str
    name: str
    data: bytes
    generation: int
    created: float
    updated: float
    metageneration: int = 1
    fields: Document = field(default_factory=dict)
    metadata: dict[str, str] = field(default_factory=dict)
    components: int = 0
    deleted: float | None = None
    crc32c: str = ""
    md5: str | None = None


@dataclass(slots=True)
class Conditions:
    """Preconditions of a request; None where it makes none.

    Generation 0 means: there is no live object.
    """

    generation: int | None = None
    not_generation: int | None = None
    metageneration: int | None = None
    not_metageneration: int | None = None

    @classmethod
    def of(cls, query: Mapping[str, str], prefix: str = "if") -> Conditions:
        """From ``ifGenerationMatch`` and its kin (``prefix`` ``ifSource`` for copies)."""

        def number(name: str) -> int | None:
            text = query.get(prefix + name)
            try:
                return None if text is None else int(text)
            except ValueError as error:
                raise Refusal(400, "invalid", f"Invalid value for {prefix}{name}") from error

        return cls(
            number("GenerationMatch"),
            number("GenerationNotMatch"),
            number("MetagenerationMatch"),
            number("MetagenerationNotMatch"),
        )

    def check(self, found: StoredObject | None, reading: bool = False) -> None:
        """Compare with what is there.

        Raises:
            Refusal: 412, or 304 where a read finds what the client has already.
        """
        generation = found.generation if found else 0
        metageneration = found.metageneration if found else 0
        if (self.generation is not None and self.generation != generation) or (
            self.metageneration is not None and self.metageneration != metageneration
        ):
            raise precondition_failed()
        if self.not_generation == generation or (
            self.not_metageneration is not None and self.not_metageneration == metageneration
        ):
            raise Refusal(304, "notModified", "") if reading else precondition_failed()


def _limited(metadata: Mapping[str, str]) -> None:
    """Refuses metadata over the limits of ``ServiceConstants`` in ``google.storage.v2``."""
    sizes = [(len(name.encode()), len(value.encode())) for name, value in metadata.items()]
    if any(name > 1024 or value > 4096 for name, value in sizes) or sum(map(sum, sizes)) > 8192:
        raise Refusal(400, "invalid", "The metadata for the object is too large.")


def precondition_failed() -> Refusal:
    """412."""
    return Refusal(
        412,
        "conditionNotMet",
        "At least one of the pre-conditions you specified did not hold.",
    )


class Bucket:
    """Objects under names, sorted.

    Args:
        document: The bucket resource, as its creator wrote it.
    """

    def __init__(self, document: Document) -> None:
        self.document = document
        self.name = str(document["name"])
        self.live: dict[str, StoredObject] = {}
        self.archived: list[StoredObject] = []
        self.names: list[str] = []

    def set(self, stored: StoredObject) -> None:
        """Make a generation the live one."""
        if stored.name in self.live:
            self._archive(stored.name, stored.created)
        else:
            bisect.insort(self.names, stored.name)
        self.live[stored.name] = stored

    def remove(self, name: str, now: float) -> None:
        """Removes the live generation."""
        self._archive(name, now)
        del self.live[name]
        del self.names[bisect.bisect_left(self.names, name)]

    def _archive(self, name: str, now: float) -> None:
        if member(self.document, "versioning").get("enabled"):
            self.live[name].deleted = now
            self.archived.append(self.live[name])


class Storage:
    """All buckets; one lock makes each change atomic.

    Args:
        clock: Stamps ``timeCreated`` and ``updated``: the store's own clock.
    """

    def __init__(self, clock: EmulatedClock) -> None:
        self.clock = clock
        self.lock = threading.RLock()
        self.buckets: dict[str, Bucket] = {}
        self.policies: dict[str, Document] = {}
        """Name of a bucket to its IAM policy, as it was written."""
        self.foreign: dict[str, str] = {}
        """Buckets that belong to other projects, and their owners."""
        self.finalised: list[Callable[[str | None, StoredObject], None]] = []
        """Called with each new object and the caller that wrote it."""
        self.writes_per_s = 0.0
        """How often one object may be written or deleted; 0: as often as one likes."""
        self._generation = int(clock.now() * 1e6)

    def next_generation(self) -> int:
        """Grows, and looks like the microseconds of Google's."""
        with self.lock:
            self._generation = max(self._generation + 1, int(self.clock.now() * 1e6))
            return self._generation

    def bucket(self, name: str) -> Bucket:
        """A bucket.

        Raises:
            Refusal: 404, or 403 if it belongs to another project.
        """
        if name in self.foreign:
            raise Refusal(403, "forbidden", f"{self.foreign[name]} owns the bucket {name}.")
        there = self.buckets.get(name)
        if there is None:
            raise Refusal(404, "notFound", "The specified bucket does not exist.")
        return there

    def create(self, document: Document) -> Bucket:
        """A new bucket.

        Raises:
            Refusal: 400 for a bad name, 409 for a taken one.
        """
        name = text(document, "name")
        if not _BUCKET_NAME.fullmatch(name) or "google" in name or name.startswith("goog"):
            raise Refusal(400, "invalid", f"Invalid bucket name: '{name}'")
        if name in self.foreign:
            message = (
                "The requested bucket name is not available. The bucket namespace is shared by"
            )
            raise Refusal(409, "conflict", f"{message} all users of the system.")
        if name in self.buckets:
            message = "Your previous request to create the named bucket succeeded"
            raise Refusal(409, "conflict", f"{message} and you already own it.")
        self.buckets[name] = Bucket(document)
        return self.buckets[name]

    def find(self, bucket: str, name: str, generation: str | None = None) -> StoredObject | None:
        """An object: its live generation, or one that was named."""
        place = self.bucket(bucket)
        live = place.live.get(name)
        if generation is None or (live and live.generation == int(generation)):
            return live
        for stored in place.archived:
            if stored.name == name and stored.generation == int(generation):
                return stored
        return None

    def get(self, bucket: str, name: str, generation: str | None = None) -> StoredObject:
        """An object.

        Raises:
            Refusal: 404.
        """
        stored = self.find(bucket, name, generation)
        if stored is None:
            raise Refusal(404, "notFound", f"No such object: {bucket}/{name}")
        return stored

    def write(
        self,
        bucket: str,
        name: str,
        data: bytes,
        resource: Fields,
        conditions: Conditions,
        caller: str | None = None,
        components: int = 0,
    ) -> StoredObject:
        """A new generation.

        Raises:
            Refusal: 412, 400 where a hash that came along is not that of the bytes, 403 where a
                retention policy holds the old one.
        """
        if not name or len(name.encode()) > 1024 or "\r" in name or "\n" in name:
            raise Refusal(400, "invalid", f"Invalid object name: {name[:80]!r}")
        sums = {"crc32c": crc32c(data), "md5Hash": md5(data)}
        for key, value in sums.items():
            if resource.get(key) not in (None, value):
                text = f"Provided {key} {resource[key]!r} doesn't match calculated {value!r}."
                raise Refusal(400, "invalid", text)
        with self.lock:
            place = self.bucket(bucket)
            old = place.live.get(name)
            conditions.check(old)
            if old is not None:
                self._paced(old)
                self._retained(place, old)
            now = self.clock.now()
            stored = StoredObject(bucket, name, data, self.next_generation(), now, now)
            stored.fields = {key: resource[key] for key in WRITABLE if resource.get(key)}
            stored.metadata = text_fields(resource, "metadata")
            _limited(stored.metadata)
            stored.components = components
            stored.crc32c, stored.md5 = sums["crc32c"], None if components else sums["md5Hash"]
            place.set(stored)
        for listener in self.finalised:
            listener(caller, stored)
        return stored

    def delete(
        self, bucket: str, name: str, generation: str | None, conditions: Conditions
    ) -> None:
        """Remove an object; a named archived generation is deleted for good.

        Raises:
            Refusal: 404, 412, or 403 by the retention policy.
        """
        with self.lock:
            place = self.bucket(bucket)
            stored = self.get(bucket, name, generation)
            conditions.check(stored)
            self._paced(stored)
            self._retained(place, stored)
            if place.live.get(name) is stored:
                place.remove(name, self.clock.now())
            else:
                place.archived.remove(stored)

    def patch(self, found: StoredObject, resource: Fields, replace: bool = False) -> None:
        """Change the metadata of an object; None removes a key."""
        with self.lock:
            for key in WRITABLE:
                if key in resource:
                    found.fields[key] = resource[key]
            if replace:
                found.metadata = {}
            for key, value in member(resource, "metadata").items():
                if value is None:
                    found.metadata.pop(key, None)
                else:
                    found.metadata[key] = str(value)
            if "metadata" in resource and resource["metadata"] is None:
                found.metadata = {}
            found.fields = {key: value for key, value in found.fields.items() if value}
            found.metageneration += 1
            found.updated = self.clock.now()

    def _paced(self, old: StoredObject) -> None:
        """Refuses a change that comes too soon after the last one of the same object."""
        if self.writes_per_s and self.clock.now() - old.created < 1.0 / self.writes_per_s:
            text = (
                f"The object {old.bucket}/{old.name} exceeded the rate limit for object mutation "
                "operations (create, update, and delete). Please reduce your request rate."
            )
            raise Refusal(429, "rateLimitExceeded", text)

    def _retained(self, place: Bucket, found: StoredObject) -> None:
        policy = member(place.document, "retentionPolicy")
        if policy and self.clock.now() < found.created + number(policy, "retentionPeriod"):
            message = f"Object '{place.name}/{found.name}' is subject to bucket's retention policy"
            raise Refusal(403, "retentionPolicyNotMet", f"{message} and cannot be deleted.")
