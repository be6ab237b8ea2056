"""Runs side by side: each has ports and GPUs of its own."""

import os
import signal
import socket
import subprocess
import sys
from contextlib import ExitStack

import pytest

from drillyard.worker import machine_share

HOLD = (
    "import sys, time\nfrom drillyard.worker.machine_share import ports\n"
    "with ports('same') as found:\n print(found[0], found[-1], flush=True)\n time.sleep(600)"
)


@pytest.mark.heavy
def test_nobody_is_given_the_ports_of_another_and_a_killed_one_gives_them_back():
    with machine_share.ports("same") as mine, machine_share.ports("same") as second:
        assert len(mine) == machine_share.SIZE - 1
        assert not set(mine) & set(second)
        child = subprocess.Popen([sys.executable, "-c", HOLD], stdout=subprocess.PIPE, text=True)
        first, last = map(int, child.stdout.readline().split())
        theirs = range(first, last + 1)
        assert not set(theirs) & {*mine, *second}
        for port in mine:  # all of them can be listened on
            with socket.create_server((machine_share.HOST, port)):
                pass
        child.send_signal(signal.SIGKILL)
        child.wait()
        child.stdout.close()
        with machine_share.ports("same") as again:
            assert again == theirs


@pytest.mark.heavy
def test_a_block_with_a_port_that_is_in_use_is_passed_over():
    with machine_share.ports("same") as mine:
        taken = mine[5]
    with ExitStack() as stack:
        stack.enter_context(socket.create_server((machine_share.HOST, taken)))
        assert taken not in stack.enter_context(machine_share.ports("same"))


@pytest.mark.parametrize(
    ("devices", "each", "dealt"),
    [
        (["0", "1", "2", "3"], 1, [("0",), ("1",), ("2",)]),
        (["4", "5", "6", "7"], 2, [("4", "5"), ("6", "7"), ("4", "5")]),
        (["0"], 1, [("0",), ("0",), ("0",)]),
        (["0"], 2, [("0",), ("0",), ("0",)]),
        (["0", "1"], 0, [(), (), ()]),
        ([], 1, [(), (), ()]),
    ],
)
def test_gpus_are_dealt_out_in_turn(devices, each, dealt):
    assert [machine_share.gpus(devices, place, each) for place in range(3)] == dealt


def test_a_run_is_told_its_share(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2, 5")
    assert machine_share.visible_gpus() == ["2", "5"]
    own = machine_share.gpus(machine_share.visible_gpus(), 1, 1)
    assert machine_share.variables(range(10240, 10303), own) == {
        "CUDA_VISIBLE_DEVICES": "5",
        "DRILLYARD_FIRST_PORT": "10240",
        "DRILLYARD_LAST_PORT": "10302",
    }
    assert machine_share.variables(range(0), ()) == {}
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "2, 5"
