"""What the backend dask decides, without a cluster."""

import asyncio
import json
import os
import signal
import threading
from types import SimpleNamespace

import pytest

from drillyard.backend import Lease, Liveness, Order
from drillyard.errors import InfrastructureError, WorkerLost
from drillyard.simulators.hosts.providers import Hosting
from drillyard.system.processes import marked, send
from drillyard.testing.clock import FakeClock
from drillyard_backends.dask import worker_proxy
from drillyard_backends.dask.backend import DaskBackend
from drillyard_backends.dask.client import SchedulerAddress
from drillyard_backends.dask.hosts import DaskHosts
from tests.helpers.patience import until


def order(lease="dy-unit-dask", **more):
    return Order(lease_id=lease, experiment="e", store_url="memory://unit-dask", **more)


def joined(lease):
    return Lease(
        lease_id=lease,
        backend="dask",
        order=order(lease),
        provider={"address": "tcp://127.0.0.1:1"},
        created_at=0.0,
    )


def test_each_lease_has_its_own_time_without_an_answer(monkeypatch):
    """The lease that replaces a lost one does not inherit the minutes of that one."""

    def silent(self):
        raise InfrastructureError("no answer")

    monkeypatch.setattr(SchedulerAddress, "workers", silent)
    clock = FakeClock()
    backend = DaskBackend(clock, address="tcp://127.0.0.1:1", no_workers_timeout_s=60.0)
    assert backend.tend(joined("first"), 2) == 2
    clock.advance(61.0)
    assert backend.tend(joined("second"), 2) == 2
    with pytest.raises(WorkerLost, match="for 60 s"):
        backend.tend(joined("first"), 2)


class StillEnding:
    """A proxy whose agent takes its time to exit."""

    def __init__(self):
        self.begun, self.over = threading.Event(), threading.Event()
        self.order, self.slots, self.tickets, self.exit_code = order(), 1, [], None

    def end(self):
        self.begun.set()
        self.over.wait()


def test_a_lease_that_is_ending_is_listed_until_its_agent_is_gone(monkeypatch):
    """The first teardown may have lost its connection: the second one confirms nothing early."""
    proxy = StillEnding()
    key = ("dy-unit-dask", "0")
    monkeypatch.setattr(worker_proxy, "_proxies", {key: proxy})
    monkeypatch.setattr(worker_proxy, "_closed", set())
    worker = SimpleNamespace(name="0")

    async def twice():
        first = asyncio.create_task(worker_proxy.close_here(key[0], dask_worker=worker))
        await asyncio.to_thread(proxy.begun.wait)
        second = asyncio.create_task(worker_proxy.close_here(key[0], dask_worker=worker))
        done, _ = await asyncio.wait([second], timeout=0.1)
        listed = worker_proxy.look_here(dask_worker=worker)
        proxy.over.set()
        await asyncio.gather(first, second)
        return done, listed

    done, listed = asyncio.run(twice())
    assert (len(done), len(listed)) == (0, 1)
    assert worker_proxy.look_here(dask_worker=worker) == []


@pytest.mark.heavy
def test_an_agent_in_the_place_of_another_has_its_gpus_and_leaves_no_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("DRILLYARD_DASK_GPUS", "1")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "5,6")
    monkeypatch.setattr(worker_proxy, "_proxies", {})
    monkeypatch.setattr(worker_proxy, "_closed", set())
    worker = SimpleNamespace(
        name="1",
        state=SimpleNamespace(nthreads=1),
        local_directory=str(tmp_path / "scratch" / "worker-1"),
    )
    (tmp_path / "scratch").mkdir()
    lease = f"dy-{os.getpid()}-{tmp_path.name}"[:40]
    wanted = order(lease).model_copy(update={"store_url": str(tmp_path / "store")})
    given = {"CUDA_VISIBLE_DEVICES": "6"}
    first = worker_proxy._open(wanted, worker, reopen=True)
    assert any(p.pid == first._agent.pid for p in marked(lease, **given))
    send(first._agent, signal.SIGKILL)
    until(lambda: not first.alive)
    second = worker_proxy._open(wanted, worker, reopen=False)  # as a task does
    try:
        assert len([p for p in marked(lease, **given) if p.pid == second._agent.pid]) == 1
    finally:
        asyncio.run(worker_proxy.close_here(lease, dask_worker=worker))
    assert list((tmp_path / "scratch").iterdir()) == []
    assert list(marked(lease)) == []


def test_hosts_of_two_leases_have_keys_of_their_own(tmp_path, monkeypatch):
    """Runs have equal names in all experiments, and process ids in all containers."""
    keys = []
    client = SimpleNamespace(submit=lambda *_, key, **__: keys.append(key) or SimpleNamespace())
    monkeypatch.setattr(SchedulerAddress, "client", lambda self: client)
    invitation = SimpleNamespace(to_json=lambda: "{}")
    for lease in ("dy-one", "dy-two", "dy-two"):
        way = tmp_path / "way.json"
        document = {"address": "tcp://127.0.0.1:1", "worker": "tcp://127.0.0.1:2"}
        way.write_text(json.dumps({**document, "order": order(lease).model_dump(mode="json")}))
        monkeypatch.setenv(worker_proxy.WAY, str(way))
        hosts = DaskHosts(
            Hosting(
                number=1,
                experiment="e",
                run="t0001-s1",
                store_url="memory://unit-dask",
                scratch=tmp_path,
                settings={},
            )
        )
        hosts._invitation = invitation
        hosts._place(["tcp://127.0.0.1:3"])
    assert len(set(keys)) == 3


def test_a_cluster_of_our_own_is_ended_also_after_an_address_was_set(tmp_path, monkeypatch):
    """It was started before the settings named a cluster to join."""
    ended = []
    backend = DaskBackend(address="tcp://127.0.0.1:1", runtime=str(tmp_path / "runtime"))
    monkeypatch.setattr(backend._sessions, "teardown", lambda lease: ended.append("program"))
    monkeypatch.setattr(SchedulerAddress, "run", lambda *_, **__: ended.append("proxies") or {})
    monkeypatch.setattr(SchedulerAddress, "client", lambda self: SimpleNamespace(status=""))
    host = {"host": "here", "pid": os.getpid(), "started": 0.0}
    backend.teardown(joined("dy-own").model_copy(update={"provider": host}))
    assert "program" in ended
    ended.clear()
    backend.teardown(joined("dy-planned").model_copy(update={"provider": {}}))
    assert ended == ["program", "proxies"]


def test_a_lease_whose_worker_gives_an_error_is_not_gone(monkeypatch):
    backend = DaskBackend(address="tcp://127.0.0.1:1")
    workers = {"tcp://127.0.0.1:2": {}, "tcp://127.0.0.1:3": {}}
    answers = {"tcp://127.0.0.1:2": OSError("timed out"), "tcp://127.0.0.1:3": []}
    monkeypatch.setattr(SchedulerAddress, "workers", lambda self: workers)
    monkeypatch.setattr(SchedulerAddress, "run", lambda *_, **__: answers)
    assert backend.probe(joined("dy-silent")) is Liveness.UNKNOWN
    answers["tcp://127.0.0.1:2"] = []
    assert backend.probe(joined("dy-silent")) is Liveness.GONE
    workers.clear()
    assert backend.probe(joined("dy-silent")) is Liveness.PENDING
