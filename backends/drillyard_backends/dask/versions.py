"""Compares the versions on a cluster's workers with ours, as a table of the differences."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from platform import python_version

from drillyard.findings import Finding, Severity
from drillyard_backends.dask.client import SchedulerAddress

MUST_AGREE = ("drillyard", "distributed", "dask", "cloudpickle", "msgpack")
SHOULD_AGREE = ("torch", "stable-baselines3", "gymnasium", "numpy")


def look(scheduler: SchedulerAddress) -> list[Finding]:
    """Compares every worker's versions with ours.

    Raises:
        InfrastructureError: The scheduler does not answer.
    """
    packages = [*MUST_AGREE, *SHOULD_AGREE]
    workers = scheduler.versions(packages)
    return compare({name: ours(name) for name in packages} | {"python": python_version()}, workers)


def ours(name: str) -> str | None:
    """Returns the version of a distribution that is installed here."""
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def compare(
    here: Mapping[str, str | None], workers: Mapping[str, Mapping[str, str | None]]
) -> list[Finding]:
    """Returns the differences as findings.

    Args:
        here: Package -> our version.
        workers: Address of a worker -> package -> its version.
    """
    findings = []
    for severity, names, what in (
        (Severity.ERROR, ("python", *MUST_AGREE), "cannot work together"),
        (Severity.WARNING, SHOULD_AGREE, "give statistically equal results, not bit-equal ones"),
    ):
        differing = [
            name
            for name in names
            if any(_short(name, w.get(name)) != _short(name, here[name]) for w in workers.values())
            and (severity is Severity.ERROR or here[name] is not None)
        ]
        if differing:
            findings.append(
                Finding(
                    severity,
                    "dask versions",
                    f"versions differ and {what}:\n{table(differing, here, workers)}",
                    "install the same versions on the workers: pip install "
                    + " ".join(f"{n}=={here[n]}" for n in differing if n != "python"),
                )
            )
    return findings


def _short(name: str, version: object) -> str:
    """Returns the part that must agree; for Python, the minor version."""
    text = str(version)
    return ".".join(text.split(".")[:2]) if name == "python" else text


def table(
    names: list[str],
    here: Mapping[str, str | None],
    workers: Mapping[str, Mapping[str, str | None]],
) -> str:
    """Returns a table with a row for each machine and a column for each package."""
    rows = [["", *names], ["here", *(here[n] or "-" for n in names)]]
    for address, packages in sorted(workers.items()):
        rows.append([address, *(str(packages.get(n) or "-") for n in names)])
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return "\n".join(
        "  " + "  ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)).rstrip()
        for row in rows
    )
