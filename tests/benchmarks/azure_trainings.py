"""Leases with random faults as in ``azure_leases``, with real flows, jobs and training.

    python -m tests.benchmarks.azure_trainings [leases] [seed]

What is done to them: ``trainings``. Each lease has a cluster of its own.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import pytest

from drillyard_emulators.http.handle import AzureEmulator
from tests.helpers.azure_lab import OWN_CLUSTER, AzureLab, point

from .azure_leases import left, make_unlucky
from .trainings import Trainings, at_home, taken, told


def main() -> None:
    """Sweep, and print."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 50
    seed = int(sys.argv[2]) if len(sys.argv) > 2 else 1
    with (
        tempfile.TemporaryDirectory(prefix="dy-", ignore_cleanup_errors=True) as name,
        pytest.MonkeyPatch.context() as patch,
        AzureEmulator(Path(name) / "cloud", seed=seed) as cloud,
    ):
        folder = Path(name)
        expected = at_home(folder)
        point(patch, cloud)
        lab = AzureLab(cloud, folder, patch)
        make_unlucky(cloud)
        times = taken(count)
        cloud.ask("trigger", objects="checkpoints/.*manifest", count=1, what="cut", times=times)
        trainings = Trainings(lab, seed, f"{OWN_CLUSTER}\n")
        try:
            trainings.run(count, expected)
            state = cloud.state()
            if trainings.trouble:
                print(lab.said)
        finally:
            lab.close()
    faults = [
        ("jobs", f"{len(state['jobs'])}, {times} nodes to be taken away"),
        ("nodes", str(len(state["nodes"]))),
        ("faults", str(sum(rule["played"] for rule in state["faults"]))),
    ]
    sys.exit(told(trainings, count, faults, left(state)))


if __name__ == "__main__":
    main()
