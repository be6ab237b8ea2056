"""Checks of the Prefect and MLflow servers: reachable, protected, and accepting our credentials.

The checks use plain HTTP, so that no client library has to be imported.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import ssl
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as installed
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from drillyard.findings import Finding, Severity, passed, problem, warning
from drillyard.system.durations import duration
from drillyard.system.prefect_settings import configured
from drillyard.system.proxies import NoRedirect
from drillyard.system.redaction import redact

if TYPE_CHECKING:
    from drillyard.documents.json_types import JsonObject

_TIMEOUT_S = 1.5
SERVER_TIMEOUT_S = 10.0
"""Seconds for an answer. On a busy machine, checking a password takes seconds."""
_MLFLOW_FLOOR = (3, 9)
"""Older servers have known security holes (file read, upload without authorisation)."""
_LOOPBACK = ("localhost", "127.0.0.1", "::1")
_SKEW_S = 60.0
"""Schedules and alerts use the server's clock, times of results use this machine's."""


@dataclass(frozen=True)
class Answer:
    """The answer of a server.

    Attributes:
        text: The beginning of its body.
        at: The server's clock, in seconds since the epoch; None if the answer has no date.
    """

    text: str
    at: float | None


def prefect(url: str) -> Iterator[Finding]:
    """Checks a Prefect server: reachable, protected, accepting our credentials, version, clock.

    Args:
        url: Address of its API.
    """
    address, api = redact(url), url.rstrip("/")
    unreachable = reach(f"{api}/health")
    if unreachable is not None:
        yield problem(
            "prefect api",
            f"{address} cannot be reached: {unreachable}",
            "start that server, or unset PREFECT_API_URL",
        )
        return
    open_ = unguarded(url)
    if open_ is not None:
        yield open_
        return
    try:
        answer = let_in(url)
    except urllib.error.HTTPError as error:
        closed = error.code in (401, 403)
        yield problem(
            "prefect api",
            f"{address} rejected our credentials ({error.code})"
            if closed
            else f"{address} is not a Prefect API ({error.code})",
            "set PREFECT_API_AUTH_STRING to user:password, or PREFECT_API_KEY to the key that "
            "the server wants; for `up`: source its env.sh"
            if closed
            else "use an address that ends in /api, or the one that `prefect cloud login` writes",
        )
        return
    except OSError as error:
        reason = getattr(error, "reason", None) or error
        yield problem("prefect api", f"{address}: {reason}", "look at its log")
        return
    if in_cloud(url):
        yield passed("prefect api", f"{address} answers (Prefect Cloud)")
    else:
        yield from _fits(address, answer)


def let_in(url: str) -> Answer:
    """Asks a Prefect server for what only a login gets; a server of one's own: its version.

    Prefect Cloud has no version: Prefect's client does not ask for it either.

    Args:
        url: Address of its API.

    Raises:
        OSError: It does not answer, or refuses.
    """
    api, login = url.rstrip("/"), prefect_login()
    if not in_cloud(url):
        return ask(f"{api}/admin/version", login, SERVER_TIMEOUT_S)
    headers = {"Content-Type": "application/json", **login}
    return ask(f"{api}/flows/filter", headers, SERVER_TIMEOUT_S, data=b'{"limit": 1}')


def in_cloud(url: str) -> bool:
    """Returns whether an API is Prefect Cloud's, as Prefect's client decides it.

    Args:
        url: Address of the API.
    """
    cloud = configured("PREFECT_CLOUD_API_URL") or "https://api.prefect.cloud/api"
    return url.startswith(cloud)


def unguarded(url: str) -> Finding | None:
    """Returns the problem of a Prefect server that is open to the whole network.

    Args:
        url: Address of its API.

    Returns:
        None if it is on this machine, requires a password, or does not answer.
    """
    if (urlsplit(url).hostname or "") in _LOOPBACK:
        return None
    # Its health is public; its settings must not be.
    if not answers_strangers(f"{url.rstrip('/')}/admin/version"):
        return None
    return problem(
        "prefect api",
        f"{redact(url)} answers without a password and is not on this machine",
        # Written as an assignment, it would be taken for a secret and masked.
        "start it with user:password in PREFECT_SERVER_API_AUTH_STRING, behind a proxy with TLS",
    )


def _fits(address: str, answer: Answer) -> Iterator[Finding]:
    version = answer.text.strip().strip('"')
    try:
        ours = installed("prefect")
    except PackageNotFoundError:
        ours = version
    if version.split(".")[:2] != ours.split(".")[:2]:
        yield warning(
            "prefect api",
            f"{address} has version {version}, this machine has {ours}",
            "use the same version on both; the server must not be older",
        )
    if answer.at is not None and abs(answer.at - time.time()) > _SKEW_S:
        yield warning(
            "prefect api",
            f"its clock and this machine's are {duration(abs(answer.at - time.time()))} apart",
            "synchronise both clocks over the network",
        )
    yield passed("prefect api", f"{address} answers (Prefect {version})")


def mlflow(uri: str, *, offline_ok: bool = False) -> Iterator[Finding]:
    """Checks an MLflow server.

    Args:
        uri: Its address.
        offline_ok: Accept a server that cannot be reached.
    """
    host = urlsplit(uri).hostname or ""
    address = redact(uri)
    try:
        version = ask(f"{uri.rstrip('/')}/version", _login(), SERVER_TIMEOUT_S).text
    except OSError as error:
        reason = getattr(error, "reason", None) or error
        yield Finding(
            Severity.WARNING if offline_ok else Severity.ERROR,
            "tracking.mlflow",
            f"{address} cannot be reached: {reason}"
            + ("; `drillyard sync` can send the points later" if offline_ok else ""),
            None
            if offline_ok
            else "start the server; or continue with --offline-ok and send the "
            "points later with `drillyard sync`",
            infrastructure=True,
        )
        return
    numbers = tuple(int(p) for p in version.strip().split(".")[:2] if p.isdigit())
    if numbers and numbers < _MLFLOW_FLOOR:
        yield problem(
            "tracking.mlflow",
            f"{address} runs MLflow {version.strip()}, which has known security holes",
            f"update it to at least {'.'.join(map(str, _MLFLOW_FLOOR))}",
        )
        return
    if host not in _LOOPBACK and answers_strangers(
        f"{uri.rstrip('/')}/api/2.0/mlflow/experiments/search?max_results=1"
    ):
        yield problem(
            "tracking.mlflow",
            f"{address} answers without a password and is not on this machine",
            "start it with --app-name basic-auth, or reach it through a tunnel to 127.0.0.1",
        )
        return
    yield passed("tracking.mlflow", f"{address} answers (MLflow {version.strip()})")


def wandb() -> Iterator[Finding]:
    """Checks what W&B's client needs here, without its server and without importing it."""
    from drillyard.system.optional_packages import install, missing

    field = "tracking.wandb"
    if lacking := missing("wandb"):
        yield problem(
            field, f"needs packages that are not installed: {', '.join(lacking)}", install("wandb")
        )
        return
    if os.environ.get("WANDB_MODE") in ("offline", "dryrun"):
        yield passed(field, "offline: `wandb sync` sends the runs later")
        return
    host = urlsplit(os.environ.get("WANDB_BASE_URL") or "https://api.wandb.ai").hostname or ""
    given = any(os.environ.get(n) for n in ("WANDB_API_KEY", "WANDB_IDENTITY_TOKEN_FILE"))
    if given or _in_netrc(host):
        yield passed(field, f"there is a key for {host}")
        return
    yield warning(
        field,
        f"no key for {host} was found, so it may not receive anything",
        "`wandb login`, or set WANDB_API_KEY; WANDB_MODE=offline needs neither",
    )


def _in_netrc(host: str) -> bool:
    """Where `wandb login` writes its key."""
    import netrc

    for path in (os.environ.get("NETRC"), "~/.netrc", "~/_netrc"):
        try:
            if path and netrc.netrc(os.path.expanduser(path)).authenticators(host):
                return True
        except (OSError, netrc.NetrcParseError):
            continue
    return False


def workspace_mlflow(uri: str, *, offline_ok: bool = False) -> Iterator[Finding]:
    """Checks the MLflow of an Azure ML workspace.

    Args:
        uri: Its address.
        offline_ok: Accept a workspace that cannot be reached.
    """
    from drillyard.errors import DrillyardError, InfrastructureError
    from drillyard.tracking.environment import bounded_http
    from drillyard.tracking.server import Server

    try:
        with bounded_http(SERVER_TIMEOUT_S):
            Server(uri).look()
    except DrillyardError as error:
        away = isinstance(error, InfrastructureError)
        yield Finding(
            Severity.WARNING if away and offline_ok else Severity.ERROR,
            "tracking.mlflow",
            f"{uri}: {error.message}",
            error.hint,
            infrastructure=away,
        )
    else:
        yield passed("tracking.mlflow", f"{uri} answers")


def _login() -> dict[str, str]:
    """Returns the login header that MLflow's client would take from the environment."""
    token = os.environ.get("MLFLOW_TRACKING_TOKEN")
    if token:
        return {"Authorization": f"Bearer {token}"}
    user = os.environ.get("MLFLOW_TRACKING_USERNAME")
    if not user:
        return {}
    return basic(f"{user}:{os.environ.get('MLFLOW_TRACKING_PASSWORD', '')}")


def prefect_login() -> dict[str, str]:
    """Returns the headers with which Prefect's client is let in: its login, and a proxy's."""
    names = ("API_KEY", "API_AUTH_STRING", "CLIENT_CUSTOM_HEADERS")
    key, pair, more = (configured(f"PREFECT_{name}") for name in names)
    login = {"Authorization": f"Bearer {key}"} if key else basic(pair) if pair else {}
    with contextlib.suppress(ValueError, TypeError):  # Prefect's client says what is wrong
        login |= {str(name): str(value) for name, value in dict(json.loads(more or "{}")).items()}
    return login


def basic(pair: str) -> dict[str, str]:
    """Returns the login header for ``user:password``."""
    return {"Authorization": f"Basic {base64.b64encode(pair.encode()).decode()}"}


def answers_strangers(url: str) -> bool:
    """Returns whether a URL that needs a login is answered without one."""
    try:
        ask(url)
    except (OSError, ValueError):
        return False
    return True


def ask(
    url: str,
    headers: Mapping[str, str] | None = None,
    timeout_s: float = _TIMEOUT_S,
    *,
    data: bytes | None = None,
    most_bytes: int = 4096,
) -> Answer:
    """Requests a URL. Redirects are not followed, so that no server can redirect us elsewhere.

    Args:
        url: ``http://`` or ``https://``.
        headers: Headers of the request.
        timeout_s: Limit of each wait in seconds.
        data: Body of a POST request; None: a GET request.
        most_bytes: Most bytes of the answer's body to read.

    Raises:
        OSError: There is no answer, or it is an error.
    """
    opener = urllib.request.build_opener(NoRedirect, trusting())
    request = urllib.request.Request(url, data, dict(headers or {}))
    with opener.open(request, timeout=timeout_s) as answer:
        body: bytes = answer.read(most_bytes)
        stamp = answer.headers.get("Date")
    at = parsedate_to_datetime(stamp).timestamp() if stamp else None
    return Answer(body.decode(errors="replace"), at)


def trusting() -> urllib.request.HTTPSHandler:
    """Returns TLS that also trusts PREFECT_API_SSL_CERT_FILE, as Prefect's client does."""
    context = ssl.create_default_context()
    authority = os.environ.get("PREFECT_API_SSL_CERT_FILE")
    if authority:
        with contextlib.suppress(OSError):  # Prefect's client says what is wrong with the file
            context.load_verify_locations(authority)
    return urllib.request.HTTPSHandler(context=context)


def csrf_headers(api: str, login: Mapping[str, str] | None = None) -> dict[str, str]:
    """Returns the headers with which a Prefect server takes a POST request.

    Source: ``prefect/server/api/middleware.py`` and ``csrf_token.py`` of Prefect 3.8.

    Args:
        api: Its API; it accepts our credentials.
        login: Header with them; default: those of the environment.

    Returns:
        Empty if the server does not ask for a token, as Prefect Cloud.

    Raises:
        OSError: It does not answer, or refuses.
    """
    if in_cloud(api):
        return {}
    client = str(uuid.uuid4())
    url = f"{api.rstrip('/')}/csrf-token?client={client}"
    try:
        answer = ask(url, prefect_login() if login is None else login, SERVER_TIMEOUT_S)
    except urllib.error.HTTPError as error:
        if error.code in (404, 422):  # an older server; the protection is off
            return {}
        raise
    token = str(json.loads(answer.text)["token"])
    return {"Prefect-Csrf-Token": token, "Prefect-Csrf-Client": client}


def reach(url: str) -> str | None:
    """Returns why a URL does not answer, or None if it does (an HTTP error is an answer).

    Args:
        url: ``http://`` or ``https://``.
    """
    try:
        ask(url)
    except urllib.error.HTTPError as error:
        return f"it answered {error.code}" if error.code >= 500 else None
    except (OSError, ValueError) as error:
        return str(getattr(error, "reason", None) or error)
    return None


SETTLED_S = 180.0
"""Seconds after which the scheduler, which works once a minute, must have seen a schedule."""
_MOST_BYTES = 1 << 24
_PAGE = 200


def planned(url: str, *, settled_s: float = SETTLED_S) -> Iterator[Finding]:
    """Returns the problems of a server's schedules; none if all of them have planned runs.

    The scheduler is a service beside the API. If it fails, the API still answers but no flow run
    starts. A healthy scheduler plans a new schedule within a minute, several runs ahead.

    Args:
        url: API of a server that accepts our credentials.
        settled_s: Ignore schedules that are younger than this, in seconds.
    """
    try:
        idle = sorted(_idle(url.rstrip("/"), settled_s))
    except OSError as error:
        yield warning(
            "prefect schedules",
            f"cannot be read: {error}",
            "look at the server's log, then try again",
        )
        return
    if idle:
        yield problem(
            "prefect schedules",
            f"are active, but the server plans no run of {', '.join(idle)}",
            "its scheduler does not work; look at the server's log (for `up`: logs/prefect.log)",
        )


def _idle(api: str, settled_s: float) -> Iterator[str]:
    """Yields the deployments whose schedule is active, and which have no planned run."""
    headers = {"Content-Type": "application/json", **prefect_login(), **csrf_headers(api)}

    def post(path: str, body: JsonObject) -> tuple[Any, float]:
        data = json.dumps(body).encode()
        answer = ask(api + path, headers, SERVER_TIMEOUT_S, data=data, most_bytes=_MOST_BYTES)
        return json.loads(answer.text), answer.at or time.time()

    active: JsonObject = {"deployments": {"paused": {"eq_": False}}, "limit": _PAGE}
    deployments, now = post("/deployments/filter", active)
    for deployment in deployments:
        if not any(_endless(s, now - settled_s) for s in deployment["schedules"]):
            continue
        runs: JsonObject = {
            "deployment_id": {"any_": [deployment["id"]]},
            "state": {"type": {"any_": ["SCHEDULED"]}},
            "expected_start_time": {"after_": datetime.fromtimestamp(now, UTC).isoformat()},
        }
        ahead, _ = post("/flow_runs/count", {"flow_runs": runs})
        if not ahead:
            flow = str(deployment.get("entrypoint") or "").rpartition(":")[2]
            yield f"{flow}/{deployment['name']}".lstrip("/")


def _endless(schedule: Mapping[str, Any], before: float) -> bool:
    """Returns whether a schedule is active since before a time, and has no end."""
    kind = schedule["schedule"]
    return (
        bool(schedule["active"])
        and ("cron" in kind or "interval" in kind)
        and not schedule.get("max_scheduled_runs")
        and datetime.fromisoformat(schedule["updated"]).timestamp() < before
    )
