"""Prefect's settings as its own client reads them, without importing Prefect."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping
from pathlib import Path


def configured(name: str, environ: Mapping[str, str] | None = None) -> str | None:
    """Returns a Prefect setting of the user, or None.

    The environment comes first, then the active profile, as in Prefect itself.

    Args:
        name: Name of the environment variable.
        environ: Environment to use instead of the process's own.
    """
    env = os.environ if environ is None else environ
    if env.get(name):
        return env[name]
    folder = Path(env["PREFECT_HOME"]) if env.get("PREFECT_HOME") else Path.home() / ".prefect"
    path = Path(env.get("PREFECT_PROFILES_PATH") or folder / "profiles.toml")
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, tomllib.TOMLDecodeError):
        return None
    active = env.get("PREFECT_PROFILE") or data.get("active")
    value = data.get("profiles", {}).get(active, {}).get(name)
    return str(value) if value else None
