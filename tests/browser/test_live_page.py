"""The live page in a browser: it updates by itself, can be read, and answers no other site."""

from __future__ import annotations

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

from drillyard.errors import StoreUnavailable
from drillyard.mailbox import Mailbox, open_store
from drillyard.mailbox.file import FileStore
from drillyard.mailbox.records import Board
from drillyard.report import build
from drillyard.report.live import watched
from drillyard.report.live.server import LivePages
from tests.browser.test_foreign_pages import EVIL, READ, site  # noqa: F401  a fixture
from tests.browser.test_report import CONTRAST
from tests.helpers.axe import needs_axe, serious
from tests.helpers.fixtures_store import write_experiment
from tests.helpers.patience import PATIENCE_S

pytestmark = pytest.mark.browser
RUN = "t0001-s3"


@pytest.fixture(scope="module")
def playing():
    with sync_playwright() as playwright:
        yield playwright


@pytest.fixture(scope="module")
def browser(playing, chromium):
    rules = f"--host-resolver-rules=MAP {EVIL} 127.0.0.1"
    browser = playing.chromium.launch(executable_path=chromium, args=["--no-sandbox", rules])
    yield browser
    browser.close()


@pytest.fixture
def box(tmp_path, monkeypatch):
    monkeypatch.setattr(watched, "EVERY_S", 0.1)
    return write_experiment(tmp_path, seeds=(1, 2, 3, 4), finished=1, failed=1)


@pytest.fixture
def pages(box):
    with LivePages(box.store) as pages:
        yield pages


def opened(browser: Browser, url: str, **context: object) -> tuple[Page, list[str]]:
    page = browser.new_page(**context)  # type: ignore[arg-type]
    page.set_default_timeout(1000 * PATIENCE_S)
    complaints: list[str] = []
    page.on("console", lambda message: complaints.append(message.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.goto(url)
    page.locator("#runs table").wait_for()
    return page, complaints


def test_it_shows_everything_and_updates_by_itself(browser, box, pages):
    page, complaints = opened(browser, pages.url(box.experiment))
    assert page.locator("section:visible > h2").all_inner_texts() == [
        "Learning curves",
        "Runs",
        "Machines",
        f"Log of {RUN}",
    ]
    assert page.locator("#curves svg:visible").count() == 2
    assert "2 of 4 runs ended, 1 running." in page.locator("#summary").inner_text()
    assert "40,000 of 60,000" in page.locator("#runs").inner_text()
    assert "left" in page.locator("#progress").inner_text()
    assert page.locator("#lines").inner_text().endswith("rollout 2")
    page.locator("#lines").focus()
    before = box.board(RUN)
    newer = before.model_copy(update={"step": 50_123, "eta_s": 6.0, "beat": 41})
    box.write(f"board/{RUN}.json", Board.model_validate(newer.model_dump()))
    folder = f"runs/{RUN}/attempts/train-1/logs"
    box.store.put(box.key(f"{folder}/{2:012d}.txt"), b"rollout 3 <b>bold</b>\n")
    page.get_by_text("50,123 of 60,000").wait_for()
    page.get_by_text("rollout 3 <b>bold</b>").wait_for()
    assert page.evaluate("document.activeElement.id") == "lines"
    # The log of another run, by its link.
    page.get_by_role("link", name="t0001-s1", exact=True).click()
    page.get_by_text("Log of t0001-s1").wait_for()
    assert complaints == []
    page.close()


def test_a_store_that_is_away_is_said_and_what_was_read_stays(browser, box, pages, monkeypatch):
    page, _ = opened(browser, pages.url(box.experiment))
    with monkeypatch.context() as away:

        def fails(*_: object) -> object:
            raise StoreUnavailable("the disk is away")

        away.setattr(FileStore, "get", fails)
        page.get_by_text("Not up to date: the disk is away").wait_for()
        assert page.locator("#runs table").is_visible()
    page.locator("#trouble").wait_for(state="hidden")
    # And when the command has ended.
    pages.close()
    page.get_by_text("does not answer").wait_for()
    assert page.locator("#runs table").is_visible()
    page.close()


def test_a_page_of_another_site_reads_nothing(browser, box, pages, site):  # noqa: F811
    url = pages.url(box.experiment)
    page = browser.new_page()
    page.goto(site)
    assert page.evaluate(READ, f"{url}state") == "refused"
    # Its own name leads here too: the browser then sends that name.
    page.goto(url.replace("127.0.0.1", EVIL))
    assert "is not called" in page.inner_text("body")
    page.close()


@needs_axe()
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nothing_serious_for_those_who_see_or_use_it_in_other_ways(browser, box, pages, scheme):
    made = build(box)
    assert made.local is not None
    url = pages.url(box.experiment)
    page, _ = opened(browser, url, color_scheme=scheme)
    assert serious(page) == []
    for address in (f"{url}report/index.html", url.partition("/watch")[0], made.local.as_uri()):
        page.goto(address)
        assert serious(page) == [], address
    page.goto(url)
    page.evaluate("document.querySelector('html').removeAttribute('lang')")
    assert "html-has-lang" in str(serious(page))  # it does find something
    page.close()


@pytest.mark.parametrize(("width", "scheme"), [(360, "dark"), (1200, "light")])
def test_it_fits_and_can_be_read(browser, box, pages, width, scheme):
    page, _ = opened(
        browser,
        pages.url(box.experiment),
        viewport={"width": width, "height": 800},
        color_scheme=scheme,
    )
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    charts = page.locator("#curves svg:visible")
    assert charts.count() == 2
    for chart in charts.all():
        box = chart.bounding_box()
        assert box is not None and box["x"] >= 0 and box["x"] + box["width"] <= width
        text = chart.locator("text").first.bounding_box()
        assert text is not None and text["height"] >= 10, "its text can be read"
    ratios = page.evaluate(CONTRAST)
    assert len(ratios) > 50
    assert min(r["ratio"] for r in ratios) >= 4.5, min(ratios, key=lambda r: r["ratio"])
    page.close()


def test_an_experiment_that_is_over_links_to_its_report(browser, tmp_path):
    write_experiment(tmp_path, "done", seeds=(1, 2))
    store = open_store(str(tmp_path))
    build(Mailbox(store, "done"))
    with LivePages(store) as pages:
        page, _ = opened(browser, pages.url("done"))
        assert "SUCCEEDED: 2 of 2 runs finished." in page.locator("#summary").inner_text()
        page.get_by_role("link", name="Report").click()
        page.get_by_role("heading", name="Final evaluation").wait_for()
        page.close()
