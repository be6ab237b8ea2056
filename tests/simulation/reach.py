"""Which lines of the product how many schedules reach: what none reaches is not tested here."""

from __future__ import annotations

import ast
import contextlib
import itertools
import json
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import coverage

from tests.simulation.campaign import BACKENDS, one
from tests.simulation.patches import installed
from tests.simulation.plan import draw

ROOT = Path(__file__).parents[2]
FOLDERS = (
    "src/drillyard/driver",
    "src/drillyard/leases",
    "src/drillyard/worker",
    "src/drillyard/studies",
    "src/drillyard/mailbox",
    "src/drillyard/statistics",
    "backends/drillyard_backends/gcp",
    "backends/drillyard_backends/azure",
)
"""Folders of the product that the simulation tests, and `statistics`, which studies use."""
OFTEN = 5


@dataclass
class Reached:
    """What some schedules reach.

    Attributes:
        lines: File -> line of a function -> in how many schedules it ran.
        never: File -> condition that always went the same way, as ``line -> line`` not taken.
    """

    lines: dict[str, dict[int, int]] = field(default_factory=dict)
    never: dict[str, list[tuple[int, int]]] = field(default_factory=dict)


def reached(first: int, schedules: int, folders: tuple[str, ...] = FOLDERS) -> Reached:
    """Run schedules, and note what each reaches.

    Args:
        first: The first seed.
        schedules: How many.
        folders: Of the product, below the root of the checkout.
    """
    include = [f"{ROOT / folder}/*" for folder in folders]
    measured = coverage.Coverage(data_file=None, branch=True, include=include, config_file=False)
    with _running(measured), installed(()) as begin:
        for seed in range(first, first + schedules):
            measured.switch_context(str(seed))
            one(draw(seed, BACKENDS[seed % len(BACKENDS)]), begin)
        measured.switch_context("")
    with tempfile.NamedTemporaryFile("r", suffix=".json") as file:
        measured.json_report(outfile=file.name, show_contexts=True)
        files = json.load(file)["files"]
    result = Reached()
    for path in (p for folder in folders for p in sorted((ROOT / folder).rglob("*.py"))):
        name = str(path.relative_to(ROOT))
        inside = _of_functions(path.read_text())
        told = files.get(name) or files.get(str(path)) or {}
        lines = {*told.get("executed_lines", inside), *told.get("missing_lines", ())} & inside
        seeds = told.get("contexts", {})
        result.lines[name] = {n: len({*seeds.get(str(n), ())} - {""}) for n in sorted(lines)}
        result.never[name] = [
            (n, to) for n, to in told.get("missing_branches", ()) if result.lines[name].get(n)
        ]
    return result


@contextlib.contextmanager
def _running(measured: coverage.Coverage) -> Iterator[None]:
    measured.start()
    try:
        yield
    finally:
        measured.stop()


def _of_functions(source: str) -> set[int]:
    """The lines in the bodies of functions: all others run when the module is imported."""
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef)
    bodies = [node.body for node in ast.walk(ast.parse(source)) if isinstance(node, kinds)]
    return {n for b in bodies for n in range(b[0].lineno, (b[-1].end_lineno or 0) + 1)}


def print_lines(first: int, schedules: int, as_json: bool = False) -> int:
    """Print by folder which share of lines and conditions is never reached; the exit code.

    Args:
        first: The first seed.
        schedules: How many.
        as_json: Print in how many schedules each line of each file ran.
    """
    result = reached(first, schedules)
    if as_json:
        print(json.dumps(result.lines))
        return 0
    print(f"first seed: {first}, {schedules} schedules")
    for name, lines in result.lines.items():
        for never, last in _runs([n for n, count in lines.items() if not count], [*lines]):
            print(f"  {name}:{never}-{last} never")
        for line, to in result.never[name]:
            where = "the end" if to < 0 else f"line {to}"
            print(f"  {name}:{line} never leads to {where}")
    print(f"{'folder':32} lines  never  share  in 5 or more  conditions that go one way only")
    for folder in FOLDERS:
        counts = [n for f, by in result.lines.items() if f.startswith(folder) for n in by.values()]
        oneway = sum(len(by) for f, by in result.never.items() if f.startswith(folder))
        never, often = counts.count(0), sum(n >= OFTEN for n in counts)
        print(
            f"{folder:32} {len(counts):5}  {never:5}  {never / max(1, len(counts)):5.0%}"
            f"  {often / max(1, len(counts)):12.0%}  {oneway}"
        )
    return 0


def _runs(numbers: list[int], among: list[int]) -> Iterator[tuple[int, int]]:
    """Neighbours as first and last of each row of lines."""
    place = {n: k for k, n in enumerate(among)}
    for _, row in itertools.groupby(enumerate(numbers), lambda item: place[item[1]] - item[0]):
        members = [n for _, n in row]
        yield members[0], members[-1]
