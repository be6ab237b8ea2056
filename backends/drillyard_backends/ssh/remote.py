"""The remote end of the backend ``ssh``: runs on the host and calls its backend ``local``.

``python -m drillyard_backends.ssh.remote`` reads one request (JSON) from its standard input and
writes one line that begins with ``ANSWER``, so that the output of a login script does no harm,
also when that output does not end its line.
Requests and answers are versioned by drillyard's version, which every answer contains.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import platform
import sys
from collections.abc import Callable
from typing import TypedDict

import drillyard
from drillyard.backend import Lease, Liveness, Order
from drillyard.documents.json_types import Json, JsonObject
from drillyard.errors import DrillyardError, UserError
from drillyard.mailbox import open_store
from drillyard.mailbox.holders import runs_here
from drillyard.mailbox.records import WorkerRecord
from drillyard.mailbox.store import ObjectMissing
from drillyard.system.clock import SYSTEM
from drillyard_backends.local import LocalBackend
from drillyard_backends.sessions import elsewhere

ANSWER = "drillyard-answer: "
REACHED_AT = "DRILLYARD_REACHED_AT"
"""Environment variable of an agent: addresses by which its machine was reached, and spaces."""


class Request(TypedDict, total=False):
    """A request; which keys it has depends on the verb."""

    verb: str
    settings: JsonObject
    order: JsonObject
    lease: JsonObject
    worker: JsonObject | None
    folder: str | None
    experiment_sha256: str
    address: str


class Failure(TypedDict):
    """An error that a verb raised."""

    kind: str
    message: str
    hint: str | None


class Answer(TypedDict, total=False):
    """An answer with a result or an error."""

    version: str
    host: str
    result: Json
    error: Failure


def answer(text: str) -> Answer:
    """Executes a request.

    Args:
        text: The request as JSON.
    """
    reply: Answer = {"version": drillyard.__version__, "host": platform.node()}
    try:
        request: Request = json.loads(text)
        reply["result"] = _VERBS[request["verb"]](request)
    except DrillyardError as error:
        reply["error"] = {
            "kind": type(error).__name__,
            "message": str(error),
            "hint": error.hint,
        }
    return reply


def _backend(request: Request) -> LocalBackend:
    return LocalBackend(SYSTEM, **request["settings"])


def _lease_here(request: Request, backend: LocalBackend) -> Lease:
    """Returns the lease of a request; without the name of its machine if it has processes here.

    One name may lead to several machines, of which only one has the agent. But a machine that was
    renamed still has its own.
    """
    lease = Lease.model_validate(request["lease"])
    if elsewhere(lease) and any(here.lease_id == lease.lease_id for here in backend.leases()):
        return lease.model_copy(update={"provider": {}})
    return lease


def _check(request: Request) -> Json:
    backend = _backend(request)
    order = Order.model_validate(request["order"]) if request.get("order") else None
    findings = backend.check(order)
    store = request.get("folder")
    return {
        "python": platform.python_version(),
        "findings": [[f.severity.value, f.subject, f.message, f.fix] for f in findings],
        "folder": None if store is None else os.path.isdir(os.path.expanduser(store)),
        "store": None if order is None else _unreachable(order.store_url),
    }


def _unreachable(url: str) -> str | None:
    """Returns why this machine cannot read a store by its own means; None if it can.

    No key travels from one machine to another, so a store needs the machine's own identity.
    """
    if "://" not in url:
        return None
    try:
        open_store(url).stat("drillyard-reachable")
    except DrillyardError as error:
        return error.message
    return None


def _provision(request: Request) -> Json:
    order = Order.model_validate(request["order"])
    _must_see_the_mailbox(order, request["experiment_sha256"])
    os.environ[REACHED_AT] = " ".join(_reached_at(request.get("address")))
    # LocalBackend passes this environment to its agent, which must not use the connection's.
    for name in ("SSH_CONNECTION", "SSH_CLIENT", "SSH_TTY", "SSH_AUTH_SOCK"):
        os.environ.pop(name, None)
    return _backend(request).provision(order).model_dump(mode="json")


def _reached_at(name: str | None) -> list[str]:
    """Returns by which addresses a login reached this machine: as sshd says, and as was asked.

    Others may reach a learner here by them. ``SSH_CONNECTION`` is "client IP address, client port
    number, server IP address, and server port number" (ssh(1)).
    """
    connection = os.environ.get("SSH_CONNECTION", "").split()
    return [*connection[2:3], *([name] if name else [])]


def _must_see_the_mailbox(order: Order, sha256: str) -> None:
    key = f"{order.experiment}/experiment.json"
    try:
        data = open_store(order.store_url).get(key)
    except ObjectMissing:
        data = b""
    if hashlib.sha256(data).hexdigest() != sha256:
        raise UserError(
            f"{platform.node()} has another folder (or none) at {order.store_url}: workers there "
            "would not see this experiment",
            hint="use a store that both reach: --store sftp://HOST/~/drillyard-runs on the host, "
            "a bucket or a shared disk",
        )


def _probe(request: Request) -> Json:
    backend = _backend(request)
    alive = backend.probe(_lease_here(request, backend))
    worker = request.get("worker")
    if worker is None or alive is not Liveness.ALIVE:
        return alive.value
    runs = runs_here(WorkerRecord.model_validate(worker))
    return Liveness.GONE.value if runs is False else alive.value


def _logs(request: Request) -> Json:
    return list(_backend(request).logs(Lease.model_validate(request["lease"])))


def _teardown(request: Request) -> Json:
    backend = _backend(request)
    backend.teardown(_lease_here(request, backend))
    return None


def _leases(request: Request) -> Json:
    return [lease.model_dump(mode="json") for lease in _backend(request).leases()]


_VERBS: dict[str, Callable[[Request], Json]] = {
    "check": _check,
    "provision": _provision,
    "probe": _probe,
    "logs": _logs,
    "teardown": _teardown,
    "leases": _leases,
}


def main() -> None:
    """Answers one request. Without one it says that it could, for a person who tries it."""
    text = sys.stdin.read()
    if not text.strip():
        sys.stdout.write(f"drillyard {drillyard.__version__} can answer on {platform.node()}\n")
        return
    with contextlib.redirect_stdout(sys.stderr):
        reply = answer(text)
    sys.stdout.write("\n" + ANSWER + json.dumps(reply) + "\n")


if __name__ == "__main__":
    main()
