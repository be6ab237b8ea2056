"""What `doctor` says of a Prefect server: password, version, clock, wrong address."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version

import pytest

from drillyard.checks import doctor, servers
from drillyard.errors import ConfigError, ControlPlaneError
from drillyard.findings import Severity
from drillyard_flows.prefect_api import guarded, let_in
from drillyard_flows.server import Server
from tests.helpers.answering import Request, answering
from tests.helpers.processes import run_process
from tests.helpers.tls_proxy import proxied

OURS = version("prefect")


@contextmanager
def prefect(said: str, password: str = "", at: float | None = None) -> Iterator[str]:
    """The two addresses that are asked; everything else is not there."""

    def answer(request: Request) -> tuple[int, bytes]:
        known = request.path in ("/api/health", "/api/admin/version")
        given = request.headers.get("Authorization", "")
        right = servers.basic(password)["Authorization"] if password else ""
        closed = right and request.path != "/api/health" and given != right
        return 401 if closed else 200 if known else 404, said.encode()

    with answering(answer, at) as url:
        yield f"{url}/api"


def said(url: str) -> list[tuple[Severity, str]]:
    return [(found.severity, found.message) for found in servers.prefect(url)]


@pytest.mark.heavy
def test_one_that_fits_is_well():
    with prefect(f'"{OURS}"') as url:
        ((severity, text),) = said(url)
    assert severity is Severity.OK and OURS in text


@pytest.mark.heavy
def test_a_wrong_password_and_none_are_told(monkeypatch):
    with prefect(f'"{OURS}"', "drillyard:right") as url:
        for pair in (None, "drillyard:wrong"):
            if pair:
                monkeypatch.setenv("PREFECT_API_AUTH_STRING", pair)
            ((severity, text),) = said(url)
            assert severity is Severity.ERROR and "rejected our credentials (401)" in text
            assert "wrong" not in text
        monkeypatch.setenv("PREFECT_API_AUTH_STRING", "drillyard:right")
        assert said(url)[-1][0] is Severity.OK


@pytest.mark.heavy
def test_a_run_is_not_begun_with_a_wrong_password(monkeypatch):
    with prefect(f'"{OURS}"', "drillyard:right") as url:
        for pair in (None, "drillyard:wrong"):
            if pair:
                monkeypatch.setenv("PREFECT_API_AUTH_STRING", pair)
            with pytest.raises(ControlPlaneError, match=r"rejected our credentials \(401\)"):
                let_in(url)
        monkeypatch.setenv("PREFECT_API_AUTH_STRING", "drillyard:right")
        let_in(url)
        let_in(url + "/elsewhere")  # whatever else is wrong is not about the password


@pytest.mark.heavy
def test_one_that_the_whole_network_may_use_is_refused(monkeypatch):
    # To a server of this machine, 0.0.0.0 is another way; to drillyard it is another machine.
    with prefect(f'"{OURS}"') as url, prefect(f'"{OURS}"', "drillyard:right") as closed:
        public = url.replace("127.0.0.1", "0.0.0.0")
        ((severity, text),) = said(public)
        assert severity is Severity.ERROR and "without a password" in text
        with pytest.raises(ConfigError, match="without a password"):
            guarded(public)
        guarded(url)
        guarded(closed.replace("127.0.0.1", "0.0.0.0"))


@pytest.mark.parametrize(
    "url", ["nonsense", "prefect.example:4200/api", "ftp://host/api", "http:///api"]
)
def test_what_is_no_address_is_refused(url):
    with pytest.raises(ConfigError, match="is not the address of a server"):
        guarded(url)


@pytest.mark.heavy
def test_another_version_and_another_clock_are_told():
    with prefect('"2.20.1"', at=1_000_000_000.0) as url:
        texts = [text for severity, text in said(url) if severity is Severity.WARNING]
    assert f"has version 2.20.1, this machine has {OURS}" in texts[0] and " apart" in texts[1]


@pytest.mark.heavy
def test_an_address_that_is_no_api_is_told():
    with prefect(f'"{OURS}"') as url:
        ((severity, text),) = said(url.removesuffix("/api") + "/elsewhere")
    assert severity is Severity.ERROR and "is not a Prefect API (404)" in text


ASKED = """
from drillyard.errors import ControlPlaneError
from drillyard_flows.prefect_api import connected
try:
    with connected() as client:
        print(client.request("GET", "/admin/version").json())
except ControlPlaneError as error:
    print(error.message, error.hint, sep="; ")
"""


@pytest.mark.heavy
@pytest.mark.parametrize(
    ("variable", "value", "login"),
    [
        ("PREFECT_API_KEY", "a-key-of-the-lab", "Bearer a-key-of-the-lab"),
        ("PREFECT_API_AUTH_STRING", "lab:quiet", servers.basic("lab:quiet")["Authorization"]),
    ],
)
def test_a_server_behind_tls_a_base_path_and_a_login(
    tmp_path, monkeypatch, variable, value, login
):
    trust = str(tmp_path / "lab.pem")
    with prefect(f'"{OURS}"') as api, proxied(tmp_path, api, login) as url:
        ((severity, text),) = said(url)
        assert severity is Severity.ERROR and "CERTIFICATE_VERIFY_FAILED" in text
        monkeypatch.setenv("PREFECT_API_SSL_CERT_FILE", trust)
        ((severity, text),) = said(url)
        assert severity is Severity.ERROR and "rejected our credentials (401)" in text
        monkeypatch.setenv(variable, value)
        ((severity, text),) = said(url)
        assert severity is Severity.OK and f"{url} answers (Prefect {OURS})" in text
        Server(api_url=url, ui_url="", ours=False).wait(5.0)
        given = {"PREFECT_API_URL": url, "PREFECT_API_SSL_CERT_FILE": trust, variable: value}
        done = run_process([sys.executable, "-c", ASKED], more=given)
        assert done.returncode == 0 and OURS in done.stdout, done.stdout + done.stderr


@pytest.mark.heavy
def test_the_header_that_a_proxy_wants_is_sent(monkeypatch):
    def answer(request: Request) -> tuple[int, bytes]:
        return (200 if request.headers.get("X-Lab") == "quiet" else 403), f'"{OURS}"'.encode()

    with answering(answer) as url:
        monkeypatch.setenv("PREFECT_CLIENT_CUSTOM_HEADERS", "no JSON")
        assert said(f"{url}/api")[0][0] is Severity.ERROR
        monkeypatch.setenv("PREFECT_CLIENT_CUSTOM_HEADERS", '{"X-Lab": "quiet"}')
        assert said(f"{url}/api")[0][0] is Severity.OK
        let_in(f"{url}/api")


@pytest.mark.heavy
def test_prefect_cloud_is_asked_for_what_it_has(monkeypatch, tmp_path):
    def answer(request: Request) -> tuple[int, bytes]:
        if not request.path.endswith("/filter"):
            return 404, b""  # no health, no version, no token against forged requests
        return (200, b"[]") if request.headers["Authorization"] == "Bearer right" else (401, b"")

    profiles = tmp_path / "profiles.toml"  # as `prefect cloud login` writes it
    monkeypatch.delenv("PREFECT_API_URL", raising=False)
    monkeypatch.setenv("PREFECT_PROFILES_PATH", str(profiles))
    with answering(answer) as url:
        monkeypatch.setenv("PREFECT_CLOUD_API_URL", f"{url}/api")
        api = f"{url}/api/accounts/a/workspaces/w"
        lines = f'active = "c"\n[profiles.c]\nPREFECT_API_URL = "{api}"\nPREFECT_API_KEY = '
        profiles.write_text(f'{lines}"wrong"\n')
        ((severity, text),) = said(api)
        assert severity is Severity.ERROR and "rejected our credentials (401)" in text
        with pytest.raises(ControlPlaneError, match=r"rejected our credentials \(401\)"):
            let_in(api)
        profiles.write_text(f'{lines}"right"\n')
        ((severity, text),) = [(found.severity, found.message) for found in doctor._prefect()]
        assert severity is Severity.OK and text == f"{api} answers (Prefect Cloud)"
        let_in(api)
        Server(api_url=api, ui_url="", ours=False).wait(5.0)


@pytest.mark.heavy
@pytest.mark.parametrize(("busy", "words"), [(2, OURS), (99, "is busy (503); repeat the command")])
def test_a_busy_server_is_called_busy_and_asked_again(busy, words):
    asked: list[str] = []

    def answer(request: Request) -> tuple[int, bytes]:
        asked.append(request.path)
        return (
            (503, b"database is locked") if len(asked) <= busy else (200, b'"%s"' % OURS.encode())
        )

    with answering(answer, **{"Retry-After": "0.01"}) as url:
        done = run_process([sys.executable, "-c", ASKED], more={"PREFECT_API_URL": f"{url}/api"})
    assert done.returncode == 0, done.stderr
    assert words in done.stdout
    assert done.stderr.count("Prefect's API is busy (503): asking again") == 1
    assert len(asked) >= min(busy + 1, 6)
