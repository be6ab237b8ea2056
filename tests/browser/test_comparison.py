"""The page of a comparison in a real browser: readable, complete, and quiet."""

import pytest

from drillyard.report.comparison.page import build
from drillyard.report.comparison.side_by_side import compare
from tests.browser.test_report import CONTRAST, opened
from tests.helpers.fixtures_store import write_experiment

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def index(tmp_path_factory):
    store = tmp_path_factory.mktemp("store")
    write_experiment(store, "good", seeds=(1, 2, 3, 4))
    write_experiment(store, "bad", seeds=(1, 2, 3, 4), level=60.0)
    write_experiment(store, "open", seeds=(1, 2), finished=0)
    return build(compare(["good", "bad", "open"], str(store)), store / "page")


def test_nothing_is_fetched_and_every_section_is_there(browser, index):
    page, requests, complaints = opened(browser, index)
    assert [url for url in requests if not url.startswith("data:")] == [index.as_uri()]
    assert complaints == []
    assert page.locator("section > h2").all_inner_texts() == [
        "Final evaluation",
        "Learning curves",
        "Settings that differ",
        "Time and cost",
        "Where they are",
        "How they were compared",
    ]
    assert page.locator("figure svg:visible").count() == 2
    assert page.locator("h1").count() == 1
    assert page.locator("th:not([scope])").count() == 0
    for picture in page.get_by_role("img").all():
        assert len(picture.get_attribute("aria-label") or "") > 40
    page.close()


@pytest.mark.parametrize("width", [360, 1200])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_fits_and_can_be_read(browser, index, width, scheme):
    page, _, _ = opened(
        browser, index, viewport={"width": width, "height": 800}, color_scheme=scheme
    )
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    ratios = page.evaluate(CONTRAST)
    assert min(r["ratio"] for r in ratios) >= 4.5, min(ratios, key=lambda r: r["ratio"])
    page.close()


def test_a_phone_shows_a_row_as_lines_with_their_headings(browser, index):
    page, _, _ = opened(browser, index, viewport={"width": 360, "height": 800})
    for table in page.locator("table:visible").all():
        assert table.evaluate("t => t.scrollWidth <= t.parentElement.clientWidth + 1")
    cell = page.locator("#evaluation td").first
    heading = cell.evaluate("c => getComputedStyle(c, '::before').content")
    assert heading == '"mean return"'
    page.close()
