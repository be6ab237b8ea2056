"""Files of results, and how their names become parts of keys."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drillyard.errors import UserError
from drillyard.mailbox import Mailbox
from drillyard.mailbox.file import FileStore
from drillyard.mailbox.files import save_file, verify_file
from drillyard.mailbox.keys import MAX_PART, check_key, decoded, encoded

# -- Files of results that another process still writes to ------------------------------------


SECOND = 1_772_370_000 * 10**9
"""A time with whole seconds, in nanoseconds."""


class Growing(FileStore):
    """A store for which a local file grows just before it is read."""

    grows: Path
    times = 1

    def upload(self, key: str, path: Path) -> None:
        if self.times:
            self.times -= 1
            with open(self.grows, "ab") as file:
                file.write(b"one more line\n")
        super().upload(key, path)


def test_a_file_that_grows_meanwhile_has_the_hash_of_what_is_stored(tmp_path):
    log = tmp_path / "log.txt"
    log.write_bytes(b"first line\n")
    store = Growing(str(tmp_path / "store"))
    store.grows = log
    for times in (1, 100):  # and it never stops growing
        store.times = times
        entry = save_file(Mailbox(store, "e"), "a/log.txt", log)
        verify_file(Mailbox(store, "e"), entry)
        assert log.read_bytes().startswith(store.get("e/a/log.txt"))


class Rewritten(FileStore):
    """A file of the same size is written within the second that its time shows."""

    source: Path
    times = 1

    def upload(self, key: str, path: Path) -> None:
        if self.times:
            self.times -= 1
            self.source.write_bytes(b"abcde")
            os.utime(self.source, ns=(SECOND, SECOND))
        super().upload(key, path)


def test_a_write_that_the_time_of_a_file_does_not_show_is_noticed(tmp_path):
    log = tmp_path / "log.txt"
    log.write_bytes(b"12345")
    os.utime(log, ns=(SECOND, SECOND))
    store = Rewritten(str(tmp_path / "store"))
    store.source = log
    entry = save_file(Mailbox(store, "e"), "a/log.txt", log)
    verify_file(Mailbox(store, "e"), entry)
    assert store.get("e/a/log.txt") == b"abcde"


# -- How names of files become parts of keys --------------------------------------------------


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
