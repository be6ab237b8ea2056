"""A worker or a scheduler of Dask that is stopped says nothing, and ends nothing else."""

import json
import os
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import pytest
from distributed import LocalCluster

from drillyard.backend import Liveness
from drillyard.errors import InfrastructureError
from drillyard.system.processes import marked
from drillyard_backends.dask import worker_proxies, worker_proxy
from drillyard_backends.dask.backend import DaskBackend
from drillyard_backends.dask.client import SchedulerAddress
from drillyard_backends.dask.pushing import Pusher
from tests.helpers.patience import PATIENCE_S, until
from tests.helpers.toy import Toys

pytestmark = pytest.mark.heavy


@pytest.fixture
def toy(tmp_path):
    one = Toys(tmp_path)
    yield one
    one.clean_up()
    assert list(marked(one.lease)) == []


@contextmanager
def stopped(pid):
    """The process does not run in this block."""
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


def test_a_worker_that_is_stopped_costs_the_others_nothing(toy):
    with LocalCluster(
        n_workers=3, threads_per_worker=1, dashboard_address=None, memory_limit=0
    ) as cluster:
        scheduler = SchedulerAddress(cluster.scheduler_address, timeout_s=3.0)
        backend = DaskBackend(
            address=cluster.scheduler_address, connect_timeout_s=3.0, no_workers_timeout_s=0.001
        )
        until(lambda: len(scheduler.workers()) == 3)
        warm(scheduler)
        pids = scheduler.run(os.getpid)
        first = min(pids)
        order = toy.order(idle_s=600.0)
        with stopped(pids[first]):
            # It is listed, and would be the first one in use.
            lease = until(lambda: provisioned(backend, order), what="a lease on the others")
            assert sorted(worker_proxies.of_lease(scheduler, toy.lease)) == sorted(pids)[1:]
            for _ in range(3):
                assert backend.tend(lease, 2) == 2
            assert backend.probe(lease) is Liveness.ALIVE
            with pytest.raises(InfrastructureError, match="did not tell its leases"):
                list(backend.leases())
        with stopped(pids[max(pids)]):
            assert first not in worker_proxies.of_lease(scheduler, toy.lease)
        backend.teardown(lease)
        scheduler.forget()


def warm(scheduler):
    """The workers import drillyard, which may take them longer than the limit of this test."""
    scheduler.run(worker_proxy.look_here, timeout_s=PATIENCE_S)


def provisioned(backend, order):
    try:
        return backend.provision(order)
    except InfrastructureError:
        return None


def test_a_lease_whose_only_worker_is_silent_is_not_gone(toy):
    with LocalCluster(
        n_workers=2, threads_per_worker=1, dashboard_address=None, memory_limit=0
    ) as cluster:
        scheduler = SchedulerAddress(cluster.scheduler_address)
        until(lambda: len(scheduler.workers()) == 2)
        warm(scheduler)
        backend = DaskBackend(address=cluster.scheduler_address, connect_timeout_s=3.0)
        lease = backend.provision(toy.order(idle_s=600.0, workers=1))
        (busy,) = worker_proxies.of_lease(scheduler, toy.lease)
        with stopped(scheduler.run(os.getpid)[busy]):
            assert backend.probe(lease) is Liveness.UNKNOWN
        backend.teardown(lease)
        scheduler.forget()


def test_a_scheduler_that_stops_while_a_ticket_is_sent_is_an_error_in_time(toy, tmp_path):
    file = tmp_path / "scheduler.json"
    command = ["-m", "dask", "scheduler", "--host", "127.0.0.1", "--port", "0", "--no-dashboard"]
    process = subprocess.Popen([sys.executable, *command, "--scheduler-file", str(file)])
    try:
        until(lambda: file.exists() and file.read_text().strip().endswith("}"))
        address = cluster_address(file)
        SchedulerAddress(address).workers()
        pusher = Pusher(SchedulerAddress(address, timeout_s=1.0), toy.order(), 2)
        with ThreadPoolExecutor() as pool, stopped(process.pid):
            sent = pool.submit(pusher.push, f"{toy.post()}.train")
            try:
                with pytest.raises(InfrastructureError, match="does not answer: TimeoutError"):
                    sent.result(20.0)
            finally:
                os.kill(process.pid, signal.SIGCONT)  # or the pool would wait for ever
        SchedulerAddress(address).forget()
    finally:
        process.terminate()
        process.wait(PATIENCE_S)


def cluster_address(file):
    return json.loads(file.read_text())["address"]
