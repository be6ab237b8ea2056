"""Finds the default workspace: Azure ML's own file, its variables, ``az login``."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

_VARIABLES = {
    "subscription_id": "AZUREML_ARM_SUBSCRIPTION",
    "resource_group": "AZUREML_ARM_RESOURCEGROUP",
    "workspace": "AZUREML_ARM_WORKSPACE_NAME",
}
"""As Azure ML sets them where it runs something."""


def found_here() -> dict[str, dict[str, str]]:
    """Parts of the workspace's address by where they were found, the nearest first.

    ``config.json`` (as the studio offers it, also in ``.azureml/``) is looked for in this folder
    and above, as azure-ai-ml does.
    """
    addresses: dict[str, dict[str, str]] = {}
    for name, variable in _VARIABLES.items():
        if os.environ.get(variable):
            addresses[variable] = {name: os.environ[variable]}
    here = Path.cwd()
    for folder in (here, *here.parents):
        for path in (folder / ".azureml" / "config.json", folder / "config.json"):
            config = _read(path)
            if "workspace_name" in config:
                config["workspace"] = config["workspace_name"]
                addresses[str(path)] = {n: str(config[n]) for n in _VARIABLES if n in config}
                return addresses
    if subscription := _of_login():
        addresses["az login"] = {"subscription_id": subscription}
    return addresses


def _of_login() -> str:
    """The subscription that ``az account show`` tells, without starting ``az``."""
    home = Path(os.environ.get("AZURE_CONFIG_DIR", "~/.azure")).expanduser()
    subscriptions = _read(home / "azureProfile.json").get("subscriptions")
    for subscription in subscriptions if isinstance(subscriptions, list) else []:
        if isinstance(subscription, dict) and subscription.get("isDefault"):
            return str(subscription.get("id", ""))
    return ""


def _read(path: Path) -> dict[str, Any]:
    try:
        # Microsoft's own tool begins its file with a byte order mark.
        document = json.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError):
        return {}
    return document if isinstance(document, dict) else {}
