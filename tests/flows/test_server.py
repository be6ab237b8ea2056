"""The embedded server: private, shared, and gone with the last of its users."""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
import threading
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from drillyard.driver.outcome import Kind, Outcome
from drillyard.system.processes import ProcessId
from drillyard_flows import prefect_view, settings
from drillyard_flows.prefect_view import PrefectView
from drillyard_flows.request import Request
from drillyard_flows.server import Server
from tests.helpers.patience import PATIENCE_S, until
from tests.helpers.processes import run_process

SLOW = {"id": "world:Slow", "args": {"step_s": 0.01}}


def server_of(home: Path) -> ProcessId | None:
    try:
        entry = json.loads((home / "server.json").read_text())
    except (OSError, ValueError):
        return None
    return ProcessId(entry["pid"], entry["started"])


def test_two_commands_share_a_server_that_ends_after_kill_9_of_both(bench):
    home = bench.folder / "prefect"
    one = bench.start("run", bench.write("one", simulator=SLOW), PREFECT_HOME=str(home))
    server = until(lambda: server_of(home), what="a server")
    two = bench.start("run", bench.write("two", simulator=SLOW), PREFECT_HOME=str(home))
    until(lambda: len(list((home / "users").glob("*.json"))) == 2, what="two users")

    assert server_of(home) == server and server.alive()
    links = {
        until(lambda n=n: [x for x in bench.said(n).splitlines() if "Prefect: " in x])[0]
        for n in (0, 1)
    }
    assert len(links) == 1
    for child in (one, two):
        child.send_signal(signal.SIGKILL)
        child.wait()
    until(lambda: not server.alive(), what="the server ends")
    assert not (home / "server.json").exists()
    assert (home.stat().st_mode & 0o777) == 0o700
    assert (home / "prefect.db").stat().st_mode & 0o077 == 0


def test_what_fails_in_a_server_is_in_its_log_and_not_on_a_terminal(tmp_path):
    program = (
        "import logging; from prefect.logging.configuration import setup_logging; "
        "setup_logging(); logging.getLogger('docket').error('no run is planned')"
    )
    for environ, told in (
        (settings.server_environment(tmp_path, 1), True),
        ({**os.environ, **settings.quiet_environment()}, False),
    ):
        done = run_process([sys.executable, "-c", program], env=environ, check=True)
        assert ("no run is planned" in done.stderr) is told


def test_no_other_site_may_talk_to_it(api):
    request = urllib.request.Request(f"{api.url}/health", headers={"Host": "evil.example:80"})
    with pytest.raises(urllib.error.HTTPError) as caught:
        urllib.request.urlopen(request, timeout=PATIENCE_S)
    assert caught.value.code == 400
    foreign = urllib.request.Request(
        f"{api.url}/health", headers={"Origin": "http://evil.example"}
    )
    with pytest.raises(urllib.error.HTTPError) as caught:
        urllib.request.urlopen(foreign, timeout=PATIENCE_S)
    assert caught.value.code == 403
    assert caught.value.headers.get("access-control-allow-origin") is None


def test_an_api_that_the_user_named_must_answer_before_anything_is_made(bench):
    dead = "http://127.0.0.1:9/api"
    done = bench.run("run", bench.write("named"), PREFECT_API_URL=dead)
    assert done.returncode == 4
    assert dead in done.stderr and "--offline-ok" in done.stderr
    assert not bench.store.exists()


def test_offline_ok_runs_the_same_phases_without_prefect(bench):
    done = bench.run(
        "run", bench.write("offline"), "--offline-ok", PREFECT_API_URL="http://127.0.0.1:9/api"
    )
    assert done.returncode == 0, done.stderr
    assert "continuing without Prefect" in done.stderr
    assert (bench.store / "offline/runs/t0001-s1/store.accepted.json").exists()
    assert all(bench.leases("offline").values())


def test_the_api_is_found_as_prefect_would_find_it(tmp_path, monkeypatch):
    assert settings.configured_api({"PREFECT_API_URL": "http://a/api"}) == "http://a/api"
    profiles = tmp_path / "profiles.toml"
    profiles.write_text('active = "lab"\n[profiles.lab]\nPREFECT_API_URL = "http://lab/api"\n')
    assert settings.configured_api({"PREFECT_HOME": str(tmp_path)}) == "http://lab/api"
    assert settings.configured_api({"PREFECT_HOME": str(tmp_path), "PREFECT_PROFILE": "x"}) is None
    monkeypatch.setenv("HOME", str(tmp_path / "nobody"))
    assert settings.configured_api({}) is None
    assert os.environ["HOME"].endswith("nobody")


def test_a_server_that_is_still_starting_is_not_given_up(monkeypatch):
    """A short experiment on a busy machine is over before its server is up."""
    monkeypatch.setattr(prefect_view, "SILENT_S", 0.0)
    monkeypatch.setattr(prefect_view, "FOREIGN_ANSWER_S", 0.1)
    told: list[str] = []
    over = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as deaf:  # accepts, and says nothing
        address = f"http://127.0.0.1:{deaf.getsockname()[1]}"
        view = PrefectView(Request("x"), release=lambda server: None, say=told.append)
        view._server = Server(f"{address}/api", address, ours=False)
        view._thread = threading.Thread(target=over.wait)
        view._thread.start()
        ending = threading.Thread(target=view.end, args=(Outcome(Kind.SUCCEEDED),))
        ending.start()
        ending.join(1.0)
        assert ending.is_alive(), "a server that has yet to answer is waited for"
        over.set()
        ending.join(PATIENCE_S)
        assert told == []

        over.clear()
        view._server = Server(f"{address}/api", address, ours=False)
        view._thread = threading.Thread(target=over.wait)
        view._thread.start()
        view._answered.set()
        view.end(Outcome(Kind.SUCCEEDED))
        assert "does not answer" in told[0]
        over.set()
