"""All campaigns with real processes, one after the other, and one table.

    python -m tests.benchmarks.campaigns                 # the full size: hours
    python -m tests.benchmarks.campaigns --scale 0.01    # 10 leases in place of 1,000
    python -m tests.benchmarks.campaigns --only "leases, Google Cloud" --logs FOLDER

Each piece is a script of its own, which judges itself by what exists at the provider's side, and
ends with another code than 0 if a result was lost or changed, or if anything is left.
"""

from __future__ import annotations

import argparse
import math
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from . import common

STUDY = "tests/contract/test_study.py"


@dataclass(frozen=True)
class Piece:
    """A campaign.

    Attributes:
        name: In the table.
        words: After ``python -m``; ``{size}`` stands for the size.
        size: The full one; 0: it has one size.
        needs: A file that must exist, or nothing.
    """

    name: str
    words: tuple[str, ...]
    size: int = 0
    needs: str = ""

    def command(self, scale: float) -> list[str]:
        """What runs it."""
        size = max(1, math.ceil(self.size * scale))
        return [sys.executable, "-m", *(word.format(size=size) for word in self.words)]


PIECES = (
    Piece("leases, Google Cloud", ("tests.benchmarks.gcp_leases", "{size}"), 1000),
    Piece("leases, Azure ML", ("tests.benchmarks.azure_leases", "{size}"), 1000, ".venv/azurite"),
    Piece("trainings, Google Cloud", ("tests.benchmarks.gcp_trainings", "{size}"), 50),
    Piece("leases, SSH", ("tests.benchmarks.host_leases", "ssh", "{size}"), 200),
    Piece("leases, Dask", ("tests.benchmarks.host_leases", "dask", "{size}"), 200),
    Piece("kill -9 of local workers", ("tests.benchmarks.kills", "{size}"), 200),
    Piece(
        "kill -9 of a study's driver",
        ("pytest", "-q", "-m", "slow", f"{STUDY}::test_fifty_kills_in_a_study_of_forty_trials"),
    ),
)
_LINE = re.compile(r"^  (?P<what>[a-zA-Z].*?)\s{2,}(?P<found>\S.*)$", re.M)
_BAD = ("lost", "left", "differ", "broke or hung")


@dataclass(frozen=True)
class Ran:
    """How a campaign ended.

    Attributes:
        code: 0: nothing lost, changed or left.
        found: The lines of its table that say so.
        seconds: How long it took.
    """

    code: int
    found: str
    seconds: float


def run(piece: Piece, scale: float, logs: Path) -> Ran:
    """Run a campaign; its output goes to a file of its name.

    Args:
        piece: Which.
        scale: Share of its full size.
        logs: Folder for the output.
    """
    log = logs / f"{re.sub('[^a-z0-9]+', '-', piece.name.lower())}.txt"
    began = time.monotonic()
    with log.open("w") as out:
        done = subprocess.run(
            piece.command(scale),
            cwd=common.ROOT,
            stdout=out,
            stderr=subprocess.STDOUT,
            env={**os.environ, "PYTHONUNBUFFERED": "1"},
            check=False,
        )
    said = log.read_text(errors="replace")
    lines = [f"{m['what']}: {m['found']}" for m in _LINE.finditer(said)]
    found = [line for line in lines if any(word in line for word in _BAD)]
    last = said.strip().splitlines()[-1:] or ["no output"]
    text = "; ".join(found or last)
    return Ran(done.returncode, text, time.monotonic() - began)


def table(rows: Sequence[tuple[Piece, Ran | None]], scale: float) -> int:
    """Print all; the exit code."""
    print(f"\ncampaigns at {scale:g} of their size")
    for piece, ran in rows:
        if ran is None:
            print(f"  {piece.name:28} not run: {piece.needs} is missing")
        else:
            word = "good" if ran.code == 0 else f"BAD, code {ran.code}"
            print(f"  {piece.name:28} {word:12} {ran.seconds:7.0f} s  {ran.found}")
    return int(any(ran is None or ran.code for _, ran in rows))


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
    rows: list[tuple[Piece, Ran | None]] = []
    for piece in PIECES:
        if asked.only and piece.name not in asked.only:
            continue
        there = not piece.needs or (common.ROOT / piece.needs).exists()
        ran = run(piece, asked.scale, logs) if there else None
        rows.append((piece, ran))
        print(f"{piece.name}: {ran.found if ran else 'not run'}", flush=True)
    return table(rows, asked.scale)


if __name__ == "__main__":
    sys.exit(main())
