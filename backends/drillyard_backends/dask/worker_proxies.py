"""Opening, finding and ending the stations of a lease, from outside the cluster."""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import Iterator, Mapping
from typing import Any

from drillyard.backend import Order
from drillyard.errors import InfrastructureError, UserError
from drillyard.mailbox import Mailbox, open_store
from drillyard_backends.dask import worker_proxy
from drillyard_backends.dask.client import SchedulerAddress

GPU = "GPU"
"""Name of the Dask resource that counts GPUs, as ``dask worker --resources GPU=1`` has it."""
END_S = worker_proxy.LEAVE_S + 15.0


def able(order: Order, workers: Mapping[str, Mapping[str, Any]]) -> dict[str, Mapping[str, Any]]:
    """The workers of a cluster on which a run of an order can be done, by address."""
    return {
        address: worker
        for address, worker in sorted(workers.items())
        if not order.gpus or (worker.get("resources") or {}).get(GPU, 0) >= order.gpus
    }


def slots(order: Order, worker: Mapping[str, Any]) -> int:
    """How many runs of an order a worker does at once."""
    threads = int(worker["nthreads"])
    if order.gpus:
        return min(threads, int(worker["resources"][GPU] // order.gpus))
    return threads


def open_on(
    door: SchedulerAddress,
    order: Order,
    workers: Mapping[str, Mapping[str, Any]],
    environment: dict[str, dict[str, str]] | None = None,
) -> None:
    """Open the station of a lease on some workers; harmless where it is open.

    Raises:
        UserError: A worker sees another mailbox under the name, or lacks drillyard.
        InfrastructureError: The scheduler or a worker does not answer.
    """
    if not workers:
        return
    mailbox = Mailbox(open_store(order.store_url), order.experiment)
    token = secrets.token_hex(8)
    folder = mailbox.key(f"leases/{order.lease_id}/canary-{token}")
    mailbox.store.put(f"{folder}.txt", token.encode())
    try:
        answers = door.run(
            worker_proxy.open_here,
            order.model_dump_json(),
            environment or {},
            token,
            workers=list(workers),
        )
        wrong = {address: answer for address, answer in answers.items() if answer}
        for address in answers.keys() - wrong.keys():
            echo = f"{folder}-{worker_proxy.safe(str(workers[address]['name']))}.txt"
            if mailbox.store.stat(echo) is None:
                wrong[address] = f"{order.store_url} is another place there"
    finally:
        for info in list(mailbox.store.list(folder)):
            mailbox.store.delete(info.key)
    if wrong:
        _refuse(order, wrong)


def _refuse(order: Order, wrong: Mapping[str, Any]) -> None:
    lines = [f"{address}: {answer}" for address, answer in sorted(wrong.items())]
    if all(isinstance(answer, OSError | TimeoutError) for answer in wrong.values()):
        raise InfrastructureError("Dask workers do not answer:\n  " + "\n  ".join(lines))
    if any(isinstance(answer, ModuleNotFoundError) for answer in wrong.values()):
        hint = "install the same drillyard on every Dask worker"
    else:
        hint = "use a store that all of them reach: a shared disk, gs://…, sftp://… (--store)"
    raise UserError(
        f"{len(wrong)} Dask worker(s) cannot work for {order.experiment!r}:\n  "
        + "\n  ".join(lines),
        hint=hint,
    )


def living(door: SchedulerAddress) -> dict[str, list[dict[str, Any]]]:
    """Address of a worker -> its stations; workers that do not answer are left out."""
    answers = door.run(worker_proxy.look_here)
    return {a: found for a, found in answers.items() if not isinstance(found, BaseException)}


def of_lease(door: SchedulerAddress, lease: str) -> dict[str, dict[str, Any]]:
    """Address of a worker -> its station of a lease."""
    return {
        address: one
        for address, found in living(door).items()
        for one in found
        if one["order"]["lease_id"] == lease
    }


def close(door: SchedulerAddress, lease: str) -> None:
    """End a lease's stations on every worker; returns when they are gone.

    Raises:
        InfrastructureError: A worker did not say that they are.
    """
    answers = door.run(worker_proxy.close_here, lease, timeout_s=END_S)
    silent = [f"{a}: {e}" for a, e in answers.items() if isinstance(e, BaseException)]
    # A worker that cannot even find our code has none of it running.
    silent = [line for line in silent if "No module named 'drillyard" not in line]
    if silent:
        raise InfrastructureError("Dask workers did not end a lease: " + "; ".join(silent))


def logs(door: SchedulerAddress, lease: str) -> Iterator[str]:
    """The last lines of a lease's agents, each with its worker in front."""
    with contextlib.suppress(InfrastructureError):
        for address, lines in sorted(door.run(worker_proxy.log_here, lease).items()):
            if isinstance(lines, list):
                yield from (f"{address}: {line}" for line in lines)
