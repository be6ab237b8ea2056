"""Files of the user that a simulator names: beside the experiment file, so that they travel."""

from __future__ import annotations

import sys
from pathlib import Path, PurePosixPath

from drillyard.errors import SimulatorError


def find(name: str, what: str, field: str = "simulator.id") -> Path:
    """The path of a file beside the experiment file, or in a folder below.

    Args:
        name: As it is written.
        what: What it should be, for messages: ``an FMU``.
        field: Where it is written.

    Raises:
        SimulatorError: There is no such file, or it does not travel with the experiment.
    """
    relative = PurePosixPath(name)
    allowed = f"{what} beside the experiment file, or in a folder below"
    if relative.is_absolute() or ".." in relative.parts:
        raise SimulatorError(
            "is outside the folder of the experiment, and would not travel to workers",
            field=field,
            value=name,
            allowed=allowed,
            hint=f"copy it there, and write {relative.name}",
        )
    # The folder of the experiment is at the end of the path.
    places = [Path(place) for place in (*reversed(sys.path), ".")]
    path = next((place / name for place in places if (place / name).is_file()), None)
    if path is None:
        raise SimulatorError(
            "does not exist beside the experiment file",
            field=field,
            value=name,
            allowed=allowed,
            hint="correct the name, or copy the file there",
        )
    return path.resolve()
