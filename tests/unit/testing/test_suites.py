"""The shipped suites as all of this session's tests have left them."""

import importlib
import inspect
from pathlib import Path

import drillyard.testing


def test_no_user_of_a_suite_has_marked_its_tests_slow():
    """``slow(Suite.test_x)`` marks the suite's own function: it is slow for all of its users."""
    folder = Path(drillyard.testing.__file__).parent
    tests = [
        (name, function)
        for path in folder.glob("*_suite.py")
        for _, kind in inspect.getmembers(
            importlib.import_module(f"drillyard.testing.{path.stem}"), inspect.isclass
        )
        for name, function in inspect.getmembers(kind, inspect.isfunction)
        if name.startswith("test_")
    ]
    assert len(tests) > 40
    marked = [n for n, f in tests if "slow" in [m.name for m in getattr(f, "pytestmark", [])]]
    assert marked == []
