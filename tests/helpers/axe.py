"""Runs axe-core, a checker of accessibility, in a page that a browser has opened.

`make test` installs it by npm: https://github.com/dequelabs/axe-core. A content security policy
keeps scripts out of our pages, so it is evaluated in the page by the browser's own interface.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page

AXE = Path(sys.prefix) / "axe/node_modules/axe-core/axe.min.js"
SERIOUS = ("serious", "critical")


def needs_axe() -> pytest.MarkDecorator:
    """Marks a test that runs it."""
    why = "axe-core is not installed (npm install axe-core; `make test` does it where npm is)"
    return pytest.mark.skipif(not AXE.is_file(), reason=why)


def serious(page: Page) -> list[str]:
    """What it finds in a page that is serious or critical: a line a rule, with the first place."""
    page.evaluate(AXE.read_text(encoding="utf-8"))
    found: dict[str, Any] = page.evaluate("() => axe.run(document)")
    assert found["passes"], "it has checked nothing"
    return [
        f"{v['id']} ({v['impact']}): {v['help']}; {v['nodes'][0]['html']}"
        for v in found["violations"]
        if v["impact"] in SERIOUS
    ]
