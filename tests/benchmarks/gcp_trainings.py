"""Leases with random faults as in ``gcp_leases``, with real flows, machines and training.

    python -m tests.benchmarks.gcp_trainings [leases] [seed]

Each lease is a ``drillyard run`` with its Prefect flow, killed with SIGKILL at a random moment and
given again; its machine runs the real start-up script, agent and training, and one in ten is taken
away. All train the same run, whose fingerprint must be that of a run at home.
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
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from drillyard.errors import ExitCode
from drillyard.mailbox import Mailbox, open_store
from drillyard.results.fingerprint import fingerprint
from drillyard_emulators.http.handle import GcpEmulator
from tests.helpers.rented import Lab

from . import common
from .gcp_leases import LAG_S, make_unlucky
from .virtual_clock import VirtualClock

SPEED = 5.0
AT_ONCE = 3
KILLED = 0.6
TAKEN = 0.1
MOST_LIVES = 8
LONGEST_S = 900.0
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


def experiment(folder: Path, name: str) -> str:
    """The file of one."""
    path = folder / f"{name}.yaml"
    path.write_text(EXPERIMENT.format(name=name))
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
    """

    def __init__(self, lab: Lab, seed: int) -> None:
        self._lab, self._dice = lab, random.Random(seed)
        self._typical_s = 30.0
        self._lock = threading.Lock()
        self.kills = self.lives = 0
        self.trouble: list[str] = []

    def run(self, count: int) -> list[str]:
        """Rent, kill, give the command again; the names of the experiments."""
        names = [f"e{number:04}" for number in range(count)]
        killed = [self._dice.random() < KILLED for _ in names]
        with ThreadPoolExecutor(AT_ONCE) as threads:
            list(threads.map(self._one, names, killed))
        return names

    def _one(self, name: str, kill: bool) -> None:
        file, code = experiment(self._lab.folder, name), -1
        for life in range(MOST_LIVES):
            with self._lock:
                after_s = self._dice.uniform(0.0, self._typical_s) if kill and not life else None
            began = time.monotonic()
            child = self._lab.start("run", file, "--on", "gcp")
            try:
                code = child.wait(LONGEST_S if after_s is None else after_s)
            except subprocess.TimeoutExpired:
                os.killpg(child.pid, signal.SIGKILL)
                child.wait()
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


def main() -> None:
    """Sweep, and print."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 50
    seed = int(sys.argv[2]) if len(sys.argv) > 2 else 1
    lost = []
    with (
        tempfile.TemporaryDirectory(prefix="dy-", ignore_cleanup_errors=True) as name,
        pytest.MonkeyPatch.context() as patch,
        GcpEmulator(Path(name) / "cloud", speed=SPEED, seed=seed) as cloud,
    ):
        folder = Path(name)
        expected = at_home(folder)
        lab = Lab(cloud, folder, patch)
        lab.settings["LISTING_LAG_S"] = str(LAG_S)
        lab.command = VirtualClock.of(cloud, SPEED).command
        patch.setenv("PYTHONPATH", str(common.ROOT))
        make_unlucky(cloud)
        taken = max(1, round(TAKEN * count))
        cloud.ask("trigger", objects="checkpoints/.*manifest", count=1, what="cut", times=taken)
        try:
            trainings = Trainings(lab, seed)
            for one in trainings.run(count):
                try:
                    if fingerprint(lab.mailbox(one), RUN) != expected:
                        lost.append(f"{one}: another fingerprint")
                except Exception as error:  # whatever it looks like, it is lost
                    lost.append(f"{one}: {error}")
            left, state = lab.left(), cloud.state()
            if trainings.trouble:
                print(lab.said[-5000:])
        finally:
            lab.close()
    for line in (*lost, *trainings.trouble, *(f"{k}: {v}" for k, v in left.items())):
        print(line)
    common.table(
        "trainings with random faults",
        [
            ("leases", str(count)),
            ("drivers", f"{trainings.lives}, {trainings.kills} of them killed"),
            ("machines", f"{len(state['all_machines'])}, {taken} of them to be taken away"),
            ("faults", str(sum(rule["played"] for rule in state["faults"]))),
            ("false DONE", str(sum(r["played"] for r in state["physics"]["false_done"]))),
            ("results lost or different", f"{len(lost)} of {count}"),
            ("machines, groups, disks left", str(sum(map(len, left.values())))),
            ("drivers that broke or hung", str(len(trainings.trouble))),
        ],
    )
    sys.exit(bool(lost or left or trainings.trouble))


if __name__ == "__main__":
    main()
