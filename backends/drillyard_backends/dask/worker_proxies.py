"""Opens, finds and ends the worker proxies of a lease, from outside the cluster."""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TypeVar

from drillyard.backend import Liveness, Order
from drillyard.errors import InfrastructureError, UserError
from drillyard.mailbox import Mailbox, open_store
from drillyard.mailbox.records import WorkerRecord
from drillyard_backends.dask import worker_proxy
from drillyard_backends.dask.client import DaskWorker, SchedulerAddress, Workers
from drillyard_backends.dask.worker_proxy import ProxyState

T = TypeVar("T")
GPU = "GPU"
"""Name of the Dask resource that counts GPUs, as in ``dask worker --resources GPU=1``."""
END_S = worker_proxy.EXIT_S + 15.0


def able(order: Order, workers: Workers) -> dict[str, DaskWorker]:
    """Returns the workers of a cluster that can do a run of an order, by address."""
    return {
        address: worker
        for address, worker in sorted(workers.items())
        if not order.gpus or (worker.get("resources") or {}).get(GPU, 0) >= order.gpus
    }


def slots(order: Order, worker: DaskWorker) -> int:
    """Returns how many runs of an order a worker can do at once."""
    threads = int(worker["nthreads"])
    if order.gpus:
        return min(threads, int(worker["resources"][GPU] // order.gpus))
    return threads


def open_on(
    scheduler: SchedulerAddress,
    order: Order,
    workers: Workers,
) -> None:
    """Opens the proxies of a lease on some workers; an open proxy stays.

    Raises:
        UserError: A worker sees another mailbox at the store's URL, or lacks drillyard.
        InfrastructureError: The scheduler or a worker does not answer.
    """
    if not workers:
        return
    mailbox = Mailbox(open_store(order.store_url), order.experiment)
    token = secrets.token_hex(8)
    folder = mailbox.key(f"leases/{order.lease_id}/canary-{token}")
    mailbox.store.put(f"{folder}.txt", token.encode())
    try:
        answers = scheduler.run(
            worker_proxy.open_here,
            order.model_dump_json(),
            token,
            workers=list(workers),
        )
        problems: dict[str, str | BaseException] = {
            address: answer for address, answer in answers.items() if answer
        }
        for address in answers.keys() - problems.keys():
            echo = f"{folder}-{worker_proxy.safe(str(workers[address]['name']))}.txt"
            if mailbox.store.stat(echo) is None:
                problems[address] = f"{order.store_url} is another place there"
    finally:
        for info in list(mailbox.store.list(folder)):
            mailbox.store.delete(info.key)
    if problems:
        _refuse(order, problems)


def _refuse(order: Order, problems: Mapping[str, str | BaseException]) -> None:
    lines = [f"{address}: {problems[address]}" for address in sorted(problems)]
    if all(isinstance(answer, OSError | TimeoutError) for answer in problems.values()):
        raise InfrastructureError("Dask workers do not answer:\n  " + "\n  ".join(lines))
    if any(isinstance(answer, ModuleNotFoundError) for answer in problems.values()):
        hint = "install the same drillyard on every Dask worker"
    else:
        hint = "use a store that all of them reach: a shared disk, gs://…, sftp://… (--store)"
    raise UserError(
        f"{len(problems)} Dask worker(s) cannot work for {order.experiment!r}:\n  "
        + "\n  ".join(lines),
        hint=hint,
    )


def living(scheduler: SchedulerAddress) -> dict[str, list[ProxyState]]:
    """Returns the proxies with a running agent, by the address of their Dask worker.

    Raises:
        InfrastructureError: The scheduler or a worker does not answer.
    """
    answers = _told(scheduler.run(worker_proxy.look_here), "did not tell its leases")
    return {
        address: [state for state in states if state["exit_code"] is None]
        for address, states in answers.items()
        if not isinstance(states, BaseException)
    }


@dataclass(frozen=True)
class Seen:
    """The proxies of a lease at one look.

    Attributes:
        open: Those with a running agent, by the address of their worker.
        broken: Addresses of the workers whose agent was killed, or failed.
        silent: Addresses of the workers that did not answer, and may have one.
    """

    open: dict[str, ProxyState]
    broken: set[str]
    silent: set[str]

    @property
    def liveness(self) -> Liveness:
        """ALIVE if an agent runs; UNKNOWN if a silent worker may have one."""
        if self.open:
            return Liveness.ALIVE
        return Liveness.UNKNOWN if self.silent else Liveness.GONE


def seen(scheduler: SchedulerAddress, lease: str) -> Seen:
    """Looks for the proxies of a lease on all workers.

    Raises:
        InfrastructureError: The scheduler does not answer.
    """
    proxies = Seen({}, set(), set())
    for address, states in scheduler.run(worker_proxy.look_here).items():
        if isinstance(states, BaseException):
            if not _foreign(states):
                proxies.silent.add(address)
            continue
        for state in states:
            if state["order"]["lease_id"] != lease:
                continue
            if state["exit_code"] is None:
                proxies.open[address] = state
            elif state["exit_code"]:
                proxies.broken.add(address)
    return proxies


def of_lease(scheduler: SchedulerAddress, lease: str) -> dict[str, ProxyState]:
    """Returns the proxies of a lease with a running agent, by the address of their worker.

    Workers that do not answer are left out.
    """
    return seen(scheduler, lease).open


def holding(scheduler: SchedulerAddress, lease: str, ticket: str) -> Liveness:
    """Tells whether the agent of a lease that received a ticket is alive."""
    return _any(
        any(s["order"]["lease_id"] == lease and ticket in s["tickets"] for s in states)
        if isinstance(states, list)
        else states
        for states in scheduler.run(worker_proxy.look_here).values()
    )


def alive(scheduler: SchedulerAddress, worker: WorkerRecord) -> Liveness | None:
    """Tells whether an agent is alive, wherever on the cluster it is; None: no worker can tell."""
    answers = scheduler.run(worker_proxy.holds_here, worker.model_dump_json())
    liveness = _any(answers.values())
    unsure = any(answer is None for answer in answers.values())
    return None if unsure and liveness is not Liveness.ALIVE else liveness


def _any(answers: Iterable[bool | BaseException | None]) -> Liveness:
    """A worker that did not answer may be the one."""
    seen = list(answers)
    if True in seen:
        return Liveness.ALIVE
    lost = any(isinstance(each, BaseException) and not _foreign(each) for each in seen)
    return Liveness.UNKNOWN if lost else Liveness.GONE


def _foreign(answer: BaseException) -> bool:
    """True for a worker that cannot import our code, and runs none of it."""
    return "No module named 'drillyard" in str(answer)


def close(scheduler: SchedulerAddress, lease: str) -> None:
    """Ends a lease's proxies on every worker; returns when they are gone.

    Raises:
        InfrastructureError: A worker did not confirm it.
    """
    _told(scheduler.run(worker_proxy.close_here, lease, timeout_s=END_S), "did not end a lease")


def _told(answers: Mapping[str, T | BaseException], what: str) -> Mapping[str, T | BaseException]:
    failed = [
        f"{address}: {answer}"
        for address, answer in sorted(answers.items())
        if isinstance(answer, BaseException) and not _foreign(answer)
    ]
    if failed:
        raise InfrastructureError(f"a Dask worker {what}: " + "; ".join(failed))
    return answers


def logs(scheduler: SchedulerAddress, lease: str) -> Iterator[str]:
    """Yields the last log lines of a lease's agents, each prefixed with its worker."""
    with contextlib.suppress(InfrastructureError):
        for address, lines in sorted(scheduler.run(worker_proxy.log_here, lease).items()):
            if isinstance(lines, list):
                yield from (f"{address}: {line}" for line in lines)
