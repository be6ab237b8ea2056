"""What bare machines need, kept for the user who runs the tests."""

from __future__ import annotations

import os

import pytest

from drillyard_backends.gcp.wheelhouse import EXTRAS
from drillyard_emulators.bare.root import Recipe, cache, root_of, unable
from drillyard_emulators.bare.wheels import wheelhouse
from tests.helpers import process_rules

# Read before the tests get a home of their own.
CACHE = cache()


@pytest.fixture(scope="session")
def roots():
    """Builds root filesystems by their recipe; skips where bare machines cannot run."""
    if why := unable():
        pytest.skip(f"bare machines cannot run here: {why}")
    return lambda recipe: root_of(recipe, CACHE)


@pytest.fixture(scope="session")
def debian(roots):
    """Debian 12 with Python, and without its venv, as Google's own image has it."""
    return roots(Recipe())


@pytest.fixture(scope="session")
def wheels(debian, tmp_path_factory):
    """The folder of a wheelhouse for what needs no torch."""
    return _wheels(tmp_path_factory.mktemp("wheels"), "gcs")


@pytest.fixture(scope="session")
def every_wheel(debian, tmp_path_factory):
    """The same, for what trains agents."""
    return _wheels(tmp_path_factory.mktemp("wheels"), EXTRAS)


def _wheels(folder, extras):
    os.environ[process_rules.EXEMPT] = "pip asks an index"
    try:
        return wheelhouse(folder, CACHE, extras)
    finally:
        del os.environ[process_rules.EXEMPT]
