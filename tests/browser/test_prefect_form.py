"""A person fills the form in Prefect's UI; a worker runs what was asked for; the page says so."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from playwright.sync_api import expect, sync_playwright

from tests.flows.conftest import DRILLYARD, Api, Bench, api, bench  # noqa: F401
from tests.helpers.patience import PATIENCE_S, until
from tests.helpers.processes import run_process

pytestmark = [pytest.mark.browser, pytest.mark.timeout(1200)]
PATIENCE_MS = 1000 * PATIENCE_S
expect.set_options(timeout=PATIENCE_MS)
BIN = Path(sys.executable).parent


@pytest.fixture
def yard(api, bench):  # noqa: F811
    """A folder whose deployments are on the server, with a worker."""
    environ = {
        **os.environ,
        "PREFECT_API_URL": api.url,
        "PREFECT_WORKER_QUERY_SECONDS": "1",
        "DRILLYARD_STORE": str(bench.store),
        "PREFECT_HOME": str(bench.folder / "home"),
    }
    run_process([DRILLYARD, "deploy"], check=True, env=environ, cwd=bench.folder)
    with open(bench.folder / "worker.log", "w") as log:
        worker = subprocess.Popen(
            [BIN / "prefect", "worker", "start", "--pool", "drillyard-local", "--type", "process"],
            env=environ,
            cwd=bench.folder,
            stdout=log,
            stderr=log,
            stdin=subprocess.DEVNULL,
        )
    try:
        yield bench
    finally:
        worker.kill()  # its flow run has ended; a stopped one waits for seconds
        worker.wait(60)


def test_a_form_is_filled_and_its_run_completes(api, yard, chromium):  # noqa: F811
    file = yard.write("asked")
    found = [
        d
        for d in api.post("/deployments/filter", {})
        if d["entrypoint"] == "drillyard_flows.experiment:experiment"
    ]
    base = api.url.removesuffix("/api")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=chromium,
            args=["--no-sandbox", "--disable-gpu", "--disable-background-networking"],
        )
        page = browser.new_page(viewport={"width": 1200, "height": 1500})
        page.set_default_timeout(PATIENCE_MS)
        page.goto(f"{base}/deployments/deployment/{found[0]['id']}/run")
        for title in ("Experiment", "Seeds", "Training steps", "Backend", "Budget in hours"):
            expect(page.get_by_text(title).first).to_be_visible()
        experiment = page.get_by_role("textbox").nth(1)  # the first is the run's name
        expect(experiment).to_have_value("cstr/ppo")
        experiment.fill(str(file))
        page.get_by_role("spinbutton").first.fill("2")
        page.get_by_role("button", name="Submit").click()
        asked = {"deployments": {"id": {"any_": [found[0]["id"]]}}}
        run = until(lambda: api.post("/flow_runs/filter", asked), what="a flow run")[0]
        assert run["parameters"]["file"] == str(file) and run["parameters"]["seeds"] == 2
        page.goto(f"{base}/runs/flow-run/{run['id']}")
        ended = until(lambda: api.ended(run["id"]), what="the end of the flow run")
        assert ended["state"]["type"] == "COMPLETED", api.logs(run)
        expect(page.get_by_text("Completed").first).to_be_visible()
        expect(page.get_by_text("asked", exact=True).first).to_be_visible()
        browser.close()
    assert (yard.store / "asked/runs/t0001-s2/store.accepted.json").exists()
    assert not (yard.store / "asked/runs/t0001-s3").exists()
