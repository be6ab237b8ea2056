"""A guarded call that raises is made once, in the child; its error arrives whole."""

from __future__ import annotations

import json
import subprocess
import sys
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import pytest

from drillyard.errors import ConfigError, ConfigErrors, DrillyardError, RunFailed, UserError
from tests.helpers.patience import PATIENCE_S
from tests.helpers.processes import run_process

PROGRAM = '''
"""Makes one guarded call, counts it in a file, and prints what arrived."""
import json, sys, traceback
from drillyard import errors
from drillyard.system.watchdog import run_watched

class Valve:
    def __repr__(self):
        return "<a valve>"

class Shut(ValueError):
    def __init__(self, valve, when):
        super().__init__(f"{valve} is shut at {when}")

class Worst(errors.SimulatorError):
    """A class of the user's own."""

def failing():
    with open("calls.txt", "a") as file:
        file.write("called\\n")
    way = sys.argv[1]
    if way == "user":
        raise errors.UserError("it cannot work", hint="do it otherwise")
    if way == "config":
        raise errors.SimulatorError("is wrong", file="a.yaml", line=7, field="simulator.args.at",
                                    value=Valve(), allowed="1 to 3", hint="known: 1, 2")
    if way == "several":
        raise errors.ConfigErrors([
            errors.ConfigError("one", field="a", value=[1, "x"], hint="mend it"),
            errors.CheckpointRefused("two", line=2),
        ])
    if way == "own":
        error = Worst("breaks", field="simulator.id", hint="mend the simulator")
        error.add_note("step 7, copy 0")
        raise error
    if way == "foreign":
        raise Shut(Valve(), 3)
    if way == "builtin":
        raise FileNotFoundError(2, "No such file", "valve.csv")
    if way == "exit":
        sys.exit(5)
    return lambda: 0  # cannot be sent

try:
    run_watched(failing, 60.0, "importing it")
except BaseException as error:
    found = {
        "type": type(error).__name__, "text": str(error), "hint": getattr(error, "hint", None),
        "notes": getattr(error, "__notes__", []), "args": repr(error.args),
        "errors": [[type(e).__name__, str(e), e.hint] for e in getattr(error, "errors", [])],
        "trace": "".join(traceback.format_exception(error)),
    }
    print(json.dumps(found))
'''
BROKEN = '''
"""A simulator that cannot be reset."""
class Pump:
    def reset(self, config):
        with open("calls.txt", "a") as file:
            file.write("reset\\n")
        raise ValueError("the pump is dry")

    def step(self, actions):
        return {"level": 0.0}

    def terminated(self):
        return False

    def truncated(self):
        return False
'''


def guarded(folder: Path, way: str) -> dict[str, Any]:
    """What a program got from a guarded call that raises; it has made the call once."""
    (folder / "program.py").write_text(PROGRAM)
    done = run_process([sys.executable, "program.py", way], cwd=folder)
    assert done.returncode == 0, done.stderr
    assert (folder / "calls.txt").read_text() == "called\n", "it was called again"
    return dict(json.loads(done.stdout))


@pytest.mark.heavy
def test_an_error_of_the_tree_arrives_with_its_message_and_hint(tmp_path):
    found = guarded(tmp_path, "user")
    assert (found["type"], found["text"]) == ("UserError", "it cannot work")
    assert found["hint"] == "do it otherwise"


@pytest.mark.heavy
def test_a_refused_field_arrives_with_its_place_and_a_value_of_any_class(tmp_path):
    found = guarded(tmp_path, "config")
    assert found["type"] == "SimulatorError"
    assert found["text"] == (
        "a.yaml:7: simulator.args.at: is wrong (got <a valve>); allowed: 1 to 3"
    )
    assert found["hint"] == "no allowed value has a similar name: choose one of them"


@pytest.mark.heavy
def test_several_errors_arrive_each_with_its_class(tmp_path):
    found = guarded(tmp_path, "several")
    assert found["type"] == "ConfigErrors" and found["hint"] == "mend it"
    assert found["errors"] == [
        ["ConfigError", "a: one (got [1, 'x'])", "mend it"],
        ["CheckpointRefused", "2: two", None],
    ]


@pytest.mark.heavy
def test_a_class_of_the_users_own_arrives_as_the_nearest_one_of_the_tree(tmp_path):
    found = guarded(tmp_path, "own")
    assert (found["type"], found["hint"]) == ("SimulatorError", "mend the simulator")
    assert found["notes"] == ["step 7, copy 0"]


@pytest.mark.heavy
@pytest.mark.parametrize(
    ("way", "kind", "text"),
    [
        ("foreign", "ValueError", "Shut: <a valve> is shut at 3"),
        ("builtin", "FileNotFoundError", "[Errno 2] No such file: 'valve.csv'"),
        ("exit", "SystemExit", "5"),
    ],
)
def test_a_foreign_exception_arrives_with_the_traceback_of_the_child(tmp_path, way, kind, text):
    found = guarded(tmp_path, way)
    assert (found["type"], found["text"]) == (kind, text)
    assert "in failing" in found["trace"] and "program.py" in found["trace"]


@pytest.mark.heavy
def test_a_result_that_cannot_be_sent_is_an_error_and_not_made_again(tmp_path):
    found = guarded(tmp_path, "unsendable")
    assert "pickle" in found["text"]


def drillyard(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return run_process([sys.executable, "-m", "drillyard.cli.start", *words], cwd=folder)


@pytest.mark.heavy
def test_a_simulator_that_raises_is_tried_once_by_the_command(tmp_path):
    (tmp_path / "pump.py").write_text(BROKEN)
    done = drillyard(tmp_path, "new", "simulator", "dry-pump", "--from", "pump.py")
    assert done.returncode == 2, done.stdout + done.stderr
    assert "Pump raised at the reset of episode 1: ValueError: the pump is dry" in done.stderr
    assert "fix: fix that line; every action was 0" in done.stderr
    assert (tmp_path / "calls.txt").read_text() == "reset\n", "the simulator ran again"


@pytest.mark.heavy
@pytest.mark.parametrize("code", [0, 5])
def test_a_simulator_that_leaves_the_program_is_refused(tmp_path, code):
    (tmp_path / "leaves.py").write_text(f"import sys\nsys.exit({code})\n")
    done = drillyard(tmp_path, "check", "leaves:World")
    assert done.returncode == 2, done.stdout + done.stderr
    assert f"your code called sys.exit({code})" in done.stderr


def a_config_error() -> None:
    raise ConfigError("is wrong", field="a", value=3, hint="mend it")


def config_errors() -> None:
    raise ConfigErrors([ConfigError("one", field="a", hint="mend it"), ConfigError("two")])


@pytest.mark.heavy
@pytest.mark.parametrize("raises", [a_config_error, config_errors])
def test_errors_of_the_tree_come_home_from_any_pool_of_processes(raises):
    """Assessments, and copies of a simulator, run in pools whose errors are pickled."""
    expected: list[DrillyardError] = []
    try:
        raises()
    except DrillyardError as error:
        expected.append(error)
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        with pytest.raises(UserError) as caught:
            pool.submit(raises).result(PATIENCE_S)
        assert type(caught.value) is type(expected[0])
        assert (str(caught.value), caught.value.hint) == (str(expected[0]), expected[0].hint)
        with pytest.raises(RunFailed, match="the next call works"):
            pool.submit(fails_plainly).result(PATIENCE_S)


def fails_plainly() -> None:
    raise RunFailed("the next call works", hint="and has its hint")
