"""``python -m drillyard.worker``: the worker of one machine."""

from __future__ import annotations

import argparse
import functools
import logging
import os
import socket
import sys
from collections.abc import Callable
from pathlib import Path

from drillyard.backend import Order
from drillyard.errors import DrillyardError, NotFound
from drillyard.mailbox import open_store
from drillyard.mailbox.store import ObjectMissing
from drillyard.system.garbage import look_rarely
from drillyard.system.processes import MARK
from drillyard.system.proxies import spare_loopback
from drillyard.system.redaction import log_to, register_environment
from drillyard.worker.loop import run_worker
from drillyard.worker.push_worker import PushWorker, SocketPusher
from drillyard.worker.worker import Worker


def parse(arguments: list[str]) -> argparse.Namespace:
    """The command line of the worker program."""
    parser = argparse.ArgumentParser(prog="python -m drillyard.worker", description=__doc__)
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--order-file", type=Path, help="a file with the order's JSON")
    source.add_argument("--order-key", help="key of the order's JSON in --store")
    parser.add_argument("--store", help="URL of the store, with --order-key")
    parser.add_argument("--scratch", type=Path, required=True, help="local folder of the worker")
    parser.add_argument("--slots", type=int, help="tickets at once; default: the order's workers")
    parser.add_argument(
        "--tickets-fd", type=int, help="descriptor of the socket that sends the tickets"
    )
    options = parser.parse_args(arguments)
    if options.order_key and not options.store:
        parser.error("--order-key needs --store")
    return options


def read_order(options: argparse.Namespace) -> Order:
    """The order that the command line names.

    Raises:
        NotFound: The order does not exist.
    """
    try:
        if options.order_file:
            return Order.from_bytes(options.order_file.read_bytes())
        return Order.from_bytes(open_store(options.store).get(options.order_key))
    except (ObjectMissing, FileNotFoundError):
        where = options.order_file or f"{options.store}/{options.order_key}"
        raise NotFound(f"there is no order at {where}") from None


def _kind_of_worker(descriptor: int | None) -> Callable[..., Worker]:
    if descriptor is None:
        return Worker
    end = socket.socket(fileno=descriptor)
    end.set_inheritable(False)  # a child that holds it would hide the worker's death
    return functools.partial(PushWorker, pusher=SocketPusher(end))


def main(arguments: list[str] | None = None) -> int:
    """Run the worker; the exit code."""
    look_rarely()
    register_environment()
    spare_loopback()
    log_to(logging.StreamHandler())
    options = parse(sys.argv[1:] if arguments is None else arguments)
    try:
        order = read_order(options)
        # Children inherit it, so that the process table shows which processes are the lease's.
        os.environ.setdefault(MARK, order.lease_id)
        return run_worker(
            order, options.scratch, options.slots, make=_kind_of_worker(options.tickets_fd)
        )
    except DrillyardError as error:
        logging.error("%s%s", error, f" ({error.hint})" if error.hint else "")
        return int(error.exit_code)


if __name__ == "__main__":
    sys.exit(main())
