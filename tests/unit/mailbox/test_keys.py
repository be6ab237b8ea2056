"""How names of files become parts of keys."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drillyard.errors import UserError
from drillyard.mailbox.keys import MAX_PART, check_key, decoded, encoded

PLAIN = ["a.b", "policy/best_model.zip", "lr=0.1,seed=3", "x~", "a~b", "@x+y", "-"]


@pytest.mark.parametrize("name", PLAIN)
def test_an_allowed_name_is_its_own_key(name):
    assert encoded(name) == decoded(name) == name


@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("my plot.png", "my~20plot.png"),
        ("übersicht.png", "~C3~BCbersicht.png"),
        ("models/.cache/x", "models/~2Ecache/x"),
        ("ep[3] (best).pt", "ep~5B3~5D~20~28best~29.pt"),
        ("a~20b", "a~7E20b"),
    ],
)
def test_other_characters_are_encoded(name, key):
    assert encoded(name) == key and decoded(key) == name


TEXT = st.text(st.characters(exclude_characters="/", exclude_categories=["Cs"]), min_size=1)
TRICKY = st.text("~ AF09.ü", min_size=1)


@given(st.lists(TEXT | TRICKY, min_size=1, max_size=4).map("/".join))
def test_every_name_becomes_a_legal_key_from_which_it_can_be_read(name):
    key = encoded(name)
    assert all(check_key(part) for part in key.split("/"))
    if all(len(part) <= MAX_PART for part in key.split("/")) and "~~" not in key:
        assert decoded(key) == name


@given(TRICKY, TRICKY)
def test_two_names_have_two_keys(one, other):
    assert (encoded(one) == encoded(other)) == (one == other)


def test_a_long_name_fits_into_a_file_system():
    """Three characters replace one byte, and file systems allow 255 bytes."""
    one, other = (f"{'長' * 80}{last}.png" for last in "ab")
    assert encoded(one) != encoded(other)
    assert len(encoded(one)) <= MAX_PART and check_key(encoded(one))


def test_a_name_that_is_not_utf_8_is_refused_by_name():
    with pytest.raises(UserError, match=r"x\\udcff"):
        encoded("x\udcff")
