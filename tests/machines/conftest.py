"""Root filesystems of bare machines, kept for the user who runs the tests."""

from __future__ import annotations

from pathlib import Path

import pytest

from drillyard_emulators.bare.root import Recipe, root_of, unable

# Read before the tests get a home of their own.
CACHE = Path.home() / ".cache" / "drillyard" / "machines"


@pytest.fixture(scope="session")
def roots():
    """Builds root filesystems by their recipe; skips where bare machines cannot run."""
    if why := unable():
        pytest.skip(why)
    return lambda recipe: root_of(recipe, CACHE)


@pytest.fixture(scope="session")
def debian(roots):
    """A plain Debian 12 with Python and its venv."""
    return roots(Recipe())
