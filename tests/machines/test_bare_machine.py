"""A bare machine has nothing of this computer, reaches emulated services alone, leaves nothing."""

import os
import signal
import uuid
from pathlib import Path

import pytest
import trustme

from drillyard.system.processes import marked
from drillyard_emulators.bare.machine import BareMachine, Hardware
from drillyard_emulators.bare.network import GOOGLE, Fabric
from drillyard_emulators.http.handle import GcpEmulator
from drillyard_emulators.http.machines import EMULATOR_MARK
from drillyard_emulators.http.wire import Listener, Response, converse
from tests.helpers.compute_client import ZONE, Compute
from tests.helpers.patience import until
from tests.helpers.processes import run_process

pytestmark = pytest.mark.heavy
HOST = "storage.googleapis.com"


class Bench:
    """Bare machines with one service.

    Args:
        folder: For their disks.
        root: Their root filesystem.
    """

    def __init__(self, folder: Path, root: Path) -> None:
        self.folder, self.root = folder, root
        self.mark = {EMULATOR_MARK: uuid.uuid4().hex}
        self.authority = folder / "ca.pem"
        trustme.CA().cert_pem.write_to_path(str(self.authority))
        self.fabric = Fabric(self.mark, [HOST])
        self._machines: list[BareMachine] = []

    def boot(self, script: str, **hardware: int) -> BareMachine:
        """Starts a machine."""
        number = f"{uuid.uuid4().int % 10**12}"
        machine = BareMachine(
            f"bare-{len(self._machines)}",
            number,
            self.folder / number,
            self.folder / f"{number}.serial",
            self.mark,
            f"#!/usr/bin/env bash\n{script}\n",
            "echo shutting down",
            self.fabric,
            self.authority,
            Hardware(self.root, **hardware),
        )
        self._machines.append(machine)
        return machine

    def said(self, script: str, **hardware: int) -> str:
        """What a start-up script printed, when it has ended."""
        machine = self.boot(script, **hardware)
        until(
            lambda: "exit status" in machine.serial.read_text() or machine.code is not None,
            what="the script's end",
        )
        machine.cut()
        return machine.serial.read_text()

    def close(self) -> None:
        """Ends all of it."""
        for machine in self._machines:
            machine.cut()
        self.fabric.close()


@pytest.fixture
def bench(tmp_path, debian):
    made = Bench(tmp_path, debian)
    yield made
    made.close()
    assert not list(marked(made.mark[EMULATOR_MARK], EMULATOR_MARK))
    assert str(tmp_path) not in Path("/proc/mounts").read_text()
    assert not _loops(str(tmp_path))
    assert not list(Path("/sys/fs/cgroup").glob("**/drillyard-bare-*"))


def _loops(folder: str) -> list[Path]:
    loops = Path("/sys/block").glob("loop*/loop/backing_file")
    return [loop for loop in loops if folder in loop.read_text()]


def test_it_has_nothing_of_this_computer(bench, monkeypatch):
    monkeypatch.setenv("OF_THE_HOST", "yes")
    said = bench.said(
        f"env; echo in $PWD as $(id -u) on $(hostname); test -e {Path(__file__)} || echo none\n"
        "cat /proc/*/environ | tr '\\0' '\\n' | grep -c -e OF_THE_HOST -e EMULATOR\n"
        "df --output=size --block-size=M / | tail -1; python3 --version\n"
        "ls /proc | grep -c '^[0-9]'"
    )
    assert "in / as 0 on bare-0" in said and "none" in said and "Python 3.11" in said, said
    names = {line.partition("=")[0] for line in said.splitlines() if "=" in line}
    usual = {"PATH", "INVOCATION_ID", "REQUESTS_CA_BUNDLE", "PWD", "SHLVL", "_"}
    assert names == usual
    lines = said.splitlines()
    assert lines[lines.index("none") + 1] == "0"
    assert int(lines[-4].strip().removesuffix("M")) < 20_000
    assert int(lines[-2]) < 8  # its own processes
    assert lines[-1] == "startup-script exit status 0"


def test_it_reaches_the_emulated_services_and_nothing_else(bench):
    answer = Response(200, b"from the service\n")
    service = bench.fabric.listen(GOOGLE, 80)
    door = Listener(lambda connection: converse(connection, lambda _: answer), service)
    try:
        said = bench.said(
            f"getent hosts {HOST} pypi.org\n"
            f"curl -s -m 20 http://{HOST}/\n"
            "curl -s -m 2 http://pypi.org/; echo internet $?\n"
            f"curl -s -m 2 http://{os.uname().nodename}/; echo host $?"
        )
    finally:
        door.close()
    assert GOOGLE in said and "from the service" in said
    assert "internet 28" in said and "host 28" in said


def test_a_resolver_that_is_silent(bench):
    bench.fabric.silence_names(True)
    assert "name 28" in bench.said(f"curl -s -m 2 http://{HOST}/; echo name $?")
    bench.fabric.silence_names(False)
    assert GOOGLE in bench.said(f"getent hosts {HOST}")


def test_its_disk_its_memory_and_its_clock_have_limits(bench):
    said = bench.said(
        "head -c 60M /dev/zero >/var/tmp/big; echo disk $?\n"
        "python3 -c 'bytearray(200_000_000)'; echo memory $?\n"
        "date +%s",
        disk_mb=50,
        memory_mb=150,
        clock_s=3600,
    )
    assert "No space left on device" in said and "disk 1" in said, said
    assert "memory 137" in said
    stamp = int(said.splitlines()[-2])
    assert 3500 < stamp - os.stat(bench.folder / "ca.pem").st_mtime < 3900


def test_the_power_button_is_heard_and_a_power_off_ends_it(bench):
    machine = bench.boot('trap "echo heard; exit" TERM; echo ready; while :; do sleep 0.1; done')
    until(lambda: "ready" in machine.serial.read_text(), what="the script")
    off: list[bool] = []
    machine.shut_down(60.0, lambda: off.append(True))
    until(lambda: off, what="the machine's end")
    said = machine.serial.read_text()
    assert "heard" in said and "shutting down" in said
    machine = bench.boot("systemctl poweroff; sleep 600")
    machine.wait_off()


def test_a_killed_emulator_leaves_no_machine(tmp_path, debian):
    options = ("--image", str(debian))
    with GcpEmulator(tmp_path, module="drillyard_emulators.gcp.bare", options=options) as cloud:
        compute = Compute(cloud)
        script = "#!/bin/sh\necho here; sleep 600 & sleep 601"
        properties = {"metadata": {"items": [{"key": "startup-script", "value": script}]}}
        cloud.ask("template", name="one", properties=properties)
        request = {
            "project": cloud.project,
            "zone": ZONE,
            "instance_resource": {"name": "one"},
            "source_instance_template": "global/instanceTemplates/one",
        }
        compute.instances.insert_unary(request=request)
        until(lambda: "here" in cloud.serial("one"), what="the machine")
        folder = str(tmp_path / "machines")
        lives = ["pgrep", "-f", "sleep 601"]
        assert run_process(lives).returncode == 0
        os.kill(cloud.pid, signal.SIGKILL)
        until(
            lambda: run_process(lives).returncode == 1,
            what="the end of its processes",
        )
        until(lambda: not _loops(folder), what="the end of its disk")
