"""The far end of the backend ``ssh``: runs on the host, and is that machine's backend ``local``.

``python -m drillyard_backends.ssh.remote`` reads one request (JSON) from its standard input and
answers with one line behind ``ANSWER``, so that what a login script prints does no harm. Requests
and answers are versioned by drillyard's version, which every answer carries.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import platform
import sys
from collections.abc import Callable
from typing import Any

ANSWER = "drillyard-answer: "


def answer(text: str) -> dict[str, Any]:
    """Do what a request says.

    Args:
        text: ``{"verb", "settings", "order" | "lease", …}``.

    Returns:
        ``{"version", "host", "result"}``, or ``"error": {"kind", "message", "hint"}`` instead.
    """
    import drillyard
    from drillyard.errors import DrillyardError

    said: dict[str, Any] = {"version": drillyard.__version__, "host": platform.node()}
    try:
        request = json.loads(text)
        said["result"] = _VERBS[request["verb"]](request)
    except DrillyardError as error:
        said["error"] = {
            "kind": type(error).__name__,
            "message": str(error),
            "hint": error.hint,
        }
    return said


def _backend(request: dict[str, Any]) -> Any:
    from drillyard_backends.local import LocalBackend

    return LocalBackend(**request["settings"])


def _order(request: dict[str, Any]) -> Any:
    from drillyard.backend import Order

    return Order.model_validate(request["order"])


def _lease(request: dict[str, Any]) -> Any:
    from drillyard.backend import Lease

    return Lease.model_validate(request["lease"])


def _check(request: dict[str, Any]) -> Any:
    backend = _backend(request)
    found = backend.check(_order(request) if request.get("order") else None)
    store = request.get("folder")
    return {
        "python": platform.python_version(),
        "findings": [[f.severity.value, f.subject, f.message, f.fix] for f in found],
        "folder": None if store is None else os.path.isdir(os.path.expanduser(store)),
    }


def _provision(request: dict[str, Any]) -> Any:
    order = _order(request)
    _must_see_the_mailbox(order, request["experiment_sha256"])
    # What LocalBackend hands down to its agent is this environment: not the connection's.
    for name in ("SSH_CONNECTION", "SSH_CLIENT", "SSH_TTY", "SSH_AUTH_SOCK"):
        os.environ.pop(name, None)
    return _backend(request).provision(order).model_dump(mode="json")


def _must_see_the_mailbox(order: Any, sha256: str) -> None:
    from drillyard.errors import UserError
    from drillyard.mailbox import open_store
    from drillyard.mailbox.store import ObjectMissing

    key = f"{order.experiment}/experiment.json"
    try:
        data = open_store(order.store_url).get(key)
    except ObjectMissing:
        data = b""
    if hashlib.sha256(data).hexdigest() != sha256:
        raise UserError(
            f"{platform.node()} has another folder (or none) at {order.store_url}: workers there "
            "would never see this experiment",
            hint="use a store that both reach: --store sftp://HOST/~/drillyard-runs keeps it on "
            "the host, a bucket or a shared disk do as well",
        )


def _probe(request: dict[str, Any]) -> Any:
    return _backend(request).probe(_lease(request)).value


def _logs(request: dict[str, Any]) -> Any:
    return list(_backend(request).logs(_lease(request)))


def _teardown(request: dict[str, Any]) -> Any:
    _backend(request).teardown(_lease(request))
    return None


def _leases(request: dict[str, Any]) -> Any:
    return [lease.model_dump(mode="json") for lease in _backend(request).leases()]


_VERBS: dict[str, Callable[[dict[str, Any]], Any]] = {
    "check": _check,
    "provision": _provision,
    "probe": _probe,
    "logs": _logs,
    "teardown": _teardown,
    "leases": _leases,
}


def main() -> None:
    """Answer one request."""
    text = sys.stdin.read()
    with contextlib.redirect_stdout(sys.stderr):
        said = answer(text)
    sys.stdout.write(ANSWER + json.dumps(said) + "\n")


if __name__ == "__main__":
    main()
