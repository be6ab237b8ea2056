"""The names that references can use, and their resolution."""

from __future__ import annotations

import os
import re
from collections.abc import Collection
from dataclasses import dataclass, field

from drillyard.documents.document import KeyPath
from drillyard.documents.json_types import Json
from drillyard.documents.scalars import dotted
from drillyard.documents.yaml_safe import typed
from drillyard.errors import ConfigError, nearest
from drillyard.spec.precedence import Merged, Place
from drillyard.spec.references import (
    REFERENCE,
    as_text,
    as_word,
    escape,
    keeps_references,
    names_of,
)
from drillyard.system.redaction import is_secret_key, looks_secret, register_secret

EARLY = (
    "schema",
    "name",
    "workload",
    "seeds",
    "backend",
    "backends",
    "resources",
    "budget",
    "tracking",
    "requirements",
    "on_driver_loss",
    "study",
    "notify",
)
"""Fields that are read before any run starts, and are the same for all of them."""


@dataclass(frozen=True)
class Late:
    """A value that each run gives anew: the seed, the trial, a tunable, and what names them.

    Args:
        value: What it is until then: of the first run, with the tunables as they are now.
        text: What the run fills in: ``out/${seed}``.
    """

    value: Json
    text: str


@dataclass
class Names:
    """The names that references can use.

    Args:
        values: Name -> (value or ``Late``, where it came from).
    """

    values: dict[str, tuple[Json | Late, Place]] = field(default_factory=dict)
    problems: list[ConfigError] = field(default_factory=list)
    used: set[str] = field(default_factory=set)
    inactive: dict[str, str] = field(default_factory=dict)
    """Tunables that no trial sets -> their group, so that a message can say it."""
    late: dict[KeyPath, str] = field(default_factory=dict)
    """Path of every value that each run gives anew -> its text."""

    def expand(self, merged: Merged, skip: tuple[str, ...] = ()) -> None:
        """Replace every reference of a tree, in place; the places tell through what.

        Args:
            merged: The tree and its places.
            skip: Top-level keys that are left alone.
        """
        for key in list(merged.tree):
            if key not in skip:
                merged.tree[key] = self.walk(merged.tree[key], (key,), merged)

    def walk(self, value: Json, path: KeyPath, merged: Merged, seen: tuple[str, ...] = ()) -> Json:
        """A value with every reference in it replaced, however deep.

        Args:
            value: Text, list, mapping or anything else.
            path: Path of the value.
            merged: Holds its place, and gets the places of what is found.
            seen: Names being resolved, so that a circle is found.
        """
        if isinstance(value, dict):
            return {k: self.walk(v, (*path, k), merged, seen) for k, v in value.items()}
        if isinstance(value, list):
            return [self.walk(v, (*path, i), merged, seen) for i, v in enumerate(value)]
        if isinstance(value, Late):
            self.note_late(path, value.text, merged.place(path) or Place(""))
            return value.value
        if not isinstance(value, str) or "$" not in value:
            return value
        place = merged.place(path) or Place("")
        if held := self._held(value, seen):
            raw, origin, through = held
            merged.places[path] = Place(origin.file, origin.line, None, value)
            return self.walk(raw, path, merged, (*seen, *through))
        result, origin_ = self.resolve(value, path, place, seen)
        result = as_word(path, result)
        if origin_ is not None:
            merged.places[path] = origin_
        if (text := self.residue(value, path, place, seen)) is not None:
            self.note_late(path, text, place)
        return result

    def _held(
        self, text: str, seen: tuple[str, ...]
    ) -> tuple[Json, Place, tuple[str, ...]] | None:
        """The list or mapping that a text stands for, when it is one reference to one."""
        through: tuple[str, ...] = ()
        while found := REFERENCE.fullmatch(text):
            name = found["braced"] or found["bare"]
            if not name or name in seen or name in through or name not in self.values:
                return None
            value, origin = self.values[name]
            through = (*through, name)
            if isinstance(value, dict | list):
                self.used.update(through)
                return value, origin, through
            if not isinstance(value, str):
                return None
            text = value
        return None

    def note_late(self, path: KeyPath, text: str, place: Place) -> None:
        """Keep that each run fills a value in; refused where it is needed before.

        Args:
            path: Where the value stands.
            text: From ``residue``.
            place: File and line, for the message.
        """
        if path[0] in EARLY:
            names = " and ".join(f"${n}" for n in names_of(text))
            self._problem(
                f"{names}: known only when a run starts, and this is the same for all runs",
                path,
                place,
                text,
                hint="remove it here; you can use it in "
                "simulator, learner, train, evaluate, store and in parameters",
            )
        else:
            self.late[path] = text

    def residue(
        self, text: str, path: KeyPath, place: Place, seen: tuple[str, ...] = ()
    ) -> str | None:
        """A text with everything resolved but what each run gives; None when that is nothing.

        Args:
            text: A text with references that ``resolve`` took.
            path: Path of the value: secrets keep their references.
            place: File and line of it.
            seen: Names being resolved.
        """
        secret = keeps_references(path)
        found_late = False

        def left(found: re.Match[str]) -> str:
            nonlocal found_late
            name = found["braced"] or found["bare"]
            if found["env"]:
                return found[0] if secret else escape(os.environ.get(found["env"], ""))
            if name is None or name not in self.values or name in seen:
                return found[0]
            value = self.values[name][0]
            if isinstance(value, Late):
                found_late = True
                return value.text
            if isinstance(value, str) and "$" in value:
                inner = self.residue(value, path, place, (*seen, name))
                if inner is not None:
                    found_late = True
                    return inner
                value = self.resolve(value, path, place, (*seen, name))[0]
            return escape(as_text(value))

        result = REFERENCE.sub(left, text)
        return result if found_late else None

    def resolve(
        self, text: str, path: KeyPath, place: Place, seen: tuple[str, ...]
    ) -> tuple[Json, Place | None]:
        """The value of a text with references.

        Args:
            text: The text.
            path: Path of the value, for messages.
            place: File and line of it.
            seen: Names being resolved, so that a circle is found.

        Returns:
            (value, where it came from, or None when it held no reference). A text that is one
            reference and nothing else takes the value with its type.
        """
        secret = keeps_references(path)
        whole = REFERENCE.fullmatch(text)
        origins: list[Place] = []

        def value_of(found: re.Match[str], typed_env: bool) -> Json:
            if found["dollar"]:
                return "$"
            if found["broken"]:
                return self._problem(
                    f"{found[0]} is not a reference",
                    path,
                    place,
                    text,
                    allowed="$name, ${name}, ${env:NAME}, and $$ for a dollar sign",
                    hint="write $$ for a dollar sign",
                )
            if found["env"]:
                origins.append(Place(place.file, place.line, None, found[0]))
                return self._environment(found["env"], path, place, secret, typed_env, found[0])
            name = found["braced"] or found["bare"]
            if is_secret_key(name) and not secret:
                # Its value would be recorded under a key that is not masked.
                return self._problem(
                    f"{found[0]} is a secret, and this value would be written into records",
                    path,
                    place,
                    text,
                    allowed="secrets only under keys such as `password`, `token`, `api_key`",
                    hint="use such a key, and the reference is kept instead of the value",
                )
            value, origin = self._name(name, path, place, seen, text)
            if isinstance(value, dict | list) and not whole:
                kind = "list" if isinstance(value, list) else "mapping"
                return self._problem(
                    f"${name} is a {kind} and cannot be part of a text",
                    path,
                    place,
                    text,
                    hint=f"write only {found[0]}",
                )
            if origin is not None:
                origins.append(
                    Place(origin.file, origin.line, origin.raw, origin.through or found[0])
                )
            return value

        if whole:
            value = value_of(whole, True)
        else:
            value = REFERENCE.sub(lambda m: as_text(value_of(m, False)), text)
        return value, (origins[0] if origins else None)

    def _environment(
        self, name: str, path: KeyPath, place: Place, secret: bool, typed_env: bool, text: str
    ) -> Json:
        value = os.environ.get(name)
        if value is None:
            return self._problem(
                f"the environment has no variable {name}",
                path,
                place,
                text,
                allowed="the name of a variable that is set",
                hint=f"set it: export {name}=…",
            )
        if secret:
            register_secret(value)
            return text
        if looks_secret(value):
            register_secret(value)
            return self._problem(
                f"the variable {name} holds a secret, and this value would be written into "
                "records",
                path,
                place,
                text,
                allowed="secrets only under keys such as `password`, `token`, `api_key`",
                hint="use such a key, and the reference is kept instead of the value",
            )
        return typed(value) if typed_env else value

    def _name(
        self, name: str, path: KeyPath, place: Place, seen: tuple[str, ...], text: str
    ) -> tuple[Json, Place | None]:
        if name in seen:
            circle = " -> ".join(f"${n}" for n in (*seen[seen.index(name) :], name))
            return self._problem(
                f"goes in a circle: {circle}",
                path,
                place,
                text,
                hint="give one of them a value",
            ), None
        if name not in self.values:
            if name in self.inactive:
                return self._problem(
                    f"${name} is a tunable of the group {self.inactive[name]!r}, which is not "
                    "active",
                    path,
                    place,
                    text,
                    hint="name it in parameters.tunable_params",
                ), None
            return self._problem(
                f"${name} is not declared",
                path,
                place,
                text,
                allowed=", ".join(f"${n}" for n in _sorted(self.values)) or "no names",
                hint=nearest(name, _sorted(self.values))
                + "; declare it under parameters.const_args, or write $$ for a dollar sign",
            ), None
        self.used.add(name)
        value, origin = self.values[name]
        if isinstance(value, Late):
            return value.value, origin
        if isinstance(value, str) and "$" in value:
            value, deeper = self.resolve(value, path, place, (*seen, name))
            origin = deeper or origin
        return value, origin

    def _problem(
        self,
        message: str,
        path: KeyPath,
        place: Place,
        text: str,
        *,
        hint: str,
        allowed: str | None = None,
    ) -> str:
        self.problems.append(
            ConfigError(
                message,
                at=place,
                field=dotted(path),
                value=text,
                allowed=allowed,
                hint=hint,
            )
        )
        return text


def _sorted(names: Collection[str]) -> list[str]:
    return sorted(names)[:40]
