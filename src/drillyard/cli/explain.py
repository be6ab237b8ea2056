"""``drillyard explain``: prints every value and where it came from."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated

import typer

from drillyard.cli.arguments import Arguments, with_arguments
from drillyard.cli.common import FileArgument, JsonOption, print_json
from drillyard.system.terminal import console

if TYPE_CHECKING:
    from rich.console import Console

    from drillyard.authoring.explain import RunRow, Tree
    from drillyard.documents.json_types import Json, JsonObject
    from drillyard.spec.load import Loaded


ALWAYS = ("experiment_id", "trial_id", "trial_runner_id")
"""Parameters that every run has. A table of only these would say nothing."""


@with_arguments("on")
def explain(
    file: FileArgument,
    arguments: Arguments,
    all_: Annotated[
        bool, typer.Option("--all", help="Also show values that children leave at their default.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Print every value and where it came from, and what would run where."""
    from drillyard.authoring import explain as explaining
    from drillyard.cli.common import finding_json

    loaded = arguments.load(file)
    rows = explaining.values(loaded)
    runs = explaining.runs(loaded)
    tree = explaining.tree(loaded, runs[0]["parameters"])
    backends = [
        (text, *explaining.settings(replace(loaded, spec=loaded.spec.on_place(text))))
        for text in loaded.spec.places
    ]
    if as_json:
        places = [{"name": n, "settings": [*s], "problem": problem} for n, s, problem in backends]
        print_json(
            {
                "name": loaded.spec.name,
                "values": {path: {"value": value, "from": origin} for path, value, origin in rows},
                "backend": places[0],
                **({"elsewhere": places[1:]} if len(places) > 1 else {}),
                "tree": tree,
                "runs": runs,
                "findings": [finding_json(f) for f in loaded.findings],
            }
        )
        return
    out = console()
    hidden = _print_values(out, rows, everything=all_)
    for name_, settings, problem in backends:
        _print_settings(out, name_, settings, problem)
    if tree["children"] or len(tree["parameters"]) > len(ALWAYS):
        out.print(f"parameters of {runs[0]['run']}:", markup=False)
        _print_tree(out, tree)
        out.print()
    _print_runs(out, loaded, runs)
    if hidden:
        out.print(f"{hidden:,} defaults of children are hidden; --all shows them")
    for finding in loaded.findings:
        from drillyard.findings import Severity

        word = "warning" if finding.severity is not Severity.OK else "note"
        out.print(f"{word}: {finding.message}", markup=False)


def _text(value: Json) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)


def _print_values(out: Console, rows: list[tuple[str, Json, str]], *, everything: bool) -> int:
    """Prints the values; returns how many rows were left out."""
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, show_header=True, header_style="bold")
    for column in ("value", "", "from"):
        table.add_column(column, overflow="fold")
    hidden = 0
    for path, value, origin in rows:
        if origin == "default" and path.startswith("children[") and not everything:
            hidden += 1
            continue
        style = "dim" if origin == "default" else ""
        table.add_row(Text(path, style), Text(_text(value), style), Text(origin, style))
    out.print(table)
    out.print()
    return hidden


def _print_settings(
    out: Console, backend: str, rows: list[JsonObject], problem: str | None
) -> None:
    if not rows and problem is None:
        return
    out.print(f"settings of {backend}:", markup=False)
    lines = [
        (f"{r['name']} = {'-' if r['value'] is None else _text(r['value'])}", str(r["from"]))
        for r in rows
    ]
    _print_lines(out, lines, "  ")
    if problem is not None:
        out.print(f"  cannot be opened: {problem}", markup=False)
    out.print()


def _print_tree(out: Console, node: Tree, indent: str = "  ") -> None:
    """Prints the parameters of an experiment, then its children in order."""
    lines = [
        (f"{name} = {_text(p['value'])}", p["from"])
        for name, p in sorted(node["parameters"].items())
    ]
    _print_lines(out, lines, indent)
    for child in node["children"]:
        out.print(f"{indent}- {child['name']} ({child['workload']})", markup=False)
        _print_tree(out, child, indent + "    ")


def _print_lines(out: Console, lines: list[tuple[str, str]], indent: str) -> None:
    """Prints two columns as plain text; rich needs seconds for a table of thousands of rows."""
    width = min(60, max((len(text) for text, _ in lines), default=0))
    for text, origin in lines:
        out.print(f"{indent}{text:<{width}}  {origin}", markup=False)


def _print_runs(out: Console, loaded: Loaded, runs: list[RunRow]) -> None:
    from drillyard.runs.parallelism import runs as listed_runs
    from drillyard.runs.parallelism import workers

    spec = loaded.spec
    number = listed_runs(spec)
    each_trial = "each trial has " if number is None else ""
    number = len(spec.seeds) if number is None else number
    several = "" if number == 1 else "s"
    ids = ", ".join(r["name"] or r["run"] for r in runs[:8]) + (" …" if len(runs) > 8 else "")
    out.print(
        f"{each_trial}{number:,} run{several} ({ids}), each train -> evaluate -> store, up to "
        f"{workers(spec)} in parallel on {spec.where}",
        markup=False,
    )
