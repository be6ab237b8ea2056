"""Where what belongs to this machine is kept."""

from __future__ import annotations

import os
from pathlib import Path


def local_home() -> Path:
    """Where what belongs to this machine is kept: ``DRILLYARD_HOME`` or ``~/.drillyard``."""
    return Path(os.environ.get("DRILLYARD_HOME") or "~/.drillyard").expanduser()
