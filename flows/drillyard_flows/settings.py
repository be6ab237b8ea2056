"""Drillyard's settings for Prefect: its home, its server's address, and quiet logging.

Prefect reads its settings from the environment when it is imported, so these functions are called
before ``import prefect``.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from drillyard.system.home import local_home
from drillyard.system.prefect_settings import configured

QUIET: dict[str, str] = {
    # DO_NOT_TRACK alone still looks up a telemetry host; both are needed (measured, 3.9.1).
    "DO_NOT_TRACK": "1",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    # Removes "Ready to scale? Upgrade" from every page.
    "PREFECT_SERVER_UI_SHOW_PROMOTIONAL_CONTENT": "false",
    "PREFECT_CLI_COLORS": "false",
    # A log line that is too long, or an unavailable API, must not print a traceback.
    "PREFECT_LOGGING_TO_API_WHEN_MISSING_FLOW": "ignore",
    "PREFECT_LOGGING_TO_API_BATCH_INTERVAL": "0.5",
}

SILENT: dict[str, str] = {
    # Runs still send INFO to the API. Only the console is silent, where drillyard prints.
    "PREFECT_SERVER_LOGGING_LEVEL": "CRITICAL",
    "PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL": "CRITICAL",
    "PREFECT_LOGGING_INTERNAL_LEVEL": "CRITICAL",
}
"""Settings of a command."""

LOGGED: dict[str, str] = {
    # Errors of the server's services go to the root logger only, and so to the console.
    "PREFECT_SERVER_LOGGING_LEVEL": "WARNING",
    "PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL": "WARNING",
    "PREFECT_LOGGING_INTERNAL_LEVEL": "ERROR",
}
"""Settings of a server or a worker, whose console is a log file."""

CLIENT: dict[str, str] = {
    "PREFECT_RESULTS_DEFAULT_SERIALIZER": "json",
    # An unavailable API must not delay results for minutes.
    "PREFECT_API_REQUEST_TIMEOUT": "15",
    "PREFECT_CLIENT_MAX_RETRIES": "3",
}

_SERVICES_OFF = (
    "SCHEDULER",
    "LATE_RUNS",
    "PAUSE_EXPIRATIONS",
    "CANCELLATION_CLEANUP",
    "FOREMAN",
    "TRIGGERS",
)
"""Services of the server that one command on one machine does not need."""


def home() -> Path:
    """Returns the folder of the embedded server's database: PREFECT_HOME, or drillyard's own."""
    folder = os.environ.get("PREFECT_HOME")
    return Path(folder) if folder else local_home() / "prefect"


def configured_api(environ: Mapping[str, str] | None = None) -> str | None:
    """Returns the API that the user configured for Prefect, or None.

    Args:
        environ: Environment to use instead of the process's own.
    """
    return configured("PREFECT_API_URL", environ)


def quiet_environment() -> dict[str, str]:
    """Returns settings that silence Prefect's console, banners and telemetry; the user's win."""
    defaults = {**QUIET, **SILENT, **CLIENT}
    return {key: os.environ.get(key, value) for key, value in defaults.items()}


def server_environment(folder: Path, port: int) -> dict[str, str]:
    """Returns the environment of the embedded server.

    Args:
        folder: Prefect's home.
        port: Loopback port it listens on.
    """
    url = f"http://127.0.0.1:{port}"
    inherited = {k: v for k, v in os.environ.items() if not k.startswith("PREFECT_")}
    chosen = {
        **QUIET,
        **LOGGED,
        **{k: v for k, v in os.environ.items() if k.startswith("PREFECT_")},
        "PREFECT_HOME": str(folder),
        "PREFECT_PROFILES_PATH": str(folder / "profiles.toml"),
        "PREFECT_API_URL": f"{url}/api",
        "PREFECT_UI_URL": url,
        "PREFECT_SERVER_UI_API_URL": f"{url}/api",
        "PREFECT_SERVER_CORS_ALLOWED_ORIGINS": url,
        "PREFECT__SERVER_FINAL": "1",
    }
    for service in _SERVICES_OFF:
        chosen[f"PREFECT_SERVER_SERVICES_{service}_ENABLED"] = "false"
    return {**inherited, **chosen}


def use_api(url: str, *, folder: Path | None = None) -> None:
    """Configures this process, which has not imported Prefect yet, to use an API.

    Args:
        url: ``http://host:port/api``.
        folder: Prefect's home for results, if the server is the embedded one.
    """
    os.environ.update(quiet_environment())
    os.environ["PREFECT_API_URL"] = url
    if folder is not None:
        os.environ["PREFECT_HOME"] = str(folder)
        os.environ["PREFECT_PROFILES_PATH"] = str(folder / "profiles.toml")
