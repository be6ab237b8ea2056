"""Roles that an identity has, with IAM conditions and on managed folders.

Conditions are written in CEL, of which this knows the part that role bindings on names use. A
condition sees the name and type of a resource only where Google's list of resource attributes has
that type (cloud.google.com/iam/docs/conditions-resource-attributes). Managed instance groups are
not in that list.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from drillyard.documents.json_types import JsonView
from drillyard_emulators.http.fields import Fields, as_object, text, texts

_TYPES = (
    (re.compile(r"projects/[^/]+/zones/[^/]+/instances/[^/]+"), "compute.googleapis.com/Instance"),
    (re.compile(r"projects/[^/]+/zones/[^/]+/disks/[^/]+"), "compute.googleapis.com/Disk"),
    (
        re.compile(r"projects/[^/]+/global/instanceTemplates/[^/]+"),
        "compute.googleapis.com/InstanceTemplate",
    ),
    (re.compile(r"projects/_/buckets/[^/]+/objects/.+", re.S), "storage.googleapis.com/Object"),
    (re.compile(r"projects/_/buckets/[^/]+\Z"), "storage.googleapis.com/Bucket"),
)
_TERM = re.compile(
    r"""resource\.(?P<attribute>type|name)
    (?:\.extract\("(?P<head>[^"{]*)\{\w+\}(?P<tail>[^"}]*)"\))?
    (?:\s*(?P<operator>==|!=)\s*"(?P<value>[^"]*)"|\.startsWith\("(?P<start>[^"]*)"\))\Z""",
    re.X,
)


def bucket_name(bucket: str) -> str:
    """The name by which IAM knows a bucket."""
    return f"projects/_/buckets/{bucket}"


def object_name(bucket: str, name: str) -> str:
    """The name by which IAM knows an object."""
    return f"{bucket_name(bucket)}/objects/{name}"


def folder_name(bucket: str, prefix: str) -> str:
    """The name of the folder that a listing with this prefix reads."""
    return f"{bucket_name(bucket)}/managedFolders/{prefix[: prefix.rfind('/') + 1]}"


@dataclass(frozen=True)
class Grant:
    """One role binding.

    Attributes:
        permissions: Permissions of the role.
        condition: Its condition in CEL; empty for none.
        folder: ``BUCKET/FOLDER/`` for a binding on a managed folder; empty for the project.
    """

    permissions: frozenset[str]
    condition: str = ""
    folder: str = ""

    @classmethod
    def read(cls, value: Fields) -> Grant:
        """From a document with the attributes' names.

        Raises:
            ValueError: The condition has a form that is not emulated.
        """
        grant = cls(
            frozenset(texts(value, "permissions")), text(value, "condition"), text(value, "folder")
        )
        for term in re.split(r"\|\||&&", grant.condition) if grant.condition else ():
            if _TERM.match(term.strip()) is None:
                raise ValueError(f"this condition is not emulated: {term.strip()}")
        return grant

    def allows(self, permission: str, resource: str) -> bool:
        """Returns whether it gives a permission on a resource, by the resource's full name."""
        if permission not in self.permissions:
            return False
        if self.folder:
            bucket, _, folder = self.folder.partition("/")
            below = (object_name(bucket, folder), f"{bucket_name(bucket)}/managedFolders/{folder}")
            return resource.startswith(below)
        return not self.condition or any(
            all(_holds(term.strip(), resource) for term in part.split("&&"))
            for part in self.condition.split("||")
        )


def read_grants(values: JsonView) -> Iterator[Grant]:
    """The grants of one identity: a list of permissions, or of documents with conditions."""
    if not isinstance(values, list):
        raise TypeError("a list is expected")
    plain = frozenset(str(value) for value in values if isinstance(value, str))
    if plain:
        yield Grant(plain)
    for value in values:
        if not isinstance(value, str):
            yield Grant.read(as_object(value, "grant"))


def _holds(term: str, resource: str) -> bool:
    match = _TERM.match(term)
    if match is None:
        return False
    name, kind = "", ""
    for pattern, type_ in _TYPES:
        if (known := pattern.match(resource)) is not None:
            name, kind = known[0], type_
            break
    value = kind if match["attribute"] == "type" else name
    if match["head"] is not None:
        _, head, rest = value.partition(match["head"])
        value = (rest.partition(match["tail"])[0] if match["tail"] else rest) if head else ""
    if match["start"] is not None:
        return value.startswith(match["start"])
    return (value == match["value"]) is (match["operator"] == "==")
