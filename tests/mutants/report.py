"""The table of what was killed, and the file that keeps it for the next one."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from dataclasses import astuple
from pathlib import Path
from typing import Any

from tests.mutants.drawing import PACKAGES, Mutant
from tests.mutants.running import DEAD, Results

BASELINE = Path(__file__).with_name("baseline.json")
LAYERS = ("quick", "test", "simulation")


def verdicts(mutant: Mutant, results: Results) -> dict[str, str]:
    """Layer -> what came out, of the layers that were tried."""
    known = {layer: results.known.get(layer, {}).get(mutant.id) for layer in LAYERS}
    return {layer: line["result"] for layer, line in known.items() if line}


def save(path: Path, head: dict[str, Any], drawn: list[Mutant], results: Results) -> None:
    """Keep a draw and its results, a mutant a line; what was not tried is not in a line."""
    rows = [json.dumps([*astuple(m), verdicts(m, results)]) for m in drawn]
    text = json.dumps(head)[:-1] + ', "mutants": [\n' + ",\n".join(rows) + "\n]}\n"
    path.write_text(text)


def load(path: Path = BASELINE) -> tuple[dict[str, Any], dict[Mutant, dict[str, str]]]:
    """What ``save`` kept: its head, and the mutants with their results."""
    kept = json.loads(path.read_text())
    mutants = {Mutant(*row[:-1]): row[-1] for row in kept.pop("mutants")}
    return kept, mutants


def table(said: dict[Mutant, dict[str, str]]) -> str:
    """A table in Markdown: each package, each layer.

    Args:
        said: Mutant -> layer -> what came out.
    """
    columns = " | ".join(f"{layer}: killed of tried" for layer in LAYERS)
    lines = [f"| package | drawn | {columns} | killed | left |", "|---" * 7 + "|"]
    for package in (*PACKAGES, "all"):
        some = [s for m, s in said.items() if package in (m.package, "all")]
        cells = [f"{_dead(some, layer)} of {sum(layer in s for s in some)}" for layer in LAYERS]
        low, share, high = estimate(some)
        pending = sum(not _over(s) for s in some)
        killed = f"{share:.1%}" + (f" ({low:.1%} to {high:.1%})" if pending else "")
        left = sum(_over(s) and not any(v in DEAD for v in s.values()) for s in some)
        also = f", {pending} pending" if pending else ""
        lines.append(
            f"| {package} | {len(some)} | {' | '.join(cells)} | {killed} | {left}{also} |"
        )
    return "\n".join(lines)


def estimate(some: list[dict[str, str]]) -> tuple[float, float, float]:
    """The share that is killed in the end, with its 95 % interval where mutants are pending.

    The layers are run in the random order of the draw, so that those tried stand for all. The
    interval takes the ends of the Wilson intervals of both unfinished layers together.
    """
    alive = [1.0, 1.0, 1.0]
    for layer in LAYERS:
        tried, dead = sum(layer in s for s in some), _dead(some, layer)
        waiting = sum(layer not in s and not any(v in DEAD for v in s.values()) for s in some)
        shares = _wilson(dead, tried) if waiting else [dead / tried if tried else 0.0] * 3
        alive = [left * (1 - share) for left, share in zip(alive, shares, strict=True)]
    return 1 - alive[0], 1 - alive[1], 1 - alive[2]


def _wilson(dead: int, tried: int, z: float = 1.96) -> list[float]:
    if not tried:
        return [0.0, 0.0, 1.0]
    share, square = dead / tried, z * z / tried
    middle = share + square / 2
    width = z * math.sqrt(share * (1 - share) / tried + square / tried / 4)
    return [(middle - width) / (1 + square), share, (middle + width) / (1 + square)]


def _dead(some: Iterable[dict[str, str]], layer: str) -> int:
    return sum(s.get(layer) in DEAD for s in some)


def _over(said: dict[str, str]) -> bool:
    return any(v in DEAD for v in said.values()) or all(layer in said for layer in LAYERS)
