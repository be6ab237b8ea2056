"""Two rules for each Python process of the tests: no socket beyond loopback, no warning of ours.

pytest's processes install them from ``tests/conftest.py``. Their children import this file as
``sitecustomize``: a link with that name is in the session's folder, which ``PYTHONPATH`` begins
with. A ``sitecustomize`` that is also on the path runs afterwards.

What breaks a rule gets an error. Product code may handle that error, so it is also noted in the
session's folder, where ``tests/helpers/rules.py`` looks. Only Python's own sockets are seen, and
not those of libraries in C (gRPC, libpq) or of other programs.
"""

from __future__ import annotations

import gc
import os
import sys
import warnings

TYPE_CHECKING = False
if TYPE_CHECKING:  # each child imports this file: it needs nothing that takes long to import
    from collections.abc import Callable
    from typing import Any

PACKAGES = (
    "drillyard",
    "drillyard_backends",
    "drillyard_emulators",
    "drillyard_flows",
    "drillyard_tasks",
    "tests",
)
OURS = rf"({'|'.join(PACKAGES)})(\.|\Z)"
"""Modules whose warnings are errors; pyproject.toml has the same for pytest's processes."""
RULE = "tests reach this machine only (tests/helpers/process_rules.py)"
LOCAL = {"", "localhost", "::", "::1", "0.0.0.0", os.uname().nodename.lower()}
"""Linux connects to itself where an address is empty."""
SOCK_DGRAM = 2
"""Its number everywhere; importing ``socket`` would cost each child some milliseconds."""
NOTES = "notes.jsonl"
MUTANT = "mutant.py"
"""In the session's folder while a mutant is tested: each child is to run it (tests/mutants)."""
EXEMPT = "WITHOUT_THE_RULES_OF_TESTS"
"""A variable of a child that must not have them, such as pip with an index; its value says why."""


class BeyondLoopback(OSError):
    """Like a machine without a network: the product must handle it as such."""


def install(folder: str) -> None:
    """Keep this process to the rules from now on.

    Args:
        folder: The session's, for notes.
    """
    note = noting(folder)

    def watch(event: str, given: tuple[Any, ...]) -> None:
        if event[:7] == "socket." and (target := _leaves(event, given)):
            said = f"{event[7:]} {target}: {RULE}"
            note(said)
            raise BeyondLoopback(said)
        if event == "subprocess.Popen" and _unruled(folder, given[0], given[3]):
            note(f"starts {given[0]} without these rules: give it PYTHONPATH=rules.path(...)")

    sys.addaudithook(watch)
    sys.settrace = _patient(sys.settrace)
    warnings.filterwarnings("error", module=OURS)
    heed_unraisable(folder)


def _patient(settrace: Callable[[Any], None]) -> Callable[[Any], None]:
    """Let threads that begin at the same moment be measured by ``coverage``.

    Python calls the hooks of audits while it installs a trace function, and refuses to install one
    in another thread meanwhile. A thread that is refused never runs.
    """

    def patient(function: Any) -> None:
        while True:
            try:
                return settrace(function)
            except RuntimeError:
                continue

    return patient


def heed_unraisable(folder: str) -> None:
    """Note warnings of files and sockets that our code left open; they cannot be raised.

    Python attributes them to the line that runs at that moment. Where the garbage collector
    finds them, that line is there by chance, and they are ignored.

    Args:
        folder: The session's.
    """
    note, before, collecting = noting(folder), sys.unraisablehook, list[str]()

    def collected(phase: str, _: object) -> None:
        collecting[:] = [phase] if phase == "start" else []

    def heeded(unraisable: sys.UnraisableHookArgs) -> None:
        if isinstance(unraisable.exc_value, Warning):
            if collecting:
                return
            note(f"{type(unraisable.exc_value).__name__}: {unraisable.exc_value}")
        before(unraisable)

    gc.callbacks.append(collected)
    sys.unraisablehook = heeded


def noting(folder: str) -> Callable[[str], None]:
    """A function that adds a line to the notes: which test, which process, what."""
    path, first = os.path.join(folder, NOTES), os.environ.get("PYTEST_CURRENT_TEST", "")

    def note(said: str) -> None:
        import json

        test = os.environ.get("PYTEST_CURRENT_TEST", first).rpartition(" (")[0]
        process = " ".join([*sys.orig_argv])[:300]
        line = json.dumps({"test": test, "process": process, "pid": os.getpid(), "said": said})
        with open(path, "a") as file:
            file.write(f"{line}\n")

    return note


def _unruled(folder: str, program: Any, environ: Any) -> bool:
    """Whether a child is a Python program that will not find these rules."""
    if environ is None or EXEMPT in environ:
        return False
    name = os.path.basename(os.fsdecode(program))
    ours = name.startswith("python") or name in ("drillyard", "prefect", "mlflow")
    return ours and folder not in (environ.get("PYTHONPATH") or "")


def _leaves(event: str, given: tuple[Any, ...]) -> str:
    """Where it would go beyond this machine, or an empty string."""
    kind = event[7:]
    if kind in ("connect", "sendto", "sendmsg"):
        address = given[1]
        # Others are the paths of Unix sockets, and the numbers of netlink and vsock.
        if not isinstance(address, tuple) or not isinstance(address[0], str):
            return ""
        # A datagram socket sends nothing when it connects: this is how to find one's own address.
        if kind == "connect" and given[0].type == SOCK_DGRAM:
            return ""
        near = _local(address[0]) or _own(given[0].family, address[0])
        return "" if near else f"{address[0]}:{address[1]}"
    if kind in ("getaddrinfo", "gethostbyname", "gethostbyaddr"):
        host = given[0].decode() if isinstance(given[0], bytes) else given[0] or ""
        number = ":" in host or host.replace(".", "").isdigit()
        return "" if _local(host) or (number and kind != "gethostbyaddr") else host
    return ""


def _local(host: str) -> bool:
    name = host.lower().partition("%")[0].removeprefix("::ffff:")
    if name.endswith(".localhost"):  # always this machine: RFC 6761, section 6.3
        return True
    return name in LOCAL or (name.startswith("127.") and name.replace(".", "").isdigit())


def _own(family: int, host: str) -> bool:
    """Whether this is an address of this machine: Linux delivers to it on loopback."""
    import socket

    with socket.socket(family, SOCK_DGRAM) as probe:
        try:
            probe.bind((host, 0))
        except OSError:
            return False
    return True


def _next(mine: str) -> None:
    """Run the ``sitecustomize`` that this one hides."""
    for folder in sys.path:
        path = os.path.join(folder, "sitecustomize.py")
        if os.path.abspath(folder) != mine and os.path.isfile(path):
            return _execute(path)


def _execute(path: str) -> None:
    with open(path) as file:
        code = compile(file.read(), path, "exec")
    exec(code, {"__name__": "sitecustomize", "__file__": path})  # noqa: S102


if __name__ == "sitecustomize":
    _here = os.path.dirname(os.path.abspath(__file__))
    if os.path.exists(_mutant := os.path.join(_here, MUTANT)):
        _execute(_mutant)
    if EXEMPT not in os.environ:
        FOLDER = _here
        install(FOLDER)
    _next(_here)
