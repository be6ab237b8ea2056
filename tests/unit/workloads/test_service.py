"""The workload `service`: started, ready, used, stopped, and never left behind."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import psutil
import pytest

from drillyard.errors import ProcessKilled, RunFailed, Stopped, TimedOut
from drillyard.mailbox.records import Phase
from drillyard.mailbox.stage_records import Release, Serving, release_key, serving_key
from drillyard.mailbox.status import Cause
from tests.helpers.patience import until
from tests.helpers.processes import free_port
from tests.helpers.workload_bench import Bench

pytestmark = pytest.mark.heavy
PY = sys.executable


@pytest.fixture(autouse=True)
def _soon(monkeypatch):
    monkeypatch.setattr("drillyard.workloads.service._ASK_S", 0.1)


SERVER = """
import os, socketserver, sys
from http.server import BaseHTTPRequestHandler, HTTPServer
class Answers(BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200 if self.path == "/health" else 404)
        self.end_headers()
        self.wfile.write(b"well")
    def log_message(self, *words): pass
open("pid", "w").write(str(os.getpid()))
server = HTTPServer((os.environ["HOST"], int(os.environ["PORT"])), Answers)
print(f"serving {os.getpid()}", flush=True)
server.serve_forever()
"""


def a_bench(tmp: Path, start: str = "server.py", **service: Any) -> Bench:
    tree = {"workload": "service", "service": {"start": start, "stop_timeout_s": 2, **service}}
    return Bench(tmp, tree, {"server.py": SERVER})


@contextlib.contextmanager
def once_it_serves(bench: Bench, act: Callable[[], None]) -> Iterator[None]:
    """Do something from outside as soon as the service says where it is reached."""

    def wait() -> None:
        until(lambda: bench.mailbox.read(serving_key("t0001-s1"), Serving), what="a service")
        act()

    acting = threading.Thread(target=wait, daemon=True)
    acting.start()
    yield
    acting.join()


def gone(bench: Bench) -> bool:
    return not psutil.pid_exists(int((bench.work / "pid").read_text()))


@pytest.mark.parametrize(
    "ready",
    [
        {},
        {"http": "/health"},
        {"output": r"^serving \d+$"},
        {"command": [PY, "-c", "open('pid')"]},
    ],
)
def test_it_says_where_it_is_reached_and_stops_on_order(tmp_path, ready):
    bench = a_bench(tmp_path, ready=ready)
    box = bench.mailbox
    claim = bench.context(Phase.TRAIN).claim
    box.claim(claim)
    found: list[Serving] = []

    def user() -> None:
        serving = until(lambda: box.read(serving_key("t0001-s1"), Serving), what="a service")
        socket.create_connection((serving.host, serving.port)).close()
        found.append(serving)
        order = Release(reason="all have ended", written_at=0.0)
        box.create(release_key("t0001-s1"), order)

    using = threading.Thread(target=user)
    using.start()
    metrics = bench.metrics()
    using.join()
    assert found[0].host == "127.0.0.1" and set(metrics) == {"ready_s"}
    assert gone(bench)


def test_one_that_ends_early_fails_with_its_last_words(tmp_path):
    bench = Bench(
        tmp_path,
        {"workload": "service", "service": {"start": [PY, "-c", "print('no disk'); exit(3)"]}},
    )
    with pytest.raises(RunFailed, match="code 3"):
        bench.workload.train(bench.context(Phase.TRAIN))


def test_one_that_is_never_ready_is_ended(tmp_path):
    bench = a_bench(tmp_path, ready={"http": "/never", "timeout_s": 0.5})
    with pytest.raises(TimedOut, match=r"not ready after 0\.5 s"):
        bench.workload.train(bench.context(Phase.TRAIN))
    assert not (bench.work / "pid").exists() or gone(bench)


def test_its_own_command_to_stop_has_a_time_limit(tmp_path):
    bench = a_bench(tmp_path, stop=[[PY, "-c", "import time; time.sleep(60)"]], stop_timeout_s=0.5)
    context = bench.context(Phase.TRAIN)
    bench.workload.setup(context)
    with pytest.raises(TimedOut, match=r"not done after 0\.5 s") as caught:
        bench.workload.teardown(context)
    assert caught.value.hint == "raise service.stop_timeout_s"
    assert gone(bench)


def test_its_setup_has_a_time_limit_of_the_service(tmp_path):
    setup = [[PY, "-c", "import time; time.sleep(60)"]]
    bench = a_bench(tmp_path, setup=setup, setup_max_time_s=0.2)
    with pytest.raises(TimedOut, match=r"`setup` was not done after 0\.2 s") as caught:
        bench.workload.train(bench.context(Phase.TRAIN))
    assert caught.value.hint == "raise service.setup_max_time_s"


def test_a_stop_ends_it(tmp_path):
    bench = a_bench(tmp_path)
    context = bench.context(Phase.TRAIN)
    bench.mailbox.claim(context.claim)

    stop = partial(bench.stop.set, Cause.CANCELLED, "enough")
    with (
        once_it_serves(bench, stop),
        pytest.raises(Stopped, match="enough"),
    ):
        bench.workload.train(context)
    assert gone(bench)


def test_without_a_driver_and_without_users_it_ends(tmp_path, monkeypatch):
    monkeypatch.setattr("drillyard.workloads.service.AWAY_S", 0.3)
    monkeypatch.setattr("drillyard.workloads.service._LOOK_FOR_DRIVER_S", 0.1)
    bench = a_bench(tmp_path)
    context = bench.context(Phase.TRAIN)
    bench.mailbox.claim(context.claim)
    with pytest.raises(RunFailed, match="the driver has been gone"):
        bench.workload.train(context)
    assert gone(bench)


def test_on_one_machine_it_serves_the_other_children(tmp_path):
    port = free_port()
    asks = (
        "import urllib.request as u\n"
        f"print('n=' + str(len(u.urlopen('http://127.0.0.1:{port}/health').read())))"
    )
    tree = {
        "workload": "composite",
        "children": [
            {
                "name": "app",
                "workload": "service",
                "service": {"start": "server.py", "port": port, "ready": {"http": "/health"}},
            },
            {
                "name": "asks",
                "workload": "script",
                "script": {"run": [[PY, "-c", asks]], "results": {"stdout": r"^(\w+)=(\d+)$"}},
            },
        ],
    }
    bench = Bench(tmp_path, tree, {"server.py": SERVER})
    assert bench.metrics()["n"] == 4.0
    assert gone(bench)


def test_a_service_that_was_killed_serves_again(tmp_path):
    """It did not end by itself: another attempt follows."""
    bench = a_bench(tmp_path)
    context = bench.context(Phase.TRAIN)
    bench.mailbox.claim(context.claim)

    def kill() -> None:
        os.kill(int((bench.work / "pid").read_text()), signal.SIGKILL)

    with (
        once_it_serves(bench, kill),
        pytest.raises(ProcessKilled, match="service was ended by SIGKILL"),
    ):
        bench.workload.train(context)


@pytest.mark.parametrize("code", [None, 0])
def test_a_service_that_dies_of_sigterm_before_the_stop_arrives_is_stopped(
    tmp_path, monkeypatch, code
):
    """A machine that is taken away sends SIGTERM to all processes, in any order."""
    monkeypatch.setattr("drillyard.workloads.service.LATE_STOP_S", 60.0)
    gentle = "" if code is None else "import signal; signal.signal(15, lambda *_: exit(0))\n"
    bench = a_bench(tmp_path)
    (bench.code / "server.py").write_text(gentle + SERVER)
    context = bench.context(Phase.TRAIN)
    bench.mailbox.claim(context.claim)

    def take_away() -> None:
        os.kill(int((bench.work / "pid").read_text()), signal.SIGTERM)
        until(lambda: gone(bench), what="the end of the service")
        bench.stop.set(Cause.PREEMPTION, "SIGTERM: taken away")

    with once_it_serves(bench, take_away), pytest.raises(Stopped, match="taken away"):
        bench.workload.train(context)


def test_a_command_that_asks_whether_it_is_ready_may_be_killed(tmp_path):
    """It is asked again, as after every other answer than yes."""
    once = "import os, pathlib; p = pathlib.Path('asked'); known = p.exists(); p.touch()"
    command = f"{once}; known or os.kill(os.getpid(), 9)"
    bench = a_bench(tmp_path, ready={"command": [PY, "-c", command]})
    context = bench.context(Phase.TRAIN)
    bench.mailbox.claim(context.claim)
    stop = partial(bench.stop.set, Cause.CANCELLED, "enough")
    with (
        once_it_serves(bench, stop),
        pytest.raises(Stopped, match="enough"),
    ):
        bench.workload.train(context)
    assert (bench.work / "asked").exists()
