"""The folder of ``drillyard up``: private, with passwords that stay, and ports that are free."""

from __future__ import annotations

import os
import socket
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from drillyard.errors import ConfigError, InfrastructureError
from drillyard.processes import ProcessId
from drillyard_flows.servers.house import House
from drillyard_flows.servers.members import Member, members, variables
from drillyard_flows.servers.starting import start, stop


@pytest.fixture
def house(tmp_path: Path) -> House:
    found = House.at(tmp_path / "up")
    with found.locked():
        pass
    return found


def free() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_passwords_are_made_once_and_read_by_the_owner_alone(house: House) -> None:
    first = house.passwords()
    assert len(set(first.values())) == len(first) == 4 and house.passwords() == first
    path = house.exports(variables(house, 1, 2))
    for one in (path, house.folder / "secrets.json"):
        assert stat.S_IMODE(one.stat().st_mode) == 0o600
    assert stat.S_IMODE(house.folder.stat().st_mode) == 0o700
    shown = subprocess.run(
        ["sh", "-c", f". {path}; echo $PREFECT_API_AUTH_STRING"], text=True, capture_output=True,
        check=True,
    ).stdout  # fmt: skip
    assert shown.strip() == f"drillyard:{first['prefect']}"


def test_nothing_listens_for_others_and_no_password_is_on_a_command_line(house: House) -> None:
    for member in members(house, 4200, 5000, "/runs"):
        line = " ".join(member.command)
        assert not any(secret in line + repr(member) for secret in house.passwords().values())
        assert "--host" not in member.command or "--host 127.0.0.1" in line
    prefect, mlflow, worker = members(house, 4200, 5000, "/runs")
    assert prefect.environment["PREFECT_SERVER_API_AUTH_STRING"].startswith("drillyard:")
    assert "basic-auth" in mlflow.command
    assert worker.environment["DRILLYARD_STORE"] == "/runs"


def test_ports_stay_and_a_taken_one_is_refused(house: House) -> None:
    one, other = free(), free()
    assert house.ports(one, other) == (one, other)
    assert house.ports(None, None) == (one, other)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(ConfigError, match="another process"):
            house.ports(taken.getsockname()[1], None)


def test_a_member_is_started_once_and_stopped_with_its_children(house: House) -> None:
    program = "import subprocess, sys; subprocess.run(['sleep', '600'])"
    member = Member("worker", [sys.executable, "-c", program], dict(os.environ))
    assert start(house, member) and not start(house, member)
    leader = house.process("worker")
    assert isinstance(leader, ProcessId)
    assert stop(house, "worker") and not stop(house, "worker")
    assert not leader.alive() and house.read()["processes"] == {}


def test_one_that_ends_at_once_is_said_with_its_log(house: House) -> None:
    member = Member("mlflow", [sys.executable, "-c", "raise SystemExit('no database')"],
                    dict(os.environ), f"http://127.0.0.1:{free()}/health")  # fmt: skip
    with pytest.raises(InfrastructureError, match="it ended") as caught:
        start(house, member)
    log = house.folder / "logs" / "mlflow.log"
    assert str(log) in str(caught.value.hint) and "no database" in log.read_text()
