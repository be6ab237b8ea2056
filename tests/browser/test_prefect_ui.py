"""What a person sees in Prefect's pages of a real experiment on the embedded server."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

from tests.flows.conftest import Api, Bench, api  # noqa: F401  a fixture
from tests.helpers.processes import run_process

pytestmark = pytest.mark.browser
NAME = "seen"
TASKS = ("provision", "setup", "train t0001-s1", "evaluate t0001-s1", "store t0001-s1", "teardown")
PATIENCE_MS = 20_000


@pytest.fixture(scope="module")
def page(chromium):
    with sync_playwright() as playwright:
        browser: Browser = playwright.chromium.launch(
            executable_path=chromium,
            args=["--no-sandbox", "--disable-gpu", "--disable-background-networking"],
        )
        page = browser.new_page(viewport={"width": 1300, "height": 950})
        page.set_default_timeout(PATIENCE_MS)
        yield page
        browser.close()


@pytest.fixture(scope="module")
def seen(api, tmp_path_factory):  # noqa: F811
    """A finished experiment; its pages by name."""
    bench = Bench(tmp_path_factory.mktemp("ui"))
    done = bench.run("run", bench.write(NAME, baselines=["random"]))
    assert done.returncode == 0, done.stderr
    # A link that a browser can follow needs a server that has an address.
    run_process(
        [
            sys.executable,
            "-c",
            "from drillyard_flows.artifacts import _link\n"
            "_link('mlflow', 'seen', 'http://127.0.0.1:5000/', 'Tracking of seen', '')",
        ],
        check=True,
        more={"PREFECT_API_URL": api.url},
    )
    base = api.url.removesuffix("/api")
    run = api.flow_run(NAME)
    pages = {
        artifact["key"].removesuffix(f"-{NAME}"): f"{base}/artifacts/artifact/{artifact['id']}"
        for artifact in api.post("/artifacts/filter", {})
        if NAME in (artifact["key"] or "")
    }
    yield {"run": f"{base}/runs/flow-run/{run['id']}", **pages, "store": bench.store}
    bench.give_back(NAME)


def shows(page: Page, text: str) -> None:
    expect(page.get_by_text(text).first).to_be_visible(timeout=PATIENCE_MS)


def test_the_run_has_six_named_tasks_tags_and_a_log(page, seen):
    page.goto(seen["run"])
    shows(page, "Completed")
    for text in ("drillyard", f"experiment:{NAME}", "backend:local", "algorithm:ppo"):
        shows(page, text)
    shows(page, "t0001-s1.train: attempt 1 accepted. 512 steps")
    page.get_by_text("Task Runs", exact=True).first.click()
    for task in TASKS:
        expect(page.get_by_role("link", name=task, exact=True)).to_be_visible()


def test_the_table_has_agent_and_baseline(page, seen):
    page.goto(seen["results"])
    for text in ("mean return", "95 % from", "interval over", "2 episodes of one seed"):
        shows(page, text)
    for policy in ("agent", "random"):
        expect(page.get_by_role("table").get_by_text(policy, exact=True)).to_be_visible()


def test_the_learning_curve_is_a_picture_that_loads(page, seen):
    page.goto(seen["learning-curve"])
    picture = page.get_by_alt_text("Learning curve: return over steps")
    expect(picture).to_be_visible()
    width, height = picture.evaluate(
        "i => i.decode().then(() => [i.naturalWidth, i.naturalHeight])"
    )
    assert width > 400 and height > 150
    shows(page, "The agent reaches a mean return of")


def test_links_lead_somewhere(page, seen):
    page.goto(seen["mlflow"])
    link = page.get_by_role("link", name="Tracking of seen")
    expect(link).to_have_attribute("href", "http://127.0.0.1:5000/")
    # No page may link to a file, which a browser refuses silently: the path is there to copy.
    page.goto(seen["report"])
    path = Path(seen["store"]) / NAME / "report/index.html"
    assert path.is_file()
    shows(page, str(path))
    assert page.locator('a[href^="file:"]').count() == 0
    page.get_by_role("link", name=NAME, exact=True).first.click()
    page.wait_for_url(f"{seen['run']}*")


def test_progress_ends_at_all(page, seen):
    page.goto(seen[f"progress-{NAME}-t0001-s1"])
    shows(page, "t0001-s1: trained, 512 steps")
    shows(page, "100%")
