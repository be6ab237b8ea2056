"""How often Python looks for reference cycles in drillyard's own processes.

Importing a large library creates hundreds of thousands of objects that live until the end, and
Python looks at them again and again: for a third of the time that Prefect takes to import, for a
quarter of torch's, and for a third of a second when the process ends. The process of a run is left
as Python has it, because the user's code runs in it.
"""

from __future__ import annotations

import atexit
import gc

NEW_OBJECTS = 50_000
"""New objects between two looks at the youngest; Python's default is 700."""


def look_rarely() -> None:
    """Look for cycles less often, and not at the end, in a process that runs no user's code."""
    gc.set_threshold(NEW_OBJECTS, *gc.get_threshold()[1:])
    atexit.register(gc.freeze)
