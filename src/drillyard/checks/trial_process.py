"""The process in which a training is tried, and the lines that it reports.

    python -m drillyard.checks.trial_process FD < order.json

Each line on FD is a JSON object: where the process is (``looks``, ``inside``), or its end
(``done``, ``stopped`` or ``error``).
"""

from __future__ import annotations

import contextlib
import gc
import json
import os
import sys
import threading
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from drillyard.documents.json_types import JsonObject
from drillyard.system import stack_dump
from drillyard.system.operating_system import end_first

EVERY_S = 0.2
STACKS = "stacks.txt"
"""The file of the scratch folder in which it says where it is when it is asked to."""


@dataclass
class Heard:
    """What the process reported, and how it ended.

    Attributes:
        looks: How far it is; grows while it makes progress.
        inside: The step of the simulator that it is in; empty outside.
        done: What was done; None if it did not get to the end.
        stopped: It ran out of time.
        error: An exception: message, hint, field, value, allowed.
        exitcode: Exit code, negative for a signal.
        silent_s: It made no progress for so many seconds.
        where: The line of the user's code in which it was then.
        too_large: It used more than so many bytes.
        output: The beginning of what it printed.
        peak: Most resident bytes.
        opened: Names of files that it opened and that would not travel.
    """

    looks: int = -1
    inside: str = ""
    done: str | None = None
    stopped: bool = False
    error: JsonObject | None = None
    exitcode: int | None = None
    silent_s: float | None = None
    where: str | None = None
    too_large: int | None = None
    output: str = ""
    peak: int = 0
    opened: list[str] = field(default_factory=list)


def read_line(line: bytes, heard: Heard) -> bool:
    """Takes a line of the process.

    Returns:
        True if it has made progress since the last line.
    """
    try:
        given = json.loads(line)
    except ValueError:
        return False
    if "looks" in given:
        moved = (given["looks"], given["inside"]) != (heard.looks, heard.inside)
        heard.looks, heard.inside = given["looks"], given["inside"]
        return moved
    if "opened" in given and given["opened"] not in heard.opened:
        heard.opened.append(given["opened"])
    heard.done = given.get("done", heard.done)
    heard.stopped = heard.stopped or bool(given.get("stopped"))
    heard.error = given.get("error", heard.error)
    return True


def main() -> None:
    """Tries the training of the order on standard input."""
    descriptor = int(sys.argv[1])
    order = json.loads(sys.stdin.buffer.read())
    for entry in order["path"]:
        if entry not in sys.path:
            sys.path.append(entry)
    sys.path.append(order["folder"])
    sys.dont_write_bytecode = True
    end_first()
    stacks = open(Path(order["scratch"]) / STACKS, "wb")  # noqa: SIM115
    stack_dump.arm(stacks)
    lock = threading.Lock()

    def tell(said: JsonObject) -> None:
        with lock:
            os.write(descriptor, json.dumps(said, default=repr).encode() + b"\n")

    _watch_opens(order["watched"], tell)
    try:
        tell(_tried(order, tell))
    except BaseException as error:
        traceback.print_exc()
        tell(_ended(error))
    sys.stdout.flush()
    os._exit(0)  # does not wait for threads of a simulator, or for what runs at exit


def _watch_opens(watched: dict[str, str], tell: Callable[[JsonObject], None]) -> None:
    """Reports which of some files Python opens to read, by whatever path."""
    if not watched:
        return
    names = {Path(name).name for name in watched}

    def hook(event: str, args: tuple[object, ...]) -> None:
        if event != "open" or not isinstance(args[0], str | bytes):
            return
        if isinstance(args[2], int) and args[2] & os.O_WRONLY:
            return  # a log of the simulator, which nothing reads
        path = os.fsdecode(args[0])
        if os.path.basename(path) in names and os.path.realpath(path) in watched:
            tell({"opened": watched[os.path.realpath(path)]})

    sys.addaudithook(hook)


def _tried(order: JsonObject, tell: object) -> JsonObject:
    from drillyard.mailbox.status import Cause
    from drillyard.registry import load
    from drillyard.runs.workload import StopSignal, TriesTraining
    from drillyard.spec import ExperimentSpec
    from drillyard.system import step_marker

    assert callable(tell)
    spec = ExperimentSpec.model_validate(order["spec"])
    stop, over = StopSignal(), threading.Event()
    left = float(str(order["whole_s"]))

    def report() -> None:
        passed = 0.0
        while not over.wait(EVERY_S):
            tell({"looks": stop.looks, "inside": step_marker.inside()})
            passed += EVERY_S if stop.looks else 0.0
            if passed > left:
                stop.set(Cause.TIME_LIMIT, "the trial took too long")

    threading.Thread(target=report, daemon=True).start()
    if spec.learner is not None and spec.learner.engine == "sb3":
        _import_quickly()
    workload = load("workloads", spec.workload)()
    if not isinstance(workload, TriesTraining):
        return {"done": ""}
    done = workload.try_training(spec, Path(str(order["scratch"])) / "run", stop)
    over.set()
    return {"done": done}


def _import_quickly() -> None:
    """Imports what the training needs, without a look at all objects again and again."""
    gc.disable()
    with contextlib.suppress(ImportError):  # said by what needs it
        import stable_baselines3  # noqa: F401
        import torch._dynamo  # noqa: F401
    gc.freeze()
    gc.enable()


def _ended(error: BaseException) -> JsonObject:
    """An exception as JSON: the user's mistakes with their line."""
    from drillyard.errors import ConfigError, ConfigErrors, DrillyardError, Stopped
    from drillyard.system.user_code import described, place

    if isinstance(error, Stopped):
        return {"stopped": True}
    if isinstance(error, ConfigErrors):
        error = error.errors[0]
    if isinstance(error, ConfigError):
        where = f" ({line})" if (line := place(error)) else ""
        return {
            "error": {
                "message": f"{error.message}{where}",
                "hint": error.hint,
                "field": error.field,
                "value": None if error.value is None else str(error.value),
                "allowed": error.allowed,
            }
        }
    if isinstance(error, DrillyardError):
        return {"error": {"message": error.message, "hint": error.hint}}
    if isinstance(error, MemoryError):
        hint = "make observations, networks or the replay buffer (buffer_size) smaller"
        return {"error": {"message": f"memory ran out: {described(error)}", "hint": hint}}
    if isinstance(error, SystemExit):
        hint = "raise an exception instead; its message is shown"
        return {"error": {"message": f"your code called sys.exit({error.code!r})", "hint": hint}}
    if place(error) is not None:
        notes = "; ".join(getattr(error, "__notes__", []))
        message = f"your code raised {described(error)}" + (f" {notes}" if notes else "")
        return {"error": {"message": message, "hint": "fix that line; a run would fail there"}}
    return {"error": {"message": f"the learner cannot train here: {described(error)}"}}


if __name__ == "__main__":
    main()
