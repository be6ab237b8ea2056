"""What runs in the house: database, Prefect's server, MLflow's, a relay for mail, a worker.

All listen on loopback only and ask for a password. Databases are SQLite in the folder, or a
PostgreSQL of the house; where ``PREFECT_API_DATABASE_CONNECTION_URL`` or
``MLFLOW_BACKEND_STORE_URI`` name another one, that is used.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from functools import partial

from drillyard.checks.servers import reach
from drillyard_flows import settings
from drillyard_flows.local_stack import postgresql, relay
from drillyard_flows.local_stack.service import Member
from drillyard_flows.local_stack.stack import USER, LocalStack
from drillyard_flows.local_stack.worker_health import Worker, without_proxy

PYTHON = (sys.executable, "-m")
POOL = "drillyard-local"
BEAT_S = "30"
"""Seconds between two heartbeats of a flow run; the least that Prefect takes."""


def variables(house: LocalStack, ports: Mapping[str, int]) -> dict[str, str]:
    """What a process needs to use the servers.

    Args:
        house: Where their passwords are.
        ports: Member -> its port.
    """
    passwords = house.passwords()
    found = {
        "PREFECT_API_URL": f"http://127.0.0.1:{ports['prefect']}/api",
        "PREFECT_API_AUTH_STRING": f"{USER}:{passwords['prefect']}",
        "PREFECT_FLOWS_HEARTBEAT_FREQUENCY": BEAT_S,
        "MLFLOW_TRACKING_URI": f"http://127.0.0.1:{ports['mlflow']}",
        "MLFLOW_TRACKING_USERNAME": USER,
        "MLFLOW_TRACKING_PASSWORD": passwords["mlflow"],
        **without_proxy(),
    }
    if "relay" in ports:
        found["DRILLYARD_ALERTS"] = f"http://127.0.0.1:{ports['relay']}/{passwords['relay']}"
    return found


def members(house: LocalStack, ports: Mapping[str, int], store: str) -> list[Member]:
    """In the order in which they need each other.

    Args:
        house: Where their data is.
        ports: Member -> its port; ``relay`` and ``postgresql`` run where they have one.
        store: Where the worker's flow runs keep results.

    Raises:
        ConfigError: One of them cannot run here.
    """
    outside = {
        k: v
        for k, v in os.environ.items()
        if not k.startswith(("PREFECT_", "MLFLOW_")) or k == "PREFECT_API_DATABASE_CONNECTION_URL"
    } | without_proxy()
    found = []
    if "postgresql" in ports:
        found.append(postgresql.member(house, ports["postgresql"], outside))
    found += [_prefect(house, ports, outside), _mlflow(house, ports, outside)]
    if "relay" in ports:
        found.append(_relay(house, ports["relay"], outside))
    return [*found, _worker(house, ports, outside, store)]


def _worker(
    house: LocalStack, ports: Mapping[str, int], outside: Mapping[str, str], store: str
) -> Member:
    environment = {
        **outside,
        **settings.QUIET,
        **settings.LOGGED,
        **variables(house, ports),
        "PREFECT_HOME": str(house.folder / "prefect"),
        "PREFECT_WORKER_QUERY_SECONDS": "2",
        "DRILLYARD_STORE": store,
    }
    name = f"{USER}-{os.uname().nodename}"
    seen = Worker(
        environment["PREFECT_API_URL"], environment["PREFECT_API_AUTH_STRING"], POOL, name
    )
    return Member(
        "worker",
        [
            *PYTHON,
            "prefect",
            "worker",
            "start",
            "--pool",
            POOL,
            "--type",
            "process",
            "--name",
            name,
        ],
        environment,
        seen.missing,
        seen.begin,
    )


def _prefect(house: LocalStack, ports: Mapping[str, int], outside: Mapping[str, str]) -> Member:
    passwords = house.passwords()
    url = f"http://127.0.0.1:{ports['prefect']}"
    environment = {
        **outside,
        **settings.QUIET,
        **settings.LOGGED,
        "PREFECT_HOME": str(house.folder / "prefect"),
        "PREFECT_PROFILES_PATH": str(house.folder / "prefect" / "profiles.toml"),
        "PREFECT_SERVER_API_AUTH_STRING": f"{USER}:{passwords['prefect']}",
        "PREFECT_API_AUTH_STRING": f"{USER}:{passwords['prefect']}",
        "PREFECT_SERVER_ENCRYPTION_KEY": passwords["encryption"],
        # Without these the pages ask port 4200, whatever the port is, and links lead nowhere.
        "PREFECT_UI_URL": url,
        "PREFECT_SERVER_UI_API_URL": f"{url}/api",
        "PREFECT_SERVER_CORS_ALLOWED_ORIGINS": url,
    }
    if "postgresql" in ports:
        own = postgresql.url(house, ports["postgresql"], "prefect", "asyncpg")
        environment.setdefault("PREFECT_API_DATABASE_CONNECTION_URL", own)
    return Member(
        "prefect",
        [
            *PYTHON,
            "prefect",
            "server",
            "start",
            "--host",
            "127.0.0.1",
            "--port",
            str(ports["prefect"]),
        ],
        environment,
        partial(reach, f"{url}/api/health"),
    )


def _mlflow(house: LocalStack, ports: Mapping[str, int], outside: Mapping[str, str]) -> Member:
    passwords = house.passwords()
    config = house.folder / "mlflow" / "auth.ini"
    own = f"sqlite:///{house.folder / 'mlflow' / 'mlflow.db'}"
    if "postgresql" in ports:
        own = postgresql.url(house, ports["postgresql"], "mlflow", "psycopg")

    def configure() -> None:
        config.write_text(
            "[mlflow]\n"
            "default_permission = NO_PERMISSIONS\n"
            f"database_uri = sqlite:///{house.folder / 'mlflow' / 'users.db'}\n"
            f"admin_username = {USER}\n"
            "authorization_function = mlflow.server.auth:authenticate_request_basic_auth\n",
            encoding="utf-8",
        )

    environment = {
        **outside,
        "MLFLOW_BACKEND_STORE_URI": os.environ.get("MLFLOW_BACKEND_STORE_URI") or own,
        "MLFLOW_AUTH_CONFIG_PATH": str(config),
        "MLFLOW_AUTH_ADMIN_PASSWORD": passwords["mlflow"],
        "MLFLOW_FLASK_SERVER_SECRET_KEY": passwords["flask"],
        "DO_NOT_TRACK": "1",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        # Its queue for judging language models: eight processes of 250 MB that nothing here uses.
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
    }
    return Member(
        "mlflow",
        [
            *PYTHON,
            "mlflow",
            "server",
            "--host",
            "127.0.0.1",
            "--port",
            str(ports["mlflow"]),
            "--app-name",
            "basic-auth",
            "--workers",
            "1",
            "--artifacts-destination",
            str(house.folder / "artifacts"),
        ],
        environment,
        partial(reach, f"http://127.0.0.1:{ports['mlflow']}/health"),
        configure,
    )


def _relay(house: LocalStack, port: int, outside: Mapping[str, str]) -> Member:
    secret = {relay.TO: house.mail() or "", relay.TOKEN: house.passwords()["relay"]}
    return Member(
        "relay",
        [*PYTHON, "drillyard_flows.local_stack.relay", str(port)],
        {**outside, **secret},
        partial(reach, f"http://127.0.0.1:{port}/health"),
    )
