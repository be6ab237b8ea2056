"""The edge around a worker's steps: what hangs there does not hold up the end of a process."""

import subprocess
import sys
import threading

import pytest

from drillyard.worker.loop import within
from tests.helpers.patience import PATIENCE_S

HANGS = """
import sys, threading
from drillyard.worker.loop import exit_after
event = threading.Event()
exit_after(event, 0.1, code=7)
threading.Thread(target=threading.Event().wait).start()  # the interpreter would wait for it
print("hangs", flush=True)
sys.stdin.readline()
event.set()
"""


def test_what_is_done_in_time_and_what_is_not():
    never = threading.Event()
    done = []
    assert within(PATIENCE_S, lambda: done.append(1)) and done == [1]
    assert not within(0.01, never.wait)
    assert not within(PATIENCE_S, lambda: 1 / 0)
    never.set()


@pytest.mark.heavy
def test_a_process_that_hangs_at_its_end_is_ended():
    with subprocess.Popen(
        [sys.executable, "-c", HANGS], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout.readline() == "hangs\n"
        assert process.poll() is None
        process.stdin.write("\n")
        process.stdin.flush()
        assert process.wait(PATIENCE_S) == 7
