"""Callers of ``drive`` in a process of their own, which tests interrupt in a known phase.

    python -m tests.helpers.interrupted CALLER FILE STORE FLAGS

``CALLER`` is ``program``, ``thread``, or ``command``. The first two call ``drillyard.run``, write
what it raised to ``raised``, open the gate of the work, and make the same call again. Files in
``FLAGS`` hold a phase: while ``hold-provision`` is there, the backend is in ``provision``
and says so by ``in-provision``; the same for ``teardown``.
"""

from __future__ import annotations

import ctypes
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import drillyard
from drillyard_backends.local import LocalBackend

FLAGS = Path(sys.argv[4])


def held(name: str, verb: Callable[..., Any]) -> Callable[..., Any]:
    def waits(*args: Any) -> Any:
        (FLAGS / f"in-{name}").touch()
        while (FLAGS / f"hold-{name}").exists():
            time.sleep(0.02)
        return verb(*args)

    return waits


def call(file: str, store: str) -> str:
    return drillyard.run(file, store=store, flow=False, report=False).status


def twice(file: str, store: str) -> None:
    """The same call again, in the same process, at once."""
    try:
        call(file, store)
    except BaseException as error:
        code = error.code if isinstance(error, SystemExit) else ""
        (FLAGS / "raised").write_text(f"{type(error).__name__} {code}".strip())
        if (FLAGS / "once").exists():
            raise
    (FLAGS / "gate").touch()
    print(call(file, store), flush=True)


def in_another_thread(file: str, store: str) -> None:
    """The program hands its signals to the thread that called, as schedulers cancel their work."""
    thread = threading.Thread(target=twice, args=(file, store))

    def hand_over(number: int, frame: object) -> None:
        ident = ctypes.c_ulong(thread.ident or 0)
        ctypes.pythonapi.PyThreadState_SetAsyncExc(ident, ctypes.py_object(KeyboardInterrupt))

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, hand_over)
    thread.start()
    while thread.is_alive():
        time.sleep(0.05)


if __name__ == "__main__":
    # A shell that starts tests in the background has its programs ignore SIGINT.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    kind, *given = sys.argv[1:4]
    for verb in ("provision", "teardown"):
        setattr(LocalBackend, verb, held(verb, getattr(LocalBackend, verb)))
    if kind == "command":
        from drillyard.cli.start import main

        sys.argv = ["drillyard", "run", given[0], "--store", given[1], "--no-prefect"]
        sys.exit(main())
    else:
        {"program": twice, "thread": in_another_thread}[kind](*given)
