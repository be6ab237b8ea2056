"""The benchmark of coverage runs, finds what is wrong, and the documents show what it found."""

from __future__ import annotations

import json
import re
from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest

from tests.benchmarks.coverage import __main__ as command
from tests.benchmarks.coverage import comparisons, means, others, selection
from tests.benchmarks.coverage.data import KINDS, PAIRS
from tests.benchmarks.coverage.tables import PROMISES, Run

DOCS = Path(__file__).parents[3] / "docs"
PAGE = DOCS / "explanation" / "intervals.md"


@pytest.fixture
def tiny():
    return Run(tries=400, pages=20)


def test_the_document_shows_what_was_measured():
    measured = json.loads(files("drillyard.statistics").joinpath("measured.json").read_text())
    table = PAGE.read_text().split("<!-- P-mean -->")[1].strip().split("\n\n")[0].splitlines()
    sizes = re.findall(r"\d+", table[0].rpartition("|")[0].rpartition("|")[0])
    rows = {
        cells[0]: cells[1:]
        for line in table[2:]
        if (cells := [c.strip() for c in line.strip("|").split("|")])
    }
    assert set(rows) == set(measured) == set(KINDS)
    for kind, cells in rows.items():
        wanted = ["" if n not in measured[kind] else f"{measured[kind][n]:.2f}" for n in sizes]
        by_n = {int(n): share for n, share in measured[kind].items()}
        wanted.append(means.from_when(list(by_n), list(by_n.values())))
        assert cells == wanted, kind


def test_each_promise_of_a_page_is_measured_and_each_measured_one_is_on_a_page():
    pages = {page: page.read_text() for page in DOCS.rglob("*.md")}
    named = {found for text in pages.values() for found in re.findall(r"\bP-[a-z]+\b", text)}
    assert named == set(PROMISES)
    tables = [found for t in pages.values() for found in re.findall(r"<!-- (P-[a-z]+) -->", t)]
    assert sorted(tables) == sorted(PROMISES)


def _cells(table: str) -> list[list[str]]:
    return [[c.strip() for c in line.strip("|").split("|")] for line in table.splitlines()]


@pytest.mark.heavy
def test_the_tables_on_the_pages_are_those_of_the_benchmark():
    """Fewer data sets than ``--write`` takes: a rule that has changed is seen, noise is not."""
    run = Run(tries=2_000, pages=100)
    for section in (means.means, selection.champion, selection.shapes, selection.more_seeds):
        section(run)
    text = "".join(page.read_text() for page in sorted(DOCS.rglob("*.md")))
    assert len(run.promised) == 6
    for promise, table in run.promised.items():
        shown = _cells(text.split(f"<!-- {promise} -->\n\n")[1].split("\n\n")[0])
        again = _cells(table)
        assert [row[0] for row in shown] == [row[0] for row in again], promise
        for row, other in zip(shown[2:], again[2:], strict=True):
            for cell, now in zip(row[1:], other[1:], strict=True):
                if re.fullmatch(r"[\d.]+!?", cell) and row[0] != "largest":
                    share, expected = float(now.strip("!")), float(cell.strip("!"))
                    noise = 0.2 if promise == "P-width" else 1.4 * run.noise(expected, 100) + 0.02
                    assert share == pytest.approx(expected, abs=noise), (promise, row)


def test_a_table_that_is_written_replaces_the_one_on_the_page(tmp_path, monkeypatch):
    page = tmp_path / "page.md"
    page.write_text("Before\n\n<!-- P-mean -->\n\n| old |\n|---|\n\nAfter\n")
    monkeypatch.setattr(command, "DOCS", tmp_path)
    command.write_tables({"P-mean": "| new |\n| --- |"})
    assert page.read_text() == "Before\n\n<!-- P-mean -->\n\n| new |\n| --- |\n\nAfter\n"


def test_truths_are_those_of_the_distributions():
    for kind in KINDS.values():
        values = kind.draw(np.random.default_rng(1), (400_000,))
        noise = 4 * values.std() / np.sqrt(len(values))
        assert values.mean() == pytest.approx(kind.mean, abs=noise), kind.name
    for pair in PAIRS:
        for draw in (pair.one, pair.other):
            values = draw(np.random.default_rng(1), (400_000,))
            noise = 4 * values.std() / np.sqrt(len(values))
            assert values.mean() == pytest.approx(pair.mean, abs=noise), pair.name


@pytest.mark.heavy
def test_what_is_kept_is_what_the_rule_does_today():
    """Fewer data sets than ``--write`` takes: a rule that has changed is seen, noise is not."""
    kept = json.loads(files("drillyard.statistics").joinpath("measured.json").read_text())
    run = Run(tries=2_000)
    means.means(run)
    assert not run.missed
    for kind, by_n in run.kept.items():
        for n, share in by_n.items():
            noise = run.noise(share, run.tries) + 0.005
            assert kept[kind][str(n)] == pytest.approx(share, abs=noise), (kind, n)


def test_an_interval_that_is_too_narrow_is_found(tiny, monkeypatch, capsys):
    def narrow(strata: list[np.ndarray], **_: float) -> tuple[np.ndarray, np.ndarray]:
        (values,) = strata
        half = 1.6 * values.std(axis=-1) / np.sqrt(values.shape[-1])
        return values.mean(axis=-1) - half, values.mean(axis=-1) + half

    monkeypatch.setattr(means, "ends", narrow)
    means.means(tiny)
    assert any(text.startswith("means: normal, n = 3") for text in tiny.missed)
    assert "Share of" in capsys.readouterr().out or tiny.missed


@pytest.mark.heavy
def test_pages_say_when_an_interval_of_the_interquartile_mean_holds_the_truth():
    """The caption of its picture and ``answers.md``: on one simulator, later than a mean's."""
    rng = np.random.default_rng(1)

    def share(name: str, n: int) -> float:
        kind = KINDS[name]
        values = np.sort(kind.draw(rng, (400_000,)))
        truth = float(values[100_000:300_000].mean())
        return means.hits(means.iqm_ends([kind.draw(rng, (4_000, n))]), truth)[0]

    for name in ("skewed", "two groups"):
        assert share(name, 5) < 0.93 <= share(name, 15)
    assert share("normal", 3) >= 0.93
    for n in (5, 10, 20):
        assert 0.55 <= share("three in ten fail", n) <= 0.85


@pytest.mark.heavy
def test_the_tables_print(tiny, capsys):
    for section in (
        means.means,
        means.lessons,
        means.same_episodes,
        comparisons.profiles,
        selection.winner,
        selection.champion,
    ):
        section(tiny)
    said = capsys.readouterr().out
    assert "one in five fails" in said and "How often an equal challenger" in said


@pytest.mark.heavy
def test_what_is_not_installed_is_skipped_with_a_reason(tiny, capsys, tmp_path):
    python = tmp_path / "python"
    told = {
        name: {"skipped": f"No module named {name}"} for name in ("rliable", "scipy", "adastop")
    }
    python.write_text(f"#!/bin/sh\necho '{json.dumps(told)}'\n")
    python.chmod(0o755)
    others.others(Run(tries=100, pages=4), str(python))
    said = capsys.readouterr().out
    assert "rliable: skipped: No module named rliable. python -m venv ENV" in said
    assert "drillyard" in said
