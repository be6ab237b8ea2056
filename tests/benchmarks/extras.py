"""How much disk each extra needs: `python -m tests.benchmarks.extras`.

Sums up the files of what is installed here: the extra's packages, and all that these need. Prints
one line for each extra: MB without what the core has, and packages that are not installed here.
"""

from __future__ import annotations

from functools import cache
from importlib import metadata

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name


@cache
def closure(name: str, extras: frozenset[str] = frozenset()) -> frozenset[str]:
    """Returns the packages that a package needs, itself included; `?name` if not installed."""
    try:
        lines = metadata.requires(name) or []
    except metadata.PackageNotFoundError:
        return frozenset({f"?{name}"})
    needs = {name}
    todo = [(r, frozenset(r.extras)) for r in map(Requirement, lines) if _wanted(r, extras)]
    for requirement, more in todo:
        other = canonicalize_name(requirement.name)
        if other != name or more - extras:
            needs |= closure(other, more | (extras if other == name else frozenset()))
    return frozenset(needs)


def _wanted(requirement: Requirement, extras: frozenset[str]) -> bool:
    marker = requirement.marker
    return marker is None or any(marker.evaluate({"extra": e}) for e in extras or {""})


def megabytes(names: frozenset[str]) -> float:
    """Returns the size of the files of these packages, in MB."""
    size = 0
    for name in names:
        if not name.startswith("?"):
            size += sum(file.size or 0 for file in metadata.files(name) or [])
    return size / 1e6


def main() -> None:
    """Prints the table."""
    core = closure("drillyard")
    print(f"core: {megabytes(core - {'drillyard'}):,.0f} MB, {len(core)} packages")
    for extra in sorted(metadata.metadata("drillyard").get_all("Provides-Extra") or []):
        names = closure("drillyard", frozenset({extra})) - core
        lacking = ", ".join(sorted(n[1:] for n in names if n.startswith("?")))
        print(
            f"{extra}: {megabytes(names):,.0f} MB, {len(names)} packages",
            lacking and f"(not here: {lacking})",
        )


if __name__ == "__main__":
    main()
