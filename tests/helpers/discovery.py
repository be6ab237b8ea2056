"""Holds recorded traffic against Google's own discovery documents.

They come with the package ``google-api-python-client`` (a development tool: 110 MB), and say for
each method its path, query parameters and the schemas of request and answer. Nothing else tells a
home-made cloud so surely where it, or a client of it, has invented something.
"""

from __future__ import annotations

import functools
import importlib.util
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

from drillyard.documents.json_types import JsonView
from drillyard_emulators.http.states import ExchangeState

_TYPES: dict[str, type | tuple[type, ...]] = {
    "string": str,
    "integer": int,
    "number": (int, float),
    "boolean": bool,
    "array": list,
    "object": dict,
}

Schema = dict[str, Any]
"""A JSON schema, as far as discovery documents use it."""


@dataclass(frozen=True, slots=True)
class Method:
    """One method of a service."""

    method_id: str
    verb: str
    pattern: re.Pattern[str]
    query: frozenset[str]
    required: frozenset[str]
    """Required query parameters."""
    request: str | None
    response: str | None

    def parameters(self, path: str) -> dict[str, str]:
        """The parameters in a path, by the names of its template."""
        match = self.pattern.fullmatch(path)
        given = match.groupdict() if match else {}
        return {name: unquote(value) for name, value in given.items()}


class Discovery:
    """One service.

    Args:
        name: As the documents are called: ``compute.v1``.

    Raises:
        LookupError: The package with the documents is not installed, or has no such document.
    """

    def __init__(self, name: str) -> None:
        spec = importlib.util.find_spec("googleapiclient")
        if spec is None or spec.origin is None:
            raise LookupError("google-api-python-client is not installed")
        folder = Path(spec.origin).parent / "discovery_cache" / "documents"
        path = folder / f"{name}.json"
        if not path.is_file():
            raise LookupError(f"there is no discovery document {name!r}")
        document: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        self._schemas: dict[str, Schema] = document["schemas"]
        self._common = frozenset(document.get("parameters", {}))
        root = urlsplit(document["rootUrl"])
        self.host = str(root.hostname)
        # `{+name}` would take `x:setIamPolicy` for a name: the method with the verb comes first.
        methods = _methods(document, document["servicePath"])
        self._methods = sorted(methods, key=lambda m: not re.search(r":\w+\Z", m.pattern.pattern))

    def find(self, verb: str, path: str) -> Method | None:
        """The method of a request, or None."""
        for method in self._methods:
            if method.verb == verb and method.pattern.fullmatch(path):
                return method
        return None

    def problems(self, exchange: ExchangeState) -> list[str]:
        """What is wrong with one exchange of ``GcpEmulator.log`` (with ``bodies``)."""
        line = f"{exchange['method']} {exchange['path']}"
        method = self.find(exchange["method"], exchange["path"])
        if method is None:
            return [f"{line}: no such method"]
        names = [name for name, _ in parse_qsl(exchange["query"], keep_blank_values=True)]
        wrong = [
            f"{line}: no query parameter {unquote(name)!r}"
            for name in names
            if name not in method.query and name not in self._common and not name.startswith("$")
        ]
        wrong += [f"{line}: lacks {name!r}" for name in sorted(method.required - set(names))]
        if exchange["asked"] and method.request is None:
            wrong.append(f"{line}: a body where none is expected")
        if exchange["asked"] is not None and method.request is not None:
            wrong += [
                f"{line}: request{problem}"
                for problem in self.check(exchange["asked"], {"$ref": method.request})
            ]
        if exchange["answered"] is not None and exchange["status"] < 300 and method.response:
            wrong += [
                f"{line}: answer{problem}"
                for problem in self.check(exchange["answered"], {"$ref": method.response})
            ]
        return wrong

    def check(self, value: JsonView, schema: Schema, where: str = "") -> Iterator[str]:
        """What is wrong with a value, as ``.place: text``."""
        if "$ref" in schema:
            schema = self._schemas[schema["$ref"]]
        kind = schema.get("type", "any")
        if kind == "any":
            return
        expected = _TYPES[kind]
        if not isinstance(value, expected) or (isinstance(value, bool) and kind != "boolean"):
            yield f"{where}: {value!r} is not a valid {kind}"
            return
        if isinstance(value, str):
            yield from _text(value, schema, where)
        elif isinstance(value, list):
            for number, one in enumerate(value):
                yield from self.check(one, schema["items"], f"{where}[{number}]")
        elif isinstance(value, dict):
            known, others = schema.get("properties", {}), schema.get("additionalProperties")
            for name, one in value.items():
                if name in known:
                    yield from self.check(one, known[name], f"{where}.{name}")
                elif others is not None:
                    yield from self.check(one, others, f"{where}.{name}")
                else:
                    yield f"{where}.{name}: no such field"


@functools.cache
def discovery(name: str) -> Discovery:
    """A service, read once."""
    return Discovery(name)


SERVICES = {"compute.googleapis.com": "compute.v1", "storage.googleapis.com": "storage.v1"}
_KNOWN = (
    # What google-cloud-storage itself sends in compose.
    r"request\.sourceObjects\[\d+\]\.generation: .* is not a valid string",
)


def traffic_problems(exchanges: Iterable[ExchangeState]) -> list[str]:
    """What is wrong with recorded traffic of Compute Engine and Cloud Storage.

    Not in the documents, and left out: the XML API, batches, and the addresses of upload sessions.

    Args:
        exchanges: Result of ``GcpEmulator.log`` (with ``bodies``).
    """
    wrong: list[str] = []
    for exchange in exchanges:
        name = SERVICES.get(exchange["host"])
        xml = name == "storage.v1" and "/storage/v1/b" not in exchange["path"]
        if name is None or "upload_id" in exchange["query"]:
            continue
        if xml and not exchange["path"].startswith("/storage/v1/projects/"):
            continue
        wrong += discovery(name).problems(exchange)
    return [text for text in wrong if not any(re.search(known, text) for known in _KNOWN)]


def _text(value: str, schema: Schema, where: str) -> Iterator[str]:
    if "enum" in schema and value not in schema["enum"]:
        yield f"{where}: {value!r} is none of {', '.join(schema['enum'])}"
    if schema.get("format") in ("int64", "uint64") and not re.fullmatch(r"-?\d+", value):
        yield f"{where}: {value!r} is not a number in a string"
    if schema.get("format") == "date-time" and "T" not in value:
        yield f"{where}: {value!r} is not a time"


def _methods(document: dict[str, Any], base: str) -> Iterator[Method]:
    for method in document.get("methods", {}).values():
        parameters = method.get("parameters", {})
        names = frozenset(n for n, one in parameters.items() if one["location"] == "query")
        required = frozenset(n for n in names if parameters[n].get("required"))
        paths = [base + method["path"]]
        upload = method.get("mediaUpload", {}).get("protocols", {})
        extra = frozenset({"uploadType", "upload_id", "name"} if upload else ())
        paths += [protocol["path"].lstrip("/") for protocol in upload.values()]
        if method.get("supportsMediaDownload"):
            paths.append(f"download/{base}{method['path']}")
        for path in dict.fromkeys(paths):
            yield Method(
                method["id"],
                method["httpMethod"],
                re.compile("/" + _pattern(path, parameters)),
                names | extra,
                required,
                method.get("request", {}).get("$ref"),
                method.get("response", {}).get("$ref"),
            )
    for resource in document.get("resources", {}).values():
        yield from _methods(resource, base)


def _pattern(template: str, parameters: Mapping[str, Any]) -> str:
    """A path template as a regular expression; ``{+name}`` may contain slashes."""

    def piece(text: str) -> str:
        if not text.startswith("{"):
            return re.escape(text)
        name = text.strip("{+}")
        wanted = str(parameters.get(name, {}).get("pattern", "")).strip("^$")
        return f"(?P<{name}>{(wanted or '.+') if text.startswith('{+') else '[^/]+'})"

    return "".join(piece(text) for text in re.split(r"(\{\+?\w+\})", template))
