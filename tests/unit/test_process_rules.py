"""What breaks a rule for the processes of tests fails its test, or the session."""

import json
import os
import sys
import tomllib
from pathlib import Path

import pytest

from tests.helpers import process_rules
from tests.helpers.processes import run_process

ROOT = Path(__file__).parents[2]
CONFTEST = """
from tests.helpers.rules import Rules

def pytest_configure(config):
    config.pluginmanager.register(Rules(config))
"""
TESTS = """
import contextlib, socket, subprocess, sys, warnings
from pathlib import Path

WARN = "import warnings; warnings.warn_explicit('old', DeprecationWarning, 'f', 1, {!r})"
AWAY = '''
import contextlib, os, socket, time
while not os.path.exists("go"):
    time.sleep(0.01)
with contextlib.suppress(OSError):
    socket.getaddrinfo("example.org", 443)
'''

def child(code): return subprocess.Popen([sys.executable, "-c", code])

def test_our_warning(): exec(WARN.format("drillyard.spec.load"))
def test_our_warning_in_a_child(): assert child(WARN.format("drillyard_flows")).wait() == 0
def test_a_file_that_is_left_open():
    exec("open('sitecustomize.py')", {"__name__": "drillyard_backends.local"})
def test_a_file_that_a_child_leaves_open():
    code = "open('sitecustomize.py')"
    child(f"exec({code!r}, {{'__name__': 'drillyard_backends.local'}})").wait()
def test_connects_and_handles_the_error():
    with contextlib.suppress(OSError):
        socket.create_connection(("192.0.2.1", 80), 5)
def test_sends():
    with socket.socket(type=socket.SOCK_DGRAM) as one, contextlib.suppress(OSError):
        one.sendto(b"x", ("192.0.2.1", 53))
def test_a_child_starts_without_the_rules():
    subprocess.run([sys.executable, "-c", ""], env={}, check=True)
def test_a_child_looks_a_name_up():
    Path("go").touch()
    child(AWAY).wait()
    Path("go").unlink()

def test_good_garbage():
    code = "import gc; a = [open('sitecustomize.py')]; a.append(a); del a; gc.collect()"
    exec(code, {"__name__": "drillyard_backends.local"})
def test_good_warning_of_others(): exec(WARN.format("google.auth"))
def test_good_sockets():
    with socket.create_server(("localhost", 0)) as server:
        with socket.create_connection(("127.0.0.1", server.getsockname()[1])):
            pass
    left, right = socket.socketpair()
    with left, right:
        left.sendall(b"x")
    with socket.socket(type=socket.SOCK_DGRAM) as one, contextlib.suppress(OSError):
        one.connect(("192.0.2.1", 80))  # nothing is sent
        own = one.getsockname()[0]
        with socket.create_server((own, 0)) as server:
            socket.create_connection(server.getsockname()).close()
    socket.getaddrinfo("192.0.2.1", 80)
    socket.getfqdn()
def test_good_sitecustomize_of_others():
    assert sys.chained and child("import sys; sys.chained").wait() == 0

left = []
def test_leaves_a_child(): left.append(child(AWAY))
def test_the_next():
    Path("go").touch()
    left[0].wait()
"""


def test_children_have_the_filter_of_pyproject():
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]
    filters = settings["pytest"]["ini_options"]["filterwarnings"]
    # The last filter that matches decides. Only a fork after an import of JAX is excepted.
    assert filters[-2] == f"error:::{process_rules.OURS}"
    assert filters[-1] == r"ignore:os.fork\(\) was called:RuntimeWarning"
    assert list(process_rules.PACKAGES[:-1]) == sorted(settings["mypy"]["packages"])
    assert "ignore::DeprecationWarning" not in filters


@pytest.mark.heavy
@pytest.mark.parametrize("processes", [(), ("-n", "1")], ids=["alone", "dealt out"])
def test_each_way_to_break_a_rule_is_noticed(processes, tmp_path):
    (tmp_path / "conftest.py").write_text(CONFTEST)
    (tmp_path / "test_some.py").write_text(TESTS)
    (tmp_path / "sitecustomize.py").write_text("import sys; sys.chained = 1")
    # pyproject.toml's own filters, and none of the rules that this session has.
    command = [sys.executable, "-m", "pytest", "-q", "-c", str(ROOT / "pyproject.toml")]
    done = run_process(
        [*command, f"--rootdir={tmp_path}", *processes, "test_some.py"],
        cwd=tmp_path,
        more={
            "PYTHONPATH": os.pathsep.join([str(tmp_path), str(ROOT)]),
            process_rules.EXEMPT: "it brings its own",
        },
    )
    assert done.returncode == 1, done.stdout + done.stderr
    summary = done.stdout.partition("short test summary")[2]
    failed = {line.split("::")[1].split()[0] for line in summary.splitlines() if "::" in line}
    assert failed == {
        "test_our_warning",
        "test_our_warning_in_a_child",
        "test_a_file_that_is_left_open",
        "test_a_file_that_a_child_leaves_open",
        "test_connects_and_handles_the_error",
        "test_sends",
        "test_a_child_starts_without_the_rules",
        "test_a_child_looks_a_name_up",
    }, done.stdout
    # The child that outlived its test fails the session, and the next run repeats the test.
    notes = done.stdout.partition("rules for the processes of tests")[2]
    assert "test_some.py::test_leaves_a_child" in notes and "example.org" in notes
    last = json.loads((tmp_path / ".pytest_cache/v/cache/lastfailed").read_text())
    assert "test_some.py::test_leaves_a_child" in last
