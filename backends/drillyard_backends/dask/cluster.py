"""``python -m drillyard_backends.dask.cluster``: holds a cluster that was started for one lease.

It starts the cluster and opens the lease's worker proxies on its workers, also on workers that
start later. It closes the cluster on a signal, at the lease's deadline, or when no driver is
running and no work is left. It has its own session, so that work continues without the driver.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import logging
import signal
import sys
import threading
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

from drillyard.backend import Liveness, Order
from drillyard.errors import DrillyardError, InfrastructureError, UserError
from drillyard.mailbox import Mailbox, open_store
from drillyard.mailbox.driver_lock import driven
from drillyard.mailbox.records import WorkerRecord
from drillyard.mailbox.store_clock import StoreClock
from drillyard.registry import load
from drillyard.system.files import PRIVATE, write_file
from drillyard.system.proxies import spare_loopback
from drillyard.system.redaction import log_to, redact, register_environment
from drillyard_backends.dask import worker_proxies
from drillyard_backends.dask.client import SchedulerAddress, Security
from drillyard_backends.dask.gpus import EACH
from drillyard_backends.dask.settings import DaskConfig

if TYPE_CHECKING:
    from distributed.deploy import Cluster

SETTINGS = "cluster.json"
ADDRESS = "scheduler.json"
"""File with the scheduler's address; written atomically once the scheduler listens."""
MOST_AGENTS = 4
"""Agents that may be started beside one Dask worker, if each is killed or fails."""
POLL_S = 1.0
log = logging.getLogger(__name__)


def address_of(folder: Path, timeout_s: float) -> SchedulerAddress | None:
    """Returns the address of a lease's scheduler; None before the scheduler listens."""
    try:
        document = json.loads((folder / ADDRESS).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    return SchedulerAddress(document["address"], document["security"], timeout_s)


def start(config: DaskConfig, order: Order, folder: Path) -> Cluster:
    """Starts the cluster.

    Raises:
        UserError: The class cannot be imported, or refuses the arguments.
        InfrastructureError: The cluster does not start.
    """
    import dask

    # A task that no worker can run fails instead of waiting for ever.
    dask.config.set(
        {
            "distributed.scheduler.no-workers-timeout": f"{config.no_workers_timeout_s}s",
            "distributed.scheduler.allowed-failures": 20,
            "distributed.worker.daemon": False,
        }
    )
    if config.cluster is None:
        return _local(order, folder)
    factory = load("clusters", config.cluster)
    try:
        cluster = factory(**config.args)
        cluster.scale(order.workers + order.hosts)
    except TypeError as error:
        raise UserError(f"{config.cluster} does not take backends.dask.args: {error}") from error
    except Exception as error:
        raise InfrastructureError(f"{config.cluster} does not start: {error}") from error
    return cluster


def _local(order: Order, folder: Path) -> Cluster:
    import distributed

    security = distributed.Security.temporary()
    files = {}
    for name in ("tls_ca_file", "tls_client_cert", "tls_client_key"):
        files[name] = str(write_file(folder / f"{name}.pem", getattr(security, name), PRIVATE))
    cluster = distributed.LocalCluster(
        n_workers=order.workers + order.hosts,
        threads_per_worker=1,
        host="127.0.0.1",
        dashboard_address=None,
        security=security,
        memory_limit=0,
        local_directory=str(folder / "scratch"),
        resources={worker_proxies.GPU: order.gpus} if order.gpus else {},
        silence_logs=logging.WARNING,
        env={EACH: str(order.gpus)},
    )
    cluster.drillyard_security = {"require_encryption": True, **files}
    return cluster


def _security(cluster: Cluster, config: DaskConfig) -> Security:
    local: Security | None = getattr(cluster, "drillyard_security", None)
    return local or config.security


class ClusterHolder:
    """Keeps a cluster until its lease ends.

    Args:
        order: The order of the lease.
        scheduler: Address of the cluster's scheduler.
        over: Set once the lease is to end.
    """

    def __init__(self, order: Order, scheduler: SchedulerAddress, over: threading.Event) -> None:
        self._order = order
        self._scheduler = scheduler
        self._mailbox = Mailbox(open_store(order.store_url), order.experiment)
        self._clock = StoreClock(self._mailbox.store)
        self._over = over

    def keep(self) -> str:
        """Waits until the lease ends; returns the reason."""
        useful_at = time.monotonic()
        opened: Counter[str] = Counter()
        while not self._over.wait(POLL_S if opened else 0.1):
            busy = False
            if self._order.deadline is not None and self._clock.now() >= self._order.deadline:
                return "the deadline has passed"
            try:
                seen = worker_proxies.seen(self._scheduler, self._order.lease_id)
                busy = seen.liveness is not Liveness.GONE
                if self._open(seen, opened):
                    useful_at = time.monotonic()
                busy = busy or self._driven()
            except InfrastructureError as error:
                log.warning("%s", error)
            if busy:
                useful_at = time.monotonic()
            elif time.monotonic() - useful_at >= self._order.idle_s:
                return "nothing is left to do"
        return "a signal arrived"

    def _open(self, seen: worker_proxies.Seen, opened: Counter[str]) -> bool:
        """Opens the proxies that are missing, and counts them; True if there were some."""
        # The set-up waits for all agents, and one that was killed does not come back.
        workers = worker_proxies.able(self._order, self._scheduler.workers())
        for address in seen.broken & workers.keys():
            if opened[address] == MOST_AGENTS:
                opened[address] += 1  # it is said once
                log.warning(
                    "the agents of %s ended %d times: none is started", address, MOST_AGENTS
                )
        new = {
            address: worker
            for address, worker in workers.items()
            if address not in seen.silent
            and (not opened[address] or (address in seen.broken and opened[address] < MOST_AGENTS))
        }
        if self._order.hosts:  # the others host copies, and need no agent
            new = dict(list(new.items())[: max(0, self._order.workers - len(seen.open))])
        if new:
            worker_proxies.open_on(self._scheduler, self._order, new)
            opened.update(new.keys())
        return bool(new)

    def _driven(self) -> bool:
        return driven(self._mailbox)

    def fail(self, error: DrillyardError) -> None:
        """Writes down for the driver why there are no workers; only a user's error is final."""
        record = WorkerRecord(
            worker=f"{self._order.lease_id}-cluster",
            lease=self._order.lease_id,
            state="failed" if isinstance(error, UserError) else "leaving",
            message=redact(f"{error}{f' ({error.hint})' if error.hint else ''}"),
            written_at=self._clock.now(),
        )
        with contextlib.suppress(DrillyardError):
            self._mailbox.write(f"workers/{record.worker}.json", record)


def main(arguments: list[str] | None = None) -> int:
    """Runs a cluster; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m drillyard_backends.dask.cluster")
    parser.add_argument("folder", type=Path, help="folder of the lease, with order and settings")
    folder = parser.parse_args(arguments).folder
    register_environment()
    spare_loopback()
    log_to(logging.StreamHandler())
    order = Order.from_bytes((folder / "order.json").read_bytes())
    config = DaskConfig(**json.loads((folder / SETTINGS).read_text(encoding="utf-8")))
    log.info("starting a cluster of %d for %s", order.workers + order.hosts, order.lease_id)
    # From the first moment: a class that is killed while it starts leaves its jobs or pods.
    over = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: over.set())
    cluster: Cluster | None = None
    try:
        cluster = start(config, order, folder)
        scheduler = SchedulerAddress(cluster.scheduler_address, _security(cluster, config), 30.0)
        text = json.dumps({"address": scheduler.address, "security": scheduler.security})
        write_file(folder / ADDRESS, text)
        log.info("the scheduler listens at %s", scheduler.address)
        holder = ClusterHolder(order, scheduler, over)
        try:
            log.info("closing: %s", holder.keep())
        except DrillyardError as error:
            holder.fail(error)
            raise
        finally:
            _close_proxies(scheduler, order)
    except DrillyardError as error:
        log.error("%s%s", error, f" ({error.hint})" if error.hint else "")
        return int(error.exit_code)
    finally:
        if cluster is not None:
            with contextlib.suppress(Exception):
                cluster.close(timeout=5)
    return 0


def _close_proxies(scheduler: SchedulerAddress, order: Order) -> None:
    """Lets running tickets flush before the workers end."""
    try:
        worker_proxies.close(scheduler, order.lease_id)
    except DrillyardError as error:
        log.warning("%s", error)
    scheduler.forget()


if __name__ == "__main__":
    sys.exit(main())
