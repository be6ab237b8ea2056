"""Whether one file gives the same numbers everywhere: where x how -> a hash of what came out.

    python -m tests.benchmarks.same_numbers [--only WHERE,...] [--file NAME,...] [--quick] [--list]
                                           [--rows N,...]

Each row runs the same file, with the same seeds and versions, at another place or in another way:
with each way in which ``copies: auto`` may step copies, beside other programs that use every core,
on Dask, by SSH, on both emulated clouds, with one worker and two, and with a training that is
killed after its first checkpoint. A hash covers the final weights, the metric streams and the
final evaluation of every run. Prints the matrix; exit code 1 if two hashes of a file differ, or if
a run that cannot be equal to the last bit does not say why.

About a minute a row on two cores. ``--quick``: at each place one worker, and two with a training
that is killed. ``--rows`` takes the numbers that ``--list`` prints, for a part of the matrix at a
time. ssh needs sshd, azure Microsoft's emulator of blobs.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil

from drillyard.documents.json_types import JsonObject
from drillyard.mailbox import Mailbox, open_store
from drillyard.mailbox.records import Phase
from drillyard.results.fingerprint import fingerprint
from drillyard.system.processes import ProcessId, marked, send
from tests.helpers.sshd import SSHD, Sshd

from . import common

SEEDS = (1, 2)
CLOUDS = ("gcp", "azure")
FILES = {
    # A file decides between these two; only the ways of the first are chosen by measurement.
    "in turn": "{id: CartPole-v1}",
    "arrays": "{id: cstr, wrappers: [normalize], lesson: {noise_percentage: {min: 0, max: 5}}}",
}
COPIES = {"in turn": 4, "arrays": 16}
EXPERIMENT = """\
schema: 1
name: same
simulator: {simulator}
learner: {{algorithm: ppo, preset: null, args: {{n_steps: 64, batch_size: 64}}}}
train: {{steps: 6144, n_envs: {copies}, checkpoint_every: 1024}}
evaluate: {{episodes: 2, every: {{steps: 2048, episodes: 1}}}}
seeds: [1, 2]
baselines: []
resources: {{threads: 1, device: cpu}}
tracking: {{mlflow: null, tensorboard: false}}
"""
PROGRAM = """\
import sys, drillyard
file, store, over = sys.argv[1:]
drillyard.run(drillyard.load(file, globals=[over]), store=store, flow=False, report=False)
"""
LONGEST_S = 900.0


@dataclass(frozen=True)
class Row:
    """One place and one way.

    Args:
        where: ``local``, ``dask``, ``ssh``, ``gcp`` or ``azure``.
        workers: Runs side by side.
        copies: ``train.copies``.
        loaded: Beside other programs that use every core.
        preempted: A training is killed after its first checkpoint.
    """

    where: str
    workers: int = 1
    copies: str = "auto"
    loaded: bool = False
    preempted: bool = False

    @property
    def how(self) -> str:
        """Everything but the place, as text."""
        parts = [f"{self.workers} worker{'s' if self.workers > 1 else ''}"]
        parts += [f"copies: {self.copies}"] if self.copies != "auto" else []
        parts += ["loaded"] if self.loaded else []
        parts += ["a training killed"] if self.preempted else []
        return ", ".join(parts)


def rows() -> list[Row]:
    """The matrix, the nearest place first."""
    local = [Row("local"), Row("local", 2), Row("local", loaded=True)]
    local += [Row("local", 2, "one-by-one"), Row("local", 2, "processes")]
    local += [Row("local", 2, "processes", loaded=True), Row("local", preempted=True)]
    local += [Row("local", 2, preempted=True)]
    others = [
        Row(where, workers, preempted=preempted)
        for where in ("dask", "ssh", *CLOUDS)
        for preempted in (False, True)
        for workers in (1, 2)
    ]
    return [*local, *others]


QUICK = [
    row
    for row in rows()
    if row.copies == "auto" and not row.loaded and row.preempted == (row.workers == 2)
]


@contextlib.contextmanager
def other_programs() -> Iterator[None]:
    """As many busy programs as cores."""
    command = [sys.executable, "-c", "while True: pass"]
    busy = [subprocess.Popen(command) for _ in range(os.cpu_count() or 1)]
    try:
        yield
    finally:
        for program in busy:
            program.kill()
            program.wait()


class Place:
    """A folder with a file, a home and a store.

    Args:
        folder: Empty.
        row: What to run.
        file: A key of ``FILES``.
    """

    def __init__(self, folder: Path, row: Row, file: str) -> None:
        self.folder, self.row = folder, row
        text = EXPERIMENT.format(simulator=FILES[file], copies=COPIES[file])
        (folder / "same.yaml").write_text(text)
        self.store = folder / ("kept/store" if row.where in CLOUDS else "store")
        self.killed = 0

    @property
    def mailbox(self) -> Mailbox:
        """The experiment."""
        return Mailbox(open_store(str(self.store)), "same")

    def run(self) -> None:
        """Run the file to its end.

        Raises:
            RuntimeError: It failed, or nothing was killed where something should have been.
        """
        row = self.row
        over: JsonObject = {
            "backend": row.where,
            "resources": {"workers": row.workers},
            "train": {"copies": row.copies},
        }
        with contextlib.ExitStack() as around:
            if row.loaded:
                around.enter_context(other_programs())
            if row.where == "ssh":
                over["backends"] = {"ssh": around.enter_context(self._server())}
            if row.where in CLOUDS:
                command = [str(common.BIN / "drillyard"), "rehearse", "same.yaml", "--json"]
                command += ["--on", row.where, "--keep", "kept"]
                command += ["--fault", "cut=1"] if row.preempted else []
                command += ["--globals", json.dumps({**over, "backend": "local"})]
            else:
                command = [sys.executable, "-c", PROGRAM, "same.yaml", str(self.store)]
                command.append(json.dumps(over))
            output = self._wait(command)
        if row.where in CLOUDS and row.preempted:
            account = json.loads(output[output.index("{") :])
            self.killed = sum(fault["played"] for fault in account["faults"])
        if row.preempted and not self.killed:
            raise RuntimeError("nothing was killed: the training was over too soon")

    def _wait(self, command: list[str]) -> str:
        errors = self.folder / "errors.txt"
        with errors.open("wb") as to:
            child = subprocess.Popen(
                command,
                cwd=self.folder,
                env={**os.environ, "DRILLYARD_HOME": str(self.folder / "home")},
                stdout=subprocess.PIPE,
                stderr=to,
                text=True,
            )
        deadline = time.monotonic() + LONGEST_S
        while child.poll() is None:
            if self.row.preempted and not self.killed and self.row.where not in CLOUDS:
                self.killed = self._kill()
            if time.monotonic() > deadline:
                child.send_signal(signal.SIGINT)
            with contextlib.suppress(subprocess.TimeoutExpired):
                child.wait(0.1)
        assert child.stdout is not None
        output = child.stdout.read()
        if child.returncode:
            raise RuntimeError(f"exit {child.returncode}: {errors.read_text()[-600:]}{output}")
        return output

    def _kill(self) -> int:
        """Kill a training that has a checkpoint; how many."""
        try:
            stored = open_store(str(self.store)).list("same/")
            keys = [info.key for info in stored]
        except OSError:
            return 0
        if not any("/checkpoints/" in key and key.endswith("manifest.json") for key in keys):
            return 0
        leases = {key.split("/")[2] for key in keys if key.endswith("/intent.json")}
        return next((1 for one in trainings(leases) if send(one, signal.SIGKILL)), 0)

    @contextlib.contextmanager
    def _server(self) -> Iterator[JsonObject]:
        server = Sshd(self.folder / "sshd").start()
        try:
            yield {
                "hosts": [server.address],
                "key_file": str(server.key),
                "known_hosts": str(server.known_hosts),
                "config_file": "/dev/null",
                "python": sys.executable,
                "runtime": str(self.folder / "runtime"),
            }
        finally:
            server.stop()

    def hash(self) -> str:
        """Over weights, streams and final evaluations of all runs."""
        digest = hashlib.sha256()
        for seed in SEEDS:
            run = f"t0001-s{seed}"
            digest.update(fingerprint(self.mailbox, run).encode())
            digest.update(repr(self._summary(run, Phase.EVALUATE)["policies"]).encode())
        return digest.hexdigest()

    def labels(self) -> set[str]:
        """What the runs say of their numbers."""
        return {str(self._summary(f"t0001-s{s}", Phase.TRAIN).get("exactness")) for s in SEEDS}

    def _summary(self, run: str, phase: Phase) -> JsonObject:
        accepted = self.mailbox.accepted(run, phase)
        assert accepted is not None
        return accepted.summary


def trainings(leases: set[str]) -> Iterator[ProcessId]:
    """Processes that train: forked by a server of a lease."""
    for lease in leases:
        for process in marked(lease):
            with contextlib.suppress(psutil.Error):
                own = psutil.Process(process.pid)
                above = " ".join(psutil.Process(own.ppid()).cmdline())
                if "forkserver" in above and "forkserver" in " ".join(own.cmdline()):
                    yield process


def missing(where: str) -> str:
    """Why a place cannot be had here; empty if it can."""
    if where == "ssh" and SSHD is None:
        return "no sshd (Debian: openssh-server)"
    return ""


def one(row: Row, file: str) -> tuple[str, str]:
    """Run a row.

    Returns:
        Its hash, and what its runs say of their numbers; or "-" and what went wrong.
    """
    if why := missing(row.where):
        return "-", why
    with tempfile.TemporaryDirectory(prefix="dy-", ignore_cleanup_errors=True) as name:
        place = Place(Path(name), row, file)
        try:
            place.run()
            return place.hash(), "; ".join(sorted(place.labels()))
        except Exception as error:  # whatever it looks like, the row has no hash
            return "-", f"FAILED: {error}"


def main(run: Callable[[Row, str], tuple[str, str]] = one) -> int:
    """Print the matrix; 1 if a file has two hashes or a row failed."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--only", default="")
    parser.add_argument("--file", default=",".join(FILES))
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--list", action="store_true")
    parser.add_argument("--rows", default="")
    given = parser.parse_args()
    numbers = [int(number) for number in given.rows.split(",") if number]
    every = rows() if not numbers else [rows()[number - 1] for number in numbers]
    wanted = [row for row in every if not given.only or row.where in given.only.split(",")]
    if given.quick:
        wanted = [row for row in wanted if row in QUICK]
    if given.list:
        numbered = {row: number for number, row in enumerate(rows(), 1)}
        print("\n".join(f"{numbered[row]:>2} {row.where:<6} {row.how}" for row in wanted))
        return 0
    wrong = 0
    for file in given.file.split(","):
        hashes = set()
        print(f"\n{file}: {FILES[file]}, {COPIES[file]} copies")
        for row in wanted:
            found, said = run(row, file)
            equal_to_the_bit = not said.startswith("statistically equal (")
            if found == "-":
                wrong += said.startswith("FAILED")
            elif equal_to_the_bit:
                hashes.add(found)
            print(f"  {row.where:<6} {row.how:<38} {found[:16]:<16}  {said}", flush=True)
        print(f"  {len(hashes)} different")
        wrong += len(hashes) > 1
    return min(wrong, 1)


if __name__ == "__main__":
    raise SystemExit(main())
