"""A command that is done ends, whatever the threads of a library do."""

import sys

import pytest

from tests.helpers.processes import run_process

CODE = """
import sys, threading
import drillyard.cli.main as cli
from drillyard.cli import start

def done():
    threading.Thread(target=threading.Event().wait).start()  # the interpreter waits for it
    print("done")
    return 3

cli.main, start.EXIT_S = done, 0.5
sys.exit(start.main())
"""


@pytest.mark.heavy
def test_a_thread_that_hangs_does_not_hold_up_the_end():
    done = run_process([sys.executable, "-c", CODE])
    assert (done.returncode, done.stdout) == (3, "done\n")
