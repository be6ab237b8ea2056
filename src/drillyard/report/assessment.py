"""The page of an assessment, and the table that it shares with the terminal."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from drillyard.errors import UserError
from drillyard.evaluation.assessment import FILES, Assessed, Request, summary
from drillyard.report import training_pictures
from drillyard.report.templates import rendered, safe
from drillyard.results import formatting
from drillyard.system.output_files import check_folder, write_folder
from drillyard.system.tables import Grid, Table, csv_of_rows

Row = Mapping[str, Any]
SHOWN = 500
"""Conditions that the page shows."""
_ENDED = {None: "-", True: "yes", False: "no"}


def grid(request: Request, assessed: Sequence[Assessed]) -> Grid:
    """A row a condition."""
    title = f"{request.baseline or 'agent'} on {request.simulator['id']}"
    table = Table(title, [entry.row for entry in assessed])
    table.text("episode", lambda row: str(row["episode_id"]))
    table.text("conditions", _conditions)
    table.number("return", lambda row: formatting.number(row["episode_return"]))
    table.number("steps", lambda row: row["length"])
    table.text("ended", lambda row: "terminated" if row["terminated"] else "truncated")
    table.text("success", lambda row: _ENDED[row["success"]])
    for key in (key for key in assessed[0].row if key.startswith("state_")):
        table.number(key, _state(key))
    return table


def _conditions(row: Row) -> str:
    given = {k.removeprefix("config_"): v for k, v in row.items() if k.startswith("config_")}
    texts = (f"{k}={v:g}" if isinstance(v, float) else f"{k}={v}" for k, v in given.items())
    return ", ".join(texts)


def _state(key: str) -> Callable[[Row], str]:
    return lambda row: formatting.number(row.get(key))


def verdict(assessed: Sequence[Assessed], left: int = 0) -> str:
    """One sentence over all conditions.

    Args:
        assessed: All of them.
        left: How many are not shown beside it.
    """
    total = summary(assessed)
    more = f", {left} more in the files" if left else ""
    share = "-" if total["success"] is None else f"{total['success']:.0%}"
    return (
        f"{total['episodes']} episodes{more}: "
        f"mean return {formatting.number(total['mean_return'])} "
        f"({formatting.number(total['min_return'])} to {formatting.number(total['max_return'])}), "
        f"success {share}"
    )


def page(request: Request, assessed: Sequence[Assessed]) -> str:
    """The page as HTML text: one file, no script, no network, everything escaped.

    Raises:
        UserError: matplotlib is not installed.
    """
    columns: dict[str, list[tuple[list[float], bool]]] = {}
    for entry in assessed[:SHOWN]:
        for key in [k for k in entry.steps[0] if k.startswith("state_")]:
            path = [float(step.get(key, float("nan"))) for step in entry.steps]
            columns.setdefault(key, []).append((path, entry.row["success"] is not False))
    failed = any(entry.row["success"] is False for entry in assessed)
    caption = "Each state over the steps of every episode"
    caption += "; orange: those without success." if failed else "."
    return rendered(
        "assessment.html.j2",
        grid=grid(request, assessed[:SHOWN]),
        left=max(0, len(assessed) - SHOWN),
        verdict=verdict(assessed),
        caption=caption,
        picture=safe(training_pictures.paths(columns).inline),
    )


def texts(request: Request, assessed: Sequence[Assessed]) -> dict[str, str]:
    """Name -> text of ``assessment.csv``, ``assessment_logs.csv``, ``.json`` and ``.html``."""
    what = {
        "policy": request.baseline or "agent",
        "simulator": request.simulator["id"],
        "experiment": request.experiment or None,
        "run": request.run or None,
        "seed": request.seed,
    }
    return {
        FILES[0]: csv_of_rows([entry.row for entry in assessed]),
        FILES[1]: csv_of_rows([step for entry in assessed for step in entry.steps]),
        FILES[2]: json.dumps({**what, **summary(assessed)}, indent=1),
        FILES[3]: page(request, assessed),
    }


def check_unused(folder: Path, option: str) -> None:
    """Refuse a folder that cannot be written or has an assessment, before any episode.

    Args:
        folder: The folder for the files.
        option: The name of the option or parameter, for the message.

    Raises:
        UserError: It cannot be used.
    """
    check_folder(folder, option)
    existing = [folder / name for name in FILES if (folder / name).exists()]
    if existing:
        raise UserError(
            f"{existing[0]} already exists; no episode was played",
            hint=f"choose another folder with {option}",
        )


def write(request: Request, assessed: Sequence[Assessed], folder: Path, option: str) -> None:
    """Write all files of an assessment; see ``check_unused`` for the arguments."""
    files = {name: text.encode() for name, text in texts(request, assessed).items()}
    write_folder(folder, files, option)
