"""Which workspace is meant where nobody says: Azure ML's own file, its variables, ``az login``."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

_VARIABLES = {
    "subscription_id": ("AZUREML_ARM_SUBSCRIPTION", "AZURE_SUBSCRIPTION_ID"),
    "resource_group": ("AZUREML_ARM_RESOURCEGROUP",),
    "workspace_name": ("AZUREML_ARM_WORKSPACE_NAME",),
}


def found_workspace(name: str) -> str:
    """A part of the workspace's address, or an empty text.

    ``config.json`` (as the studio offers it, also in ``.azureml/``) is looked for in this folder
    and above, as azure-ai-ml does.

    Args:
        name: ``subscription_id``, ``resource_group`` or ``workspace_name``.
    """
    for variable in _VARIABLES[name]:
        if os.environ.get(variable):
            return os.environ[variable]
    here = Path.cwd()
    for folder in (here, *here.parents):
        for path in (folder / ".azureml" / "config.json", folder / "config.json"):
            found = _read(path)
            if "workspace_name" in found:
                return str(found.get(name, ""))
    return _of_login() if name == "subscription_id" else ""


def _of_login() -> str:
    """The subscription that ``az account show`` tells, without starting ``az``."""
    home = Path(os.environ.get("AZURE_CONFIG_DIR", "~/.azure")).expanduser()
    subscriptions = _read(home / "azureProfile.json").get("subscriptions")
    for one in subscriptions if isinstance(subscriptions, list) else []:
        if isinstance(one, dict) and one.get("isDefault"):
            return str(one.get("id", ""))
    return ""


def _read(path: Path) -> dict[str, Any]:
    try:
        # Microsoft's own tool begins its file with a byte order mark.
        found = json.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
