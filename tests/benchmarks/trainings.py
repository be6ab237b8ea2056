"""Leases with random faults and real training, on any emulated cloud: what is lost, what is left.

    python -m tests.benchmarks.trainings gcp|azure [leases] [seed]

Each lease is a ``drillyard run`` with its Prefect flow, killed with SIGKILL at a random moment and
given again; its machine runs the real agent and training, and one in ten is taken away. All train
the same run, whose fingerprint must be that of a run at home.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from drillyard.errors import ExitCode
from drillyard.mailbox import Mailbox, open_store
from drillyard.results.fingerprint import fingerprint
from drillyard_emulators.http.handle import AzureEmulator, GcpEmulator
from tests.helpers.azure_lab import OWN_CLUSTER, AzureLab, point
from tests.helpers.rented import Lab

from . import azure_leases, common, gcp_leases
from .virtual_clock import VirtualClock

AT_ONCE = 3
KILLED = 0.6
TAKEN = 0.1
MOST_LIVES = 8
LONGEST_S = 900.0
SPEED = 5.0
"""Of the clock of the emulated Google Cloud."""
EXPERIMENT = """\
schema: 1
name: {name}
simulator: {{id: cstr, wrappers: [normalize]}}
learner: {{algorithm: ppo, preset: null, args: {{n_steps: 64, batch_size: 64}}}}
train: {{steps: 1536, n_envs: 2, checkpoint_every: 512}}
evaluate: {{episodes: 1}}
seeds: [1]
baselines: []
resources: {{workers: 1, threads: 1, device: cpu}}
budget: {{max_hours: 24, max_cost: 1000}}
tracking: {{mlflow: null, tensorboard: false}}
"""
RUN = "t0001-s1"


def experiment(folder: Path, name: str, more: str = "") -> str:
    """The file of one, with further lines."""
    path = folder / f"{name}.yaml"
    path.write_text(EXPERIMENT.format(name=name) + more)
    return str(path)


def at_home(folder: Path) -> str:
    """The fingerprint of the same run on this machine."""
    program = "import drillyard, sys; drillyard.run(sys.argv[1], store=sys.argv[2], flow=False)"
    store = folder / "here"
    command = [sys.executable, "-c", program, experiment(folder, "calm"), str(store)]
    common.timed(command, folder, DRILLYARD_HOME=str(folder / ".home"))
    return fingerprint(Mailbox(open_store(str(store)), "calm"), RUN)


class Trainings:
    """Some leases on one emulated cloud.

    Args:
        lab: The user's machine beside it.
        seed: Of the moments of the kills.
        more: Further lines of each experiment's file.
    """

    def __init__(self, lab: Lab, seed: int, more: str = "") -> None:
        self._lab, self._dice, self._more = lab, random.Random(seed), more
        self._typical_s = 30.0
        self._lock = threading.Lock()
        self.kills = self.lives = 0
        self.lost: list[str] = []
        self.trouble: list[str] = []

    def run(self, count: int, expected: str) -> None:
        """Rent, kill, give the command again; then compare.

        Args:
            count: Of leases.
            expected: The fingerprint of each run.
        """
        names = [f"e{number:04}" for number in range(count)]
        killed = [self._dice.random() < KILLED for _ in names]
        with ThreadPoolExecutor(AT_ONCE) as threads:
            list(threads.map(self._one, names, killed))
        for name in names:
            try:
                if fingerprint(self._lab.mailbox(name), RUN) != expected:
                    self.lost.append(f"{name}: another fingerprint")
            except Exception as error:  # whatever it looks like, it is lost
                self.lost.append(f"{name}: {error}")

    def _one(self, name: str, kill: bool) -> None:
        file, code = experiment(self._lab.folder, name, self._more), -1
        for life in range(MOST_LIVES):
            with self._lock:
                after_s = self._dice.uniform(0.0, self._typical_s) if kill and not life else None
            began = time.monotonic()
            child = self._lab.start("run", file, "--on", self._lab.kind.lower())
            try:
                code = child.wait(LONGEST_S if after_s is None else after_s)
            except subprocess.TimeoutExpired:
                os.killpg(child.pid, signal.SIGKILL)
                child.wait()
                code = -1
                with self._lock:
                    self.kills += 1
                    if after_s is None:
                        self.trouble.append(f"{name}: hung")
            with self._lock:
                self.lives += 1
                if code == 0:
                    self._typical_s += 0.2 * (time.monotonic() - began - self._typical_s)
                    return
            if code not in (-1, ExitCode.INFRASTRUCTURE):
                break
        self.trouble.append(f"{name}: exit {code}")


@contextmanager
def laptop(kind: str, folder: Path, seed: int, patch: pytest.MonkeyPatch) -> Iterator[Lab]:
    """A user's machine beside an emulated cloud that has bad luck."""
    if kind == "gcp":
        with GcpEmulator(folder / "cloud", speed=SPEED, seed=seed) as google:
            lab = Lab(google, folder, patch)
            lab.settings["LISTING_LAG_S"] = str(gcp_leases.LAG_S)
            lab.command = VirtualClock.of(google, SPEED).command
            patch.setenv("PYTHONPATH", str(common.ROOT))
            gcp_leases.make_unlucky(google)
            yield lab
    else:
        with AzureEmulator(folder / "cloud", seed=seed) as azure:
            point(patch, azure)
            azure_leases.make_unlucky(azure)
            yield AzureLab(azure, folder, patch)


def faults(kind: str, state: dict[str, Any], times: int) -> list[tuple[str, str]]:
    """Rows about what was done to the leases."""
    played = ("faults", str(sum(rule["played"] for rule in state["faults"])))
    if kind == "azure":
        jobs = ("jobs", f"{len(state['jobs'])}, {times} nodes to be taken away")
        return [jobs, ("nodes", str(len(state["nodes"]))), played]
    false = str(sum(rule["played"] for rule in state["physics"]["false_done"]))
    machines = f"{len(state['all_machines'])}, {times} of them to be taken away"
    return [("machines", machines), played, ("false DONE", false)]


def main() -> None:
    """Sweep, and print."""
    kind = sys.argv[1]
    count = int(sys.argv[2]) if len(sys.argv) > 2 else 50
    seed = int(sys.argv[3]) if len(sys.argv) > 3 else 1
    times = max(1, round(TAKEN * count))
    with (
        tempfile.TemporaryDirectory(prefix="dy-", ignore_cleanup_errors=True) as name,
        pytest.MonkeyPatch.context() as patch,
    ):
        folder = Path(name)
        expected = at_home(folder)
        with laptop(kind, folder, seed, patch) as lab:
            what = {"objects": "checkpoints/.*manifest", "count": 1, "what": "cut"}
            lab.cloud.ask("trigger", **what, times=times)
            trainings = Trainings(lab, seed, f"{OWN_CLUSTER}\n" if kind == "azure" else "")
            try:
                trainings.run(count, expected)
                state, there = lab.cloud.state(), lab.left()
                if trainings.trouble:
                    print(lab.said)
            finally:
                lab.close()
    left = [f"{what}: {thing}" for what, things in there.items() for thing in things]
    bad = [*trainings.lost, *trainings.trouble, *left]
    for line in bad:
        print(line)
    common.table(
        "trainings with random faults",
        [
            ("leases", str(count)),
            ("drivers", f"{trainings.lives}, {trainings.kills} of them killed"),
            *faults(kind, state, times),
            ("results lost or different", f"{len(trainings.lost)} of {count}"),
            ("machines, groups, disks left", str(len(left))),
            ("drivers that broke or hung", str(len(trainings.trouble))),
        ],
    )
    sys.exit(bool(bad))


if __name__ == "__main__":
    main()
