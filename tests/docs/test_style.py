"""Help texts, messages, docstrings, comments and pages keep to docs/contributing/style.md."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

import pytest

TOP = Path(__file__).parents[2]
PRODUCT = ("src", "backends", "flows", "tasks")
RULES = {
    "is no X": r"(?<!there )\bis no (?!longer|more\b)",
    "stands": r"\bstands? (there|in|alone|twice|here|at|beside)\b",
    "Of": r'"""Of [a-z]|^ +[\w*]+: Of |help="Of ',
    "nobody": r"\b(nobody|somebody|anybody)\b",
    "he": r"\b(he|his|him|she|her)\b",
    "mend": r"\bmend(s|ed|ing)?\b",
    "go on with": r"\b(gone|goes|go|went|going) on with\b",
    "bury": r"\b(bur(y|ies|ied|ying)|graves?|undertakers?)\b",
    "dear": r"\bdear(er|est)?\b",
    "has left": r"\b(has|have|had) left\b",
    "house": r"\b(house|houses|the lid|ears?)\b",
    "any more": r"\bany ?more\b",
}
"""Patterns of the first table of the page."""
PAGES = {
    **RULES,
    "world": r"\bworlds?\b",
    "so many": r"\bso (many|much)\b(?!.*\bthat\b)",
    "anew": r"\banew\b",
}
"""The same, and those that apply only to pages."""
ALLOWED = {
    "docs/contributing/style.md": "it quotes what it forbids",
    "src/drillyard/simulators/building.py": "a house is what it simulates",
    "src/drillyard/simulators/building_physics.py": "a house is what it simulates",
}


@cache
def texts() -> dict[Path, str]:
    """What users and contributors read, in small letters; read once for all rules."""
    pages = [TOP / "README.md", TOP / "CONTRIBUTING.md", *TOP.glob("docs/**/*.md")]
    code = [
        path
        for folder in PRODUCT
        for kind in ("*.py", "*.j2", "*.md")
        for path in (TOP / folder).rglob(kind)
    ]
    allowed = {TOP / name for name in ALLOWED}
    return {path: path.read_text().lower() for path in [*pages, *code] if path not in allowed}


@pytest.mark.parametrize("rule", PAGES)
def test_no_text_has_a_forbidden_pattern(rule):
    pattern = re.compile(PAGES[rule].lower(), re.ASCII | re.MULTILINE)  # the fastest way
    hits = [
        f"{path.relative_to(TOP)}:{text.count(chr(10), 0, hit.start()) + 1}: {hit[0]}"
        for path, text in texts().items()
        if rule in RULES or path.suffix == ".md"
        for hit in pattern.finditer(text)
    ]
    listing = "\n".join(hits)
    assert not hits, f"{len(hits)} lines break rule {rule!r} of the page:\n{listing}"


def test_each_pattern_finds_what_the_page_forbids():
    page = (TOP / "docs" / "contributing" / "style.md").read_text()
    table = page.partition("## Before and after")[2].partition("More that")[0]
    for rule, pattern in PAGES.items():
        assert re.search(pattern, table.replace("`", '"""'), re.IGNORECASE), rule
