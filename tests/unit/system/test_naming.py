"""Safe names: legal where they go, and different for different texts."""

import re

import pytest

from drillyard.system.safe_names import bucket, file_name, label, lease_id

HARD = [
    "a",
    "CSTR run/1",
    "ä" * 80,
    "x" * 200,
    "../../etc/passwd",
    "con",
    "COM1.txt",
    "-",
    "",
    "Ab",
    "ab",
    "a_b",
    "a-b",
    "1st",
    "a--b",
    "goog-x",
    "\ud800",
    "a\nb",
    "A.B",
    "nul ",
]


@pytest.mark.parametrize(
    ("function", "legal"),
    [
        (file_name, r"[A-Za-z0-9._=-]{1,120}"),
        (label, r"[a-z]([a-z0-9-]{0,61}[a-z0-9])?"),
        (bucket, r"[a-z0-9]([a-z0-9-]{1,61})[a-z0-9]"),
    ],
)
def test_names_are_legal_and_told_apart(function, legal):  # type: ignore[no-untyped-def]
    made = [function(text) for text in HARD]
    assert [m for m in made if not re.fullmatch(legal, m)] == []
    assert len(set(made)) == len(HARD)
    assert made == [function(text) for text in HARD]


def test_good_names_stay():
    assert file_name("best_model.zip") == "best_model.zip"
    assert label("drillyard-cstr") == "drillyard-cstr"
    assert bucket("my-results") == "my-results"
    assert file_name("con") != "con"


def test_a_lease_has_the_name_of_its_place_and_turn():
    one = lease_id("/data/runs", "cstr", 1)
    assert re.fullmatch(r"dy-[0-9a-f]{10}", one)
    assert one == lease_id("/data/runs/", "cstr", 1)
    others = {
        lease_id("/data/runs", "cstr", 2),
        lease_id("/data/run", "scstr", 1),
        lease_id("/data/runs", "cst", 1),
    }
    assert len({one, *others}) == 4
