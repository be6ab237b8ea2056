"""Checks whether this machine can run experiments, and what is missing."""

from __future__ import annotations

import functools
import os
import shutil
import sys
from collections.abc import Callable, Iterator, Sequence

from drillyard.findings import Finding, Severity, passed, problem, warning
from drillyard.spec.algorithms.engines import PACKAGES
from drillyard.system.operating_system import usable_cores
from drillyard.system.optional_packages import install, missing

_PACKAGES = {
    "prefect": "control",
    "fastapi": "control",
    "mlflow": "control",
    "gymnasium": "rl",
    "stable-baselines3": "rl",
    "torch": "rl",
    "safetensors": "rl",
}
"""Package -> the extra that installs it."""
_FASTAPI_LIMIT = (0, 155)
"""First version with which prefect 3.8.8 cannot start its server."""
_TORCH_FLOOR = (2, 10)


def examine(store: str, on: Sequence[str] = (), *, write: bool = False) -> list[Finding]:
    """Returns every finding; a check that raises an exception is a finding too.

    Args:
        store: URL of the store.
        on: Backends to check for login, permissions and quota; nothing is changed.
        write: Write, read and delete one object in each of their stores.
    """
    checks: list[Callable[[], Iterator[Finding]]] = [
        _python,
        _packages,
        lambda: _store(store),
        _git,
        _prefect,
        _mlflow,
        _backends,
        _plugins,
        *(functools.partial(_backend, text) for text in on),
        *(functools.partial(_written, store, text) for text in (on or [""]) if write),
    ]
    findings: list[Finding] = []
    for check in checks:
        try:
            findings += list(check())
        except Exception as error:  # the doctor also reports its own errors
            findings.append(problem("doctor", f"{type(error).__name__}: {error}"))
    return findings


def _python() -> Iterator[Finding]:
    from drillyard.system.version import VERSION

    version = ".".join(map(str, sys.version_info[:3]))
    yield passed("drillyard", f"{VERSION} on Python {version}")
    import psutil

    memory = psutil.virtual_memory()
    free = f"{memory.available / 2**30:.1f} of {memory.total / 2**30:.1f} GiB free"
    yield passed("machine", f"{usable_cores()} cores, {free}")


def _packages() -> Iterator[Finding]:
    from importlib.metadata import PackageNotFoundError, version

    for name, extra in _PACKAGES.items():
        try:
            installed = version(name)
        except PackageNotFoundError:
            yield passed(name, _without([name], extra))
            continue
        numbers = tuple(int(p) for p in installed.split("+")[0].split(".")[:2] if p.isdigit())
        if name == "fastapi" and numbers >= _FASTAPI_LIMIT:
            yield problem(
                name,
                f"{installed}: Prefect cannot start its server with this version",
                "pip install 'fastapi>=0.139,<0.151'",
            )
        elif name == "torch" and numbers < _TORCH_FLOOR:
            yield problem(
                name, f"{installed} can run code from weight files", "pip install 'torch>=2.10'"
            )
        else:
            yield passed(name, installed)
    for engine, name in PACKAGES.items():
        if lacking := missing(engine):
            yield passed(f"engine {engine}", _without(lacking, engine))
        else:
            yield passed(f"engine {engine}", f"{name} {version(name)}")


def _store(store: str) -> Iterator[Finding]:
    from drillyard.checks.storage import disk

    yield from disk(store)


def _git() -> Iterator[Finding]:
    if shutil.which("git"):
        yield passed("git", "is installed: results record the commit")
    else:
        yield warning("git", "is not installed: results do not record the commit", "install git")


def _prefect() -> Iterator[Finding]:
    from drillyard.system.prefect_settings import configured

    url = configured("PREFECT_API_URL")
    if not url:
        yield passed("prefect api", "not configured: `run` starts an embedded server")
        return
    from drillyard.checks.servers import planned, prefect

    findings = list(prefect(url))
    yield from findings
    if all(finding.severity is not Severity.ERROR for finding in findings):
        yield from planned(url)


def _mlflow() -> Iterator[Finding]:
    uri = os.environ.get("MLFLOW_TRACKING_URI")
    if not uri:
        yield passed("mlflow", "not configured: mlflow.db in the store is used")
    elif uri.startswith(("http://", "https://", "azureml:")):
        from drillyard.checks.servers import mlflow, workspace_mlflow

        for finding in (workspace_mlflow if uri.startswith("azureml:") else mlflow)(uri):
            yield Finding(finding.severity, "mlflow", finding.message, finding.fix)
    else:
        from drillyard.system.redaction import redact

        yield passed("mlflow", f"MLFLOW_TRACKING_URI={redact(uri)}")


def _backends() -> Iterator[Finding]:
    from drillyard.registry import describe

    for name, _, package in describe("backends"):
        if name != "local":
            lacking = missing(name) if package == "drillyard" else []
            text = _without(lacking, name) if lacking else f"installed ({package})"
            yield passed(f"backend {name}", text)
            continue
        yield from _backend(name)


def _without(packages: list[str], extra: str) -> str:
    return f"not installed, because {', '.join(packages)} is missing; to use it: {install(extra)}"


def _backend(text: str) -> Iterator[Finding]:
    from drillyard.backend import open_backend
    from drillyard.errors import DrillyardError

    try:
        for finding in open_backend(text).check():
            named = finding.subject.startswith(f"{text} ")
            subject = finding.subject if named else f"{text} {finding.subject}"
            subject = f"backend {text}" if finding.subject == text else subject
            yield Finding(finding.severity, subject, finding.message, finding.fix)
    except DrillyardError as error:
        yield problem(f"backend {text}", str(error), error.hint)


def _written(store: str, text: str) -> Iterator[Finding]:
    """Writes, reads and deletes one object in a backend's store."""
    from drillyard.backend import ProvidesStore, open_backend
    from drillyard.errors import DrillyardError
    from drillyard.mailbox import open_store
    from drillyard.mailbox.store_check import check_store

    try:
        backend = open_backend(text) if text else None
        url = backend.store_url() if isinstance(backend, ProvidesStore) else store
        check_store(open_store(url))
    except DrillyardError as error:
        yield problem("store, tested", error.message, error.hint)
    else:
        yield passed("store, tested", f"{url}: written, read and deleted")


def _plugins() -> Iterator[Finding]:
    from drillyard.errors import PluginError
    from drillyard.registry import KINDS, OURS, describe, load

    for kind in KINDS:
        for name, _, package in describe(kind):
            if package in OURS:
                continue
            try:
                load(kind, name)
            except PluginError as error:
                first = str(error).splitlines()[0]
                yield problem(f"plug-in {name}", first, f"fix or uninstall {package}")
            else:
                yield passed(f"plug-in {name}", f"{kind}, from {package}")
