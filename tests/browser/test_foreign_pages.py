"""A page of another site, open in the user's browser, against the servers of this machine."""

from __future__ import annotations

import json
from typing import Any

import pytest
from playwright.sync_api import BrowserContext, Page, Playwright, sync_playwright

from drillyard_flows.local_stack.services import services, variables
from drillyard_flows.local_stack.stack import LocalStack
from drillyard_flows.local_stack.starting import start, stop
from tests.flows.conftest import Api, api  # noqa: F401  a fixture
from tests.helpers.answering import answering
from tests.helpers.patience import PATIENCE_S
from tests.helpers.processes import free_port

pytestmark = [pytest.mark.browser, pytest.mark.timeout(900)]
EVIL = "evil.example"
FETCH = """([url, body]) => fetch(url, {method: 'POST', mode: 'no-cors', credentials: 'include',
  body: new Blob([body])}).then(() => 0, () => 0)"""
"""Without a content type the browser does not ask the server first."""
FORM = """([url, body]) => {
  const form = document.createElement('form'), field = document.createElement('input');
  Object.assign(form, {method: 'POST', action: url, enctype: 'text/plain'});
  // The browser sends NAME=VALUE: valid JSON.
  Object.assign(field, {name: body.slice(0, -1) + ', "x', value: '":"y"}'});
  form.append(field);
  document.body.append(form);
  form.submit();
}"""
JSON = """async ([url, body]) => (await fetch(url, {method: 'POST', credentials: 'include',
  headers: {'content-type': 'application/json'}, body})).status"""
LISTEN = """url => new Promise(done => {
  const socket = new WebSocket(url);
  socket.onopen = () => done('open');
  socket.onerror = () => done('refused');
})"""
READ = """url => fetch(url, {credentials: 'include'}).then(a => a.text(), () => 'refused')"""


@pytest.fixture(scope="module")
def site():
    """Address of a page of another site; its name leads to this machine in the browser alone."""
    page = {"content-type": "text/html"}
    with answering(lambda request: (200, b"<body>a page</body>"), **page) as url:
        yield f"{url.replace('127.0.0.1', EVIL)}/"


@pytest.fixture(scope="module")
def playing():
    with sync_playwright() as playwright:
        yield playwright


def opened(playing: Playwright, chromium: str, login: dict[str, str] | None) -> BrowserContext:
    """A browser whose user has typed this login where a server asked for one."""
    started = playing.chromium.launch(
        executable_path=chromium,
        args=[
            "--no-sandbox",
            "--disable-gpu",
            "--disable-background-networking",
            f"--host-resolver-rules=MAP {EVIL} 127.0.0.1",
        ],
    )
    context = started.new_context(http_credentials=login)  # type: ignore[arg-type]
    context.set_default_timeout(1000 * PATIENCE_S)
    return context


def page_at(context: BrowserContext, address: str) -> Page:
    page = context.new_page()
    page.goto(address)
    return page


def attack(page: Page, url: str, body: str) -> None:
    """Both ways in which a page sends JSON to another site without being asked for leave."""
    site = page.url
    page.evaluate(FETCH, [url, body])
    with page.expect_navigation():
        page.evaluate(FORM, [url, body])
    page.goto(site)


def running(server: Api) -> str:
    """A flow run that is running, by its id."""
    flow = server.post("/flows/", {"name": "wanted"})["id"]
    state = {"type": "RUNNING", "name": "Running"}
    return str(server.post("/flow_runs/", {"flow_id": flow, "state": state})["id"])


def state_of(server: Api, run: str) -> str:
    return str(server.get(f"/flow_runs/{run}")["state"]["type"])


CANCEL = json.dumps({"state": {"type": "CANCELLED"}, "force": True})


def test_the_embedded_prefect_server(api, site, chromium, playing):  # noqa: F811
    run = running(api)
    context = opened(playing, chromium, None)
    page = page_at(context, site)
    attack(page, f"{api.url}/flow_runs/{run}/set_state", CANCEL)
    attack(page, f"{api.url}/flows/", json.dumps({"name": "forged"}))
    assert state_of(api, run) == "RUNNING"
    assert "forged" not in {f["name"] for f in api.post("/flows/filter", {})}
    events = api.url.replace("http:", "ws:") + "/events/out"
    assert page.evaluate(LISTEN, events) == "refused"
    assert page.evaluate(READ, f"{api.url}/flow_runs/{run}") == "refused"
    # The same from the server's own page works, so the requests above are what cancels a run.
    own = page_at(context, api.url.removesuffix("/api"))
    assert own.evaluate(LISTEN, events) == "open"
    assert own.evaluate(JSON, [f"{api.url}/flow_runs/{run}/set_state", CANCEL]) in (200, 201)
    assert state_of(api, run) == "CANCELLED"
    assert context.browser
    context.browser.close()


@pytest.fixture(scope="module")
def stack(tmp_path_factory):
    """Prefect's and MLflow's servers as `drillyard up` starts them."""
    made = LocalStack.at(tmp_path_factory.mktemp("foreign") / "up")
    ports = {"prefect": free_port(), "mlflow": free_port()}
    with made.locked():
        pass
    begun = [s for s in services(made, ports, "/nowhere") if s.name in ports]
    try:
        for service in begun:
            start(made, service)
        yield made, variables(made, ports)
    finally:
        for service in begun:
            stop(made, service.name)


def test_the_prefect_server_of_up(stack, site, chromium, playing):
    environ = stack[1]
    server = Api(environ["PREFECT_API_URL"], environ["PREFECT_API_AUTH_STRING"])
    run = running(server)
    user, password = environ["PREFECT_API_AUTH_STRING"].split(":", 1)
    context = opened(playing, chromium, {"username": user, "password": password})
    page_at(context, server.url.removesuffix("/api"))
    page = page_at(context, site)
    attack(page, f"{server.url}/flow_runs/{run}/set_state", CANCEL)
    assert state_of(server, run) == "RUNNING"
    assert page.evaluate(LISTEN, server.url.replace("http:", "ws:") + "/events/out") == "refused"
    assert page.evaluate(READ, f"{server.url}/flow_runs/{run}") == "refused"
    assert context.browser
    context.browser.close()


def test_the_mlflow_server_of_up(stack, site, chromium, playing):
    """Here the browser sends the login by itself: what refuses is the origin."""
    environ = stack[1]
    base = environ["MLFLOW_TRACKING_URI"]
    user, password = environ["MLFLOW_TRACKING_USERNAME"], environ["MLFLOW_TRACKING_PASSWORD"]
    context = opened(playing, chromium, {"username": user, "password": password})
    own = page_at(context, base)
    create = f"{base}/api/2.0/mlflow/experiments/create"
    page = page_at(context, site)
    for path in (create, create.replace("/api/", "/ajax-api/")):
        attack(page, path, json.dumps({"name": "forged"}))
    search = f"{base}/api/2.0/mlflow/experiments/search?max_results=100"
    assert page.evaluate(READ, search) == "refused"
    assert own.evaluate(JSON, [create, json.dumps({"name": "wanted"})]) == 200
    made: Any = json.loads(own.evaluate(READ, search))["experiments"]
    names = {one["name"] for one in made}
    assert "wanted" in names and "forged" not in names
    assert context.browser
    context.browser.close()
