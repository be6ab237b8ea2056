"""A bare machine: the real start-up script on a root filesystem and in a network of its own."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import psutil

from drillyard.system.operating_system import OWN_SESSION
from drillyard.system.processes import ProcessId
from drillyard_emulators.bare.network import Fabric
from drillyard_emulators.http.machines import Machine

_HERE = Path(__file__).parent
_NAMESPACES = ("--mount", "--pid", "--net", "--uts", "--ipc", "--fork", "--kill-child=KILL")
_ENTER = ("--mount", "--pid", "--net", "--uts", "--ipc", "--root", "--wd")
_GROUP = "drillyard-bare-"
_BYTES = 1 << 20
_RELEASE_S = 10.0


@dataclass(slots=True)
class Hardware:
    """What a bare machine has.

    Attributes:
        root: Its root filesystem, which is only read.
        disk_mb: Size of its disk, which begins with what the root filesystem has.
        memory_mb: What its processes may use together; 0 for what the host has.
        clock_s: By how much its wall clock is ahead; the root filesystem needs libfaketime.
        driver: Version of NVIDIA's driver; it then has a card, of which only this can be seen.
        driver_after_s: Seconds from its boot until the driver answers.
    """

    root: Path
    disk_mb: int = 20_000
    memory_mb: int = 0
    clock_s: int = 0
    driver: str = ""
    driver_after_s: int = 0


class BareMachine(Machine):
    """A machine with nothing of this computer but its kernel.

    Args:
        name: Its name and host name.
        machine_id: Its mark, which only the process that holds its namespaces carries.
        folder: With its disk; removed at power-off.
        serial: What its serial port said; stays.
        env: The emulator's mark.
        startup: The start-up script.
        shutdown: The script that runs when it is told to stop.
        fabric: Its network.
        authority: Certificate of the authority that it shall trust.
        hardware: What it has.
        container: Whether it ends with its script.
    """

    def __init__(
        self,
        name: str,
        machine_id: str,
        folder: Path,
        serial: Path,
        env: Mapping[str, str],
        startup: str,
        shutdown: str,
        fabric: Fabric,
        authority: Path,
        hardware: Hardware,
        container: bool = False,
    ) -> None:
        self._hardware = hardware
        link, self.address = fabric.next_link()
        self._boot = {
            "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            "NAME": name,
            "FOLDER": str(folder),
            "ROOT": str(hardware.root),
            "FABRIC": str(fabric.pid),
            "LINK": link,
            "ADDRESS": self.address,
            "AUTHORITY": str(authority),
            "DISK_MB": str(hardware.disk_mb),
            "CLOCK_S": f"{hardware.clock_s:+d}",
            "DRIVER": hardware.driver,
            "DRIVER_AFTER_S": str(hardware.driver_after_s),
            "CONTAINER": "yes" if container else "",
        }
        self._group = _memory_group(machine_id, hardware.memory_mb)
        super().__init__(name, machine_id, folder, serial, env, startup or "#!/bin/sh\n", shutdown)

    def wait_off(self) -> None:
        """Waits until it is off, by itself or by the power button."""
        assert self._script is not None
        self._script.wait()

    def cut(self) -> None:
        """Cut the power: nothing of it is left when this returns."""
        super().cut()
        # The kernel lets go of disk and group a moment after the last process.
        deadline = time.monotonic() + _RELEASE_S
        while time.monotonic() < deadline and not self._released():
            time.sleep(0.02)

    def _released(self) -> bool:
        if self._group is not None:
            with contextlib.suppress(OSError):
                self._group.rmdir()
        return not _loops(self.folder) and (self._group is None or not self._group.exists())

    def _processes(self) -> Iterator[ProcessId]:
        yield from super()._processes()
        first = self._first()
        if first is None:
            return
        space = _space(first)
        for pid in psutil.pids():
            if space is not None and _space(pid) == space:
                process = ProcessId.of(pid)
                if process is not None:
                    yield process

    def _first(self) -> int | None:
        """The first process of the machine, as this host numbers it."""
        if self._script is None:
            return None
        pid = self._script.pid
        with contextlib.suppress(OSError, IndexError, ValueError):
            return int(Path(f"/proc/{pid}/task/{pid}/children").read_text().split()[0])
        return None

    def _run(self, name: str, text: str) -> subprocess.Popen[bytes]:
        env = {**self._env, **self._boot}
        if name == "startup-script":
            (self.folder / name).write_text(text)
            for script in ("boot.sh", "init.sh"):
                shutil.copy(_HERE / script, self.folder)
            command = ["unshare", *_NAMESPACES, "bash", str(self.folder / "boot.sh")]
            if self._group is not None:
                enter = f'echo $$ >{self._group}/cgroup.procs; exec "$@"'
                command = ["bash", "-c", enter, "bash", *command]
        else:
            inside = ["env", "-i", f"PATH={self._boot['PATH']}", "bash", "-c", text]
            target = str(self._first() or "")
            command = ["nsenter", "--target", target, *_ENTER, *inside]
        return subprocess.Popen(
            command,
            cwd="/",
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=self._output,
            stderr=subprocess.STDOUT,
            **OWN_SESSION,
        )


def _loops(folder: Path) -> list[Path]:
    """The loop devices whose file is in a folder."""
    loops = []
    for file in Path("/sys/block").glob("loop*/loop/backing_file"):
        with contextlib.suppress(OSError):
            if file.read_text().startswith(f"{folder}/"):
                loops.append(file)
    return loops


def _space(pid: int) -> str | None:
    """The process namespace of a process."""
    with contextlib.suppress(OSError):
        return os.readlink(f"/proc/{pid}/ns/pid")
    return None


def _memory_group(machine_id: str, megabytes: int) -> Path | None:
    """Makes a control group with a limit; removes those that killed emulators left.

    The kernel refuses to remove one that has processes.
    """
    first = Path("/sys/fs/cgroup/memory")
    above, limit = (
        (first, "memory.limit_in_bytes")
        if first.is_dir()
        else (Path("/sys/fs/cgroup"), "memory.max")
    )
    for old in above.glob(f"{_GROUP}*"):
        with contextlib.suppress(OSError):
            old.rmdir()
    if not megabytes:
        return None
    group = above / f"{_GROUP}{machine_id}-{os.getpid()}"
    group.mkdir()
    (group / limit).write_text(str(megabytes * _BYTES))
    return group
