"""From the end of training to the request that deletes the machines, on the emulated Google Cloud.

    python -m tests.benchmarks.gcp_end_to_delete [rounds]

A real ``drillyard run`` with one machine, by the emulated cloud's log; time is real. Evaluating,
storing and looking that nobody works any more lie in between.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import pytest

from drillyard.mailbox.records import Phase
from drillyard_emulators.http.handle import GcpEmulator
from tests.helpers.rented import Lab

from . import common
from .trainings import RUN, experiment


def one(lab: Lab, name: str) -> dict[str, float]:
    """Run one: seconds after the end of training at which each thing had happened."""
    lab.run("run", experiment(lab.folder, name), "--on", "gcp")
    mailbox = lab.mailbox(name)
    accepted = {phase: mailbox.accepted(RUN, phase) for phase in Phase}
    ends = {phase: found.ended_at for phase, found in accepted.items() if found is not None}
    (lease,) = {info.key.split("/")[2] for info in mailbox.store.list(mailbox.key("leases/"))}
    asked = lab.cloud.log(f"^DELETE compute.*instanceGroupManagers/{lease}")
    gone = [m["gone"] for m in lab.cloud.state()["all_machines"] if lease in m["name"]]
    began = ends[Phase.TRAIN]
    return {
        "evaluated": ends[Phase.EVALUATE] - began,
        "stored": ends[Phase.STORE] - began,
        "delete requested": asked[0]["time"] - began,
        "machine gone": max(gone) - began,
    }


def main() -> None:
    """Measure, and print."""
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 3
    with (
        tempfile.TemporaryDirectory(prefix="dy-", ignore_cleanup_errors=True) as name,
        pytest.MonkeyPatch.context() as patch,
        GcpEmulator(Path(name) / "cloud") as cloud,
    ):
        lab = Lab(cloud, Path(name), patch)
        try:
            found = [one(lab, f"e{number}") for number in range(rounds)]
        finally:
            lab.close()
    common.table(
        "seconds after the end of training",
        [(what, ", ".join(f"{each[what]:.1f}" for each in found)) for what in found[0]],
    )


if __name__ == "__main__":
    main()
