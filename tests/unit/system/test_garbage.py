"""What a process of drillyard's own does about reference cycles."""

import sys

import pytest

from tests.helpers.processes import run_process

CODE = """
import atexit, gc
atexit.register(lambda: print(gc.get_freeze_count() > 100))
from drillyard.system.garbage import NEW_OBJECTS, look_rarely
look_rarely()
print(gc.isenabled(), gc.get_threshold()[0] == NEW_OBJECTS, gc.get_freeze_count())
"""


@pytest.mark.heavy
def test_it_looks_rarely_and_not_at_the_end():
    done = run_process([sys.executable, "-c", CODE], check=True)
    assert done.stdout.split() == ["True", "True", "0", "True"]
