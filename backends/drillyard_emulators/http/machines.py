"""An emulated machine: a local process group that runs the real start-up script.

All its processes carry two marks in their environment (the emulator's and the machine's), so that
"power off" finds every one of them, also those that left their group or session. A guard process
ends them when the emulator itself is killed.
"""

from __future__ import annotations

import contextlib
import shlex
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from drillyard.system.operating_system import ENDINGS, OWN_SESSION, STOP, signal_group
from drillyard.system.processes import ProcessId, end, in_session, marked, send

EMULATOR_MARK = "DRILLYARD_EMULATOR"
MACHINE_MARK = "DRILLYARD_EMULATED_MACHINE"
_POLL_S = 0.1


class Machine:
    """One machine that is switched on.

    Args:
        name: Its name, for people.
        machine_id: Its mark.
        folder: Its disk; removed at power-off.
        serial: What its serial port said; stays.
        env: Environment of everything on it, whole: nothing of ours leaks in.
        startup: The start-up script.
        shutdown: The script that runs when it is told to stop.
    """

    def __init__(
        self,
        name: str,
        machine_id: str,
        folder: Path,
        serial: Path,
        env: Mapping[str, str],
        startup: str,
        shutdown: str = "",
    ) -> None:
        self.name, self.machine_id, self.serial = name, machine_id, serial
        self.folder, self._shutdown = folder, shutdown
        self._env = {**env, MACHINE_MARK: machine_id}
        # Every emulator counts its machines from the same number: the mark alone names several.
        self._whose = {k: v for k, v in env.items() if k == EMULATOR_MARK}
        self._ending = threading.Lock()
        (folder / "tmp").mkdir(parents=True, exist_ok=True)
        serial.parent.mkdir(parents=True, exist_ok=True)
        self._output = serial.open("ab")
        self._output.write(f"{name} boots\n".encode())
        self._output.flush()
        self._script = self._run("startup-script", startup) if startup else None
        self._leader = None if self._script is None else ProcessId.of(self._script.pid)

    @property
    def code(self) -> int | None:
        """Exit code of the start-up script; None while it runs, or where there is none."""
        return None if self._script is None else self._script.poll()

    def tell(self, number: signal.Signals) -> None:
        """Signal the group of the start-up script."""
        if self._script is not None:
            signal_group(self._script.pid, number)

    def freeze(self) -> None:
        """Everything on it stops, and stays."""
        for process in self._processes():
            send(process, STOP)

    def shut_down(self, grace_s: float, done: Callable[[], None]) -> None:
        """Ask it to stop (as the power button does), then cut the power; returns at once.

        Args:
            grace_s: Real seconds between the two.
            done: Called when none of its processes runs.
        """

        def work() -> None:
            with self._ending:
                try:
                    if self._shutdown:
                        self._run("shutdown-script", self._shutdown)
                    self.tell(signal.SIGTERM)
                    deadline = time.monotonic() + grace_s
                    while time.monotonic() < deadline and self._lives():
                        time.sleep(_POLL_S)
                finally:  # it must end in any case: a caller waits for it
                    self.cut()
                    done()

        threading.Thread(target=work, daemon=True, name=f"shut-down {self.name}").start()

    def cut(self) -> None:
        """Cut the power: nothing of it is left when this returns."""
        for _ in range(10):
            processes = list(self._processes())
            if not processes:
                break
            end(processes, 0.0)
        if self._script is not None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._script.wait(5.0)
        if not self._output.closed:
            self._output.close()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _lives(self) -> bool:
        if self._script is not None and self._script.poll() is None:
            return True
        return any(True for _ in self._processes())

    def _processes(self) -> Iterator[ProcessId]:
        yield from marked(self.machine_id, MACHINE_MARK, **self._whose)
        if self._leader is not None:
            # A program that sets its title (Ray's do) writes over the marks.
            yield from in_session(self._leader)

    def _run(self, name: str, text: str) -> subprocess.Popen[bytes]:
        script = self.folder / name
        script.write_text(text)
        # Not run by its name: the kernel refuses a file that is open for writing, and a
        # process that another thread starts at this moment inherits ours.
        first = text.partition("\n")[0]
        shell = shlex.split(first.removeprefix("#!")) if first.startswith("#!") else ["/bin/bash"]
        return subprocess.Popen(
            [*shell, str(script)],
            cwd=self.folder,
            env=self._env,
            stdin=subprocess.DEVNULL,
            stdout=self._output,
            stderr=subprocess.STDOUT,
            **OWN_SESSION,
        )


class Guard:
    """A process that outlives us only to end what we leave behind.

    Args:
        mark: The emulator's mark.
    """

    def __init__(self, mark: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "drillyard_emulators.http.machines", mark],
            stdin=subprocess.PIPE,
            **OWN_SESSION,
        )

    def close(self) -> None:
        """Let it look once more, and go."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(15.0)


def main() -> None:
    """Waits until the parent is gone; then ends every machine with its mark."""
    for number in ENDINGS:
        signal.signal(number, signal.SIG_IGN)
    while sys.stdin.buffer.read(1):
        pass
    for _ in range(10):
        processes = list(marked(sys.argv[1], EMULATOR_MARK))
        if not processes:
            return
        end(processes, 0.0)


if __name__ == "__main__":
    main()
