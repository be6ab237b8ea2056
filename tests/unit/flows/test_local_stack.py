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
from drillyard.system.processes import ProcessId
from drillyard_flows.local_stack import relay
from drillyard_flows.local_stack.service import Member
from drillyard_flows.local_stack.services import members, variables
from drillyard_flows.local_stack.stack import LocalStack
from drillyard_flows.local_stack.starting import start, stop

PORTS = {"prefect": 4200, "mlflow": 5000}


@pytest.fixture
def house(tmp_path: Path) -> LocalStack:
    found = LocalStack.at(tmp_path / "up")
    with found.locked():
        pass
    return found


def free() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.mark.heavy
def test_passwords_are_made_once_and_read_by_the_owner_alone(house: LocalStack) -> None:
    first = house.passwords()
    assert len(set(first.values())) == len(first) == 6 and house.passwords() == first
    path = house.exports(variables(house, PORTS))
    for one in (path, house.folder / "secrets.json"):
        assert stat.S_IMODE(one.stat().st_mode) == 0o600
    assert stat.S_IMODE(house.folder.stat().st_mode) == 0o700
    shown = subprocess.run(
        ["sh", "-c", f". {path}; echo $PREFECT_API_AUTH_STRING"],
        text=True,
        capture_output=True,
        check=True,
    ).stdout
    assert shown.strip() == f"drillyard:{first['prefect']}"


def test_nothing_listens_for_others_and_no_password_is_on_a_command_line(
    house: LocalStack,
) -> None:
    house.mail("mailto://me:hidden@mail.example.org")
    for member in members(house, {**PORTS, "relay": 4201}, "/runs"):
        line = " ".join(member.command)
        secrets = [*house.passwords().values(), "hidden"]
        assert not any(secret in line + repr(member) for secret in secrets)
        assert "--host" not in member.command or "--host 127.0.0.1" in line
    prefect, mlflow, worker = members(house, PORTS, "/runs")
    assert prefect.environment["PREFECT_SERVER_API_AUTH_STRING"].startswith("drillyard:")
    assert "basic-auth" in mlflow.command
    assert worker.environment["DRILLYARD_STORE"] == "/runs"


@pytest.mark.heavy
def test_ports_stay_and_a_taken_one_is_refused(house: LocalStack) -> None:
    chosen = {"prefect": free(), "mlflow": free()}
    assert house.ports(chosen) == chosen
    assert house.ports(dict.fromkeys(chosen)) == chosen
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(ConfigError, match="another process"):
            house.ports({"prefect": taken.getsockname()[1], "mlflow": None})


@pytest.mark.heavy
def test_a_member_is_started_once_and_stopped_with_its_children(house: LocalStack) -> None:
    program = "import subprocess, sys; subprocess.run(['sleep', '600'])"
    member = Member("worker", [sys.executable, "-c", program], dict(os.environ))
    assert start(house, member) and not start(house, member)
    leader = house.process("worker")
    assert isinstance(leader, ProcessId)
    assert stop(house, "worker") and not stop(house, "worker")
    assert not leader.alive() and house.read()["processes"] == {}


@pytest.mark.heavy
def test_one_that_ends_at_once_is_said_with_its_log(house: LocalStack) -> None:
    member = Member(
        "mlflow",
        [sys.executable, "-c", "raise SystemExit('no database')"],
        dict(os.environ),
        lambda: "no answer",
    )
    with pytest.raises(InfrastructureError, match="it ended") as caught:
        start(house, member)
    log = house.folder / "logs" / "mlflow.log"
    assert str(log) in str(caught.value.hint) and "no database" in log.read_text()


def test_the_database_is_chosen_once(house: LocalStack) -> None:
    assert house.database("postgresql") == house.database(None) == "postgresql"
    with pytest.raises(ConfigError, match="is in postgresql"):
        house.database("sqlite")


def test_a_house_from_before_there_was_a_choice_has_sqlite(house: LocalStack) -> None:
    house.write({"ports": PORTS})
    assert house.database(None) == "sqlite"
    with pytest.raises(ConfigError, match="is in sqlite"):
        house.database("postgresql")


def test_an_address_that_no_mail_goes_to_is_refused() -> None:
    with pytest.raises(ConfigError, match="Apprise") as caught:
        relay.addressee("mail://me:hidden@somewhere")
    assert "hidden" not in str(caught.value)
