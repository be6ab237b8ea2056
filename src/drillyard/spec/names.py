"""The names that references can use, and their resolution."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field, replace
from typing import Any

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
    "files",
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

    @classmethod
    def of(cls, name: str, value: Json) -> Late:
        """The value that a name has until a run gives it another."""
        return cls(value, f"${{{name}}}")


@dataclass(frozen=True)
class Parameter:
    """A named value, however a file spells it.

    Args:
        value: Its value for now, unexpanded; ``Late`` where each run gives it anew.
        place: Where it came from.
        group: The group of tunables that declares the space of its values; None: all trials have
            the same value.
        declared: Whether this experiment declares it, and not only one around it.
    """

    value: Any
    place: Place
    group: str | None = None
    declared: bool = False


@dataclass(frozen=True)
class Resolved:
    """A text after its references were replaced.

    Args:
        value: Its value for now.
        text: The same with references where a run gives the value anew.
        late: Whether there is any such reference.
        origin: Where the first value came from; None if it held no reference.
    """

    value: Json
    text: str
    late: bool = False
    origin: Place | None = None


@dataclass(frozen=True)
class _At:
    """A text that is being resolved, and where it is."""

    path: KeyPath
    place: Place
    text: str
    seen: tuple[str, ...] = ()


@dataclass
class Names:
    """The parameters of an experiment or of a child, and every other name for references.

    Args:
        values: What a reference to a name means.
    """

    values: dict[str, Parameter] = field(default_factory=dict)
    problems: list[ConfigError] = field(default_factory=list)
    used: set[str] = field(default_factory=set)
    options: set[str] = field(default_factory=set)
    """Names of ``const_args`` and ``required_args``, which the command line can set."""
    inactive: dict[str, str] = field(default_factory=dict)
    """Tunables that no trial sets -> their group, so that a message can say it."""
    late: dict[KeyPath, str] = field(default_factory=dict)
    """Path of every value that each run gives anew -> its text."""

    @property
    def constants(self) -> dict[str, Parameter]:
        """The declared ones with a value that all trials share."""
        return {k: p for k, p in self.values.items() if p.declared and p.group is None}

    @property
    def varied(self) -> dict[str, Parameter]:
        """The active tunables."""
        return {k: p for k, p in self.values.items() if p.declared and p.group is not None}

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
        resolved = self.resolve(value, path, place, seen)
        if resolved.origin is not None:
            merged.places[path] = resolved.origin
        if resolved.late:
            self.note_late(path, resolved.text, place)
        return as_word(path, resolved.value)

    def _held(
        self, text: str, seen: tuple[str, ...]
    ) -> tuple[Json, Place, tuple[str, ...]] | None:
        """The list or mapping that a text stands for, when it is one reference to one."""
        through: tuple[str, ...] = ()
        while match := REFERENCE.fullmatch(text):
            name = match["braced"] or match["bare"]
            if not name or name in seen or name in through or name not in self.values:
                return None
            value = self.values[name].value
            through = (*through, name)
            if isinstance(value, dict | list):
                self.used.update(through)
                return value, self.values[name].place, through
            if not isinstance(value, str):
                return None
            text = value
        return None

    def note_late(self, path: KeyPath, text: str, place: Place) -> None:
        """Keep that each run fills a value in; refused where it is needed before.

        Args:
            path: Where the value stands.
            text: What the run fills in.
            place: File and line, for the message.
        """
        if path[0] in EARLY:
            names = " and ".join(f"${n}" for n in names_of(text))
            self._problem(
                f"{names}: known only when a run starts, and this is the same for all runs",
                _At(path, place, text),
                hint="remove it here; you can use it in "
                "simulator, learner, train, evaluate, store and in parameters",
            )
        else:
            self.late[path] = text

    def resolve(
        self, text: str, path: KeyPath, place: Place, seen: tuple[str, ...] = ()
    ) -> Resolved:
        """Resolves a text with references.

        Args:
            text: The text.
            path: Path of the value, for messages; secrets keep their references.
            place: File and line of it.
            seen: Names being resolved, so that a circle is found.

        Returns:
            A text that is one reference and nothing else takes the value with its type.
        """
        at = _At(path, place, text, seen)
        if whole := REFERENCE.fullmatch(text):
            return self._reference(whole, at, whole=True)
        before = len(self.problems)
        parts = [self._reference(m, at, whole=False) for m in REFERENCE.finditer(text)]
        late = any(part.late for part in parts)
        origin = next((part.origin for part in parts if part.origin is not None), None)
        if len(self.problems) > before:
            return Resolved(text, text, late, origin)
        values, texts = iter(parts), iter(parts)
        return Resolved(
            REFERENCE.sub(lambda _: as_text(next(values).value), text),
            REFERENCE.sub(lambda _: next(texts).text, text),
            late,
            origin,
        )

    def _reference(self, match: re.Match[str], at: _At, *, whole: bool) -> Resolved:
        written, secret = match[0], keeps_references(at.path)
        if match["dollar"]:
            return Resolved("$", written)
        if match["broken"]:
            return self._problem(
                f"{written} is not a reference",
                at,
                allowed="$name, ${name}, ${env:NAME}, and $$ for a dollar sign",
                hint="write $$ for a dollar sign",
            )
        if match["env"]:
            value = self._environment(match["env"], replace(at, text=written), typed_env=whole)
            text = written if secret else escape(as_text(value))
            return Resolved(value, text, origin=replace(at.place, raw=None, through=written))
        name = match["braced"] or match["bare"]
        if is_secret_key(name) and not secret:
            return self._secret(f"{written} is a secret", at)
        resolved = self._name(name, at)
        if isinstance(resolved.value, dict | list) and not whole:
            kind = "list" if isinstance(resolved.value, list) else "mapping"
            return self._problem(
                f"${name} is a {kind} and cannot be part of a text",
                at,
                hint=f"write only {written}",
            )
        if (origin := resolved.origin) is None:
            return resolved
        return replace(resolved, origin=replace(origin, through=origin.through or written))

    def _environment(self, name: str, at: _At, *, typed_env: bool) -> Json:
        value = os.environ.get(name)
        if value is None:
            return self._problem(
                f"the environment has no variable {name}",
                at,
                allowed="the name of a variable that is set",
                hint=f"set it: export {name}=…",
            ).value
        if keeps_references(at.path):
            register_secret(value)
            return at.text
        if looks_secret(value):
            register_secret(value)
            return self._secret(f"the variable {name} holds a secret", at).value
        return typed(value) if typed_env else value

    def _name(self, name: str, at: _At) -> Resolved:
        if name in at.seen:
            circle = " -> ".join(f"${n}" for n in (*at.seen[at.seen.index(name) :], name))
            return self._problem(
                f"goes in a circle: {circle}", at, hint="give one of them a value"
            )
        if name in self.inactive and name not in self.values:
            return self._problem(
                f"${name} is a tunable of the group {self.inactive[name]!r}, which is not active",
                at,
                hint="name it in parameters.tunable_params",
            )
        if name not in self.values:
            known = sorted(self.values)[:40]
            return self._problem(
                f"${name} is not declared",
                at,
                allowed=", ".join(f"${n}" for n in known) or "no names",
                hint=nearest(name, known)
                + "; declare it under parameters.const_args, or write $$ for a dollar sign",
            )
        self.used.add(name)
        value, origin = self.values[name].value, self.values[name].place
        if isinstance(value, Late):
            return Resolved(value.value, value.text, True, origin)
        if isinstance(value, str) and "$" in value:
            inner = self.resolve(value, at.path, at.place, (*at.seen, name))
            text = inner.text if inner.late else escape(as_text(inner.value))
            return replace(inner, text=text, origin=inner.origin or origin)
        return Resolved(value, escape(as_text(value)), origin=origin)

    def _secret(self, what: str, at: _At) -> Resolved:
        # Its value would be recorded under a key that is not masked.
        return self._problem(
            f"{what}, and this value would be written into records",
            at,
            allowed="secrets only under keys such as `password`, `token`, `api_key`",
            hint="use such a key, and the reference is kept instead of the value",
        )

    def _problem(
        self, message: str, at: _At, *, hint: str, allowed: str | None = None
    ) -> Resolved:
        self.problems.append(
            ConfigError(
                message,
                at=at.place,
                field=dotted(at.path),
                value=at.text,
                allowed=allowed,
                hint=hint,
            )
        )
        return Resolved(at.text, at.text)
