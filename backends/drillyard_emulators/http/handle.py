"""Controls a running emulator, for tests and for ``drillyard rehearse``."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from drillyard.documents.json_types import JsonView
from drillyard.errors import InfrastructureError, UserError
from drillyard.system.operating_system import OWN_SESSION
from drillyard_emulators.http.states import CloudState, ExchangeState

_DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))


class Emulator:
    """An emulated cloud in a process of its own; it ends with this handle or its process.

    Args:
        module: The program.
        folder: Its own folder.
        speed: Emulated seconds a real second; 0 stands still and moves by ``advance``.
        seed: Seed of the random faults.
        bodies: Record JSON bodies.
        options: Further options of the program.

    Raises:
        InfrastructureError: It did not start.
    """

    def __init__(
        self,
        module: str,
        folder: Path,
        speed: float = 1.0,
        seed: int = 0,
        bodies: bool = False,
        options: tuple[str, ...] = (),
    ) -> None:
        command = [sys.executable, "-m", module, "--folder", str(folder)]
        command += ["--speed", str(speed), "--seed", str(seed)]
        command += ["--parent", str(os.getpid()), *(["--bodies"] if bodies else []), *options]
        folder.mkdir(parents=True, exist_ok=True)
        self._errors = folder / "emulator.log"
        with self._errors.open("wb") as errors:
            # Ctrl-C reaches every process of a terminal's group. The experiment that it stops
            # still needs the cloud, to keep its results and to end its machines.
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=errors,
                **OWN_SESSION,
            )
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            self._process.wait()
            text = self._errors.read_text(errors="replace").strip() or "it said nothing"
            raise InfrastructureError(
                f"the emulated cloud did not start: {text.splitlines()[-1]}",
                hint=f"the whole text is in {self._errors}",
            )
        greeting = self.greeting = json.loads(line)
        self.env: dict[str, str] = greeting["env"]
        self.control_url: str = greeting["control"]
        self.folder = folder
        self.pid = self._process.pid

    def __enter__(self) -> Self:
        """Itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """End it."""
        self.close()

    def environ(self, base: Mapping[str, str] | None = None, **more: str) -> dict[str, str]:
        """An environment for a client: the usual one (or ``base``), the emulator's, and more."""
        return {**(os.environ if base is None else base), **self.env, **more}

    def ask(self, verb: str, **arguments: JsonView) -> Any:
        """Ask the emulator itself.

        Raises:
            UserError: It refuses the request.
            InfrastructureError: It is gone.
        """
        request = urllib.request.Request(
            f"{self.control_url}/{verb}",
            data=json.dumps(arguments).encode(),
            headers={"Content-Type": "application/json"},
        )
        try:
            with _DIRECT.open(request, timeout=60) as answer:
                return json.loads(answer.read())
        except urllib.error.HTTPError as error:
            why = json.loads(error.read())["error"]["message"]
            raise UserError(f"the emulated cloud cannot do that: {why}") from error
        except OSError as error:
            raise InfrastructureError(f"the emulated cloud does not answer: {error}") from error

    def state(self) -> CloudState:
        """Everything that exists, as the emulator records it."""
        state: CloudState = self.ask("state")
        return state

    def log(self, match: str = "", since: int = 0) -> list[ExchangeState]:
        """Requests whose ``METHOD host/path?query`` matches, in order."""
        exchanges: list[ExchangeState] = self.ask("log", match=match, since=since)
        return exchanges

    def fault(self, match: str, **rule: JsonView) -> None:
        """Put a rule in force: see ``drillyard_emulators.http.faults.FaultRule``."""
        self.ask("fault", match=match, **rule)

    def clear_faults(self) -> None:
        """Removes all rules."""
        self.ask("clear_faults")

    def advance(self, seconds: float) -> float:
        """Let emulated time pass at once; the new time."""
        return float(self.ask("advance", seconds=seconds))

    def physics(self, **changes: JsonView) -> None:
        """Change how the emulated cloud behaves: see ``compute.model.Physics``."""
        self.ask("physics", **changes)

    def happen(self, what: str, machine: str) -> None:
        """Let something happen to a machine: ``preempt``, ``cut``, ``crash`` or ``hang``."""
        self.ask("happen", what=what, machine=machine)

    def serial(self, machine: str) -> str:
        """The output of a machine's serial port, also after its end."""
        return str(self.ask("serial", machine=machine))

    def wait(self, what: Callable[[CloudState], object], timeout_s: float = 600.0) -> CloudState:
        """Wait until the state is such; the state.

        Raises:
            TimeoutError: It never was.
        """
        deadline = time.monotonic() + timeout_s
        while True:
            state = self.state()
            if what(state):
                return state
            if time.monotonic() > deadline:
                raise TimeoutError(f"not within {timeout_s} s; the state is {state}")
            time.sleep(0.05)

    def close(self) -> None:
        """End it and all its machines; safe to repeat."""
        if self._process.poll() is None:
            self._process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(15)
            if self._process.poll() is None:
                self._process.kill()
                self._process.wait()
        if self._process.stdout is not None:
            self._process.stdout.close()


class GcpEmulator(Emulator):
    """An emulated Google Cloud.

    Use it as a context manager::

        with GcpEmulator(tmp_path / "gcp") as cloud:
            subprocess.run([...], env=cloud.environ())
            assert cloud.state()["machines"] == []

    Args:
        folder: Its own folder.
        project: Id of the project.
        module: The program: one that serves a cloud which can do more.
        options: Further options of the program.
        **settings: See ``Emulator``.
    """

    def __init__(
        self,
        folder: Path,
        project: str = "emulated-project",
        module: str = "drillyard_emulators.gcp.cloud",
        options: tuple[str, ...] = (),
        **settings: Any,
    ) -> None:
        options = ("--project", project, *options)
        super().__init__(module, folder, options=options, **settings)
        self.storage_url: str = self.greeting["storage"]
        """For ``STORAGE_EMULATOR_HOST``: the bucket store alone, plain and without tokens."""
        self.project: str = self.greeting["project"]
        self.service_account: str = self.greeting["service_account"]


class AzureEmulator(Emulator):
    """An emulated Azure with one Azure ML workspace; used as ``GcpEmulator`` is.

    Args:
        folder: Its own folder.
        module: The program: one that serves a cloud which can do more.
        **settings: See ``Emulator``.
    """

    def __init__(
        self, folder: Path, module: str = "drillyard_emulators.azure.cloud", **settings: Any
    ) -> None:
        super().__init__(module, folder, **settings)
        self.workspace: dict[str, str] = self.greeting["workspace"]
        """``subscription_id``, ``resource_group``, ``workspace_name``."""
        self.account: str = self.greeting["account"]
        """Name of the workspace's storage account."""
        self.container: str = self.greeting["container"]
        """Container of the workspace's own datastore."""
        self.identity: str = self.greeting["identity"]
        """Resource id of an identity for nodes, which may use the storage."""
