"""What drillyard asks of Prefect: its home, its server's address, and that it be quiet.

Prefect reads its settings from the environment when it is imported, so these functions are called
before ``import prefect``.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping
from pathlib import Path

from drillyard.system.home import local_home

QUIET: dict[str, str] = {
    # DO_NOT_TRACK alone still looks up a telemetry host; both are needed (measured, 3.9.1).
    "DO_NOT_TRACK": "1",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    # "Ready to scale? Upgrade" on every page is of no use to anybody here.
    "PREFECT_SERVER_UI_SHOW_PROMOTIONAL_CONTENT": "false",
    "PREFECT_CLI_COLORS": "false",
    # A log line that is too long, or an API that is gone, is not worth a traceback.
    "PREFECT_LOGGING_TO_API_WHEN_MISSING_FLOW": "ignore",
    "PREFECT_LOGGING_TO_API_BATCH_INTERVAL": "0.5",
}

SILENT: dict[str, str] = {
    # Runs still send INFO to the API; only the console, where a person reads our own lines, is
    # silent.
    "PREFECT_SERVER_LOGGING_LEVEL": "CRITICAL",
    "PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL": "CRITICAL",
    "PREFECT_LOGGING_INTERNAL_LEVEL": "CRITICAL",
}
"""Of a command."""

LOGGED: dict[str, str] = {
    # Whatever one of its services fails at is said nowhere else: their errors go to the root
    # logger, and so to the console.
    "PREFECT_SERVER_LOGGING_LEVEL": "WARNING",
    "PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL": "WARNING",
    "PREFECT_LOGGING_INTERNAL_LEVEL": "ERROR",
}
"""Of a server or a worker, whose console is a log file."""

CLIENT: dict[str, str] = {
    "PREFECT_RESULTS_DEFAULT_SERIALIZER": "json",
    # An API that is gone must not hold results back for minutes.
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
"""Nothing that one command does on one machine needs these. Events and task runs need theirs."""


def home() -> Path:
    """Where the embedded server keeps its database: PREFECT_HOME, or a folder of ours."""
    given = os.environ.get("PREFECT_HOME")
    return Path(given) if given else local_home() / "prefect"


def configured_api(environ: Mapping[str, str] | None = None) -> str | None:
    """The API that the user told Prefect to use, or None.

    Args:
        environ: Instead of the process's own.
    """
    return configured("PREFECT_API_URL", environ)


def configured(name: str, environ: Mapping[str, str] | None = None) -> str | None:
    """A setting of Prefect's that the user has made, or None.

    The environment first, then the active profile, exactly as Prefect itself would.

    Args:
        name: As an environment variable.
        environ: Instead of the process's own.
    """
    env = os.environ if environ is None else environ
    if env.get(name):
        return env[name]
    folder = Path(env["PREFECT_HOME"]) if env.get("PREFECT_HOME") else Path.home() / ".prefect"
    path = Path(env.get("PREFECT_PROFILES_PATH") or folder / "profiles.toml")
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, tomllib.TOMLDecodeError):
        return None
    active = env.get("PREFECT_PROFILE") or data.get("active")
    found = data.get("profiles", {}).get(active, {}).get(name)
    return str(found) if found else None


def quiet_environment() -> dict[str, str]:
    """Settings that keep Prefect's console, banners and telemetry silent; the user's own win."""
    wanted = {**QUIET, **SILENT, **CLIENT}
    return {key: os.environ.get(key, value) for key, value in wanted.items()}


def server_environment(folder: Path, port: int) -> dict[str, str]:
    """The environment of the embedded server.

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
    """Point this process, which has not imported Prefect yet, at an API.

    Args:
        url: ``http://host:port/api``.
        folder: Prefect's home for results, where the server is ours.
    """
    os.environ.update(quiet_environment())
    os.environ["PREFECT_API_URL"] = url
    if folder is not None:
        os.environ["PREFECT_HOME"] = str(folder)
        os.environ["PREFECT_PROFILES_PATH"] = str(folder / "profiles.toml")
