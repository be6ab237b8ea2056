"""The documentation as a site: every link leads somewhere, and the reference is complete."""

from __future__ import annotations

import json
import re
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest
from playwright.sync_api import sync_playwright

from drillyard.cli.helping import SECTIONS
from drillyard.spec.schema import document
from tests.helpers.axe import needs_axe, serious
from tests.helpers.processes import run_process

pytestmark = pytest.mark.heavy

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """Built strictly: a warning, such as a link to a missing page or heading, is an error.

    The rules of the tests' processes refuse each connection to another machine.
    """
    folder = tmp_path_factory.mktemp("site")
    done = run_process(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)],
        cwd=ROOT,
        more={"NO_MKDOCS_2_WARNING": "1"},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


def test_every_page_is_there_and_can_be_searched(site):
    pages = list((ROOT / "docs").rglob("*.md"))
    found = json.loads((site / "search" / "search_index.json").read_text())["docs"]
    searched = {entry["location"].partition("#")[0] for entry in found}
    for page in pages:
        name = "index.html" if page.name in ("README.md", "index.md") else f"{page.stem}.html"
        place = page.relative_to(ROOT / "docs").parent / name
        assert (site / place).is_file(), place
        assert place.as_posix() in searched


def test_the_reference_has_every_field_and_every_command(site):
    schema = document()
    text = (site / "reference" / "experiment-file.html").read_text()
    models = [schema, *schema["$defs"].values()]
    fields = {name for model in models for name in model.get("properties", {})}
    assert [f for f in sorted(fields) if f"<code>{f}</code>" not in text] == []
    text = (site / "reference" / "commands.html").read_text()
    commands = [name for names in SECTIONS.values() for name in names.split()]
    assert [c for c in commands if f"<code>drillyard {c}</code>" not in text] == []
    text = (site / "reference" / "python.html").read_text()
    assert 'id="drillyard.api.run"' in text and 'id="drillyard.plugins.Backend"' in text


class Sources(HTMLParser):
    """Collects what a browser fetches by itself to show a page."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        if tag in ("script", "img", "iframe"):
            self.found.append(given.get("src") or "")
        elif tag == "link" and re.search("stylesheet|icon", given.get("rel") or ""):
            self.found.append(given.get("href") or "")


def test_a_page_fetches_nothing_from_other_hosts(site):
    for page in site.rglob("*.html"):
        sources = Sources()
        sources.feed(page.read_text())
        assert [s for s in sources.found if re.match(r"(https?:)?//", s)] == [], page.name


@pytest.mark.browser
@needs_axe()
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nothing_serious_for_those_who_see_or_use_it_in_other_ways(site, chromium, scheme):
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        page = browser.new_page(color_scheme=scheme)
        for name in ("index", "tutorial", "how-to/hardware", "reference/experiment-file"):
            page.goto((site / f"{name}.html").as_uri())
            assert serious(page) == [], name
        browser.close()


def test_a_broken_link_fails_the_build(site, tmp_path):
    """The reader of a page is never led to nothing, whatever the pages will be."""
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "index.md").write_text("[gone](gone.md) and [here](#nowhere)\n")
    settings = (ROOT / "mkdocs.yml").read_text().split("\nnav:")[0]
    settings = re.sub(r"(?m)^(hooks|extra_css|extra_javascript): .*\n", "", settings)
    (tmp_path / "mkdocs.yml").write_text(settings)
    done = run_process(
        [sys.executable, "-m", "mkdocs", "build"], cwd=tmp_path, more={"NO_MKDOCS_2_WARNING": "1"}
    )
    assert done.returncode == 1, done.stderr
    assert "gone.md" in done.stderr and "#nowhere" in done.stderr
