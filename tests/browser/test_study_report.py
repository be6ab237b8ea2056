"""The study section in a real browser: it fits, can be read in light and dark, and is named."""

import itertools

import pytest

from drillyard.report import build
from tests.browser.test_report import CONTRAST, opened
from tests.helpers.study_store import write_search

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    made = build(write_search(tmp_path_factory.mktemp("store"), 12))
    assert made.local is not None
    return made.local


@pytest.mark.parametrize(("width", "scheme"), [(1200, "light"), (1200, "dark"), (360, "light")])
def test_the_study_can_be_read(browser, report, width, scheme):
    page, requests, complaints = opened(
        browser, report, viewport={"width": width, "height": 800}, color_scheme=scheme
    )
    assert [url for url in requests if not url.startswith("data:")] == [report.as_uri()]
    assert complaints == []
    pictures = page.locator("#study figure svg:visible")
    assert pictures.count() == 6
    for picture in page.locator("#study [role=img]").all():
        assert len(picture.get_attribute("aria-label") or "") > 40
    for link in page.locator("#study figcaption a").all():
        assert (report.parent / (link.get_attribute("href") or "missing")).is_file()
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    ratios = page.evaluate(CONTRAST)
    assert min(r["ratio"] for r in ratios) >= 4.5, min(ratios, key=lambda r: r["ratio"])
    page.close()


def test_on_a_phone_panels_stand_below_each_other(browser, report):
    page, _, _ = opened(browser, report, viewport={"width": 390, "height": 844})
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    slices = page.locator("#study figure", has=page.locator("a[href='study_slices.svg']"))
    assert slices.locator(".wide").is_hidden()
    axes = slices.locator(".narrow svg g[id*='-axes_']").all()
    boxes = [box for one in axes if (box := one.bounding_box()) is not None]
    boxes.sort(key=lambda box: box["y"])
    assert len(boxes) == 3
    for above, below in itertools.pairwise(boxes):
        assert below["y"] >= above["y"] + above["height"]
    for figure in page.locator("#study figure .narrow:visible").all():
        letters = figure.locator("svg text").first.bounding_box()
        assert letters is not None and letters["height"] >= 8, "large enough to be read"
        assert figure.evaluate("e => e.scrollWidth <= e.clientWidth")
    page.close()


def test_a_trial_leads_to_its_settings(browser, report):
    page, _, _ = opened(browser, report)
    link = page.locator("#study tbody th a").first
    name = link.inner_text()
    target = page.locator(f"#settings-{name}")
    assert not target.is_visible()
    link.click()
    target.wait_for(state="visible")
    settings = target.locator("tbody th").all_inner_texts()
    assert {"level", "kind", "batch"} <= set(settings)
    page.close()
