"""The command line of the benchmark."""

from __future__ import annotations

import argparse
import json
import sys
import time
from functools import partial
from pathlib import Path

import numpy as np

import drillyard
from tests.benchmarks.coverage import comparisons, means, others, selection
from tests.benchmarks.coverage.tables import Run, Section

DOCS = Path(__file__).parents[3] / "docs"
FILE = Path(drillyard.__file__).parent / "statistics" / "measured.json"
SECTIONS: dict[str, Section] = {
    "means": means.means,
    "at-once": means.at_once,
    "lessons": means.lessons,
    "same-episodes": means.same_episodes,
    "aggregates": means.aggregates,
    "improvement": comparisons.improvement,
    "profiles": comparisons.profiles,
    "verdicts": comparisons.verdicts,
    "power": comparisons.power,
    "bench": comparisons.bench,
    "search": comparisons.search_top,
    "shapes": selection.shapes,
    "winner": selection.winner,
    "champion": selection.champion,
    "baselines": selection.baselines,
    "more-seeds": selection.more_seeds,
    "pruning": comparisons.pruning,
}
QUICK = Run(tries=2_000, pages=100)


def write_tables(promised: dict[str, str]) -> None:
    """Put tables where the pages have ``<!-- P-… -->``; a page's table ends with an empty line."""
    for page in DOCS.rglob("*.md"):
        text = before = page.read_text()
        for promise, table in promised.items():
            mark = f"<!-- {promise} -->\n\n"
            head, found, rest = text.partition(mark)
            if found:
                text = head + mark + table + "\n\n" + rest.partition("\n\n")[2]
        if text != before:
            page.write_text(text)
            print(f"written: {page.name}")


def main() -> int:
    """Print the tables that are asked for."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.benchmarks.coverage", description=__doc__
    )
    names = [*SECTIONS, "others"]
    parser.add_argument(
        "tables",
        nargs="*",
        metavar="TABLE",
        help=f"only these, of {', '.join(names)}; default: all",
    )
    parser.add_argument("--quick", action="store_true", help="fewer tries")
    parser.add_argument("--write", action="store_true", help="keep what pages quote")
    parser.add_argument("--python", help="of an environment with rliable and adastop")
    given = parser.parse_args()
    unknown = sorted(set(given.tables) - set(names))
    if unknown:
        parser.error(f"no table {', '.join(unknown)}; there are {', '.join(names)}")
    run = QUICK if given.quick else Run()
    print(
        f"{run.tries:,} data sets of what is computed at once, {run.pages:,} of what is not; "
        "some tables take a part of them, or more",
        flush=True,
    )
    every: dict[str, Section] = {**SECTIONS, "others": partial(others.others, python=given.python)}
    with np.errstate(all="ignore"):
        for name in given.tables or names:
            began = time.perf_counter()
            every[name](run)
            print(f"({name}: {time.perf_counter() - began:.0f} s)", flush=True)
    if given.write and run.kept:
        lines = ",\n".join(f"{json.dumps(k)}: {json.dumps(by_n)}" for k, by_n in run.kept.items())
        FILE.write_text(f"{{\n{lines}\n}}\n")
        print(f"written: {FILE.name}")
    if given.write:
        write_tables(run.promised)
    if run.missed:
        print("\nmissed (marked by !):", *run.missed, sep="\n  ")
    return 1 if run.missed else 0


if __name__ == "__main__":
    sys.exit(main())
