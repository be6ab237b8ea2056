"""Finds the packages that an experiment imports and rented machines would not have."""

from __future__ import annotations

import ast
import json
import re
import sys
from collections.abc import Iterator, Mapping
from functools import lru_cache
from importlib import metadata
from pathlib import Path

from packaging.utils import canonicalize_name

from drillyard.backend import is_paid
from drillyard.backend.settings.resolve import resolve
from drillyard.documents.json_types import Json
from drillyard.errors import ConfigError, DrillyardError
from drillyard.findings import Finding, problem, warning
from drillyard.spec import ExperimentSpec
from drillyard.spec.load import Loaded
from drillyard.system.installed_packages import closure, named, places

FIELD = "requirements"
ON_MACHINES = ("rl", "export", "video", "mirror", "gcs", "blob")
"""Extras of drillyard that its images and set-ups of machines may install."""
_IMAGES = ("image", "image_family", "container", "environment", "build", "conda")
"""Settings of backends by which a machine may have more packages than drillyard's."""
_MODULE = re.compile(r"(?P<module>[A-Za-z_][\w.]*):[A-Za-z_][\w./-]*\Z")


def missing_packages(loaded: Loaded) -> list[Finding]:
    """Compares what the experiment imports with what rented machines install.

    Args:
        loaded: The experiment. Its simulator could be imported here.

    Returns:
        An error with the line to write. A warning if the machines' image may have the packages,
        or if a requirement is not installed here and may bring them.
    """
    spec = loaded.spec
    if spec.workload != "rl":
        return []
    asked = named(spec.requirements)
    there = {*closure("drillyard", ON_MACHINES)}
    there.update(*(closure(name, extras) for name, extras in asked.items()))
    by_module = _by_module(places())
    bringing = {
        m: {*map(canonicalize_name, by_module.get(m, []))} for m in sorted(_imported(loaded))
    }
    missing = {m: min(names) for m, names in bringing.items() if names and not names & there}
    if not missing:
        return []
    lines = ", ".join(f"{name}=={metadata.version(name)}" for name in sorted({*missing.values()}))
    what = ", ".join(sorted(missing))
    fix = f"write requirements: [{', '.join([*spec.requirements, lines])}]"
    local = [name for name in missing.values() if _is_local(name)]
    if local:
        fix += f"; {', '.join(local)} is installed from a folder: put its code beside the file"
    unsure = any(not _installed(name) for name in asked) or _have_images(spec)
    text = f"the experiment imports {what}, which rented machines do not have"
    if unsure:
        text += " unless their image, or another requirement, has it"
        return [warning(FIELD, text, fix)]
    error = ConfigError(text, field=FIELD, value=", ".join(spec.requirements) or None, hint=fix)
    return [problem(FIELD, text, fix, error)]


@lru_cache(maxsize=1)
def _by_module(_: tuple[tuple[str, int], ...]) -> Mapping[str, list[str]]:
    """Module -> the packages that bring it: the lists of all installed packages, read in 0.5 s."""
    return metadata.packages_distributions()


def _imported(loaded: Loaded) -> set[str]:
    """Top-level modules that the experiment imports from outside its folder."""
    outside: set[str] = set()
    seen: set[Path] = set()
    dumped = loaded.spec.model_dump(mode="json", include={"simulator", "learner", "baselines"})
    waiting = [match["module"] for text in _texts(dumped) if (match := _MODULE.match(text))]
    if loaded.spec.simulator is not None:
        waiting += _registered(loaded.spec.simulator.id)
    while waiting:
        module = waiting.pop()
        files = list(_files(loaded.folder, module))
        if not files:
            root = module.partition(".")[0]
            if root not in sys.stdlib_module_names:
                outside.add(root)
        for file in files:
            if file not in seen:
                seen.add(file)
                waiting += _imports(file, module)
    return outside


def _registered(id_: str) -> list[str]:
    """The package behind a Gymnasium id, or what steps a plant."""
    import gymnasium

    if id_ == "fmu" or id_.endswith(".fmu"):
        return ["fmpy"]
    if id_ == "energyplus":
        return ["pyenergyplus", "greenlet"]
    if id_ == "opcua":
        return ["asyncua"]
    if ":" in id_:
        return []  # it names the package, or the module
    try:
        entry = gymnasium.spec(id_).entry_point
    except Exception:  # no such id, or what the package raises; the simulator's check says so
        return []
    return [entry.partition(":")[0]] if isinstance(entry, str) else []


def _texts(value: Json) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for item in value.values():
            yield from _texts(item)
    elif isinstance(value, list):
        for item in value:
            yield from _texts(item)


def _files(folder: Path, module: str) -> Iterator[Path]:
    """The files of the user's folder that are executed by the import of a module."""
    path = folder
    for part in module.split("."):
        path = path / part
        if (path / "__init__.py").is_file():
            yield path / "__init__.py"
        elif path.with_suffix(".py").is_file():
            yield path.with_suffix(".py")


def _imports(file: Path, module: str) -> list[str]:
    """Modules that a file imports; not those whose absence it catches."""
    try:
        tree = ast.parse(file.read_bytes())
    except (OSError, SyntaxError, ValueError):
        return []
    modules: list[str] = []
    waiting: list[ast.AST] = [tree]
    package = module if file.name == "__init__.py" else module.rpartition(".")[0]
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.Import):
            modules += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            modules += _import_from(node, package)
        elif isinstance(node, ast.Try) and any(map(_catches_import, node.handlers)):
            waiting += [*node.orelse, *node.finalbody]
            continue
        elif isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
            continue
        waiting += ast.iter_child_nodes(node)
    return [name for name in modules if name]


def _import_from(node: ast.ImportFrom, package: str) -> list[str]:
    if not node.level and node.module:
        return [node.module]
    above = package.split(".")[: len(package.split(".")) - node.level + 1]
    base = ".".join([*above, node.module or ""]) if node.level else ""
    return [text.strip(".") for text in (base, *(f"{base}.{alias.name}" for alias in node.names))]


def _catches_import(handler: ast.ExceptHandler) -> bool:
    if handler.type is None:
        return True
    names = {node.id for node in ast.walk(handler.type) if isinstance(node, ast.Name)}
    return bool(names & {"ImportError", "ModuleNotFoundError", "Exception"})


def _installed(name: str) -> bool:
    try:
        metadata.distribution(name)
    except metadata.PackageNotFoundError:
        return False
    return True


def _is_local(name: str) -> bool:
    """Returns whether a package was installed from a folder of this machine."""
    text = metadata.distribution(name).read_text("direct_url.json")
    return bool(text) and str(json.loads(text or "{}").get("url", "")).startswith("file:")


def _have_images(spec: ExperimentSpec) -> bool:
    """Returns whether every place that costs money may have an image with packages of its own."""
    return all(_has_image(spec, text) for text in spec.places if is_paid(text))


def _has_image(spec: ExperimentSpec, backend: str) -> bool:
    given = spec.backends.get(backend.partition("/")[0], {})
    try:
        settings = dict(resolve(backend, given).values)
    except DrillyardError:
        settings = dict(given)
    return any(settings.get(name) for name in _IMAGES)
