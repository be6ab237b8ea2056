"""The list of the extended tests names tests that exist."""

import re
from pathlib import Path

from tests.helpers.extended import listed

ROOT = Path(__file__).parents[2]


def test_each_entry_names_a_test_that_exists_and_is_listed_once():
    entries = listed()
    assert sorted(set(entries)) == sorted(entries)
    gone = []
    for entry in entries:
        file, *_, name = entry.partition("[")[0].split("::")
        path = ROOT / file
        if not path.exists() or not re.search(rf"def {name}\(", path.read_text()):
            gone.append(entry)
    # A test that a suite inherits is named in drillyard.testing.
    suites = "".join(p.read_text() for p in (ROOT / "src/drillyard/testing").rglob("*.py"))
    assert not [e for e in gone if f"def {e.partition('[')[0].rpartition('::')[2]}(" not in suites]
