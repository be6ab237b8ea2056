"""The services of a local stack: Prefect server, MLflow server, mail relay, worker.

All listen on loopback only and require a password. The databases are SQLite in the folder, or
those of ``PREFECT_API_DATABASE_CONNECTION_URL`` and ``MLFLOW_BACKEND_STORE_URI``.
"""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Mapping
from functools import partial

from drillyard.checks.servers import reach
from drillyard.system.proxies import without_loopback
from drillyard_flows import settings
from drillyard_flows.local_stack import relay
from drillyard_flows.local_stack.service import Service
from drillyard_flows.local_stack.stack import USER, LocalStack
from drillyard_flows.local_stack.worker_health import WorkerHealth

PYTHON = (sys.executable, "-m")
POOLS = {
    "worker": ("drillyard-local", "process"),
    "renting-worker": ("drillyard-rented", "drillyard"),
}
"""Service -> its work pool, and the type of the pool."""


def variables(stack: LocalStack, ports: Mapping[str, int]) -> dict[str, str]:
    """Returns the environment variables with which a process uses the servers.

    Args:
        stack: The stack that has their passwords.
        ports: Service -> its port.
    """
    passwords = stack.passwords()
    environment = {
        "PREFECT_API_URL": f"http://127.0.0.1:{ports['prefect']}/api",
        "PREFECT_API_AUTH_STRING": f"{USER}:{passwords['prefect']}",
        "MLFLOW_TRACKING_URI": f"http://127.0.0.1:{ports['mlflow']}",
        "MLFLOW_TRACKING_USERNAME": USER,
        "MLFLOW_TRACKING_PASSWORD": passwords["mlflow"],
        **without_loopback(os.environ),
    }
    if "relay" in ports:
        environment["DRILLYARD_ALERTS"] = f"http://127.0.0.1:{ports['relay']}/{passwords['relay']}"
    return environment


def services(stack: LocalStack, ports: Mapping[str, int], store: str) -> list[Service]:
    """Returns the services in the order of their start.

    Args:
        stack: The stack that has their data.
        ports: Service -> its port; ``relay`` runs if it has one.
        store: Store for the results of the worker's flow runs.
    """
    outside = {
        k: v
        for k, v in os.environ.items()
        if not k.startswith(("PREFECT_", "MLFLOW_")) or k == "PREFECT_API_DATABASE_CONNECTION_URL"
    } | without_loopback(os.environ)
    result = [_prefect(stack, ports, outside), _mlflow(stack, ports, outside)]
    if "relay" in ports:
        result.append(_relay(stack, ports["relay"], outside))
    return [*result, *(_worker(name, stack, ports, outside, store) for name in POOLS)]


def _worker(
    service: str,
    stack: LocalStack,
    ports: Mapping[str, int],
    outside: Mapping[str, str],
    store: str,
) -> Service:
    pool, kind = POOLS[service]
    environment = {
        **outside,
        **settings.QUIET,
        **settings.LOGGED,
        **variables(stack, ports),
        "PREFECT_HOME": str(stack.folder / "prefect"),
        "PREFECT_WORKER_QUERY_SECONDS": "2",
        "DRILLYARD_STORE": store,
    }
    name = f"{USER}-{platform.node()}"
    health = WorkerHealth(
        environment["PREFECT_API_URL"], environment["PREFECT_API_AUTH_STRING"], pool, name
    )
    return Service(
        service,
        [*PYTHON, *f"prefect worker start --pool {pool} --type {kind} --name".split(), name],
        environment,
        health.missing,
        health.begin,
    )


def _prefect(stack: LocalStack, ports: Mapping[str, int], outside: Mapping[str, str]) -> Service:
    passwords = stack.passwords()
    url = f"http://127.0.0.1:{ports['prefect']}"
    environment = {
        **outside,
        **settings.QUIET,
        **settings.LOGGED,
        "PREFECT_HOME": str(stack.folder / "prefect"),
        "PREFECT_PROFILES_PATH": str(stack.folder / "prefect" / "profiles.toml"),
        "PREFECT_SERVER_API_AUTH_STRING": f"{USER}:{passwords['prefect']}",
        "PREFECT_API_AUTH_STRING": f"{USER}:{passwords['prefect']}",
        "PREFECT_SERVER_ENCRYPTION_KEY": passwords["encryption"],
        # Without these, the pages call port 4200 whatever the port is, and links are broken.
        "PREFECT_UI_URL": url,
        "PREFECT_SERVER_UI_API_URL": f"{url}/api",
        "PREFECT_SERVER_CORS_ALLOWED_ORIGINS": url,
    }
    return Service(
        "prefect",
        [*PYTHON, *f"prefect server start --host 127.0.0.1 --port {ports['prefect']}".split()],
        environment,
        partial(reach, f"{url}/api/health"),
    )


def _mlflow(stack: LocalStack, ports: Mapping[str, int], outside: Mapping[str, str]) -> Service:
    passwords = stack.passwords()
    config = stack.folder / "mlflow" / "auth.ini"
    database = f"sqlite:///{stack.folder / 'mlflow' / 'mlflow.db'}"

    def configure() -> None:
        config.write_text(
            "[mlflow]\n"
            "default_permission = NO_PERMISSIONS\n"
            f"database_uri = sqlite:///{stack.folder / 'mlflow' / 'users.db'}\n"
            f"admin_username = {USER}\n"
            "authorization_function = mlflow.server.auth:authenticate_request_basic_auth\n",
            encoding="utf-8",
        )

    environment = {
        **outside,
        "MLFLOW_BACKEND_STORE_URI": os.environ.get("MLFLOW_BACKEND_STORE_URI") or database,
        "MLFLOW_AUTH_CONFIG_PATH": str(config),
        "MLFLOW_AUTH_ADMIN_PASSWORD": passwords["mlflow"],
        "MLFLOW_FLASK_SERVER_SECRET_KEY": passwords["flask"],
        "DO_NOT_TRACK": "1",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        # The queue for judging language models: eight unused processes of 250 MB.
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
    }
    return Service(
        "mlflow",
        [
            *PYTHON,
            *f"mlflow server --host 127.0.0.1 --port {ports['mlflow']}".split(),
            *["--app-name", "basic-auth", "--workers", "1", "--artifacts-destination"],
            str(stack.folder / "artifacts"),
        ],
        environment,
        partial(reach, f"http://127.0.0.1:{ports['mlflow']}/health"),
        configure,
    )


def _relay(stack: LocalStack, port: int, outside: Mapping[str, str]) -> Service:
    secret = {relay.TO: stack.mail() or "", relay.TOKEN: stack.passwords()["relay"]}
    return Service(
        "relay",
        [*PYTHON, "drillyard_flows.local_stack.relay", str(port)],
        {**outside, **secret},
        partial(reach, f"http://127.0.0.1:{port}/health"),
    )
