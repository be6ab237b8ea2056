"""The desired deployment as files: ``prefect.yaml``, ``work-pools.yaml``, ``automations/*.yaml``.

Every package can have a folder of them. The entry-point group ``drillyard.deployments`` names a
function that returns the folder. A new flow is a new entry of ``prefect.yaml``, which has
Prefect's own format: ``prefect deploy --all`` reads the same file.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from drillyard.documents.files import read_document
from drillyard.errors import ConfigError
from drillyard.registry import load, names

Entry = dict[str, Any]
"""One entry of a file, in Prefect's own format, which Prefect's models check."""


@dataclass(frozen=True)
class DesiredDeployment:
    """The content of the files."""

    pools: list[Entry] = field(default_factory=list)
    deployments: list[Entry] = field(default_factory=list)
    automations: list[Entry] = field(default_factory=list)


def own_folder() -> Path:
    """Returns the folder of drillyard's own files, inside the wheel or in a checkout."""
    installed = Path(__file__).parent / "files"
    return installed if installed.is_dir() else Path(__file__).parents[3] / "deployments"


def desired() -> DesiredDeployment:
    """Reads the files of every installed package.

    Raises:
        ConfigError: A file cannot be read, or a name is listed twice.
    """
    content = DesiredDeployment()
    for name in names("deployments"):
        folder = Path(load("deployments", name)())
        content.pools.extend(_entries(folder / "work-pools.yaml", "work_pools"))
        content.deployments.extend(_entries(folder / "prefect.yaml", "deployments"))
        for path in sorted((folder / "automations").glob("*.yaml")):
            content.automations.append(_tree(path))
    for kind in (content.pools, content.automations):
        _once([str(entry.get("name")) for entry in kind])
    _once([f"{e.get('entrypoint')} {e.get('name')}" for e in content.deployments])
    return content


def _tree(path: Path) -> Entry:
    tree = read_document(path, str(path)).value
    if not isinstance(tree, dict):
        raise ConfigError("expected a mapping", file=str(path))
    return tree


def _entries(path: Path, key: str) -> list[Entry]:
    if not path.is_file():
        return []
    return list(_tree(path).get(key) or [])


def _once(listed: list[str]) -> None:
    for name in listed:
        if listed.count(name) > 1:
            raise ConfigError(
                "is listed twice",
                value=name,
                allowed="each name once",
                hint="uninstall one of the two packages; see `drillyard list plugins`",
            )
