"""The folder of files that belong to this machine."""

from __future__ import annotations

import os
from pathlib import Path


def local_home() -> Path:
    """The folder of files that belong to this machine: ``DRILLYARD_HOME`` or ``~/.drillyard``."""
    return Path(os.environ.get("DRILLYARD_HOME") or "~/.drillyard").expanduser()
