"""All campaigns with real processes, one after the other, and one table.

    python -m tests.benchmarks.campaigns                 # the full size: hours
    python -m tests.benchmarks.campaigns --scale 0.01    # 10 leases in place of 1,000
    python -m tests.benchmarks.campaigns --only "leases, Google Cloud" --logs FOLDER

With the same folder of logs the next call adds to what was done before, with other seeds, and the
table is the sum: a full size can be done in parts of any length.

Each piece is a script of its own, which judges itself by what exists at the provider's side, and
ends with another code than 0 if a result was lost or changed, or if anything is left.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import re
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from . import common

ROWS = "rows.jsonl"
"""In the folder of logs: what was done so far."""
APART = 100
"""Between the seeds of two parts."""
STUDY = "tests/contract/test_study.py"


@dataclass(frozen=True)
class Piece:
    """A campaign.

    Attributes:
        name: In the table.
        words: After ``python -m``; ``{size}`` stands for the size, ``{seed}`` for the seed.
        size: The full one; 0: it has one size.
        needs: A file that must exist, or nothing.
    """

    name: str
    words: tuple[str, ...]
    size: int = 0
    needs: str = ""

    def sized(self, scale: float) -> int:
        """Its size at a scale."""
        return max(1, math.ceil(self.size * scale))

    def command(self, size: int, seed: int) -> list[str]:
        """What runs it."""
        words = (word.format(size=size, seed=seed) for word in self.words)
        return [sys.executable, "-m", *words]


PIECES = (
    Piece("leases, Google Cloud", ("tests.benchmarks.gcp_leases", "{size}", "{seed}"), 1000),
    Piece(
        "leases, Azure ML",
        ("tests.benchmarks.azure_leases", "{size}", "{seed}"),
        1000,
        ".venv/azurite",
    ),
    Piece(
        "trainings, Google Cloud", ("tests.benchmarks.trainings", "gcp", "{size}", "{seed}"), 50
    ),
    Piece(
        "trainings, Azure ML",
        ("tests.benchmarks.trainings", "azure", "{size}", "{seed}"),
        50,
        ".venv/azurite",
    ),
    Piece("leases, SSH", ("tests.benchmarks.host_leases", "ssh", "{size}", "{seed}"), 200),
    Piece("leases, Dask", ("tests.benchmarks.host_leases", "dask", "{size}", "{seed}"), 200),
    Piece("leases, local", ("tests.benchmarks.host_leases", "local", "{size}", "{seed}"), 200),
    Piece(
        "kill -9 of a study's driver",
        ("pytest", "-q", "-m", "slow", f"{STUDY}::test_fifty_kills_in_a_study_of_forty_trials"),
    ),
)
_LINE = re.compile(r"^  (?P<what>[a-zA-Z].*?)\s{2,}(?P<found>\d+)\b", re.M)
_BAD = ("results lost", "left", "differ", "broke or hung")


@dataclass(frozen=True)
class Ran:
    """How a part of a campaign ended.

    Attributes:
        name: Of the campaign.
        size: Of this part.
        seed: Of its chance.
        code: 0: nothing lost, changed or left.
        found: The lines of its table that say so: what, and how many.
        seconds: How long it took.
    """

    name: str
    size: int
    seed: int
    code: int
    found: dict[str, int]
    seconds: float


def run(piece: Piece, size: int, seed: int, logs: Path) -> Ran:
    """Run a part of a campaign; its output goes to a file of its name and seed.

    Args:
        piece: Which.
        size: How much of it.
        seed: Of its chance.
        logs: Folder for the output.
    """
    log = logs / f"{re.sub('[^a-z0-9]+', '-', piece.name.lower())}-{seed}.txt"
    began = time.monotonic()
    with log.open("w") as out:
        done = subprocess.run(
            piece.command(size, seed),
            cwd=common.ROOT,
            stdout=out,
            stderr=subprocess.STDOUT,
            env={**os.environ, "PYTHONUNBUFFERED": "1"},
            check=False,
        )
    said = log.read_text(errors="replace")
    found = {
        m["what"]: int(m["found"])
        for m in _LINE.finditer(said)
        if any(word in m["what"] for word in _BAD)
    }
    return Ran(piece.name, size, seed, done.returncode, found, time.monotonic() - began)


def before(logs: Path) -> list[Ran]:
    """The parts that earlier calls have done."""
    kept = logs / ROWS
    lines = kept.read_text().splitlines() if kept.exists() else []
    return [Ran(**json.loads(line)) for line in lines]


def table(rows: Sequence[Ran], missing: Sequence[Piece]) -> int:
    """Print the sums; the exit code."""
    print("\ncampaigns")
    for piece in PIECES:
        own = [row for row in rows if row.name == piece.name]
        if not own:
            continue
        found: Counter[str] = Counter()
        for row in own:
            found.update(row.found)
        size = f"{sum(row.size for row in own)} of {piece.size}" if piece.size else ""
        bad = [row.seed for row in own if row.code]
        word = f"BAD, seeds {bad}" if bad else "good"
        text = ", ".join(f"{what}: {number}" for what, number in found.items())
        seconds = sum(row.seconds for row in own)
        print(f"  {piece.name:28} {size:14} {word:8} {seconds:7.0f} s  {text}")
    for piece in missing:
        print(f"  {piece.name:28} not run: {piece.needs} is missing")
    return int(bool(missing) or any(row.code for row in rows))


def main() -> int:
    """The command line; the exit code."""
    words = argparse.ArgumentParser(prog="python -m tests.benchmarks.campaigns")
    words.add_argument("--scale", type=float, default=1.0, help="share of the full size")
    words.add_argument("--only", action="append", help="names of pieces; default: all")
    words.add_argument("--logs", type=Path, help="folder for their output")
    asked = words.parse_args()
    names = {piece.name for piece in PIECES}
    if unknown := set(asked.only or ()) - names:
        words.error(f"no such piece: {sorted(unknown)}; there are {sorted(names)}")
    logs = asked.logs or Path(tempfile.mkdtemp(prefix="drillyard-campaigns-"))
    logs.mkdir(parents=True, exist_ok=True)
    print(f"output: {logs}", flush=True)
    rows, missing = before(logs), []
    for piece in PIECES:
        if asked.only and piece.name not in asked.only:
            continue
        if piece.needs and not (common.ROOT / piece.needs).exists():
            missing.append(piece)
            continue
        # A campaign takes as many seeds as it has parts of its own.
        seed = 1 + APART * sum(row.name == piece.name for row in rows)
        rows.append(run(piece, piece.sized(asked.scale), seed, logs))
        with (logs / ROWS).open("a") as kept:
            kept.write(json.dumps(vars(rows[-1])) + "\n")
        print(f"{piece.name}: {rows[-1].found}", flush=True)
    return table(rows, missing)


if __name__ == "__main__":
    sys.exit(main())
