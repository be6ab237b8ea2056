"""Makes the stored experiments: ``python -m tests.compatibility.make [NAME …]``.

For each experiment in ``experiments/``, the code of ``old_code.COMMIT`` runs it under a neutral
path until a checkpoint exists, and is then ended. What lies there becomes
``stores/NAME.tar.gz``. The old code then resumes an unpacked copy, and its results become the
entry in ``recorded.json``. Works on Linux and takes about a minute.

Run this to add an experiment, or to move on to the stores of a newer commit: then set
``old_code.COMMIT`` first. Do not run it to make a failing test pass.
"""

from __future__ import annotations

import gzip
import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

import psutil

from tests.compatibility import old_code, stores
from tests.compatibility.stores import CASES, Case
from tests.helpers.patience import until

NEUTRAL = Path("/tmp/drillyard-old")
"""Stores are made here, so that paths in their records name neither a machine nor a user."""
# What shows where a file was written: the host in a record, and any path but the neutral one.
_HOST = re.compile(rb'"host": ?"[^"]*"')
_PATH = re.compile(rb"(?<![\w.:/])/(?!tmp/drillyard-old)(?:[A-Za-z][\w.-]*/)+[\w.-]+")
_PACKED = {".npz", ".safetensors", ".zip", ".gz"}
_LEFT_OUT = {"__pycache__", "report"}


def main(names: list[str]) -> None:
    """Make the stores with these names, or all of them."""
    stores.STORES.mkdir(exist_ok=True)
    entries = stores.recorded()["stores"] if stores.RECORDED.exists() else {}
    shutil.rmtree(NEUTRAL, ignore_errors=True)
    NEUTRAL.mkdir()
    try:
        code = old_code.build(NEUTRAL)
        for case in CASES:
            if not names or case.name in names:
                _pack(case, _interrupted(case, code))
                entries[case.name] = _entry(case, code)
                print(f"{case.name}: {stores.archive(case).stat().st_size / 1000:.0f} kB")
    finally:
        shutil.rmtree(NEUTRAL)
    whole = {
        "commit": old_code.COMMIT,
        "stores": {case.name: entries[case.name] for case in CASES},
    }
    stores.RECORDED.write_text(_text(whole) + "\n")


def _interrupted(case: Case, code: Path) -> Path:
    """Run an experiment with the old code until its checkpoint exists, and end it."""
    folder = NEUTRAL / case.name
    shutil.copytree(stores.HERE / "experiments" / case.name, folder)
    driver = subprocess.Popen(
        stores.command(code, "run", "experiment.yaml", "--offline-ok"),
        cwd=folder,
        env=stores.environment(NEUTRAL / "home", code),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    experiment = folder / stores.STORE / case.name

    def there() -> bool:
        return case.step in stores.checkpoints(experiment, case.run) or driver.poll() is not None

    until(there, what="the checkpoint", every_s=0.002)
    if case.signal == "INT":
        driver.send_signal(signal.SIGINT)
    else:
        _kill(driver.pid)
    driver.wait(60)
    assert case.run not in stores.accepted(experiment), f"{case.name} was too fast: try again"
    return folder


def _kill(pid: int) -> None:
    """Kill a command and everything that it started, before one can react to another's death."""
    processes = [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]
    for number in (signal.SIGSTOP, signal.SIGKILL):
        for process in processes:
            if process.is_running():
                os.kill(process.pid, number)


def _pack(case: Case, folder: Path) -> None:
    """Write the archive of an interrupted experiment, without this machine's name."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as tar:
        for path in sorted(path for path in folder.rglob("*") if path.is_file()):
            name = path.relative_to(NEUTRAL)
            if _LEFT_OUT & set(name.parts):
                continue
            data = path.read_bytes()
            if path.suffix == ".json" and "checkpoints" not in name.parts:
                data = _HOST.sub(f'"host": "{stores.HOST}"'.encode(), data)
            assert not (found := traces(name, data)), f"{name} names this machine: {found}"
            member = tarfile.TarInfo(str(name))
            member.size, member.mtime = len(data), int(path.stat().st_mtime)
            tar.addfile(member, io.BytesIO(data))
    stores.archive(case).write_bytes(gzip.compress(packed.getvalue(), 9, mtime=0))


def traces(name: Path, data: bytes) -> list[str]:
    """Find paths and host names in a file that show where it was written.

    Args:
        name: Name of the file. Compressed files and tensors are not searched.
        data: Its content.
    """
    if name.suffix in _PACKED:
        return []
    found = {match.decode() for match in _PATH.findall(data)}
    hosts = {match.decode() for match in _HOST.findall(data)}
    return sorted(found | {host for host in hosts if stores.HOST not in host})


def _entry(case: Case, code: Path) -> dict[str, object]:
    """What the old code reaches from the archive, and on which machine."""
    with tempfile.TemporaryDirectory() as scratch:
        reached = stores.resume(case, stores.unpack(case, Path(scratch)), code)
    return {
        "sha256": stores.digest(stores.archive(case)),
        "machine": stores.machine(),
        "reached": reached,
    }


def _text(value: object, depth: int = 0) -> str:
    """JSON with one line for each run and trial, so that a difference is easy to read."""
    if not value or not isinstance(value, dict) or depth == 5:
        return json.dumps(value)
    lines = (f'{" " * (depth + 1)}"{key}": {_text(v, depth + 1)}' for key, v in value.items())
    return "{\n" + ",\n".join(lines) + "\n" + " " * depth + "}"


if __name__ == "__main__":
    main(sys.argv[1:])
