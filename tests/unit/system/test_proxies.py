"""With a proxy in the environment, nothing asks it for this machine's own addresses."""

from __future__ import annotations

import json
import os
import sys

import pytest

from drillyard.system.proxies import without_loopback
from drillyard.worker import __main__ as worker
from tests.helpers.answering import Request, answering
from tests.helpers.processes import run_process

LOOPBACK = "127.0.0.1,localhost,::1"
CLIENTS = """
import contextlib, os, sys
if sys.argv[1] == "spared":
    from drillyard.system.proxies import spare_loopback
    spare_loopback()
base = sys.argv[2]

def ask(what):
    with contextlib.suppress(Exception):
        what()

def prefect_client():
    os.environ["PREFECT_API_URL"] = f"{base}/api"
    os.environ["PREFECT_HOME"] = sys.argv[3]
    from prefect.client.orchestration import get_client
    client = get_client(sync_client=True)
    client.api_healthcheck()

def mlflow_client():
    os.environ["MLFLOW_HTTP_REQUEST_MAX_RETRIES"] = "0"
    from mlflow.tracking import MlflowClient
    MlflowClient(f"{base}/mlflow").search_experiments()

def storage_client():
    os.environ["STORAGE_EMULATOR_HOST"] = base
    from google.auth.credentials import AnonymousCredentials
    from google.cloud import storage
    client = storage.Client(project="p", credentials=AnonymousCredentials())
    list(client.list_blobs("storage", max_results=1, timeout=5, retry=None))

def blob_client():
    from azure.storage.blob import ContainerClient
    where = f"{base}/blob/container"
    list(ContainerClient.from_container_url(where, retry_total=0).list_blobs())

def ours():
    import urllib.request
    urllib.request.urlopen(f"{base}/urllib", timeout=5)

def by_name():
    import urllib.request
    urllib.request.urlopen(f"{base}/name".replace("127.0.0.1", "localhost"), timeout=5)

for what in (prefect_client, mlflow_client, storage_client, blob_client, ours, by_name):
    ask(what)
"""


class Heard:
    """What a server, or a proxy, was asked that answers 404."""

    def __init__(self) -> None:
        self.url, self.asked = "", list[str]()

    def answer(self, request: Request) -> tuple[int, bytes]:
        self.asked.append(request.path)
        return 404, b""


@pytest.fixture
def servers():
    """(the proxy, the server on this machine)."""
    proxy, server = Heard(), Heard()
    with answering(proxy.answer) as proxy.url, answering(server.answer) as server.url:
        yield proxy, server


def clients(how: str, proxy: Heard, server: Heard, home: str) -> None:
    plain = {k: v for k, v in os.environ.items() if not k.lower().endswith("_proxy")}
    names = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy")
    run_process(
        [sys.executable, "-c", CLIENTS, how, server.url, home],
        env={**plain, **dict.fromkeys(names, proxy.url)},
        check=True,
        timeout=240,
    )


@pytest.mark.heavy
def test_no_library_asks_the_proxy_for_loopback(servers, tmp_path_factory):
    proxy, server = servers
    clients("spared", proxy, server, str(tmp_path_factory.mktemp("spared")))
    assert proxy.asked == []
    for part in ("/api", "/mlflow", "storage", "/blob", "/urllib", "/name"):
        assert any(part in path for path in server.asked), (part, server.asked)


@pytest.mark.heavy
def test_this_test_notices_a_proxy(servers, tmp_path_factory):
    proxy, server = servers
    clients("not", proxy, server, str(tmp_path_factory.mktemp("not")))
    for part in ("/api", "/mlflow", "/blob", "/urllib", "/name"):
        assert any(part in path for path in proxy.asked), (part, proxy.asked)


@pytest.mark.parametrize(
    ("environ", "hosts"),
    [
        ({}, None),
        ({"NO_PROXY": "corp"}, None),
        ({"HTTPS_PROXY": ""}, None),
        ({"HTTPS_PROXY": "http://p"}, LOOPBACK),
        ({"all_proxy": "socks5://p"}, LOOPBACK),
        ({"https_proxy": "http://p", "NO_PROXY": "corp, .lan"}, f"corp,.lan,{LOOPBACK}"),
        ({"https_proxy": "http://p", "NO_PROXY": "a", "no_proxy": "b,a"}, f"b,a,{LOOPBACK}"),
        ({"https_proxy": "http://p", "no_proxy": "localhost"}, "localhost,127.0.0.1,::1"),
        ({"https_proxy": "http://p", "no_proxy": "*"}, None),
    ],
)
def test_what_the_user_excluded_stays_excluded(environ, hosts):
    found = without_loopback(environ)
    assert found == ({} if hosts is None else {"NO_PROXY": hosts, "no_proxy": hosts})


@pytest.mark.heavy
def test_each_command_excludes_loopback():
    code = (
        "import json, os, sys\nfrom drillyard.cli.main import main\nmain(['--version'])\n"
        "print(json.dumps([os.environ['NO_PROXY'], os.environ['no_proxy']]))"
    )
    plain = {k: v for k, v in os.environ.items() if not k.lower().endswith("_proxy")}
    done = run_process(
        [sys.executable, "-c", code],
        env={**plain, "HTTPS_PROXY": "http://proxy:3128"},
        timeout=60,
        check=True,
    )
    assert json.loads(done.stdout.splitlines()[-1]) == [LOOPBACK, LOOPBACK]


def test_a_worker_excludes_loopback(monkeypatch):
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.setenv(name, "corp")
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy:3128")
    assert worker.main(["--order-file", "/nowhere/order.json", "--scratch", "/nowhere"]) == 2
    assert os.environ["no_proxy"] == os.environ["NO_PROXY"] == f"corp,{LOOPBACK}"
