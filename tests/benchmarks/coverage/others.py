"""The same data through rliable, SciPy's BCa and AdaStop, in an environment of their own."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from drillyard import statistics as st
from drillyard.statistics.intervals import ends
from drillyard.statistics.scores import iqm_ends
from tests.benchmarks.coverage.comparisons import CASES, DEALT
from tests.benchmarks.coverage.data import KINDS
from tests.benchmarks.coverage.foreign import BY_RLIABLE, OF_ADASTOP, OF_RLIABLE
from tests.benchmarks.coverage.tables import Run, show

FOREIGN = Path(__file__).with_name("foreign.py")
HINT = (
    "python -m venv ENV; ENV/bin/pip install rliable==1.2.0 adastop 'pandas<3' 'numpy<2.3'; "
    "then --python ENV/bin/python"
)
NAMES = ("normal", "skewed", "two groups")
SIZES = (3, 5, 10)
PAGES = ((2, 3), (2, 5), (5, 3), (5, 5))


def others(run: Run, python: str | None) -> None:
    """Coverage of means, and pages that call equal ones better, beside drillyard's."""
    tries = max(60, run.pages // 4)
    data: dict[str, np.ndarray] = {}
    for k, name in enumerate(NAMES):
        for n in SIZES:
            rng = run.generator(30, k, n)
            data[f"mean {name} {n}"] = KINDS[name].draw(rng, (tries, 1, n))
    for c, name in enumerate(("normal", "yes or no", "one is far better")):
        for k, n in PAGES:
            rng = run.generator(31, c, k, n)
            data[f"better {name} {k} {n}"] = np.array(
                [CASES[name](rng, k, n) for _ in range(tries)]
            )
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "data.npz"
        np.savez(path, **data)
        done = subprocess.run(
            [python or sys.executable, str(FOREIGN), str(path)],
            capture_output=True,
            text=True,
            check=False,
        )
    if done.returncode:
        print(f"\nothers: skipped: {python}: {done.stderr.strip().splitlines()[-1:]}")
        return
    theirs: dict[str, dict[str, Any]] = json.loads(done.stdout)
    for package, found in theirs.items():
        if "skipped" in found:
            print(f"\n{package}: skipped: {found['skipped']}. {HINT}")
    _means(data, theirs, tries)
    _pages(data, theirs, tries)


def _held(found: Any, truth: float) -> str:
    low, high = np.asarray(found, dtype=float).T
    known = np.isfinite(low)
    return f"{((low <= truth) & (truth <= high))[known].mean():.2f}"


def _means(data: dict[str, np.ndarray], theirs: dict[str, dict[str, Any]], tries: int) -> None:
    rows = []
    for name in NAMES:
        truth = KINDS[name].mean
        for what in ("drillyard", "rliable", "scipy"):
            if "skipped" in theirs.get(what, {}):
                continue
            row: list[object] = [name, _called(what, theirs)]
            for n in SIZES:
                key = f"mean {name} {n}"
                if what == "drillyard":
                    row.append(_held(np.array(ends([data[key][:, 0]])).T, truth))
                elif what == "rliable":
                    row.append(_held([e[0] for e in theirs[what]["intervals"][key]], truth))
                else:
                    row.append(_held(theirs[what]["intervals"][key], truth))
            rows.append(row)
    for what in ("drillyard", "rliable"):
        if "skipped" in theirs.get(what, {}):
            continue
        row = ["normal", f"{_called(what, theirs)}, interquartile mean"]
        for n in SIZES:
            key = f"mean normal {n}"
            own = (
                np.array(iqm_ends([data[key][:, 0]])).T
                if what == "drillyard"
                else [e[1] for e in theirs[what]["intervals"][key]]
            )
            row.append(_held(own, KINDS["normal"].mean))
        rows.append(row)
    show(
        f"The same {tries} data sets: share of 95 % intervals of a mean that hold the truth",
        ("values", "by", *(f"n = {n}" for n in SIZES)),
        rows,
        f"rliable: the first {OF_RLIABLE} of them, with {BY_RLIABLE} resamples.",
    )


def _called(what: str, theirs: dict[str, dict[str, Any]]) -> str:
    if what == "drillyard":
        return what
    return f"{what} {theirs[what]['version']}" + (" BCa" if what == "scipy" else "")


def _pages(data: dict[str, np.ndarray], theirs: dict[str, dict[str, Any]], tries: int) -> None:
    rows = []
    for name in ("normal", "yes or no", "one is far better"):
        for what in ("drillyard", "rliable", "adastop"):
            if "skipped" in theirs.get(what, {}):
                continue
            row: list[object] = [name, _called(what, theirs)]
            for k, n in PAGES:
                key = f"better {name} {k} {n}"
                known = what == "drillyard" or key in theirs[what]["better"]
                if not known or ("far better" in name and (k == 2 or what != "drillyard")):
                    row.append("")
                    continue
                if what == "drillyard":
                    wrong = np.mean([_wrong(values, name) for values in data[key]])
                else:
                    wrong = np.mean(theirs[what]["better"][key])
                row.append(f"{wrong:.2f}")
            if any(cell for cell in row[2:]):
                rows.append(row)
    show(
        f"The same {tries} pages of equal candidates: share that calls any of them better",
        ("values", "by", *(f"{k} x {n}" for k, n in PAGES)),
        rows,
        "rliable: a pair whose interval of the probability of improvement leaves out one half. "
        "AdaStop: one look at all runs, alpha 0.05. "
        f"rliable: the first {OF_RLIABLE // 4}; AdaStop: {OF_ADASTOP}.",
    )


def _wrong(values: np.ndarray, name: str) -> bool:
    found = st.verdicts({str(i): [v.tolist()] for i, v in enumerate(values)}, dealt=DEALT)
    return any(
        v.word != "undecided"
        for pair, v in found.items()
        if "far better" not in name or "0" not in pair
    )
