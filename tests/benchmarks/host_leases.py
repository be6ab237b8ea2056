"""Leases here, behind SSH and on Dask clusters, with random `kill -9`: lost, changed, left.

    python -m tests.benchmarks.host_leases local|ssh|dask [leases] [seed]

Each lease is of an experiment of its own, with three short runs of a script. While the command
drives it, processes are killed with SIGKILL at random moments: the command itself, agents, workers
and runs, the connections of the SSH server, or a Dask cluster's scheduler and workers. A command
that was killed, or that says that nothing is decided, is given again. The judge is this machine's
own list of processes, the ledger and the store; the exit code is 1 if anything was lost or left.
"""

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from drillyard.errors import DrillyardError, ExitCode
from drillyard.leases.ledger import Ledger
from drillyard.mailbox import Mailbox, open_store
from drillyard.mailbox.records import Phase
from drillyard.system.processes import marked, send, wait_gone
from tests.helpers.sshd import Sshd

from . import common

SEEDS = (1, 2, 3)
EXPERIMENT = """\
schema: 1
name: {name}
workload: script
script:
  run:
    - [bash, -c, "sleep 1; echo score=$seed"]
  results: {{stdout: '^(\\w+)=([-+.\\d]+)$'}}
seeds: [1, 2, 3]
backend: {kind}
resources: {{workers: 2}}
backends:
  {kind}: {{runtime: {runtime}{more}}}
tracking: {{mlflow: null, tensorboard: false}}
"""
STORE = "store"
MOST_LIVES = 8
LONGEST_S = 300.0
"""Seconds after which a command that nobody kills is taken for hung."""
GONE_S = 60.0


@dataclass
class Found:
    """What came of all leases."""

    killed: Counter[str] = field(default_factory=Counter)
    lives: int = 0
    lost: list[str] = field(default_factory=list)
    changed: list[str] = field(default_factory=list)
    left: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)


@contextlib.contextmanager
def place(kind: str, folder: Path) -> Iterator[tuple[str, dict[str, str], Sshd | None]]:
    """Settings of the backend as YAML, the environment of a command, and the server."""
    env = {**os.environ, "PREFECT_API_URL": "http://127.0.0.1:9/api"}
    env["DRILLYARD_HOME"] = str(folder / "home")
    if kind != "ssh":
        yield "", env, None
        return
    server = Sshd(folder / "sshd").start()
    try:
        values = {**server.settings, "python": sys.executable}
        yield "".join(f", {name}: {value}" for name, value in values.items()), env, server
    finally:
        server.stop()


def victims(runtime: Path, server: Sshd | None) -> list[tuple[str, int]]:
    """(what it is, pid) of what can be killed besides the command."""
    found = [("process of the lease", p.pid) for p in marked(DRILLYARD_LOCAL_RUNTIME=str(runtime))]
    if server is not None and server._process is not None:
        for process in psutil.Process(server._process.pid).children(recursive=True):
            with contextlib.suppress(psutil.Error):
                if process.name().startswith("sshd"):
                    found.append(("connection", process.pid))
    return found


def drive(
    folder: Path,
    name: str,
    env: dict[str, str],
    runtime: Path,
    server: Sshd | None,
    dice: random.Random,
    found: Found,
) -> bool:
    """Give the command until it ends well; False if it never did."""
    # A folder of its own: all files beside a script travel with it, and count as its code.
    own = folder / "experiments" / name
    store = ["--store", str(folder / STORE)]
    command = [str(common.BIN / "drillyard"), "run", f"{name}.yaml", "--offline-ok", *store]
    kills, early = dice.choice([0, 1, 2, 2, 3]), dice.random() < 0.2
    for _ in range(MOST_LIVES):
        found.lives += 1
        with (folder / f"{name}.txt").open("ab") as out:
            process = subprocess.Popen(command, cwd=own, env=env, stdout=out, stderr=out)
        # On a fast machine a lease takes six seconds.
        began, due = time.monotonic(), dice.uniform(1.0, 6.0)
        while process.poll() is None:
            time.sleep(0.1)
            if time.monotonic() - began > LONGEST_S:
                found.failed.append(f"{name}: hung")
                process.kill()
            if kills and time.monotonic() - began > due:
                choices = [("command", process.pid), *victims(runtime, server)]
                if len(choices) == 1 and not early:
                    continue  # most are to hit a lease
                kind = dice.choice(sorted({kind for kind, _ in choices}))
                pid = dice.choice([pid for one, pid in choices if one == kind])
                kills, due = kills - 1, time.monotonic() - began + dice.uniform(0.2, 5.0)
                with contextlib.suppress(OSError):
                    os.kill(pid, signal.SIGKILL)
                    found.killed[kind] += 1
        if process.returncode == 0:
            return True
        if process.returncode not in (-signal.SIGKILL, ExitCode.INFRASTRUCTURE):
            found.failed.append(f"{name}: exit {process.returncode}")
            return False
    found.failed.append(f"{name}: undecided after {MOST_LIVES} commands")
    return False


def judge(folder: Path, name: str, runtime: Path, found: Found) -> None:
    """Look for lost results, and for what is left."""
    store = folder / STORE
    mailbox = Mailbox(open_store(str(store)), name)
    for seed in SEEDS:
        run = f"t0001-s{seed}"
        try:
            for phase in (Phase.TRAIN, Phase.EVALUATE, Phase.STORE):
                manifest = mailbox.result(run, phase)
                for file in manifest.files:
                    mailbox.read_file(manifest, file)
            stored = mailbox.accepted(run, Phase.EVALUATE)
            summary = {} if stored is None else stored.summary
            if f"score': {seed}.0" not in str(summary):
                found.changed.append(f"{name} {run}: {summary}")
        except DrillyardError as error:
            found.lost.append(f"{name} {run}: {error}")
    running = list(marked(DRILLYARD_LOCAL_RUNTIME=str(runtime)))
    found.left += [f"{name}: process {p.pid}" for p in wait_gone(running, timeout_s=GONE_S)]
    for process in marked(DRILLYARD_LOCAL_RUNTIME=str(runtime)):
        send(process, signal.SIGKILL)
    found.left += [
        f"{name}: lease {entry.lease.lease_id} is open"
        for entry in Ledger(mailbox).entries()
        if entry.gone is None
    ]
    found.left += [f"{name}: {path}" for path in (store / name).rglob(".tmp-*")]


def main() -> int:
    """The command line; the exit code."""
    kind = sys.argv[1] if len(sys.argv) > 1 else "ssh"
    leases = int(sys.argv[2]) if len(sys.argv) > 2 else 200
    dice = random.Random(int(sys.argv[3]) if len(sys.argv) > 3 else 1)
    found = Found()
    with tempfile.TemporaryDirectory(prefix="dy-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        with place(kind, folder) as (more, env, server):
            for number in range(leases):
                one, runtime = f"lease-{number}", folder / f"runtime-{number}"
                text = EXPERIMENT.format(name=one, kind=kind, runtime=runtime, more=more)
                own = folder / "experiments" / one
                own.mkdir(parents=True)
                (own / f"{one}.yaml").write_text(text)
                if not drive(folder, one, env, runtime, server, dice, found):
                    print((folder / f"{one}.txt").read_text(errors="replace")[-3000:])
                judge(folder, one, runtime, found)
                print(f"{one}: {dict(found.killed)} killed so far", flush=True)
    for problem in (*found.failed, *found.lost, *found.changed, *found.left):
        print(problem)
    common.table(
        f"leases on {kind}",
        [
            ("leases", f"{leases}, {found.lives} commands"),
            ("killed", f"{sum(found.killed.values())} {dict(found.killed)}"),
            ("results lost", f"{len(found.lost)} of {leases * len(SEEDS)}"),
            ("results that differ", f"{len(found.changed)} of {leases * len(SEEDS)}"),
            ("commands that broke or hung", str(len(found.failed))),
            ("left: processes, open leases, temporary files", str(len(found.left))),
        ],
    )
    return int(bool(found.lost or found.changed or found.left or found.failed))


if __name__ == "__main__":
    sys.exit(main())
