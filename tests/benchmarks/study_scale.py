"""A study of a thousand mock runs: what its driver takes, and how its answers open.

    python -m tests.benchmarks.study_scale [--trials 1000] [--workers 2] [--chooser random]
                                           [--no-prefect]

CPU time and memory are those of the process of `drillyard run` alone, read from the kernel while
it lives: choosing, posting, watching and judging the trials, Prefect's client with a task run a
trial, and the report at the end. Its children are not counted: the agent with its workers,
Prefect's server, the MLflow mirror. One run is one trial of one seed, the dearest form. What the
same command takes on the finished study (its start, and the report once more) is printed apart,
and is in the figure.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import psutil

from tests.benchmarks.common import BIN, table, timed
from tests.helpers.study_store import METRIC, TUNABLES

LOOK_S = 0.1


@dataclass
class Taken:
    """What one process took, without its children."""

    wall_s: float
    cpu_s: float
    peak_bytes: int


def watched(command: list[str], folder: Path) -> Taken:
    """Run a command; what its own process took."""
    began = time.perf_counter()
    with open(folder / "out.txt", "w") as out:
        process = psutil.Popen(command, cwd=folder, stdout=out, stderr=subprocess.STDOUT)
        cpu_s, peak = 0.0, 0
        while process.poll() is None:
            try:
                times = process.cpu_times()
                cpu_s = times.user + times.system
                peak = max(peak, process.memory_info().rss)
            except psutil.Error:
                break  # it has just ended
            time.sleep(LOOK_S)
    if process.wait():
        raise SystemExit(f"{' '.join(command)}\n{(folder / 'out.txt').read_text()[-3000:]}")
    return Taken(time.perf_counter() - began, cpu_s, peak)


def opened(page: Path) -> float | None:
    """Seconds until Chromium has loaded and laid out a page; None where there is no Chromium."""
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    if chromium is None:
        return None
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        tab = browser.new_page()
        began = time.perf_counter()
        tab.goto(page.as_uri(), wait_until="load")
        tab.evaluate("document.body.getBoundingClientRect().height")
        seconds = time.perf_counter() - began
        browser.close()
    return seconds


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=1000)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--chooser", default="random")
    parser.add_argument("--no-prefect", action="store_true")
    options = parser.parse_args()
    trials = options.trials
    spec = {
        "schema": 1,
        "name": "scale",
        "workload": "mock",
        "seeds": [1],
        "mock": {"range": [0, 100], "noise": 0.05},
        "parameters": {"tunables": TUNABLES, "tunable_params": ["shape"]},
        "resources": {"workers": options.workers},
        "study": {
            "chooser": options.chooser,
            "trials": trials,
            "confirm": 0,
            "objectives": [{"metric": METRIC, "direction": "min"}],
        },
    }
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "scale.json").write_text(json.dumps(spec))
        command = [str(BIN / "drillyard"), "run", "scale.json"]
        command += ["--no-prefect"] * options.no_prefect
        whole = watched(command, folder)
        again = watched(command, folder)
        report = timed([str(BIN / "drillyard"), "report", "scale"], folder).seconds
        answers = timed([str(BIN / "drillyard"), "results", "scale"], folder).seconds
        page = folder / "drillyard-runs" / "scale" / "report" / "index.html"
        size, shown = page.stat().st_size, opened(page)
    table(
        f"{trials:,} mock runs, a trial each ({options.chooser}), {options.workers} workers, "
        f"{'without' if options.no_prefect else 'with'} Prefect",
        [
            ("wall time of `drillyard run`", f"{whole.wall_s:.0f} s"),
            (
                f"driver's own CPU time a run ({25 if options.no_prefect else 45} ms wanted)",
                f"{1000 * whole.cpu_s / trials:.1f} ms",
            ),
            ("driver's own CPU time in all", f"{whole.cpu_s:.1f} s"),
            ("of that, the same command on the finished study", f"{again.cpu_s:.1f} s"),
            ("driver's peak memory (250 MiB wanted)", f"{whole.peak_bytes / 2**20:.0f} MiB"),
            ("`drillyard report`", f"{report:.1f} s"),
            ("`drillyard results`", f"{answers:.1f} s"),
            ("size of the page", f"{size / 2**20:.2f} MiB"),
            ("the page in Chromium", "no Chromium" if shown is None else f"{shown:.2f} s"),
        ],
    )


if __name__ == "__main__":
    main()
