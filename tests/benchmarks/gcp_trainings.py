"""Leases with random faults as in ``gcp_leases``, with real flows, machines and training.

    python -m tests.benchmarks.gcp_trainings [leases] [seed]

What is done to them: ``trainings``. Machines run the real start-up script.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import pytest

from drillyard_emulators.http.handle import GcpEmulator
from tests.helpers.rented import Lab

from . import common
from .gcp_leases import LAG_S, make_unlucky
from .trainings import Trainings, at_home, taken, told
from .virtual_clock import VirtualClock

SPEED = 5.0


def main() -> None:
    """Sweep, and print."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 50
    seed = int(sys.argv[2]) if len(sys.argv) > 2 else 1
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
        times = taken(count)
        cloud.ask("trigger", objects="checkpoints/.*manifest", count=1, what="cut", times=times)
        trainings = Trainings(lab, seed)
        try:
            trainings.run(count, expected)
            left, state = lab.left(), cloud.state()
            if trainings.trouble:
                print(lab.said)
        finally:
            lab.close()
    faults = [
        ("machines", f"{len(state['all_machines'])}, {times} of them to be taken away"),
        ("faults", str(sum(rule["played"] for rule in state["faults"]))),
        ("false DONE", str(sum(r["played"] for r in state["physics"]["false_done"]))),
    ]
    things = [f"{kind}: {thing}" for kind, found in left.items() for thing in found]
    sys.exit(told(trainings, count, faults, things))


if __name__ == "__main__":
    main()
