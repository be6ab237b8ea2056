"""``$name``, ``${name}`` and ``${env:X}`` in values, and what they stand for.

A value under a key that names a secret keeps its reference: it is looked up by ``reveal`` where
it is used, so that a secret never reaches a record, a report or a tracking server.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from drillyard.documents.document import KeyPath
from drillyard.documents.scalars import dotted, typed
from drillyard.errors import ConfigError
from drillyard.registry import nearest
from drillyard.spec.precedence import Merged, Place
from drillyard.system.redaction import is_secret_key, looks_secret, register_secret

_REFERENCE = re.compile(
    r"\$(?:(?P<dollar>\$)|\{env:(?P<env>[A-Za-z_][A-Za-z0-9_]*)\}"
    r"|\{(?P<braced>[A-Za-z_]\w*)\}|(?P<bare>[A-Za-z_]\w*)|(?P<broken>\{[^}]*\}?))"
)
PER_RUN = ("run_id", "seed")
"""Known only when a run starts; passed on only where declared or referenced."""
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

    value: Any
    text: str


@dataclass
class Names:
    """What references may name.

    Args:
        values: Name -> (value or ``Late``, where it came from).
    """

    values: dict[str, tuple[Any, Place]] = field(default_factory=dict)
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

    def walk(self, value: Any, path: KeyPath, merged: Merged, seen: tuple[str, ...] = ()) -> Any:
        """A value with every reference in it replaced, however deep.

        Args:
            value: Text, list, mapping or anything else.
            path: Where it stands.
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
        if origin_ is not None:
            merged.places[path] = origin_
        if (text := self.residue(value, path, place, seen)) is not None:
            self.note_late(path, text, place)
        return result

    def _held(self, text: str, seen: tuple[str, ...]) -> tuple[Any, Place, tuple[str, ...]] | None:
        """The list or mapping that a text stands for, when it is one reference to one."""
        through: tuple[str, ...] = ()
        while found := _REFERENCE.fullmatch(text):
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
                hint="leave it out here; paths that hold it may stand in "
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
            path: Where it stands: secrets keep their references.
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
            return escape(_as_text(value))

        result = _REFERENCE.sub(left, text)
        return result if found_late else None

    def resolve(
        self, text: str, path: KeyPath, place: Place, seen: tuple[str, ...]
    ) -> tuple[Any, Place | None]:
        """The value of a text with references.

        Args:
            text: The text.
            path: Where it stands, for messages.
            place: File and line of it.
            seen: Names being resolved, so that a circle is found.

        Returns:
            (value, where it came from, or None when it held no reference). A text that is one
            reference and nothing else takes the value with its type.
        """
        secret = keeps_references(path)
        whole = _REFERENCE.fullmatch(text)
        origins: list[Place] = []

        def value_of(found: re.Match[str], typed_env: bool) -> Any:
            if found["dollar"]:
                return "$"
            if found["broken"]:
                return self._problem(
                    f"{found[0]} is no reference",
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
                # Its value would be recorded under a key that nobody masks.
                return self._problem(
                    f"{found[0]} is a secret, and this value would be written into records",
                    path,
                    place,
                    text,
                    allowed="secrets only under keys such as `password`, `token`, `api_key`",
                    hint="name the key so, and the reference is kept instead of the value",
                )
            value, origin = self._name(name, path, place, seen, text)
            if isinstance(value, dict | list) and not whole:
                kind = "list" if isinstance(value, list) else "mapping"
                return self._problem(
                    f"${name} is a {kind} and cannot stand inside a text",
                    path,
                    place,
                    text,
                    hint=f"write {found[0]} alone",
                )
            if origin is not None:
                origins.append(
                    Place(origin.file, origin.line, origin.raw, origin.through or found[0])
                )
            return value

        if whole:
            value = value_of(whole, True)
        else:
            value = _REFERENCE.sub(lambda m: _as_text(value_of(m, False)), text)
        return value, (origins[0] if origins else None)

    def _environment(
        self, name: str, path: KeyPath, place: Place, secret: bool, typed_env: bool, text: str
    ) -> Any:
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
                hint="name the key so, and the reference is kept instead of the value",
            )
        return typed(value) if typed_env else value

    def _name(
        self, name: str, path: KeyPath, place: Place, seen: tuple[str, ...], text: str
    ) -> tuple[Any, Place | None]:
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
                file=place.file,
                line=place.line,
                field=dotted(path),
                value=text,
                allowed=allowed,
                hint=hint,
            )
        )
        return text


def _sorted(names: dict[str, Any]) -> list[str]:
    return sorted(names)[:40]


def _as_text(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return "" if value is None else str(value)


def keeps_references(path: KeyPath) -> bool:
    """True for values that are looked up where they are used and are in no record."""
    return path == ("notify",) or any(isinstance(p, str) and is_secret_key(p) for p in path)


def escape(text: str) -> str:
    """A text as it must be written to stand for itself."""
    return text.replace("$", "$$")


def names_of(text: str) -> list[str]:
    """The names that a text refers to, in order."""
    found = (m["braced"] or m["bare"] for m in _REFERENCE.finditer(text))
    return [name for name in found if name]


def fill(text: str, values: Mapping[str, Any]) -> Any:
    """What a run makes of a text with references.

    Args:
        text: From ``Names.residue``.
        values: The run's parameters.

    Returns:
        The value with its type where the text is one reference, else a text.

    Raises:
        KeyError: A name that the run does not have.
    """

    def value_of(found: re.Match[str]) -> Any:
        name = found["braced"] or found["bare"]
        return values[name] if name else "$" if found["dollar"] else found[0]

    whole = _REFERENCE.fullmatch(text)
    return value_of(whole) if whole else _REFERENCE.sub(lambda m: _as_text(value_of(m)), text)


def reveal(value: Any, lookup: Callable[[str], str | None] = os.environ.get) -> Any:
    """A tree with the ``${env:X}`` references of its secrets looked up, for use at once.

    Args:
        value: Arguments as they stand in the resolved experiment.
        lookup: Name of a variable -> its value.

    Raises:
        ConfigError: A variable is not set where it is needed; names it, never its value.
    """
    if isinstance(value, dict):
        return {k: reveal(v, lookup) for k, v in value.items()}
    if isinstance(value, list):
        return [reveal(v, lookup) for v in value]
    if not isinstance(value, str) or "${env:" not in value:
        return value

    def look(found: re.Match[str]) -> str:
        if not found["env"]:
            return found[0]
        secret = lookup(found["env"])
        if secret is None:
            raise ConfigError(
                f"the environment has no variable {found['env']}",
                value=found[0],
                hint="set it where the worker runs",
            )
        register_secret(secret)
        return secret

    return _REFERENCE.sub(look, value)
