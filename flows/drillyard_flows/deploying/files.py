"""What is to be there, as files: ``prefect.yaml``, ``work-pools.yaml``, ``automations/*.yaml``.

Every package may bring a folder of them, by the entry-point group ``drillyard.deployments``: its
value is a function that returns the folder. A new flow is a new entry of ``prefect.yaml``, which
has Prefect's own format: ``prefect deploy --all`` reads the same file.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from drillyard.documents.files import read_document
from drillyard.errors import ConfigError
from drillyard.registry import load, names


@dataclass(frozen=True)
class DesiredDeployment:
    """What the files say."""

    pools: list[dict[str, Any]] = field(default_factory=list)
    deployments: list[dict[str, Any]] = field(default_factory=list)
    automations: list[dict[str, Any]] = field(default_factory=list)


def own_folder() -> Path:
    """Drillyard's own files: in the wheel inside this package, in a checkout at its top."""
    installed = Path(__file__).parent / "files"
    return installed if installed.is_dir() else Path(__file__).parents[3] / "deployments"


def wanted() -> DesiredDeployment:
    """The files of every installed package.

    Raises:
        ConfigError: A file that cannot be read, or a name that is there twice.
    """
    found = DesiredDeployment()
    for name in names("deployments"):
        folder = Path(load("deployments", name)())
        found.pools.extend(_entries(folder / "work-pools.yaml", "work_pools"))
        found.deployments.extend(_entries(folder / "prefect.yaml", "deployments"))
        for path in sorted((folder / "automations").glob("*.yaml")):
            found.automations.append(_tree(path))
    for kind in (found.pools, found.automations):
        _once([str(entry.get("name")) for entry in kind])
    _once([f"{e.get('entrypoint')} {e.get('name')}" for e in found.deployments])
    return found


def _tree(path: Path) -> dict[str, Any]:
    found = read_document(path, str(path)).value
    if not isinstance(found, dict):
        raise ConfigError("expected a mapping", file=str(path))
    return found


def _entries(path: Path, key: str) -> list[dict[str, Any]]:
    if not path.is_file():
        return []
    return list(_tree(path).get(key) or [])


def _once(found: list[str]) -> None:
    for name in found:
        if found.count(name) > 1:
            raise ConfigError(
                "two packages bring the same name",
                value=name,
                allowed="each name once",
                hint="uninstall one of them: `drillyard list plugins`",
            )
