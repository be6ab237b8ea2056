"""Root filesystems of bare machines, kept for the user who runs the tests."""

from __future__ import annotations

import functools
from pathlib import Path

import pytest

from drillyard_emulators.bare.root import Recipe, root_of, unable
from tests.machines.wheels import wheelhouse

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


@pytest.fixture(scope="session")
def wheels(tmp_path_factory):
    """Returns the folder of a wheelhouse with these extras of drillyard."""

    @functools.cache
    def folder(extras: str) -> Path:
        return wheelhouse(tmp_path_factory.mktemp("wheels"), CACHE, extras)

    return folder
