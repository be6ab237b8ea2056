"""The record of a proof: what was seen, without anything that names an account.

Emulators load its ``physics``. People attach it to a report of an assumption that does not hold.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from drillyard.documents.json_types import JsonObject
from drillyard.errors import UserError
from drillyard.system.files import PRIVATE, write_file
from drillyard.system.redaction import redact
from drillyard.system.version import VERSION
from drillyard_backends.prove.probes import Observation

_FORMS = (
    (re.compile(r"[\w.+-]+@[\w-]+(?:\.[\w-]+)+"), "EMAIL"),
    (re.compile(r"\b[0-9a-fA-F]{8}-(?:[0-9a-fA-F]{4}-){3}[0-9a-fA-F]{12}\b"), "GUID"),
    (re.compile(r"https?://[^\s'\"<>]+"), "URL"),
    (re.compile(r"/subscriptions/[^\s'\"]+"), "RESOURCE"),
    (re.compile(r"\bprojects/[^\s'\"/]+"), "projects/PROJECT"),
    (re.compile(r"\bdy-[0-9a-f]{10}c?"), "LEASE"),
    (re.compile(r"\b\d{9,}\b"), "NUMBER"),
)
_SHORTEST = 3
"""A shorter private value would mask ordinary words."""


class Seen(BaseModel):
    """One observation."""

    model_config = ConfigDict(frozen=True)

    id: str
    verdict: str
    evidence: str


class ProofRecord(BaseModel):
    """A proof, as it is kept.

    Attributes:
        schema_version: Version of this form.
        kind: The backend.
        version: Version of drillyard.
        date: Day of the proof, UTC.
        seen: What was seen, by the ids of ``ASSUMPTIONS.md``.
        physics: Settings with which an emulator behaves as the service did.
        software: What a machine has that got ready for an experiment; records of proofs without
            one, and of earlier versions, have none.
    """

    model_config = ConfigDict(frozen=True)

    schema_version: int = 1
    kind: str
    version: str = VERSION
    date: str
    seen: tuple[Seen, ...]
    physics: JsonObject
    software: dict[str, str] = {}


def record_of(
    kind: str,
    date: str,
    observations: Iterable[Observation],
    private: Mapping[str, str],
    software: Mapping[str, str] | None = None,
) -> ProofRecord:
    """Returns the record of observations.

    Args:
        kind: The backend.
        date: Day, UTC.
        observations: What was seen.
        private: Value that must not be in it -> what stands for it.
        software: What a machine has.
    """
    seen: list[Seen] = []
    physics: JsonObject = {}
    for observation in observations:
        text = without(observation.evidence, private)
        seen.append(Seen(id=observation.claim.id, verdict=str(observation.verdict), evidence=text))
        physics.update(observation.physics)
    return ProofRecord(
        kind=kind, date=date, seen=tuple(seen), physics=physics, software=dict(software or {})
    )


def without(text: str, private: Mapping[str, str]) -> str:
    """Returns a text without secrets, names of accounts, addresses and numbers of accounts.

    Args:
        text: Any text.
        private: Value -> what stands for it. Letters of either case are the same.
    """
    for value in sorted(private, key=len, reverse=True):
        if len(value) >= _SHORTEST:
            text = re.sub(re.escape(value), private[value], text, flags=re.IGNORECASE)
    text = redact(text)
    for form, word in _FORMS:
        text = form.sub(word, text)
    return text


def write(record: ProofRecord, path: Path) -> None:
    """Writes a record, for its owner alone.

    Raises:
        UserError: The place cannot be written to.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        write_file(path, record.model_dump_json(indent=1) + "\n", PRIVATE)
    except OSError as error:
        raise UserError(
            f"the record cannot be written to {path}: {error}", hint="--record FILE names another"
        ) from error


def read(path: Path) -> ProofRecord:
    """Reads a record.

    Raises:
        UserError: It is not there, or not such a record.
    """
    try:
        return ProofRecord.model_validate(json.loads(path.read_text("utf-8")))
    except (OSError, ValueError, ValidationError) as error:
        first = str(error).strip().splitlines()[0]
        raise UserError(
            f"{path} is not a record of `drillyard prove`: {first}",
            hint="drillyard prove gcp --record FILE writes one",
        ) from error
