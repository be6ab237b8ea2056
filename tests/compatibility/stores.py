"""Stored experiments that an older commit wrote, and what a resume makes of them.

This module knows drillyard as a user does: the command line, ``drillyard.run``, and the records in
a store as JSON files. It imports nothing from drillyard, so modules can move without changing it.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import re
import subprocess
import sys
import tarfile
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from tests.helpers.patience import PATIENCE_S
from tests.helpers.process_rules import EXEMPT

HERE = Path(__file__).parent
STORES = HERE / "stores"
RECORDED = HERE / "recorded.json"
HOST = "@host@"
"""Placeholder in stored records for the name of the machine that wrote them."""
STORE = "drillyard-runs"
NO_SERVER = "http://127.0.0.1:9/api"
"""Nothing listens here. Prefect only displays the work, and starting its server takes seconds."""
IN_PYTHON = """
import sys, drillyard
drillyard.run("experiment.yaml", store=sys.argv[1], flow=False, report=False)
"""
"""The same resume from a Python program; some seconds faster than the command."""
LIBRARIES = ("torch", "numpy", "stable-baselines3", "sb3-contrib", "gymnasium", "optuna", "scipy")
"""Libraries that the numbers of a training or the choices of a study depend on."""


@dataclass(frozen=True)
class Case:
    """A stored experiment.

    Attributes:
        name: Name of the experiment, of its folder in ``experiments/`` and of its archive.
        run: The run that was interrupted.
        step: The old command was ended when this checkpoint of the run existed.
        signal: How it was ended. ``KILL`` killed driver, worker and training; ``INT`` is Ctrl-C.
        command: Arguments of the ``drillyard`` command that resumes it; empty: use
            ``drillyard.run`` from Python.
    """

    name: str
    step: int
    run: str = "t0001-s1"
    signal: str = "KILL"
    command: tuple[str, ...] = ()


CASES = (
    Case("ppo", 1024),
    Case("sac", 600, command=("run", "experiment.yaml")),
    Case("recurrent", 1024, signal="INT"),
    # Resumed by name, from nothing but the store.
    Case("curriculum", 1024, command=("resume", "curriculum")),
    Case("study", 256, run="t0012-s1"),
)


def archive(case: Case) -> Path:
    """Path of the archive of a stored experiment."""
    return STORES / f"{case.name}.tar.gz"


def unpack(case: Case, folder: Path) -> Path:
    """Unpack a stored experiment as if this machine had written it.

    A resume finds out that a killed process is dead by looking for it, which only the machine
    that ran it can do. Therefore this machine's name replaces the placeholder in the records.

    Args:
        case: The stored experiment.
        folder: An empty folder.

    Returns:
        The folder with the experiment file and, beside it, the store.
    """
    with tarfile.open(archive(case)) as tar:
        for member in tar:
            content = tar.extractfile(member)
            assert content is not None and not member.name.startswith(("/", "..")), member.name
            path = folder / member.name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content.read().replace(HOST.encode(), platform.node().encode()))
            os.utime(path, (member.mtime, member.mtime))
    return folder / case.name


def environment(home: Path, code: Path | None) -> dict[str, str]:
    """Environment variables for a command that works on a store.

    Args:
        home: Folder for everything that the command writes outside the store.
        code: Folder with an installed drillyard that replaces the code under test.
    """
    home.mkdir(parents=True, exist_ok=True)
    ours = ("DRILLYARD_", "PREFECT_", "MLFLOW_")
    values = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
    values |= {
        "HOME": str(home),
        "DRILLYARD_LOCAL_RUNTIME": str(home / "runtime"),
        "PREFECT_API_URL": NO_SERVER,
        "PREFECT_HOME": str(home / "prefect"),
    }
    if code is not None:
        values |= {"PYTHONPATH": str(code), EXEMPT: "its warnings are of its time"}
    return values


def command(code: Path | None, *arguments: str) -> list[str]:
    """The ``drillyard`` command of the code under test, or of another installation."""
    folder = Path(sys.executable).parent if code is None else code / "bin"
    return [str(folder / "drillyard"), *arguments]


def resume(case: Case, folder: Path, code: Path | None = None) -> dict[str, Any]:
    """Resume an unpacked experiment and wait until it ends.

    Args:
        case: The stored experiment.
        folder: Result of ``unpack``.
        code: See ``environment``.

    Returns:
        What it reached, see ``reached``.
    """
    store = folder / STORE
    if case.command:
        words = command(code, *case.command, "--store", str(store), "--offline-ok")
    else:
        words = [sys.executable, "-c", IN_PYTHON, str(store)]
    done = subprocess.run(
        words,
        cwd=folder,
        env=environment(folder.parent / "home", code),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return reached(store / case.name)


def reached(experiment: Path) -> dict[str, Any]:
    """Read the results of a finished experiment, without times, hosts and random names.

    Args:
        experiment: Folder of the experiment in the store.

    Returns:
        ``runs`` by id, and ``trials`` by id if it is a study.
    """
    runs = sorted(path.parent for path in experiment.glob("runs/*/run.json"))
    trials = sorted(experiment.glob("trials/t*.outcome.json"))
    return {
        "runs": {run.name: _run(experiment, run) for run in runs},
        "trials": {path.name.partition(".")[0]: _trial(path) for path in trials},
    }


def _run(experiment: Path, folder: Path) -> dict[str, Any]:
    trained = _json(folder / "train.accepted.json")
    evaluated = _json(folder / "evaluate.accepted.json")
    assert (folder / "store.accepted.json").exists(), f"{folder.name} was not stored"
    attempt = folder / "attempts" / f"train-{trained['attempt']}"
    start = _json(attempt / "start.json")
    streams = sorted(path for path in attempt.glob("streams/*") if path.name != "timing")
    policies = evaluated["summary"]["policies"]
    return {
        "status": trained["status"],
        "attempt": trained["attempt"],
        "resumed": [start["resumed_attempt"], start["resumed_step"]],
        "files": _files(experiment, trained),
        "streams": {stream.name: _lines(stream) for stream in streams},
        "steps": trained["summary"]["steps"],
        "exactness": trained["summary"]["exactness"],
        "best": trained["summary"]["best"],
        "returns": {policy: score["mean_return"] for policy, score in policies.items()},
    }


def _files(experiment: Path, accepted: dict[str, Any]) -> dict[str, str]:
    """Hashes of the weights and the normalisation that a training left, computed here."""
    manifest = _json(experiment / accepted["manifest"])["files"]
    return {
        name: digest(experiment / entry["key"])
        for name, entry in sorted(manifest.items())
        if name.endswith((".safetensors", ".npz"))
    }


def _lines(stream: Path) -> list[Any]:
    """Number of the first line that the last attempt wrote, number of lines, and their hash."""
    lines = []
    for path in sorted(stream.iterdir()):
        lines += [json.loads(text) for text in path.read_text().splitlines()]
    for line in lines:
        del line["time"]
    text = json.dumps(lines, sort_keys=True).encode()
    return [lines[0]["seq"], len(lines), hashlib.sha256(text).hexdigest()]


def _trial(path: Path) -> dict[str, Any]:
    ended = _json(path)
    chosen = _json(path.with_name(path.name.replace(".outcome", "")))
    return {
        **{key: chosen[key] for key in ("chooser", "assignment", "seeds", "of")},
        **{key: ended[key] for key in ("status", "values", "by_seed", "steps")},
    }


def accepted(experiment: Path) -> list[str]:
    """Runs whose training is accepted."""
    return sorted(path.parent.name for path in experiment.glob("runs/*/train.accepted.json"))


def checkpoints(experiment: Path, run: str) -> list[int]:
    """Steps of the checkpoints that the first attempt of a run wrote."""
    found = experiment.glob(f"runs/{run}/attempts/train-1/checkpoints/*/manifest.json")
    return sorted(int(path.parent.name) for path in found)


def machine() -> dict[str, str]:
    """What bit-equal numbers depend on: the processor and the versions of the libraries."""
    cpuinfo = Path("/proc/cpuinfo")
    info = cpuinfo.read_text() if cpuinfo.exists() else ""
    model = re.search(r"(?m)^model name\s*:\s*(.+)$", info)
    flags = re.search(r"(?m)^flags\s*:\s*(.+)$", info)
    vectors = [
        f for f in (flags[1] if flags else "").split() if f.startswith(("avx", "fma", "amx"))
    ]
    return {
        "cpu": model[1].strip() if model else platform.processor() or platform.machine(),
        "vectors": " ".join(sorted(vectors)),
        "python": platform.python_version(),
        **{name: version(name) for name in LIBRARIES},
    }


def recorded() -> dict[str, Any]:
    """Content of ``recorded.json``: what the old code reached where the stores were made."""
    return _json(RECORDED)


def digest(path: Path) -> str:
    """sha256 of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _json(path: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(path.read_text())
    return content
