"""Processes of this machine, and their reference cycles."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from drillyard.system.processes import ProcessId, marked
from tests.helpers.processes import run_process

# -- Processes of this machine ----------------------------------------------------------------


LARGE = "data = bytearray(b'x') * (512 << 20); print(flush=True); input()"


@pytest.mark.heavy
def test_whoever_has_no_environment_any_more_is_not_alive():
    # Freeing half a gigabyte takes the kernel a while in which the process is no zombie yet.
    process = subprocess.Popen(
        [sys.executable, "-c", LARGE],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=os.environ | {"DRILLYARD_LEASE": "dy-large"},
    )
    process.stdout.readline()
    found = ProcessId.of(process.pid)
    assert list(marked("dy-large")) == [found]
    process.kill()
    while environment(process):
        pass
    assert not found.alive()
    process.communicate()


def environment(process: subprocess.Popen[bytes]) -> bool:
    """Whether the process can be found by its mark."""
    try:
        return b"DRILLYARD_LEASE" in Path(f"/proc/{process.pid}/environ").read_bytes()
    except ProcessLookupError:
        return False


# -- What a process of drillyard's own does about reference cycles ----------------------------


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
