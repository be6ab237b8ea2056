"""Copies of one training on the nodes of one job of an emulated Azure ML."""

from __future__ import annotations

import os
import signal
from typing import Any

import psutil
import pytest

pytest.importorskip("azure.ai.ml")

from drillyard.mailbox.records import Phase
from drillyard.results.fingerprint import fingerprint
from drillyard.simulators.hosts.posted import path_of
from tests.emulated.test_gcp_end_to_end import local_hashes
from tests.emulated.test_gcp_hosts import FILE, RUN
from tests.helpers.azure_lab import needs_azurite
from tests.helpers.patience import PATIENCE_S, until
from tests.helpers.processes import machines_of

pytestmark = [needs_azurite()]


def hosts(lab: Any) -> list[int]:
    """The living hosts of copies on emulated nodes."""
    found = []
    for process in machines_of(lab.cloud.greeting["mark"]):
        try:
            if "drillyard.simulators.hosts" in psutil.Process(process.pid).cmdline():
                found.append(process.pid)
        except psutil.Error:
            continue
    return found


def test_the_nodes_of_a_job_train_one_run_though_a_host_dies(lab):
    more = "backends: {azure: {compute: null}}\n"
    text = FILE.replace("steps: 1024", "steps: 4096")
    driver = lab.start("run", str(lab.write(text + more)), "--on", "azure")
    mailbox = lab.mailbox("reactor")

    def trained() -> bool:
        assert driver.poll() is None, lab.said + lab.serials()
        board = mailbox.board(RUN)
        return board is not None and (board.checkpoint_step or 0) > 0 and bool(hosts(lab))

    until(trained, what="a checkpoint")
    os.kill(hosts(lab)[0], signal.SIGKILL)
    assert driver.wait(PATIENCE_S) == 0, lab.said + lab.serials()
    state = lab.cloud.state()
    assert {job["status"] for job in state["jobs"].values()} == {"Completed"}
    phases = [node["job"].rpartition("-")[0].rpartition("-")[2] for node in state["nodes"]]
    nodes = {phase: phases.count(phase) for phase in phases}
    assert nodes == {"train": 3, "evaluate": 1}, "a job's nodes are paid for until it ends"
    assert lab.left() == {} and not hosts(lab)
    accepted = mailbox.accepted(RUN, Phase.TRAIN)
    assert accepted is not None and accepted.attempt == 1
    assert accepted.summary["hosts"] == {"number": 2, "lost": 1}
    assert mailbox.store.stat(mailbox.key(path_of(RUN, 1))) is None
    alone = lab.write(text.replace(", copies_on: workers", ""))
    assert {RUN: fingerprint(mailbox, RUN)} == local_hashes(lab, alone, [RUN])
