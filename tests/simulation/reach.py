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
_GCP, _AZURE = "backends/drillyard_backends/gcp/", "backends/drillyard_backends/azure/"
_REASONS = {
    "checkpoints, which simulated work has none of": (
        *("src/drillyard/driver/going_on.py", "src/drillyard/driver/resume_checks.py"),
    ),
    "records that are read for tables, plots and plans": (
        *("src/drillyard/leases/spending.py", "src/drillyard/leases/orders.py"),
        *("src/drillyard/studies/importances.py", "src/drillyard/studies/memory.py"),
        *("src/drillyard/studies/views.py", "src/drillyard/mailbox/summaries.py"),
    ),
    "real processes, signals, terminals, ports and GPUs": (
        *("src/drillyard/driver/in_thread.py", "src/drillyard/worker/__main__.py"),
        *("src/drillyard/worker/gpu.py", "src/drillyard/worker/machine_share.py"),
        *("src/drillyard/worker/pool.py", "src/drillyard/worker/signals.py"),
        *("src/drillyard/worker/stall.py", "src/drillyard/worker/together.py"),
        *(f"{_GCP}metadata.py", f"{_AZURE}job.py"),
    ),
    "episodes of real simulators": (
        *("src/drillyard/worker/failed_episode.py", "src/drillyard/mailbox/failed_episode.py"),
    ),
    "stores and sign-ins, in whose place are simulated ones": (
        *("src/drillyard/mailbox/disk_clock.py", "src/drillyard/mailbox/file.py"),
        *("src/drillyard/mailbox/memory.py", "src/drillyard/mailbox/store_check.py"),
        "src/drillyard/mailbox/temporary_files.py",
        *(f"{_GCP}{name}.py" for name in ("bucket", "storage_errors", "store", "wheelhouse")),
        *(f"{_AZURE}{n}.py" for n in ("login", "mlflow_store", "storage_errors", "store")),
    ),
    "checks and price lists, before anything is rented": (
        *(f"{_GCP}{name}.py" for name in ("catalogue", "machines", "plan", "prerequisites")),
        *(f"{_GCP}{name}.py" for name in ("prices", "quotas", "read_only_client", "refresh")),
        *(f"{_GCP}rights.py", f"{_AZURE}choices.py", f"{_AZURE}context.py"),
        *(f"{_AZURE}{name}.py" for name in ("machines", "plan", "prices", "quota", "quota_check")),
        *(f"{_AZURE}{name}.py" for name in ("refresh", "rights", "surroundings")),
        *(f"{_GCP}prove/", f"{_AZURE}prove/"),
    ),
    "other commands: rehearsals, servers, policies that are served": (
        *("src/drillyard/leases/preemption.py", f"{_GCP}mlflow_server/"),
        *(f"{_AZURE}{name}.py" for name in ("assets", "endpoints", "score", "unfinished")),
    ),
    "jobs on several nodes": (f"{_AZURE}job_width.py", f"{_AZURE}multi_node.py"),
    "computations without time, requests or processes": ("src/drillyard/statistics/",),
    "a package that takes seconds to import": ("src/drillyard/studies/smac_chooser.py",),
}
OUTSIDE = {path: reason for reason, paths in _REASONS.items() for path in paths}
"""Files and folders that are no part of the simulation's claim, and why."""


@dataclass
class Reached:
    """What some schedules reach.

    Attributes:
        lines: File -> line of a function -> in how many schedules it ran.
        never: File -> condition that always went the same way, as ``line -> line`` not taken.
        ways: File -> ways of the conditions in lines that were reached.
    """

    lines: dict[str, dict[int, int]] = field(default_factory=dict)
    ways: dict[str, int] = field(default_factory=dict)
    never: dict[str, list[tuple[int, int]]] = field(default_factory=dict)


def reached(first: int, schedules: int, folders: tuple[str, ...] = FOLDERS) -> Reached:
    """Run schedules, and note what each reaches.

    Args:
        first: The first seed.
        schedules: How many.
        folders: Of the product, below the root of the checkout.
    """
    include = [f"{ROOT / folder}/*" for folder in folders]
    measured = coverage.Coverage(
        data_file=None,
        branch=True,
        include=include,
        config_file=False,
        # Without it, the lines of one fiber count as those of the function that another one is in.
        concurrency=["greenlet"],
    )
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
        lines = {*measured.analysis2(str(path))[1]} & inside
        seeds = told.get("contexts", {})
        result.lines[name] = {n: len({*seeds.get(str(n), ())} - {""}) for n in sorted(lines)}
        result.never[name] = [
            (n, to) for n, to in told.get("missing_branches", ()) if result.lines[name].get(n)
        ]
        taken = (n for n, _ in told.get("executed_branches", ()) if result.lines[name].get(n))
        result.ways[name] = len([*taken]) + len(result.never[name])
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
    print(
        f"{'folder':32} lines  outside  claimed  never  share  in 5 or more"
        "  conditions  that go one way only"
    )
    for folder in FOLDERS:
        files = [name for name in result.lines if name.startswith(f"{folder}/")]
        claimed = [name for name in files if not name.startswith(tuple(OUTSIDE))]
        counts = [n for name in claimed for n in result.lines[name].values()]
        lines, never = sum(len(result.lines[name]) for name in files), counts.count(0)
        ways = sum(result.ways[name] for name in claimed)
        oneway = sum(len(result.never[name]) for name in claimed)
        print(
            f"{folder:32} {lines:5}  {lines - len(counts):7}  {len(counts):7}  {never:5}"
            f"  {never / max(1, len(counts)):5.0%}"
            f"  {sum(n >= OFTEN for n in counts) / max(1, len(counts)):12.0%}"
            f"  {ways // 2:10}  {oneway} ({oneway / max(1, ways // 2):.0%})"
        )
    return 0


def _runs(numbers: list[int], among: list[int]) -> Iterator[tuple[int, int]]:
    """Neighbours as first and last of each row of lines."""
    place = {n: k for k, n in enumerate(among)}
    for _, row in itertools.groupby(enumerate(numbers), lambda item: place[item[1]] - item[0]):
        members = [n for _, n in row]
        yield members[0], members[-1]
