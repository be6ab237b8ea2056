"""How long `drillyard results` takes for a study of many trials.

    python -m tests.benchmarks.results_scale [--trials 10000]

Every trial has one seed, with all that its worker left; the command is a process of its own, so
that the start of Python and all imports are in the figures.
"""

from __future__ import annotations

import argparse
import subprocess
import tempfile
import time
from pathlib import Path

from tests.benchmarks.common import BIN
from tests.helpers.study_store import write_search


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--trials", type=int, default=10_000)
    trials = parser.parse_args().trials
    with tempfile.TemporaryDirectory() as folder:
        write_search(Path(folder), trials, seeds=(1,))
        for options in (
            ["--top", "5"],
            ["--json"],
            ["--csv", "-"],
            ["--parquet", str(Path(folder) / "x.parquet")],
        ):
            command = [str(BIN / "drillyard"), "results", "search", "--store", folder]
            began = time.monotonic()
            subprocess.run([*command, *options], check=True, stdout=subprocess.DEVNULL)
            print(f"{trials:,} trials, {options[0]}: {time.monotonic() - began:.2f} s")


if __name__ == "__main__":
    main()
