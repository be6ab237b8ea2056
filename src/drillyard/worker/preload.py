"""Imported once by the pool's server process: makes every forked ticket start warm."""

from __future__ import annotations

import importlib
import json
import os

VARIABLE = "DRILLYARD_PRELOAD"
"""JSON list of module names, set by the worker."""

for _name in json.loads(os.environ.get(VARIABLE, "[]")):
    try:
        importlib.import_module(_name)
    except Exception:
        # The ticket that needs it imports it again, and tells why it cannot be imported.
        continue
