"""drillyard: reinforcement-learning experiments that lose nothing.

``load``, ``run``, ``results_of``, ``compare`` and ``generate`` do from Python what the commands
do; docs/how-to/python.md shows how.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from drillyard.api import compare, load, results_of, run
    from drillyard.authoring.generate import generate
    from drillyard.metrics.follow import Point, StopRun
    from drillyard.registry import register

from drillyard.system.version import VERSION as __version__

__all__ = [
    "Point",
    "StopRun",
    "__version__",
    "compare",
    "generate",
    "load",
    "register",
    "results_of",
    "run",
]

_WHERE = {
    "Point": "drillyard.metrics.follow",
    "StopRun": "drillyard.metrics.follow",
    "compare": "drillyard.api",
    "load": "drillyard.api",
    "results_of": "drillyard.api",
    "run": "drillyard.api",
    "generate": "drillyard.authoring.generate",
    "register": "drillyard.registry",
}


def __getattr__(name: str) -> Any:
    """Import a name when it is asked for, so that ``import drillyard`` costs nothing."""
    if name not in _WHERE:
        raise AttributeError(f"module 'drillyard' has no attribute {name!r}")
    import importlib

    found = getattr(importlib.import_module(_WHERE[name]), name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *_WHERE})
