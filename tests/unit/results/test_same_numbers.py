"""The matrix of hashes: what it takes for equal, and what it does not."""

from __future__ import annotations

import sys

import pytest

from tests.benchmarks import same_numbers
from tests.benchmarks.same_numbers import CLOUDS, Row

EXACT = "exact with resets"


@pytest.fixture(autouse=True)
def one_file(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["same_numbers", "--file", "in turn"])


def test_the_matrix_has_each_place_with_one_worker_and_two_killed_and_not():
    rows = same_numbers.rows()
    for where in ("local", "dask", "ssh", *CLOUDS):
        for preempted in (False, True):
            for workers in (1, 2):
                assert Row(where, workers, preempted=preempted) in rows
    for loaded in (False, True):
        assert Row("local", 2, "processes", loaded=loaded) in rows


def test_equal_hashes_pass_and_one_other_fails(capsys):
    assert same_numbers.main(lambda row, file: ("a" * 64, EXACT)) == 0
    assert "1 different" in capsys.readouterr().out
    other = Row("gcp", 2, preempted=True)
    assert same_numbers.main(lambda row, file: ("ab"[row == other] * 64, EXACT)) == 1
    assert "2 different" in capsys.readouterr().out


def test_a_row_that_says_why_it_cannot_be_equal_does_not_count():
    other = Row("ssh")

    def run(row: Row, file: str) -> tuple[str, str]:
        return ("b", "statistically equal (processor changed)") if row == other else ("a", EXACT)

    assert same_numbers.main(run) == 0


def test_a_row_without_a_hash_fails_unless_its_place_is_missing():
    assert same_numbers.main(lambda row, file: ("-", "FAILED: exit 3")) == 1
    assert same_numbers.main(lambda row, file: ("-", "no sshd")) == 0
