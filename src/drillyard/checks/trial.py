"""Tries the training of an experiment in a process of its own, as a run would do it.

A crash, a hang or a lack of memory there is a finding. What was tried with success is remembered
with the code, the file and the versions that it was tried with.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import platform
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from functools import cache
from pathlib import Path

import psutil

from drillyard.backend.settings.experiment import packing
from drillyard.checks.trial_process import STACKS, Heard, read_line
from drillyard.documents.json_types import JsonObject
from drillyard.errors import ConfigError, UserError
from drillyard.findings import Finding, passed, problem, warning
from drillyard.leases.places import specs_of
from drillyard.runs.code_archive import BY_ENDING, unpack
from drillyard.runs.travelling import packed, remember_opened
from drillyard.spec.load import Loaded
from drillyard.system.files import write_file
from drillyard.system.home import local_home
from drillyard.system.lists import few
from drillyard.system.operating_system import OWN_SESSION, signal_group
from drillyard.system.stack_dump import place_of
from drillyard.system.version import VERSION

SUBJECT = "training"
LEARNS_S = 300.0
"""Longest silence outside the simulator in seconds: imports, compiling, updates."""
WHOLE_S = 120.0
"""After this many seconds of simulation and learning, the trial stops where it is."""
MEMORY = 0.9
"""Part of this machine's memory that the trial may use."""
_KEPT = 1000
"""Files about trials that are remembered: two each."""
_PEAK = ".peak"


def try_training(loaded: Loaded) -> list[Finding]:
    """Tries the training of an experiment.

    Args:
        loaded: An experiment whose simulator and learner have passed the other checks.

    Returns:
        One finding, or none if its workload has nothing to try.
    """
    if loaded.spec.simulator is None:
        return []
    key = fingerprint(loaded)
    known = _recall(key)
    if known is not None:
        return [passed(SUBJECT, f"{known} (tried before with the same code)")]
    scratch = Path(tempfile.mkdtemp(prefix="drillyard-trial-"))
    try:
        heard = _run(loaded, scratch)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    findings = _findings(loaded, heard)
    if heard.done and not heard.stopped and heard.error is None:
        if heard.opened:
            key = fingerprint(loaded)  # these travel too from now on
        _remember(key, heard.done)
        _remember(f"{key}{_PEAK}", str(heard.peak))
    return findings


def measured(loaded: Loaded) -> int | None:
    """Returns the most memory that the trial took, in bytes; None if it was not tried.

    A replay buffer takes its memory while it fills, and more copies of a simulator take more: a
    run takes at least so much.

    Args:
        loaded: An experiment that was tried.
    """
    text = _recall(f"{fingerprint(loaded)}{_PEAK}")
    return int(text) if text is not None and text.isdigit() else None


def fingerprint(loaded: Loaded) -> str:
    """Returns a hash over everything that decides whether a training works."""
    spec = loaded.spec.model_dump(mode="json", include={"simulator", "learner", "train"})
    digest = hashlib.sha256()
    parts: list[object] = [VERSION, sys.version, platform.platform(), spec]
    parts.append(sorted({p.name for entry in sys.path for p in Path(entry).glob("*.*-info")}))
    parts += [loaded.spec.parameters.model_dump(mode="json"), loaded.spec.seeds[:1]]
    digest.update(json.dumps(parts, sort_keys=True, default=str).encode())
    digest.update(_code(loaded) + _ours())
    return digest.hexdigest()


def _code(loaded: Loaded) -> bytes:
    """A hash of the files that travel to workers; where they cannot, of the Python files."""
    try:
        return packed(loaded).sha256.encode()
    except UserError:  # too large, or links: `run` says so if the experiment needs the folder
        return _python(sorted(loaded.folder.glob("*.py")))


@cache
def _ours() -> bytes:
    """A hash of drillyard's own code: a checkout changes without its version."""
    return _python(sorted(Path(__file__).resolve().parents[1].rglob("*.py")))


def _python(files: list[Path]) -> bytes:
    digest = hashlib.sha256()
    for path in files:
        digest.update(f"{path}\n".encode())
        with contextlib.suppress(OSError):  # it may not be read: the run says so if it needs it
            digest.update(path.read_bytes())
    return digest.digest()


def _run(loaded: Loaded, scratch: Path) -> Heard:
    """Starts the process, and listens until it is done, silent, dead or too large."""
    work = scratch / "work"
    watched: JsonObject = {**_placed(loaded, work)}
    order: JsonObject = {
        "watched": watched,
        "spec": loaded.spec.model_dump(mode="json", by_alias=True),
        "folder": str(loaded.folder),
        "path": [str(Path(entry).absolute()) for entry in sys.path if entry],
        "scratch": str(scratch),
        "whole_s": WHOLE_S,
    }
    reads, writes = os.pipe()
    with open(scratch / "output.txt", "wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "drillyard.checks.trial_process", str(writes)],
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=output,
            cwd=work,
            pass_fds=(writes,),
            **OWN_SESSION,
        )
    os.close(writes)
    os.set_blocking(reads, False)
    heard = Heard()
    try:
        assert process.stdin is not None
        try:
            process.stdin.write(json.dumps(order).encode())
            process.stdin.close()
        except BrokenPipeError:
            pass
        _listen(loaded, process, reads, heard, scratch / STACKS)
    finally:
        os.close(reads)
        _end(process)
    heard.output = _head(scratch / "output.txt")
    try:
        if heard.opened:
            remember_opened(loaded, heard.opened)
    except OSError:
        heard.opened.clear()  # the row about files warns that they stay
    return heard


def _placed(loaded: Loaded, work: Path) -> dict[str, str]:
    """Makes the working folder as a run has it, and links to files whose endings do not travel.

    Returns:
        Path of such a file -> its name in the folder.
    """
    try:
        bundle = packed(loaded)
    except UserError:  # as in `_code`
        work.symlink_to(loaded.folder.resolve(), target_is_directory=True)
        return {}
    unpack(bundle, work)
    folder, links = loaded.folder.resolve(), {}
    for name in (name for name, why in bundle.stays.items() if why == BY_ENDING):
        links[str(folder / name)] = name
        (work / name).parent.mkdir(parents=True, exist_ok=True)
        (work / name).symlink_to(folder / name)
    return links


def _listen(
    loaded: Loaded, process: subprocess.Popen[bytes], reads: int, heard: Heard, stacks: Path
) -> None:
    limit_s = loaded.spec.budget.check_s
    most = int(MEMORY * psutil.virtual_memory().total)
    last, text = time.monotonic(), b""
    while True:
        try:
            data = os.read(reads, 1 << 16)
        except BlockingIOError:
            data = None
        if data == b"":
            heard.exitcode = process.wait()
            return
        if data:
            text += data
            *lines, text = text.split(b"\n")
            for line in lines:
                if read_line(line, heard):
                    last = time.monotonic()
        allowed = limit_s if heard.inside else max(LEARNS_S, limit_s or 0.0)
        if allowed is not None and time.monotonic() - last > allowed:
            heard.silent_s = allowed
            if stacks.is_file():  # it is armed
                heard.where = place_of(process.pid, lambda: stacks.read_text(errors="replace"))
            return
        heard.peak = max(heard.peak, _memory(process.pid))
        if heard.peak > most:
            heard.too_large = most
            return
        time.sleep(0.05)


def _memory(pid: int) -> int:
    """Resident bytes of a process; 0 if it has just ended."""
    try:
        return int(psutil.Process(pid).memory_info().rss)
    except psutil.Error:
        return 0


def _end(process: subprocess.Popen[bytes]) -> None:
    if not signal_group(process.pid):
        process.kill()
    process.wait()


def _head(path: Path) -> str:
    with open(path, "rb") as file:
        return file.read(4000).decode(errors="replace")


def _findings(loaded: Loaded, heard: Heard) -> list[Finding]:
    """What the process reported, or how it ended."""
    simulator = heard.inside or "the learner"
    if heard.error is not None:
        return [_refusal(loaded, heard.error)]
    if heard.silent_s is not None:
        return [
            _error(
                f"no sign of life for {heard.silent_s:g} s in: {simulator}"
                + (f" ({heard.where})" if heard.where else ""),
                "fix the simulator; or if it needs that long: --set budget.check_s=120",
            )
        ]
    if heard.too_large is not None:
        needs = f"it needs more than the {heard.too_large / 2**30:.1f} GiB of memory here"
        fix = "make observations, networks or the replay buffer (buffer_size) smaller"
        if loaded.spec.places != ("local",):
            # The machines that train may have more memory than the one that checks.
            return [warning(SUBJECT, f"{needs}; the training was not tried", fix)]
        return [_error(needs, fix)]
    if heard.stopped:
        return [
            warning(
                SUBJECT,
                f"a trial was stopped after {WHOLE_S:g} s, in: {simulator}; nothing had failed",
                "the simulator is slow, so the whole training was not tried",
            )
        ]
    if heard.done is None:
        return [
            _error(
                f"{_ending(heard.exitcode)} in: {simulator}",
                "native code crashed, or the simulator called os._exit, or memory ran out; a run "
                "would end in the same way",
            )
        ]
    more = f"; it opened {few(heard.opened, 5)}: travels too from now on" if heard.opened else ""
    return [passed(SUBJECT, f"{heard.done}{more}")] if heard.done else []


def _ending(code: int | None) -> str:
    if code is not None and code < 0:
        try:
            return f"it ended the process with {signal.Signals(-code).name}"
        except ValueError:
            pass
    return f"it ended the process with code {code}"


def _error(message: str, fix: str) -> Finding:
    return problem(SUBJECT, message, fix)


def _refusal(loaded: Loaded, error: JsonObject) -> Finding:
    """An exception of the trial as a finding, with its field if it has one."""
    learner = loaded.spec.learner
    algorithm = learner.algorithm if learner is not None else "the learner"
    message, hint = str(error.get("message")), error.get("hint")
    fix = (
        str(hint) if hint else f"choose another algorithm than {algorithm}, or wrap the simulator"
    )
    field = error.get("field")
    if not field:
        return _error(message, fix)
    refused = ConfigError(
        message,
        field=str(field),
        value=error.get("value"),
        allowed=str(error["allowed"]) if error.get("allowed") else None,
        hint=fix,
    )
    return problem(str(field), message, fix, refused)


def _place() -> Path:
    return local_home() / "trials"


def _recall(key: str) -> str | None:
    """What a trial with this fingerprint did; None if there was none."""
    try:
        text = (_place() / key).read_text(encoding="utf-8")
    except OSError:
        return None
    return text or None


def _remember(key: str, done: str) -> None:
    """Keeps the result; a folder that cannot be written to only costs time."""
    folder = _place()
    try:
        write_file(folder / key, done)
        kept = sorted(folder.iterdir(), key=lambda path: path.stat().st_mtime)
        for path in kept[:-_KEPT]:
            path.unlink(missing_ok=True)
    except OSError:
        return


_PACKED = "runs_per_machine"
SYSTEM_GB = 1.0
"""What the system and the worker of a machine take, in GB (2**30 bytes); rounded up."""


def fits(loaded: Loaded) -> list[Finding]:
    """Compares the memory of the machines with that of the runs that share one.

    Every place is looked at, also one that cannot work now: a run may move there later.

    Args:
        loaded: An experiment whose training was tried.

    Returns:
        One finding for each machine type on which runs share a machine.
    """
    peak: int | None = None
    findings: list[Finding] = []
    for _, there in specs_of(loaded.spec):
        shared = packing(there)
        if shared is None or shared.runs < 2:
            continue
        if peak is None:
            peak = measured(loaded)
        if peak is None:
            return []
        candidates = (
            _of(name, memory, shared.runs, peak) for name, memory in shared.machines.items()
        )
        findings += [finding for finding in candidates if finding not in findings]
    return findings


def _of(machine: str, memory: float | None, runs: int, peak: int) -> Finding:
    """What one machine type says about so many runs of so many bytes."""
    each = peak / 2**30
    need = runs * each + SYSTEM_GB
    text = (
        f"{runs} runs a machine take at least {need:.1f} GB ({each:.2f} GB each, measured in a "
        f"short training here, and {SYSTEM_GB:g} GB for the system)"
    )
    if memory is None:
        text = f"{text}; the memory of {machine} is not known"
        fix = "compare it with the provider's page; `drillyard list machines` has others"
        return warning(_PACKED, text, fix)
    if need > memory:
        most = max(1, int((memory - SYSTEM_GB) / each))
        text = f"{text}, and {machine} has {memory:g} GB"
        fix = f"runs_per_machine: {most}; or a machine type with more memory"
        return problem(_PACKED, text, fix)
    return passed(_PACKED, f"{text}; {machine} has {memory:g} GB")
