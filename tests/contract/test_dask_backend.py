"""The backend dask keeps the contract, on a cluster of its own and on one that it joins."""

import asyncio
import os
import signal
import socket
import stat
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest
from distributed import Client, LocalCluster, Security
from distributed.diskutils import WorkSpace

from drillyard.backend import Liveness
from drillyard.errors import ConfigError, DrillyardError, InfrastructureError, UserError
from drillyard.findings import Severity
from drillyard.mailbox.records import Claim, Ending, Phase
from drillyard.mailbox.status import Cause, Status
from drillyard.system.operating_system import boot_id, pid_namespace
from drillyard.system.processes import ProcessId, marked, send
from drillyard.testing.backend_suite import BackendSuite
from drillyard.testing.backend_troubles import Trouble, breaking
from drillyard_backends.dask import worker_proxies
from drillyard_backends.dask.backend import DaskBackend
from drillyard_backends.dask.client import SchedulerAddress, _clients, _end
from drillyard_backends.dask.cluster import MOST_AGENTS
from drillyard_backends.dask.versions import compare
from drillyard_backends.dask.worker_proxy import WorkerProxy
from tests.helpers.patience import until
from tests.helpers.records import tell_worker
from tests.helpers.toy import Toys


@pytest.fixture
def toy(tmp_path):
    one = Toys(tmp_path)
    yield one
    one.clean_up()
    left = list(marked(one.lease))
    for client in _clients.values():
        _end(client)
    _clients.clear()
    assert left == []


@pytest.fixture
def backend(settings):
    return DaskBackend(**settings)


@pytest.fixture
def order(toy):
    return toy.order(idle_s=600.0)


def broken(error):
    """Neither the scheduler nor this machine's table of processes answers."""
    return breaking(
        error,
        (Client, "sync"),
        (Client, "submit"),
        (Client, "run"),
        (psutil, "process_iter"),
        (subprocess, "Popen"),
    )


class TestOwned(BackendSuite):
    """The suite, on a cluster that is started for the lease."""

    def broken(self, error):
        return broken(error)

    @pytest.fixture
    def settings(self, tmp_path):
        return {"runtime": str(tmp_path / "runtime")}


@pytest.fixture(scope="module")
def cluster():
    with LocalCluster(
        n_workers=2, threads_per_worker=1, dashboard_address=None, memory_limit=0
    ) as one:
        yield one


class TestJoined(BackendSuite):
    """The suite, on a cluster that somebody else runs."""

    def broken(self, error):
        return broken(error)

    def troubles(self, backend):
        yield from super().troubles(backend)
        # What a call ends with whose loop was closed meanwhile.
        calls = [(Client, name) for name in ("sync", "submit", "run")]
        yield Trouble("cancelled", breaking(asyncio.CancelledError(), *calls))
        yield Trouble("no such field", breaking(KeyError("workers"), *calls))

    @pytest.fixture
    def settings(self, cluster):
        return {"address": cluster.scheduler_address}


def refused(**settings):
    with pytest.raises(ConfigError) as error:
        DaskBackend(**settings)
    return str(error.value)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"address": "tcp://0.0.0.0:8786"}, "servers listen on"),
        ({"address": "tls://0.0.0.0:8786"}, "servers listen on"),
        ({"address": "tcp://8.8.8.8:8786"}, "not in a private network"),
        ({"address": "tls://8.8.8.8:8786"}, "needs tls_ca_file"),
        ({"address": "scheduler:8786"}, "tls://HOST:PORT"),
        ({"address": "http://scheduler:8786"}, "tls://HOST:PORT"),
        ({"address": "tcp://10.0.0.1:1", "cluster": "a:B"}, "give one of them"),
        ({"cluster": "dask_jobqueue.SLURMCluster"}, "module:Class"),
        ({"args": {"cores": 4}}, "args needs cluster"),
        ({"address": "tls://10.0.0.1:1", "tls_ca_file": "/nowhere"}, "all three files"),
    ],
)
def test_addresses_and_settings_that_cannot_be_meant_are_refused(settings, words):
    assert words in refused(**settings)


def test_a_name_that_leads_to_a_public_address_is_refused(monkeypatch, toy):
    found = [(0, 0, 0, "", ("8.8.8.8", 8786))]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *a, **k: found)
    backend = DaskBackend(address="tcp://scheduler.example:8786")
    for verb in (backend.check, lambda: backend.provision(toy.order())):
        with pytest.raises(ConfigError, match="not in a private network"):
            verb()


def test_versions_that_differ_are_a_table():
    here = {
        "python": "3.11.7",
        "drillyard": "1",
        "dask": "2",
        "torch": "2.10",
        "numpy": None,
        "distributed": "2",
        "cloudpickle": "3",
        "msgpack": "1",
        "stable-baselines3": "2",
        "gymnasium": "1",
    }
    same = {**here, "python": "3.11.2.final.0"}
    assert compare(here, {"tcp://a:1": same}) == []
    other = {**same, "drillyard": None, "torch": "2.11", "python": "3.12.1.final.0"}
    error, warning = compare(here, {"tcp://a:1": same, "tcp://b:1": other})
    assert (error.severity, warning.severity) == (Severity.ERROR, Severity.WARNING)
    rows = [line.split() for line in error.message.splitlines()[1:]]
    assert rows == [
        ["python", "drillyard"],
        ["here", "3.11.7", "1"],
        ["tcp://a:1", "3.11.2.final.0", "1"],
        ["tcp://b:1", "3.12.1.final.0", "-"],
    ]
    assert "drillyard==1" in error.fix
    assert "2.11" in warning.message


def test_a_mailbox_that_workers_do_not_share_is_refused(cluster, toy):
    backend = DaskBackend(address=cluster.scheduler_address)
    order = toy.order().model_copy(update={"store_url": f"memory://{toy.lease}"})
    with pytest.raises(UserError, match=r"(?s)2 Dask worker.*another place there"):
        backend.provision(order)
    assert list(backend.leases()) == []


def claimed_by(toy, ticket, process, **elsewhere):
    """A claim of a worker of the lease that is this process, or one of another machine."""
    told = {"boot_id": boot_id(), "pid_namespace": pid_namespace(), **elsewhere}
    told |= {"host": "other", "pid": process.pid, "pid_started": process.started}
    tell_worker(toy.mailbox, "w", toy.lease, **told)
    toy.mailbox.claim(Claim(ticket=ticket, attempt=1, worker="w", token="t", claimed_at=0.0))


@pytest.mark.heavy
def test_what_a_worker_holds_is_lost_with_that_worker(cluster, toy):
    """Its ticket was sent again before the claim was seen: a second agent of the lease has it."""
    run = toy.post(gate=str(toy.tmp / "gate"))
    ticket = f"{run}.train"
    backend = DaskBackend(address=cluster.scheduler_address)
    lease = backend.provision(toy.order(idle_s=600.0))
    claimed_by(toy, ticket, ProcessId.current(), boot_id="another boot")
    backend.launch(lease, ticket)
    until(lambda: any(ticket in p["tickets"] for p in proxies(cluster, toy)))
    assert backend.probe(lease, ticket) is Liveness.GONE
    lost = Ending(
        ticket=ticket,
        attempt=1,
        status=Status.FAILED,
        cause=Cause.INFRASTRUCTURE,
        by="d",
        ended_at=0.0,
    )
    toy.mailbox.end(lost)
    toy.pid_of(run, 2)
    assert backend.probe(lease, ticket) is Liveness.ALIVE  # the second agent has the next attempt
    backend.teardown(lease)


@pytest.mark.heavy
def test_a_worker_is_asked_for_by_its_process_and_silence_is_not_an_end(cluster, toy, monkeypatch):
    """An agent may also hold tickets that were never sent to it."""
    ticket = f"{toy.post()}.train"
    backend = DaskBackend(address=cluster.scheduler_address)
    lease = backend.provision(toy.order(idle_s=600.0))
    claimed_by(toy, ticket, ProcessId.current())
    assert backend.probe(lease, ticket) is Liveness.ALIVE
    real = SchedulerAddress.run

    def one_is_silent(*args, **kwargs):
        answers = dict(real(*args, **kwargs))
        return answers | {min(answers): OSError("timed out")}

    claimed_by(toy, ticket, ProcessId.current(), boot_id="another boot")
    assert backend.probe(lease, ticket) is Liveness.GONE
    monkeypatch.setattr(SchedulerAddress, "run", one_is_silent)
    assert backend.probe(lease, ticket) is Liveness.UNKNOWN
    with pytest.raises(InfrastructureError, match="did not tell its leases: tcp"):
        list(backend.leases())
    monkeypatch.undo()
    backend.teardown(lease)


def proxies(cluster, toy):
    return worker_proxies.of_lease(SchedulerAddress(cluster.scheduler_address), toy.lease).values()


def own_addresses():
    """This machine's IPv4 addresses, one more of the loopback among them."""
    found = {
        a.address
        for one in psutil.net_if_addrs().values()
        for a in one
        if a.family is socket.AF_INET
    }
    return found | {"127.0.0.2"}


def test_an_own_cluster_listens_at_home_only_and_wants_a_certificate(tmp_path, toy):
    backend = DaskBackend(runtime=tmp_path / "runtime")
    lease = backend.provision(toy.order(idle_s=600.0))
    door = until(lambda: backend._scheduler(lease))
    assert door.address.startswith("tls://127.0.0.1:")
    found = until(lambda: len(found := door.workers()) == 2 and found)
    ports = [int(a.rpartition(":")[2]) for a in (door.address, *found)]
    ports += [int(worker["nanny"].rpartition(":")[2]) for worker in found.values()]
    for port in ports:
        for host in own_addresses() - {"127.0.0.1"}:
            with pytest.raises(OSError), socket.create_connection((host, port), timeout=2):
                pass
    assert stat.S_IMODE(Path(door.security["tls_client_key"]).stat().st_mode) == 0o600
    stranger = Security.temporary()
    names = ("require_encryption", "tls_ca_file", "tls_client_cert", "tls_client_key")
    foreign = {name: getattr(stranger, name) for name in names}
    for address, security in ((door.address, foreign), (door.address.replace("tls", "tcp"), {})):
        with pytest.raises(DrillyardError):
            SchedulerAddress(address, security, 2.0).client()
    backend.teardown(lease)
    assert list(marked(toy.lease)) == []


def test_a_cluster_without_work_and_without_a_driver_ends_itself(tmp_path, toy):
    run = toy.post(phases=(Phase.TRAIN, Phase.EVALUATE))
    backend = DaskBackend(runtime=tmp_path / "runtime")
    lease = backend.provision(toy.order(idle_s=0.5))
    until(lambda: backend._scheduler(lease))
    backend.launch(lease, f"{run}.train")
    toy.until_status(f"{run}.evaluate", Status.SUCCEEDED)  # the agent goes on by itself
    until(lambda: not list(marked(toy.lease)))
    assert backend.probe(lease) is Liveness.GONE


@pytest.mark.heavy
def test_an_agent_that_is_killed_is_started_again_a_few_times(tmp_path, toy):
    """The set-up waits for all agents of the lease, and tickets wait for the set-up."""
    backend = DaskBackend(runtime=tmp_path / "runtime")
    # A short idle_s would end an agent by itself before this test has seen it, on a busy machine.
    lease = backend.provision(toy.order(idle_s=600.0, workers=1))
    killed: set[str] = set()

    def next_agent():
        ready = [w for w in toy.mailbox.workers() if w.state == "ready"]
        return next((w for w in ready if w.worker not in killed), None)

    for _ in range(MOST_AGENTS):
        agent = until(next_agent, what="another agent")
        killed.add(agent.worker)
        os.kill(agent.pid, signal.SIGKILL)
    said = f"ended {MOST_AGENTS} times: none is started"
    until(lambda: any(said in line for line in backend.logs(lease)), what="the last agent's end")
    assert {w.worker for w in toy.mailbox.workers()} == killed
    backend.teardown(lease)


def test_what_dask_cleans_up_is_never_where_an_agent_works(tmp_path, toy):
    """A worker that starts deletes the folders of dead ones; an agent outlives its worker."""
    space = WorkSpace(str(tmp_path / "dask-scratch-space"))
    base = Path(space.base_dir)

    def a_worker_starts():
        stale = base / "worker-dead"
        stale.mkdir()
        stale.with_name("worker-dead.dirlock").touch()
        space.new_work_dir(prefix="worker-").release()
        assert not stale.exists()

    gate = tmp_path / "gate"
    run = toy.post(gate=str(gate))
    station = WorkerProxy(toy.order(idle_s=60.0), "0", 1, base)
    with ThreadPoolExecutor() as pool:
        word = pool.submit(station.do, f"{run}.train")
        toy.pid_of(run, 1)
        a_worker_starts()
        gate.touch()
        assert word.result() == "SUCCEEDED"
        assert list(base.glob("drillyard-*"))
        send(station._agent, signal.SIGKILL)
        until(lambda: not station.alive)
        a_worker_starts()
        assert list(base.glob("drillyard-*")) == []
        again = WorkerProxy(toy.order(idle_s=60.0), "0", 1, base)
    again.end()
    assert list(base.glob("drillyard-*")) == []


def test_a_cluster_class_of_the_user(tmp_path, toy, monkeypatch):
    (tmp_path / "my_clusters.py").write_text(
        "from distributed import LocalCluster\n"
        "class Mine(LocalCluster):\n"
        "    def __init__(self, colour):\n"
        "        print('colour', colour, flush=True)\n"
        "        super().__init__(n_workers=0, threads_per_worker=1, dashboard_address=None)\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=os.pathsep)
    settings = {"cluster": "my_clusters:Mine", "runtime": str(tmp_path / "runtime")}
    run = toy.post()
    backend = DaskBackend(**settings, args={"colour": "red"})
    lease = backend.provision(toy.order(idle_s=600.0))
    until(lambda: any(w.state == "ready" for w in toy.mailbox.workers()))
    backend.launch(lease, f"{run}.train")
    toy.until_status(f"{run}.train", Status.SUCCEEDED)
    assert "colour red" in list(backend.logs(lease))
    backend.teardown(lease)
    wrong = DaskBackend(**settings, args={"shape": "round"})
    lease = wrong.provision(toy.order())
    until(lambda: wrong.probe(lease) is Liveness.GONE)
    assert any("does not take backends.dask.args" in line for line in wrong.logs(lease))
