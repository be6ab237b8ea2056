"""Processes of this machine."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from drillyard.system.processes import GIVE_WAY, ProcessId, marked

pytestmark = pytest.mark.heavy

AUTOGROUP = Path("/proc/self/autogroup")
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


GIVES_WAY = """\
import os
from pathlib import Path
from drillyard.system.processes import give_way
give_way()
print(os.nice(0), Path("/proc/self/autogroup").read_text().split()[-1])
"""


@pytest.mark.skipif(not AUTOGROUP.exists(), reason="this kernel groups no sessions")
@pytest.mark.parametrize("own_session", [True, False])
def test_whoever_gives_way_lowers_its_own_session_and_no_other(own_session: bool):
    given = subprocess.run(
        [sys.executable, "-c", GIVES_WAY],
        start_new_session=own_session,
        capture_output=True,
        text=True,
        check=True,
    )
    niceness, group = map(int, given.stdout.split())
    assert niceness == min(19, os.nice(0) + GIVE_WAY)
    assert group == (GIVE_WAY if own_session else int(AUTOGROUP.read_text().split()[-1]))
