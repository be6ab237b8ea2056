"""The report in a real browser: nothing is fetched, nothing complains, everything is there."""

from __future__ import annotations

from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page

from drillyard.report import build
from tests.helpers.fixtures_store import write_experiment

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    made = build(write_experiment(tmp_path_factory.mktemp("store"), seeds=(1, 2, 3)))
    assert made.local is not None
    return made.local


def opened(browser: Browser, report: Path, **context: object) -> tuple[Page, list[str], list[str]]:
    page = browser.new_page(**context)  # type: ignore[arg-type]
    requests: list[str] = []
    complaints: list[str] = []
    page.on("request", lambda request: requests.append(request.url))
    page.on("console", lambda message: complaints.append(message.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.goto(report.as_uri(), wait_until="networkidle")
    return page, requests, complaints


def test_no_request_no_complaint_every_section(browser, report):
    page, requests, complaints = opened(browser, report)
    assert [url for url in requests if not url.startswith("data:")] == [report.as_uri()]
    assert complaints == []
    assert page.title() == "cstr-ppo: results"
    headings = page.locator("section > h2").all_inner_texts()
    assert headings == [
        "Learning curves",
        "Final evaluation",
        "One evaluation episode",
        "Runs",
        "Time and cost",
        "Configuration",
        "Reproducing it",
        "How the intervals were made",
    ]
    assert page.locator("figure svg:visible").count() == 3
    captions = page.locator("table:visible caption").all_inner_texts()
    assert "Wall-clock time of each phase" in captions
    assert "Values that were chosen" in captions
    agent = page.locator("#evaluation tr.agent").first.inner_text()
    assert "3 seeds" in agent
    for link in page.locator("nav a").all():
        target = link.get_attribute("href")
        assert target is not None
        assert page.locator(target).count() == 1
    for link in page.locator("figcaption a").all():
        assert (report.parent / (link.get_attribute("href") or "missing")).is_file()
    page.close()


def test_accessible_names(browser, report):
    page, _, _ = opened(browser, report)
    pictures = page.get_by_role("img")
    assert pictures.count() == 3
    for picture in pictures.all():
        assert len(picture.get_attribute("aria-label") or "") > 40
    assert page.locator("html").get_attribute("lang") == "en"
    assert page.locator("h1").count() == 1
    assert page.locator("th:not([scope])").count() == 0
    assert page.locator("table").count() == page.locator("table > caption").count()
    page.close()


@pytest.mark.parametrize("width", [360, 1200])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_fits_and_can_be_read(browser, report, width, scheme):
    page, _, _ = opened(
        browser, report, viewport={"width": width, "height": 800}, color_scheme=scheme
    )
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    ratios = page.evaluate(CONTRAST)
    assert len(ratios) > 100
    assert min(r["ratio"] for r in ratios) >= 4.5, min(ratios, key=lambda r: r["ratio"])
    page.close()


def test_what_is_folded_is_printed(browser, report):
    page, _, _ = opened(browser, report)
    folded = page.locator("details table").first
    assert not folded.is_visible()
    page.emulate_media(media="print")
    assert folded.bounding_box() is not None
    assert not page.locator("nav").is_visible()
    page.close()


# WCAG contrast of every text, in the page and in the pictures, against the page's ground.
CONTRAST = """() => {
  const channel = c => { c /= 255; return c <= .03928 ? c / 12.92 : ((c + .055) / 1.055) ** 2.4 };
  const light = t => { const [r, g, b] = t.match(/[\\d.]+/g).map(Number);
    return .2126 * channel(r) + .7152 * channel(g) + .0722 * channel(b) };
  const probe = document.createElement('div');
  probe.style.color = 'var(--surface)'; document.body.append(probe);
  const ground = light(getComputedStyle(probe).color); probe.remove();
  const found = [];
  for (const e of document.querySelectorAll('body *')) {
    const own = [...e.childNodes].some(n => n.nodeType === 3 && n.data.trim());
    if (!own || !e.getClientRects().length || e.closest('style')) continue;
    const s = getComputedStyle(e), f = light(e.closest('svg') ? s.fill : s.color);
    found.push({ratio: (Math.max(f, ground) + .05) / (Math.min(f, ground) + .05),
                text: e.textContent.slice(0, 40)});
  }
  return found }"""
