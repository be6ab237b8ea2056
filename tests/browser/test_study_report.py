"""The study section in a real browser: it fits, can be read in light and dark, and is named."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, sync_playwright

from drillyard.report import build
from tests.browser.test_report import CONTRAST, opened
from tests.helpers.study_store import write_search

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def browser(chromium: str) -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = build(write_search(tmp_path_factory.mktemp("store"), 12))
    assert made.local is not None
    return made.local


@pytest.mark.parametrize(("width", "scheme"), [(1200, "light"), (1200, "dark"), (360, "light")])
def test_the_study_can_be_read(browser: Browser, report: Path, width: int, scheme: str) -> None:
    page, requests, complaints = opened(
        browser, report, viewport={"width": width, "height": 800}, color_scheme=scheme
    )
    assert [url for url in requests if not url.startswith("data:")] == [report.as_uri()]
    assert complaints == []
    pictures = page.locator("#study figure svg")
    assert pictures.count() == 6
    for picture in page.locator("#study [role=img]").all():
        assert len(picture.get_attribute("aria-label") or "") > 40
    for link in page.locator("#study figcaption a").all():
        assert (report.parent / (link.get_attribute("href") or "missing")).is_file()
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    ratios = page.evaluate(CONTRAST)
    assert min(r["ratio"] for r in ratios) >= 4.5, min(ratios, key=lambda r: r["ratio"])
    page.close()
