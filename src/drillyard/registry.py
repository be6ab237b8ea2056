"""Names to objects: entry points, ``register()`` and ``module:name``.

A plain name is looked up among the registered names of its kind. ``module:name`` imports the
module, which may register objects itself, and takes the object that it registered under that name,
else its attribute. An ambiguous name is an error. A built-in is never shadowed.
"""

from __future__ import annotations

import importlib
import re
import sys
import traceback
from functools import cache
from importlib.metadata import Distribution, EntryPoint, EntryPoints, entry_points
from types import ModuleType
from typing import Any

from drillyard.errors import ConfigError, PluginError, nearest

KINDS = (
    "simulators",
    "learners",
    "baselines",
    "workloads",
    "backends",
    "stores",
    "trackers",
    "choosers",
    "commands",
    "blocks",
    "flows",
    "deployments",
    "endpoints",
    "rehearsals",
    "hosts",
)
NAME_RULE = "a-z, 0-9, '-' and '_', the first a letter or digit"
_NAME = re.compile(r"[a-z0-9][a-z0-9_-]*\Z")
_CORE = "drillyard"
OURS = frozenset({_CORE, "drillyard-emulators"})
"""Distributions of this repository, whose objects are built in."""
_registered: dict[tuple[str, str], str] = {}
_registrants: dict[tuple[str, str], str] = {}
"""Module whose code called ``register``."""


@cache
def _installed() -> Any:
    """Reads a file of each installed package, for all kinds at once."""
    return entry_points()  # its type is another one before Python 3.12


@cache
def _points(kind: str) -> dict[str, list[EntryPoint]]:
    points: dict[str, list[EntryPoint]] = {}
    # Built-ins first: a plug-in with the name of a built-in is ignored.
    group: EntryPoints = _installed().select(group=f"drillyard.{kind}")
    for point in sorted(group, key=lambda p: not _built_in(p)):
        same = points.setdefault(point.name, [])
        if all(p.value != point.value for p in same):
            same.append(point)
    return points


def _built_in(point: EntryPoint) -> bool:
    return _package(point) in OURS


def _package(point: EntryPoint) -> str:
    return _name_of(point.dist) if point.dist else _CORE


@cache
def _name_of(package: Distribution) -> str:
    return package.name  # parses its whole metadata each time


def register(kind: str, name: str, entry_point: str) -> None:
    """Register an object by name for this process.

    Args:
        kind: One of ``KINDS``.
        name: Lower-case letters, digits, ``-`` and ``_``.
        entry_point: ``module:Attribute``; imported on first use.

    Raises:
        PluginError: Unknown kind, illegal or taken name, or no ``module:Attribute``.
    """
    if kind not in KINDS:
        raise PluginError(f"no kind {kind!r}", hint=nearest(kind, list(KINDS)))
    if not _NAME.match(name):
        raise PluginError(f"illegal name {name!r}", hint=f"use {NAME_RULE}")
    module, sign, attribute = entry_point.partition(":")
    if not (module and sign and attribute):
        raise PluginError(
            f"{entry_point!r} is not of the form `module:Attribute`",
            hint="for example my_package.world:World",
        )
    if name in _points(kind) or _registered.get((kind, name), entry_point) != entry_point:
        raise PluginError(
            f"{kind[:-1]} {name!r} is already registered: {_target(kind, name)}",
            hint="choose another name",
        )
    _registered[(kind, name)] = entry_point
    _registrants[(kind, name)] = str(sys._getframe(1).f_globals.get("__name__", ""))


def _target(kind: str, name: str) -> str:
    points = _points(kind).get(name)
    return points[0].value if points else _registered[(kind, name)]


def names(kind: str) -> list[str]:
    """Every registered name of a kind, sorted."""
    return sorted({*_points(kind), *(n for k, n in _registered if k == kind)})


def describe(kind: str) -> list[tuple[str, str, str]]:
    """(name, ``module:Attribute``, package that brings it) of every registered object.

    A name that several packages provide is listed once for each of them.
    """
    rows = [
        (name, point.value, _package(point))
        for name, points in _points(kind).items()
        for point in points
    ]
    rows += [(n, v, "registered") for (k, n), v in _registered.items() if k == kind]
    return sorted(rows)


def load(kind: str, name: str) -> Any:
    """The object behind a name, imported now. Its type depends on the kind: annotate the result.

    Args:
        kind: One of ``KINDS``.
        name: A registered name, or ``module:name``.

    Raises:
        PluginError: Unknown name (with the nearest ones), an ambiguous name, or its
            import failed (with the traceback as cause and in the message).
    """
    if ":" in name:
        return _load_from_module(kind, name)
    if (kind, name) in _registered:
        return load_object(_registered[(kind, name)])
    points = _points(kind).get(name)
    if not points:
        raise PluginError(f"unknown {kind[:-1]} {name!r}", hint=nearest(name, names(kind)))
    # Only for an ambiguous name: reading the package's metadata parses a file each time.
    problem = conflict(kind, name, _package(points[0])) if len(points) > 1 else None
    if problem:
        raise PluginError(problem, hint="uninstall one of them, or write module:Class")
    try:
        return points[0].load()
    except Exception as error:
        raise PluginError(
            f"{kind[:-1]} {name!r} ({points[0].value}) does not import: {error}\n"
            + traceback.format_exc(limit=-3),
            hint=_fix(error, _package(points[0])),
        ) from error


def _fix(error: Exception, package: str) -> str:
    """How to fix a failed import."""
    if isinstance(error, ModuleNotFoundError):
        return f"install {error.name} beside {package}, or choose another one"
    return f"{package} is broken: fix the line above, reinstall it, or choose another one"


def conflict(kind: str, name: str, package: str) -> str | None:
    """Why a name does not give a package's object; None if it does.

    Args:
        kind: One of ``KINDS``.
        name: A registered name.
        package: As ``describe`` gives it.
    """
    points = _points(kind).get(name, [])
    if len(points) < 2:
        return None
    if _built_in(points[0]):
        if package in OURS:
            return None
        return f"ignored: {name!r} is a built-in {kind[:-1]} ({points[0].value})"
    who = " and ".join(f"{_package(p)} ({p.value})" for p in points)
    return f"{kind[:-1]} {name!r} is provided by {who}"


def _load_from_module(kind: str, path: str) -> Any:
    """``module:name``: what the module registered under the name, else its attribute.

    Raises:
        PluginError: The module does not import, has neither, or has both and they differ.
    """
    module_name, _, name = path.partition(":")
    module = _module(module_name)
    targets = _registered_by(module_name, kind)
    if name not in targets:
        return _attribute(module, module_name, name, also=list(targets))
    registered = load_object(targets[name])
    if hasattr(module, name) and getattr(module, name) is not registered:
        raise PluginError(
            f"{path!r} is ambiguous: {module_name} registers the {kind[:-1]} {name!r} "
            f"({targets[name]}) and has an attribute {name!r} that is another object",
            hint=f"write {targets[name]} for the first, or rename one of them",
        )
    return registered


def _registered_by(module: str, kind: str) -> dict[str, str]:
    """Names of a kind that a module (or one inside it) registered -> their targets."""
    root = module.partition(".")[0]
    targets = {
        name: target
        for (k, name), target in _registered.items()
        if k == kind and _registrants.get((k, name), "").partition(".")[0] == root
    }
    for name, points in _points(kind).items():
        if points[0].value.partition(":")[0].partition(".")[0] == root:
            targets.setdefault(name, points[0].value)
    return targets


def importable(path: str, field: str) -> Any:
    """``load_object`` for the value of a field of an experiment.

    Args:
        path: ``module:Attribute``.
        field: Name of the field.

    Raises:
        ConfigError: No such module or attribute, or the module does not import.
    """
    try:
        return load_object(path)
    except PluginError as error:
        raise ConfigError(
            error.message,
            field=field,
            value=path,
            allowed="module:Name that can be imported",
            hint=error.hint,
        ) from error


def load_object(path: str) -> Any:
    """Import ``module:Attribute`` and take the attribute.

    Raises:
        PluginError: No such module or attribute, or the module does not import (with the
            traceback in the message).
    """
    module_name, _, attribute = path.partition(":")
    return _attribute(_module(module_name), module_name, attribute)


def _module(name: str) -> ModuleType:
    known = sys.modules.get(name)
    if known is not None and known.__spec__ is not None and known.__spec__.origin is None:
        # A folder of this name, imported before the user's folder was on the path, hides the file.
        del sys.modules[name]
    try:
        return importlib.import_module(name)
    except Exception as error:
        missing = isinstance(error, ModuleNotFoundError) and (
            error.name is None or name == error.name or name.startswith(f"{error.name}.")
        )
        # A missing module has no traceback to show.
        trace = "" if missing else f"\n{traceback.format_exc(limit=-3)}"
        hint = "fix the line above"
        if missing and name.endswith(".py"):
            hint = f"name the module, not its file: {name.removesuffix('.py')}"
        elif missing:
            hint = (
                "user modules are looked for beside the experiment file and among installed "
                "packages"
            )
        elif isinstance(error, ModuleNotFoundError):
            hint = f"install {error.name}"
        raise PluginError(f"module {name!r} does not import: {error}{trace}", hint=hint) from error


def _attribute(
    module: ModuleType, module_name: str, attribute: str, also: list[str] | None = None
) -> Any:
    value: Any = module
    for part in attribute.split("."):
        if not hasattr(value, part):
            known = [n for n in dir(value) if not n.startswith("_")] + (also or [])
            raise PluginError(
                f"module {module_name!r} has no {attribute!r}", hint=nearest(part, known)
            )
        value = getattr(value, part)
    return value
