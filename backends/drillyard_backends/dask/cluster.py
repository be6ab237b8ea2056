"""``python -m drillyard_backends.dask.cluster``: holds a cluster that was started for one lease.

It starts the cluster, opens the lease's stations on its workers, also on those that are started
anew, and closes it when it is told to, at the lease's deadline, or when nobody drives and nothing
is left to do. It lives in a session of its own, so that work goes on when the driver is gone.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import logging
import os
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any

from drillyard.backend import Order
from drillyard.errors import DrillyardError, InfrastructureError, UserError
from drillyard.mailbox import Mailbox, open_store
from drillyard.mailbox.driver_lock import driven
from drillyard.mailbox.records import WorkerRecord
from drillyard.registry import load
from drillyard.system.redaction import log_to, redact, register_environment
from drillyard_backends.dask import worker_proxies
from drillyard_backends.dask.client import SchedulerAddress
from drillyard_backends.dask.gpus import shares
from drillyard_backends.dask.settings import DaskConfig

SETTINGS = "cluster.json"
DOOR = "scheduler.json"
"""How the scheduler is reached: written whole once it listens."""
POLL_S = 1.0
log = logging.getLogger(__name__)


def door_of(folder: Path, timeout_s: float) -> SchedulerAddress | None:
    """How the cluster of a lease is reached; None before its scheduler listens."""
    try:
        found = json.loads((folder / DOOR).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    return SchedulerAddress(found["address"], found["security"], timeout_s)


def start(config: DaskConfig, order: Order, folder: Path) -> Any:
    """Start the cluster.

    Raises:
        UserError: The class cannot be had, or does not take the arguments.
        InfrastructureError: It does not start.
    """
    import dask

    # A task that nobody can do fails, instead of waiting for ever.
    dask.config.set(
        {
            "distributed.scheduler.no-workers-timeout": f"{config.no_workers_timeout_s}s",
            "distributed.scheduler.allowed-failures": 20,
            "distributed.worker.daemon": False,
        }
    )
    if config.cluster is None:
        return _local(order, folder)
    made = load("clusters", config.cluster)
    try:
        cluster = made(**config.args)
        cluster.scale(order.workers)
    except TypeError as error:
        raise UserError(f"{config.cluster} does not take backends.dask.args: {error}") from error
    except Exception as error:
        raise InfrastructureError(f"{config.cluster} does not start: {error}") from error
    return cluster


def _local(order: Order, folder: Path) -> Any:
    from distributed import LocalCluster, Security

    security = Security.temporary()
    files = {}
    for name in ("tls_ca_file", "tls_client_cert", "tls_client_key"):
        path = folder / f"{name}.pem"
        with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
            file.write(getattr(security, name))
        files[name] = str(path)
    cluster = LocalCluster(
        n_workers=order.workers,
        threads_per_worker=1,
        host="127.0.0.1",
        dashboard_address=None,
        security=security,
        memory_limit=0,
        local_directory=str(folder / "scratch"),
        resources={worker_proxies.GPU: order.gpus} if order.gpus else {},
        silence_logs=logging.WARNING,
    )
    cluster.drillyard_security = {"require_encryption": True, **files}
    return cluster


def _security(cluster: Any, config: DaskConfig) -> dict[str, Any]:
    return dict(getattr(cluster, "drillyard_security", None) or config.security)


class ClusterHolder:
    """Keeps a cluster until its lease is over.

    Args:
        order: What was rented.
        cluster: What was started.
        door: How it is reached.
        local: The cluster is on this machine.
    """

    def __init__(self, order: Order, door: SchedulerAddress, *, local: bool) -> None:
        self._order = order
        self._door = door
        self._local = local
        self._mailbox = Mailbox(open_store(order.store_url), order.experiment)
        self._over = threading.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: self._over.set())

    def keep(self) -> str:
        """Wait until the lease is over; why it is."""
        useful_at = time.monotonic()
        opened: set[str] = set()
        while not self._over.wait(POLL_S if opened else 0.1):
            if self._order.deadline is not None and time.time() >= self._order.deadline:
                return "its deadline has come"
            try:
                workers = worker_proxies.able(self._order, self._door.workers())
                new = {a: w for a, w in workers.items() if a not in opened}
                if new:
                    worker_proxies.open_on(self._door, self._order, new, self._environment(new))
                    opened |= new.keys()
                    useful_at = time.monotonic()
                busy = self._driven() or bool(
                    worker_proxies.of_lease(self._door, self._order.lease_id)
                )
            except InfrastructureError as error:
                log.warning("%s", error)
                busy = False
            if busy:
                useful_at = time.monotonic()
            elif time.monotonic() - useful_at >= self._order.idle_s:
                return "nothing is left to do"
        return "it was asked to end"

    def _environment(self, workers: dict[str, Any]) -> dict[str, dict[str, str]]:
        names = [str(worker["name"]) for worker in workers.values()]
        return shares(names, self._order.gpus) if self._local else {}

    def _driven(self) -> bool:
        return driven(self._mailbox)

    def fail(self, error: DrillyardError) -> None:
        """Tell whoever waits for workers why there are none."""
        record = WorkerRecord(
            worker=f"{self._order.lease_id}-cluster",
            lease=self._order.lease_id,
            state="failed",
            message=redact(f"{error}{f' ({error.hint})' if error.hint else ''}"),
            written_at=time.time(),
        )
        with contextlib.suppress(DrillyardError):
            self._mailbox.write(f"workers/{record.worker}.json", record)


def main(arguments: list[str] | None = None) -> int:
    """Run a cluster; the exit code."""
    parser = argparse.ArgumentParser(prog="python -m drillyard_backends.dask.cluster")
    parser.add_argument("folder", type=Path, help="folder of the lease, with order and settings")
    folder = parser.parse_args(arguments).folder
    register_environment()
    log_to(logging.StreamHandler())
    order = Order.from_bytes((folder / "order.json").read_bytes())
    config = DaskConfig(**json.loads((folder / SETTINGS).read_text(encoding="utf-8")))
    log.info("starting a cluster of %d for %s", order.workers, order.lease_id)
    cluster: Any = None
    try:
        cluster = start(config, order, folder)
        door = SchedulerAddress(cluster.scheduler_address, _security(cluster, config), 30.0)
        text = json.dumps({"address": door.address, "security": door.security})
        (folder / f".{DOOR}").write_text(text, encoding="utf-8")
        os.replace(folder / f".{DOOR}", folder / DOOR)
        log.info("the scheduler listens at %s", door.address)
        keeper = ClusterHolder(order, door, local=config.cluster is None)
        try:
            log.info("closing: %s", keeper.keep())
        except DrillyardError as error:
            keeper.fail(error)
            raise
        finally:
            _close_stations(door, order)
    except DrillyardError as error:
        log.error("%s%s", error, f" ({error.hint})" if error.hint else "")
        return int(error.exit_code)
    finally:
        if cluster is not None:
            with contextlib.suppress(Exception):
                cluster.close(timeout=5)
    return 0


def _close_stations(door: SchedulerAddress, order: Order) -> None:
    """Let what runs flush, before the workers are ended."""
    try:
        worker_proxies.close(door, order.lease_id)
    except DrillyardError as error:
        log.warning("%s", error)
    door.forget()


if __name__ == "__main__":
    sys.exit(main())
