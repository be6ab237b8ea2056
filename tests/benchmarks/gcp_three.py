"""Three trainings on three machines of the emulated Google Cloud, one taken away in the middle.

    python -m tests.benchmarks.gcp_three

A real ``drillyard run`` with its Prefect flow, real machines (start-up script, agent, training of
a ``cstr`` each) in real time, from the command to its end with an empty project. Once a machine
has stored its second checkpoint Google takes it away with notice. Each seed's fingerprint must be
that of the same seed trained at home before, whose time is printed apart.
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path

import pytest

from drillyard.mailbox import Mailbox, open_store
from drillyard.mailbox.records import Phase
from drillyard.results.fingerprint import fingerprint
from drillyard_emulators.http.handle import GcpEmulator
from tests.helpers.rented import Lab

from . import common

SEEDS = (1, 2, 3)
EXPERIMENT = """\
schema: 1
name: three
simulator: {id: cstr, wrappers: [normalize]}
learner: {algorithm: ppo, preset: null, args: {n_steps: 256, batch_size: 64}}
train: {steps: 8192, n_envs: 2, checkpoint_every: 2048}
evaluate: {episodes: 2, every: {steps: 4096, episodes: 1}}
seeds: [1, 2, 3]
baselines: []
resources: {workers: 3, threads: 1, device: cpu}
budget: {max_hours: 1, max_cost: 10}
tracking: {mlflow: null, tensorboard: false}
"""


def main() -> None:
    """Train at home, train there, compare, and print."""
    with (
        tempfile.TemporaryDirectory(prefix="dy-", ignore_cleanup_errors=True) as name,
        pytest.MonkeyPatch.context() as patch,
        GcpEmulator(Path(name) / "cloud") as cloud,
    ):
        folder = Path(name)
        lab = Lab(cloud, folder, patch)
        file = str(lab.write(EXPERIMENT))
        try:
            began = time.monotonic()
            lab.run("run", file, "--store", str(folder / "here"), "--set", "resources.workers=1")
            at_home_s = time.monotonic() - began
            cloud.ask("trigger", objects="checkpoints/.*manifest", count=2, what="preempt")
            began = time.monotonic()
            lab.run("run", file, "--on", "gcp")
            took_s = time.monotonic() - began
            state, left = cloud.state(), lab.left()
            there = lab.mailbox("three")
            here = Mailbox(open_store(str(folder / "here")), "three")
            same = [
                fingerprint(there, f"t0001-s{s}") == fingerprint(here, f"t0001-s{s}")
                for s in SEEDS
            ]
            trained = [there.accepted(f"t0001-s{s}", Phase.TRAIN) for s in SEEDS]
            attempts = [accepted.attempt for accepted in trained if accepted is not None]
        finally:
            lab.close()
    taken = sum(machine["preempted"] for machine in state["all_machines"])
    common.table(
        "three trainings on three machines",
        [
            ("from the command to its end", f"{took_s:.0f} s"),
            ("the same three at home, one after the other", f"{at_home_s:.0f} s"),
            ("machines", f"{len(state['all_machines'])}, {taken} of them taken away"),
            ("attempts of each training", ", ".join(map(str, attempts))),
            ("fingerprints equal to those at home", f"{sum(same)} of {len(SEEDS)}"),
            ("machines, groups, disks left", str(sum(map(len, left.values())))),
        ],
    )
    sys.exit(not (all(same) and taken and not left))


if __name__ == "__main__":
    main()
