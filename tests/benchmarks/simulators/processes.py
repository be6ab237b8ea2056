"""Checks and trains a pair in a process that may hang, crash or use up the memory."""

from __future__ import annotations

import contextlib
import hashlib
import importlib
import json
import os
import resource
import signal
import subprocess
import sys
import time
import traceback
import types
from pathlib import Path
from typing import Any

from tests.benchmarks.simulators.worlds import file_of

LIMIT_S = 180.0
CHECK_S = 400.0
"""Seconds for a check: the short training alone may take two minutes of them."""
REFUSED_S = 60.0
"""Seconds for the training of what `check` refused: a simulator that hangs has no end."""
MEMORY = 6 << 30
"""Bytes that a training may use."""


def one(part: str, file: Path) -> None:
    """Check or train in this process; prints one line of JSON."""
    from drillyard.spec.load import load

    loaded = load(file)
    answer: dict[str, Any]
    if part == "check":
        from drillyard.checks.experiment import check

        findings = check(loaded, store=str(file.parent / "runs"), speed=True)
        wrong = [f for f in findings if f.severity == "error"]
        answer = {
            "refused": [f.message for f in wrong],
            "fixed": all(f.fix for f in wrong),
            "trial": [f.message for f in findings if f.subject == "training"],
            "endless": any("never ends" in f.message for f in findings),
        }
    else:
        from drillyard.mailbox.records import Phase
        from drillyard.registry import load as load_registered
        from drillyard.testing.phases import OneRun

        resource.setrlimit(resource.RLIMIT_DATA, (MEMORY, MEMORY))  # the machine has other users
        workload = load_registered("workloads", "rl")()
        run = OneRun(file.parent / "run", loaded.spec, workload)
        trained = run.phase(Phase.TRAIN)
        answer = {"steps": trained.summary["steps"]}
        tell(answer)
        run.phase(Phase.EVALUATE)
        answer["evaluated"] = True
    tell(answer)


def try_one(part: str, file: Path) -> int:
    """Check or train in this process, and tell how that failed; the exit code."""
    try:
        one(part, file)
    except BaseException as error:
        traceback.print_exc()
        said = f"{type(error).__name__}: {error}".splitlines()[0]
        tell({"failed": said[:200], "bug": is_our_bug(part, error)})
        return 1
    return 0


def is_our_bug(part: str, error: BaseException) -> bool:
    """Whether a command would call it our bug; of a training, whether our own code raised it."""
    from drillyard.cli.exit_codes import exit_code
    from drillyard.errors import ExitCode

    if exit_code(error) is not ExitCode.BUG or isinstance(error, SystemExit):
        return False
    frames = traceback.extract_tb(error.__traceback__)
    return part == "check" or "/src/drillyard/" in frames[-1].filename


def tell(answer: dict[str, Any]) -> None:
    """Print an answer, where the process that asked finds it."""
    sys.stdout.write("\n@" + json.dumps(answer) + "\n")
    sys.stdout.flush()


class Forked:
    """Stands in for ``subprocess.Popen`` of the process that tries a training."""

    def __init__(self, command: list[str], **more: Any) -> None:
        reads, writes = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            os.setsid()
            os.dup2(reads, 0)
            os.dup2(more["stdout"].fileno(), 1)
            os.dup2(more["stdout"].fileno(), 2)
            os.close(writes)
            os.chdir(more["cwd"])
            sys.stdin, sys.argv = os.fdopen(0), command[2:]
            from drillyard.checks.trial_process import main

            main()
        os.close(reads)
        self.stdin = os.fdopen(writes, "wb")
        self._code: int | None = None

    def kill(self) -> None:
        """It has ended before."""

    def wait(self) -> int:
        """The exit code, negative for a signal."""
        if self._code is None:
            self._code = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        return self._code


def prepare(home: Path) -> None:
    """Import what every part needs, and let the checks fork although PyTorch is imported.

    Args:
        home: A folder for what a command would keep in the user's home.
    """
    os.environ["DRILLYARD_HOME"] = str(home)
    import torch

    import drillyard.learners.determinism
    import drillyard.learners.sb3
    import drillyard.workloads.rl
    from drillyard import registry
    from drillyard.checks import trial
    from drillyard.system import watchdog

    torch.set_num_threads(1)
    drillyard.learners.determinism.import_compiler()
    _import_again(_modules_of_a_run(home))
    for kind in registry.KINDS:  # is kept: each look reads every package
        registry.names(kind)
    known = {name: module for name, module in sys.modules.items() if name != "torch"}
    watchdog.sys = types.SimpleNamespace(  # type: ignore[attr-defined,assignment]
        modules=known, platform=sys.platform, stdout=sys.stdout, stderr=sys.stderr
    )
    trial.subprocess = types.SimpleNamespace(  # type: ignore[attr-defined,assignment]
        Popen=Forked, PIPE=subprocess.PIPE
    )
    # Each pair is tried anew, so what was tried needs no key over all packages.
    trial.fingerprint = lambda loaded: hashlib.sha256(os.urandom(8)).hexdigest()


def _modules_of_a_run(home: Path) -> list[str]:
    """What a check and a training import, as a child of this process says."""
    folder = home / "first"
    folder.mkdir()
    file, names = folder / "world.json", folder / "modules.txt"
    file.write_text(json.dumps(file_of({"id": "CartPole-v1"}, "ppo", 64)))
    pid = os.fork()
    if pid == 0:
        with open(os.devnull, "wb") as nothing:
            os.dup2(nothing.fileno(), 1)
        one("check", file)
        one("train", file)
        names.write_text("\n".join(sys.modules))
        os._exit(0)
    os.waitpid(pid, 0)
    return names.read_text().split("\n")


def _import_again(names: list[str]) -> None:
    for name in names:
        if name not in sys.modules and not name.startswith(("jax", "tests.", "__")):
            with contextlib.suppress(Exception):
                importlib.import_module(name)


def forked(part: str, file: Path, limit_s: float) -> dict[str, Any]:
    """The answer of a child of this process, or how it failed."""
    began = time.monotonic()
    output = file.parent / f"{part}.txt"
    pid = os.fork()
    if pid == 0:
        os.setsid()
        with open(output, "wb") as to:
            os.dup2(to.fileno(), 1)
            os.dup2(to.fileno(), 2)
        code = try_one(part, file)
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    while os.waitpid(pid, os.WNOHANG) == (0, 0):
        time.sleep(0.05)
        if time.monotonic() - began > limit_s:
            os.killpg(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            return _unfinished(output.read_text(errors="replace"), time.monotonic() - began)
    return answered(output.read_text(errors="replace"), time.monotonic() - began)


def answered(text: str, taken: float) -> dict[str, Any]:
    """The answer among the lines of a process."""
    lines = [line for line in text.splitlines() if line.strip()]
    answer: dict[str, Any] = {}
    for line in lines:
        answer |= json.loads(line[1:]) if line.startswith("@{") else {}
    if answer:
        return {**answer, "s": taken}
    return {"failed": lines[-1][:200] if lines else f"nothing within {taken:.0f} s", "s": taken}


def _unfinished(text: str, taken: float) -> dict[str, Any]:
    """The answer of a process that was ended because it took too long."""
    found = answered(text, taken)
    if "steps" in found:
        return found
    return {**found, "failed": f"nothing within {taken:.0f} s", "unfinished": True}


def called(part: str, file: Path, limit_s: float) -> dict[str, Any]:
    """The answer of a new process, or how it failed."""
    began = time.monotonic()
    try:
        done = subprocess.run(
            [sys.executable, "-m", "tests.benchmarks.simulators", "--one", part, str(file)],
            capture_output=True,
            text=True,
            timeout=limit_s,
            check=False,
            env={**os.environ, "OMP_NUM_THREADS": "1", "SDL_VIDEODRIVER": "dummy"},
        )
    except subprocess.TimeoutExpired as slow:
        text = slow.stdout or b""
        return _unfinished(text.decode() if isinstance(text, bytes) else text, limit_s)
    return answered(done.stderr + done.stdout, time.monotonic() - began)
