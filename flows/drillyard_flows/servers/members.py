"""What runs in the house: each with its command, its environment, and how one sees that it is up.

All listen on loopback only and ask for a password. Databases are SQLite in the folder; PostgreSQL
is used where ``PREFECT_API_DATABASE_CONNECTION_URL`` and ``MLFLOW_BACKEND_STORE_URI`` name one.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from drillyard_flows import settings
from drillyard_flows.servers.house import USER, House

POOL = "drillyard-local"
BEAT_S = "30"
"""Seconds between two heartbeats of a flow run; the least that Prefect takes."""


@dataclass(frozen=True)
class Member:
    """A process of the house.

    Attributes:
        name: Of its entry and its log.
        command: Program and arguments; no secret stands in them.
        environment: Instead of the caller's.
        health: URL that answers when it is up; None: that it lives is all there is to see.
    """

    name: str
    command: list[str]
    environment: Mapping[str, str] = field(repr=False)
    health: str | None = None


def variables(house: House, prefect: int, mlflow: int) -> dict[str, str]:
    """What a process needs to use the servers."""
    passwords = house.passwords()
    return {
        "PREFECT_API_URL": f"http://127.0.0.1:{prefect}/api",
        "PREFECT_API_AUTH_STRING": f"{USER}:{passwords['prefect']}",
        "PREFECT_FLOWS_HEARTBEAT_FREQUENCY": BEAT_S,
        "MLFLOW_TRACKING_URI": f"http://127.0.0.1:{mlflow}",
        "MLFLOW_TRACKING_USERNAME": USER,
        "MLFLOW_TRACKING_PASSWORD": passwords["mlflow"],
    }


def members(house: House, prefect: int, mlflow: int, store: str) -> list[Member]:
    """In the order in which they need each other.

    Args:
        house: Where their data is.
        prefect: Port of Prefect's server.
        mlflow: Port of MLflow's server.
        store: Where the worker's flow runs keep results.
    """
    python = [sys.executable, "-m"]
    outside = {
        k: v for k, v in os.environ.items()
        if not k.startswith(("PREFECT_", "MLFLOW_")) or k == "PREFECT_API_DATABASE_CONNECTION_URL"
    }  # fmt: skip
    used = variables(house, prefect, mlflow)
    worker = {
        **outside, **settings.QUIET, **used,
        "PREFECT_HOME": str(house.folder / "prefect"),
        "PREFECT_WORKER_QUERY_SECONDS": "2",
        "DRILLYARD_STORE": store,
    }  # fmt: skip
    return [
        Member("prefect", [*python, "prefect", "server", "start", "--host", "127.0.0.1",
                           "--port", str(prefect)],
               _prefect(house, prefect, outside), f"http://127.0.0.1:{prefect}/api/health"),
        Member("mlflow", [*python, "mlflow", "server", "--host", "127.0.0.1", "--port",
                          str(mlflow), "--app-name", "basic-auth", "--workers", "1",
                          "--artifacts-destination", str(house.folder / "artifacts")],
               _mlflow(house, outside), f"http://127.0.0.1:{mlflow}/health"),
        Member("worker", [*python, "prefect", "worker", "start", "--pool", POOL,
                          "--type", "process", "--name", f"{USER}-{os.uname().nodename}"],
               worker),
    ]  # fmt: skip


def _prefect(house: House, port: int, outside: Mapping[str, str]) -> dict[str, str]:
    passwords = house.passwords()
    url = f"http://127.0.0.1:{port}"
    return {
        **outside, **settings.QUIET,
        "PREFECT_HOME": str(house.folder / "prefect"),
        "PREFECT_PROFILES_PATH": str(house.folder / "prefect" / "profiles.toml"),
        "PREFECT_SERVER_API_AUTH_STRING": f"{USER}:{passwords['prefect']}",
        "PREFECT_API_AUTH_STRING": f"{USER}:{passwords['prefect']}",
        "PREFECT_SERVER_ENCRYPTION_KEY": passwords["encryption"],
        # Without these the pages ask port 4200, whatever the port is, and links lead nowhere.
        "PREFECT_UI_URL": url,
        "PREFECT_SERVER_UI_API_URL": f"{url}/api",
        "PREFECT_SERVER_CORS_ALLOWED_ORIGINS": url,
        "PREFECT_SERVER_LOGGING_LEVEL": "WARNING",
    }  # fmt: skip


def _mlflow(house: House, outside: Mapping[str, str]) -> dict[str, str]:
    passwords = house.passwords()
    config = house.folder / "mlflow" / "auth.ini"
    config.write_text(
        "[mlflow]\n"
        "default_permission = NO_PERMISSIONS\n"
        f"database_uri = sqlite:///{house.folder / 'mlflow' / 'users.db'}\n"
        f"admin_username = {USER}\n"
        "authorization_function = mlflow.server.auth:authenticate_request_basic_auth\n",
        encoding="utf-8",
    )
    store = os.environ.get("MLFLOW_BACKEND_STORE_URI")
    return {
        **outside,
        "MLFLOW_BACKEND_STORE_URI": store or f"sqlite:///{house.folder / 'mlflow' / 'mlflow.db'}",
        "MLFLOW_AUTH_CONFIG_PATH": str(config),
        "MLFLOW_AUTH_ADMIN_PASSWORD": passwords["mlflow"],
        "MLFLOW_FLASK_SERVER_SECRET_KEY": passwords["flask"],
        "DO_NOT_TRACK": "1",
        "MLFLOW_DISABLE_TELEMETRY": "true",
    }


def log_of(house: House, name: str) -> Path:
    """Where a member's output goes."""
    return house.folder / "logs" / f"{name}.log"
