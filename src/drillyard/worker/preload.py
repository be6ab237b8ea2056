"""Imported once by the pool's server process, last: makes every forked ticket start warm."""

from __future__ import annotations

import gc
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

# What was imported lives until the end. Tickets do not look at it for cycles, so that the pages
# remain shared (https://docs.python.org/3/library/gc.html#gc.freeze).
gc.freeze()
gc.enable()
