"""Whole experiments on a Dask cluster, while workers, scheduler and driver die."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any, cast

import psutil
import pytest

from drillyard.driver.driver import Driver
from drillyard.errors import TeardownUnconfirmed, WorkerLost
from drillyard.mailbox.records import Phase
from drillyard.mailbox.status import Cause, Status
from drillyard.mailbox.ticket_states import ticket_states
from drillyard.system.processes import marked
from drillyard_backends.dask import worker_proxies
from drillyard_backends.dask.backend import DaskBackend
from drillyard_backends.dask.client import _clients, _end
from tests.helpers import resume_worlds
from tests.helpers.driven import Place, begin, finish, lived_in
from tests.helpers.patience import PATIENCE_S, until


class DaskPlace(Place):
    """A user's folder, a store and drivers on Dask."""

    def __init__(self, tmp: Path) -> None:
        super().__init__(tmp)
        self.settings: dict[str, Any] = {"runtime": str(tmp / "runtime")}

    def backend(self) -> DaskBackend:
        return DaskBackend(**self.settings)


@pytest.fixture
def place(tmp_path, monkeypatch):
    made = DaskPlace(tmp_path)
    with lived_in(made, monkeypatch):
        yield made
    for client in _clients.values():
        _end(client)
    _clients.clear()


def dask_workers(driver: Driver) -> dict[str, int]:
    """Address of each Dask worker of a driver's lease -> its pid."""
    lease = driver.lease
    assert lease is not None
    door = driver.backend._scheduler(lease)  # type: ignore[attr-defined]
    return dict(door.run(os.getpid))


def one_that_works(driver: Driver) -> int:
    """The pid of a Dask worker that has a ticket."""
    lease = driver.lease
    assert lease is not None

    def found() -> str | None:
        door = driver.backend._scheduler(lease)  # type: ignore[attr-defined]
        mine = worker_proxies.of_lease(door, lease.lease_id)
        return next((a for a, one in sorted(mine.items()) if one["tickets"]), None)

    return dask_workers(driver)[until(found)]


def test_a_worker_that_dies_with_all_it_started_costs_one_attempt(place):
    driver = place.driver(seeds=[1, 2])
    begin(driver)
    place.pid_of("t0001-s2", 1)
    parents = {p.pid for p in psutil.Process(place.pid_of("t0001-s1", 1)).parents()}
    (worker,) = parents & set(dask_workers(driver).values())
    processes = [psutil.Process(worker), *psutil.Process(worker).children(recursive=True)]
    for process in processes:
        process.suspend()  # its agent is asked to end when its parent has died, and would say so
    for process in processes:
        process.kill()
    place.pid_of("t0001-s1", 2)
    place.gate.touch()
    assert {t: n for t, n in finish(driver, place).items() if n > 1} == {"t0001-s1.train": 2}
    ending = place.mailbox.ending("t0001-s1.train", 1)
    assert ending is not None and ending.cause is Cause.INFRASTRUCTURE


def test_a_worker_that_dies_alone_lets_its_runs_flush(place):
    driver = place.driver(seeds=[1])
    begin(driver)
    place.pid_of("t0001-s1", 1)
    os.kill(one_that_works(driver), signal.SIGKILL)
    place.pid_of("t0001-s1", 2)
    place.gate.touch()
    assert finish(driver, place)["t0001-s1.train"] == 2
    ending = place.mailbox.ending("t0001-s1.train", 1)
    assert ending is not None and ending.cause is Cause.PREEMPTION


def test_workers_of_a_cluster_host_the_copies_of_a_training(place):
    (place.folder / "hosted_world.py").write_text(Path(resume_worlds.__file__).read_text())
    driver = place.driver(
        name="far",
        workload="rl",
        seeds=[7],
        backend="dask",
        simulator={"id": "hosted_world:Drift", "copies_on": "workers"},
        learner={"algorithm": "ppo", "preset": None, "args": {"n_steps": 16, "batch_size": 16}},
        train={"steps": 64, "n_envs": 2},
        evaluate={"episodes": 1},
        resources={"workers": 2, "device": "cpu"},
    )
    sys.path.insert(0, str(place.folder))
    begin(driver)
    finish(driver, place)
    trained = place.mailbox.accepted("t0001-s7", Phase.TRAIN)
    assert trained is not None and trained.summary["hosts"] == {"number": 1, "lost": 0}


KILLED = """
import os, signal, sys
from pathlib import Path
from tests.contract.test_dask_runs import DaskPlace, begin, until
place = DaskPlace(Path(sys.argv[1]))
driver = place.driver(seeds=[1, 2, 3])
begin(driver)
until(lambda: len(list(place.mailbox.store.list(place.mailbox.key("launches/")))) == 3)
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_without_a_driver_the_cluster_goes_on_and_is_adopted(place):
    """After ``kill -9`` of the driver: all that was posted is done, and the next one collects."""
    done = subprocess.run(
        [sys.executable, "-c", KILLED, str(place.tmp)],
        cwd=Path(__file__).parents[2],
        timeout=PATIENCE_S,
        check=False,
    )
    assert done.returncode == -signal.SIGKILL
    place.gate.touch()
    until(lambda: all(place.mailbox.accepted(f"t0001-s{s}", Phase.STORE) for s in (1, 2, 3)))
    again = place.driver(seeds=[1, 2, 3, 4])
    again.open()
    again.provision()
    assert len(again.ledger.entries()) == 1  # the lease was adopted
    again.setup(PATIENCE_S)
    assert set(finish(again, place).values()) == {1}


class Cluster:
    """A scheduler and workers as a user starts them."""

    def __init__(self, tmp: Path, threads: int = 2, *options: str) -> None:
        file = tmp / "scheduler.json"
        file.unlink(missing_ok=True)  # of one that ended before in the same place
        log = open(tmp / "dask.log", "ab")  # noqa: SIM115
        common = ["--no-dashboard", "--scheduler-file", str(file), *options]
        dask = [sys.executable, "-m", "dask"]
        host = ["--host", "127.0.0.1"]

        def start(*command: str) -> subprocess.Popen[bytes]:
            return subprocess.Popen(
                [*dask, *command, *common],
                stdout=log,
                stderr=log,
                cwd=tmp,
                start_new_session=True,
            )

        self.scheduler = start("scheduler", *host, "--port", "0")
        until(file.exists)
        until(lambda: file.read_text().strip().endswith("}"))
        self.worker = start("worker", *host, "--nthreads", str(threads), "--nworkers", "1")
        self.address = str(json.loads(file.read_text())["address"])
        log.close()

    def end(self) -> None:
        for process in (self.worker, self.scheduler):
            for number in (signal.SIGTERM, signal.SIGKILL):
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, number)
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(5)


@pytest.fixture
def clusters(tmp_path):
    made: list[Cluster] = []

    def start(*args: Any) -> Cluster:
        made.append(Cluster(tmp_path, *args))
        return made[-1]

    yield start
    for one in made:
        one.end()


def test_a_joined_cluster_is_given_no_more_than_the_runs_side_by_side(place, clusters):
    place.settings = {"address": clusters(4).address}
    driver = place.driver(seeds=[1, 2, 3, 4], resources={"workers": 2})
    begin(driver)
    lease = driver.lease
    place.pid_of("t0001-s1", 1)
    place.pid_of("t0001-s2", 1)
    running = [s for s in ticket_states(place.mailbox).values() if s.status is Status.RUNNING]
    assert [s.ticket.run for s in running] == ["t0001-s1", "t0001-s2"]
    assert not (place.marks / "t0001-s3.1").exists()
    place.gate.touch()
    assert set(finish(driver, place).values()) == {1}
    assert list(driver.backend.leases()) == []
    assert list(marked(lease.lease_id)) == []  # the cluster stays, and nothing of ours on it


def test_a_lost_scheduler_is_an_error_within_a_bound(place, clusters):
    cluster = clusters(2)
    place.settings = {"address": cluster.address, "connect_timeout_s": 5.0}
    driver = place.driver(seeds=[1])
    begin(driver)
    lease = driver.lease
    place.pid_of("t0001-s1", 1)
    cluster.end()
    # Only now, where they are waited out: a busy machine may need longer for one that is there.
    short = {"connect_timeout_s": 1.0, "no_workers_timeout_s": 2.0}
    backend = cast(DaskBackend, driver.backend)
    backend.config = backend.config.model_copy(update=short)
    with pytest.raises(WorkerLost, match=r"does not answer.*for 2 s"):
        driver.wait("t0001-s1.train", PATIENCE_S)
    assert driver.backend.probe(lease).value == "UNKNOWN"  # not known is not gone
    with pytest.raises(TeardownUnconfirmed):
        driver.teardown(timeout_s=1.0)
    driver.close("lost")
    until(lambda: not list(marked(lease.lease_id)))  # its agents heard of it and left
    # The same command on a cluster that is well goes on.
    place.settings["address"] = clusters(2).address
    place.gate.touch()
    again = place.driver(seeds=[1])
    begin(again)
    assert again.wait("t0001-s1.train", PATIENCE_S).attempt == 2
    again.backend.teardown(again.lease)  # type: ignore[arg-type]
    again.close("done")
