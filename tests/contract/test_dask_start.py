"""How a cluster of our own starts, and what is left of one that is interrupted meanwhile."""

import os
import signal

import pytest

from drillyard.backend import Liveness
from drillyard.system.processes import marked
from drillyard_backends.dask.backend import DaskBackend
from tests.helpers.patience import until
from tests.helpers.toy import Toys

CLASS = """
import time
from pathlib import Path
from distributed import LocalCluster

class Slow(LocalCluster):
    def __init__(self, folder):
        self.folder = Path(folder)
        (self.folder / "begun").touch()
        while not (self.folder / "gate").exists():
            time.sleep(0.02)
        super().__init__(n_workers=0, threads_per_worker=1, dashboard_address=None)

    def close(self, timeout=None):
        (self.folder / "closed").touch()
        return super().close(timeout)
"""


@pytest.mark.heavy
def test_a_cluster_class_that_is_interrupted_while_it_starts_is_closed(tmp_path, monkeypatch):
    (tmp_path / "slow_clusters.py").write_text(CLASS)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=os.pathsep)
    backend = DaskBackend(
        cluster="slow_clusters:Slow",
        args={"folder": str(tmp_path)},
        runtime=str(tmp_path / "runtime"),
    )
    toy = Toys(tmp_path)
    lease = backend.provision(toy.order(idle_s=600.0))
    until((tmp_path / "begun").exists, what="the start of the cluster")
    os.kill(lease.provider["pid"], signal.SIGTERM)
    (tmp_path / "gate").touch()
    until(lambda: backend.probe(lease) is Liveness.GONE, what="the end of the program")
    assert (tmp_path / "closed").exists()
    backend.teardown(lease)
    toy.clean_up()


@pytest.mark.heavy
def test_each_worker_of_an_own_cluster_has_gpus_of_its_own(tmp_path, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "5,6")
    backend = DaskBackend(runtime=str(tmp_path / "runtime"))
    toy = Toys(tmp_path)
    lease = backend.provision(toy.order(idle_s=600.0, gpus=1))
    for device in ("5", "6"):
        own = {"CUDA_VISIBLE_DEVICES": device}
        until(lambda own=own: list(marked(toy.lease, **own)), what=f"the agent of GPU {device}")
    backend.teardown(lease)
    assert list(marked(toy.lease)) == []
    toy.clean_up()
