"""The page of an assessment, and the table that it shares with the terminal."""

from __future__ import annotations

import json
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path

from drillyard.errors import UserError
from drillyard.evaluation.assessment import FILES, Assessed, Request, summary
from drillyard.evaluation.summary import csv_text
from drillyard.report import training_pictures
from drillyard.results import formatting
from drillyard.results.table import Grid
from drillyard.system.output_files import check_folder, writing
from drillyard.system.version import VERSION

SHOWN = 500
"""Conditions that the page shows."""
_ENDED = {None: "-", True: "yes", False: "no"}


def grid(request: Request, found: Sequence[Assessed]) -> Grid:
    """A row a condition."""
    states = [key for key in found[0].row if key.startswith("state_")]
    header = ("episode", "conditions", "return", "steps", "ended", "success", *states)
    rows = tuple(
        (
            str(one.row["episode_id"]),
            ", ".join(
                f"{k.removeprefix('config_')}={v:g}"
                if isinstance(v, float)
                else f"{k.removeprefix('config_')}={v}"
                for k, v in one.row.items()
                if k.startswith("config_")
            ),
            formatting.number(one.row["episode_return"]),
            str(one.row["length"]),
            "terminated" if one.row["terminated"] else "truncated",
            _ENDED[one.row["success"]],
            *(formatting.number(one.row.get(key)) for key in states),
        )
        for one in found
    )
    right = frozenset(range(2, 4)) | frozenset(range(6, 6 + len(states)))
    return Grid(f"{request.baseline or 'agent'} on {request.simulator['id']}", header, rows, right)


def verdict(found: Sequence[Assessed], left: int = 0) -> str:
    """One sentence over all conditions.

    Args:
        found: All of them.
        left: How many are not shown beside it.
    """
    total = summary(found)
    more = f", {left} more in the files" if left else ""
    share = "-" if total["success"] is None else f"{total['success']:.0%}"
    return (
        f"{total['episodes']} episodes{more}: "
        f"mean return {formatting.number(total['mean_return'])} "
        f"({formatting.number(total['min_return'])} to {formatting.number(total['max_return'])}), "
        f"success {share}"
    )


def page(request: Request, found: Sequence[Assessed]) -> str:
    """The page as HTML text: one file, no script, no network, everything escaped.

    Raises:
        UserError: matplotlib is not installed.
    """
    from jinja2 import Environment, StrictUndefined
    from markupsafe import Markup

    folder = files("drillyard.report")
    text = (folder / "assessment.html.j2").read_text(encoding="utf-8")
    template = Environment(autoescape=True, undefined=StrictUndefined).from_string(text)
    columns: dict[str, list[tuple[list[float], bool]]] = {}
    for one in found[:SHOWN]:
        for key in [k for k in one.steps[0] if k.startswith("state_")]:
            path = [float(step.get(key, float("nan"))) for step in one.steps]
            columns.setdefault(key, []).append((path, one.row["success"] is not False))
    failed = any(one.row["success"] is False for one in found)
    caption = "Each state over the steps of every episode"
    caption += "; orange: those without success." if failed else "."
    return template.render(
        version=VERSION,
        css=Markup((folder / "page.css").read_text(encoding="utf-8")),
        grid=grid(request, found[:SHOWN]),
        left=max(0, len(found) - SHOWN),
        verdict=verdict(found),
        caption=caption,
        picture=Markup(training_pictures.paths(columns).inline),
    )


def texts(request: Request, found: Sequence[Assessed]) -> dict[str, str]:
    """Name -> text of ``assessment.csv``, ``assessment_logs.csv``, ``.json`` and ``.html``."""
    what = {
        "policy": request.baseline or "agent",
        "simulator": request.simulator["id"],
        "experiment": request.experiment or None,
        "run": request.run or None,
        "seed": request.seed,
    }
    return {
        FILES[0]: csv_text([one.row for one in found]),
        FILES[1]: csv_text([step for one in found for step in one.steps]),
        FILES[2]: json.dumps({**what, **summary(found)}, indent=1),
        FILES[3]: page(request, found),
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


def write(request: Request, found: Sequence[Assessed], folder: Path, option: str) -> None:
    """Write all files of an assessment; see ``check_unused`` for the arguments."""
    with writing(folder, option):
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in texts(request, found).items():
            (folder / name).write_text(text, encoding="utf-8")
