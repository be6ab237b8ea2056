"""Processes of this machine."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from drillyard.system.processes import ProcessId, marked

pytestmark = pytest.mark.heavy

LARGE = "data = bytearray(b'x') * (512 << 20); print(flush=True); input()"


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
