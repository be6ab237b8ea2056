"""The command line with a report that is built in no time: what everything else takes."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import drillyard.report
from drillyard.cli.start import main


def build(*_: Any, **__: Any) -> Any:
    """In whichever moment it is called, beside other work or not, it costs nothing."""
    return SimpleNamespace(index="not built")


if __name__ == "__main__":
    drillyard.report.build = build
    main()
