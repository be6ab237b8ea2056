"""The folder of ``drillyard up``: private, with passwords that stay, and ports that are free."""

from __future__ import annotations

import os
import socket
import stat
import sys

import pytest

from drillyard.errors import ConfigError, ConfigErrors, InfrastructureError
from drillyard.system.processes import ProcessId
from drillyard_flows.local_stack import relay, starting
from drillyard_flows.local_stack.service import Service
from drillyard_flows.local_stack.services import services, variables
from drillyard_flows.local_stack.stack import LocalStack
from drillyard_flows.local_stack.starting import start, stop
from tests.helpers.processes import free_port, run_process

PORTS = {"prefect": 4200, "mlflow": 5000}


@pytest.fixture
def stack(tmp_path):
    found = LocalStack.at(tmp_path / "up")
    with found.locked():
        pass
    return found


@pytest.mark.heavy
def test_passwords_are_made_once_and_read_by_the_owner_alone(stack):
    first = stack.passwords()
    assert len(set(first.values())) == len(first) == 5 and stack.passwords() == first
    path = stack.exports(variables(stack, PORTS))
    for one in (path, stack.folder / "secrets.json"):
        assert stat.S_IMODE(one.stat().st_mode) == 0o600
    assert stat.S_IMODE(stack.folder.stat().st_mode) == 0o700
    shown = run_process(
        ["sh", "-c", f". {path}; echo $PREFECT_API_AUTH_STRING"], check=True
    ).stdout
    assert shown.strip() == f"drillyard:{first['prefect']}"


def test_nothing_listens_for_others_and_no_password_is_on_a_command_line(stack):
    stack.mail("mailto://me:hidden@mail.example.org")
    for service in services(stack, {**PORTS, "relay": 4201}, "/runs"):
        line = " ".join(service.command)
        secrets = [*stack.passwords().values(), "hidden"]
        assert not any(secret in line + repr(service) for secret in secrets)
        assert "--host" not in service.command or "--host 127.0.0.1" in line
    prefect, mlflow, worker, _ = services(stack, PORTS, "/runs")
    assert prefect.environment["PREFECT_SERVER_API_AUTH_STRING"].startswith("drillyard:")
    assert "basic-auth" in mlflow.command
    assert worker.environment["DRILLYARD_STORE"] == "/runs"


@pytest.mark.heavy
def test_ports_stay_and_a_taken_one_is_refused(stack):
    chosen = {"prefect": free_port(), "mlflow": free_port()}
    assert stack.ports(chosen) == chosen
    assert stack.ports(dict.fromkeys(chosen)) == chosen
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(ConfigError, match="another program"):
            stack.ports({"prefect": taken.getsockname()[1], "mlflow": None})


@pytest.mark.heavy
def test_a_port_that_nobody_asked_for_moves_when_another_program_has_it(stack):
    with socket.socket() as taken, socket.socket() as also:
        for each in (taken, also):
            each.bind(("127.0.0.1", 0))
            each.listen()
        first, second = taken.getsockname()[1], also.getsockname()[1]
        stack.write({"ports": {"prefect": first, "mlflow": second}})
        with pytest.raises(ConfigErrors) as caught:
            stack.ports({"prefect": first, "mlflow": second})
        fields = [getattr(error, "field", None) for error in caught.value.errors]
        assert fields == ["--prefect-port", "--mlflow-port"]
        assert stack.read()["ports"] == {"prefect": first, "mlflow": second}
        moved = stack.ports({"prefect": None, "mlflow": None})
        assert len({*moved.values(), first, second}) == 4
        for port in moved.values():
            with socket.socket() as probe:
                probe.bind(("127.0.0.1", port))
    # It stays where it went, so that what was pasted stays true.
    assert stack.ports({"prefect": None, "mlflow": None}) == moved


@pytest.mark.heavy
def test_a_service_is_started_once_and_stopped_with_its_children(stack):
    program = "import subprocess, sys; subprocess.run(['sleep', '600'])"
    service = Service("worker", [sys.executable, "-c", program], dict(os.environ))
    assert start(stack, service) and not start(stack, service)
    leader = stack.process("worker")
    assert isinstance(leader, ProcessId)
    assert stop(stack, "worker") and not stop(stack, "worker")
    assert not leader.alive() and stack.read()["processes"] == {}


@pytest.mark.heavy
def test_a_server_that_is_waited_for_is_explained(stack, monkeypatch):
    monkeypatch.setattr(starting, "SAY_S", 0.0)
    answers = iter(["503: database is locked", None])
    said: list[str] = []
    service = Service("mlflow", ["sleep", "600"], dict(os.environ), lambda: next(answers))
    start(stack, service, said.append)
    stop(stack, "mlflow")
    assert len(said) == 1 and "database is locked" in said[0]


@pytest.mark.heavy
def test_one_that_ends_at_once_is_said_with_its_log(stack):
    service = Service(
        "mlflow",
        [sys.executable, "-c", "raise SystemExit('no database')"],
        dict(os.environ),
        lambda: "no answer",
    )
    with pytest.raises(InfrastructureError, match="it exited") as caught:
        start(stack, service)
    log = stack.folder / "logs" / "mlflow.log"
    assert str(log) in str(caught.value.hint) and "no database" in log.read_text()


def test_a_folder_with_data_in_postgresql_is_refused_until_its_server_is_named(stack, monkeypatch):
    monkeypatch.delenv("PREFECT_API_DATABASE_CONNECTION_URL", raising=False)
    monkeypatch.delenv("MLFLOW_BACKEND_STORE_URI", raising=False)
    stack.write({"ports": PORTS, "database": "sqlite"})
    stack.check_database()
    stack.write({"ports": PORTS, "database": "postgresql"})
    with pytest.raises(ConfigError, match="no longer starts") as caught:
        stack.check_database()
    assert "PREFECT_API_DATABASE_CONNECTION_URL" in str(caught.value.hint)
    monkeypatch.setenv("PREFECT_API_DATABASE_CONNECTION_URL", "postgresql+asyncpg://db/prefect")
    with pytest.raises(ConfigError) as caught:
        stack.check_database()  # MLflow would begin with an empty database
    assert " in MLFLOW_BACKEND_STORE_URI;" in str(caught.value.hint)
    monkeypatch.setenv("MLFLOW_BACKEND_STORE_URI", "postgresql+psycopg://db/mlflow")
    stack.check_database()
    (prefect, *_) = services(stack, PORTS, "/runs")
    address = prefect.environment["PREFECT_API_DATABASE_CONNECTION_URL"]
    assert address == "postgresql+asyncpg://db/prefect"


def test_an_address_that_no_mail_goes_to_is_refused():
    with pytest.raises(ConfigError, match="Apprise") as caught:
        relay.recipients("mail://me:hidden@somewhere")
    assert "hidden" not in str(caught.value)
