"""``drillyard list``: lists built-in parts and those of plug-ins."""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING

import typer

from drillyard.cli.common import JsonOption, print_json
from drillyard.cli.list_machines import list_machines
from drillyard.cli.list_points import list_points
from drillyard.cli.runs import list_experiments, list_runs

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from drillyard.documents.json_types import Json


class What(enum.StrEnum):
    """Kinds that can be listed."""

    ALGORITHMS = "algorithms"
    SIMULATORS = "simulators"
    BASELINES = "baselines"
    BACKENDS = "backends"
    WORKLOADS = "workloads"
    STORES = "stores"
    TRACKERS = "trackers"
    CHOOSERS = "choosers"
    COMMANDS = "commands"
    BLOCKS = "blocks"
    FLOWS = "flows"
    DEPLOYMENTS = "deployments"
    ENDPOINTS = "endpoints"
    REHEARSALS = "rehearsals"
    HOSTS = "hosts"
    PLUGINS = "plugins"
    PRESETS = "presets"
    STATUSES = "statuses"


def register(app: typer.Typer) -> None:
    """Adds the commands to the command line."""
    group = typer.Typer(
        help="List algorithms, simulators, backends, plug-ins, …",
        invoke_without_command=True,
    )
    group.callback()(_all)
    for what in What:
        group.command(what.value, help=f"List {what.value}.")(_command(what))
    group.command("runs", help="List the runs of an experiment.")(list_runs)
    group.command("machines")(list_machines)
    group.command("points")(list_points)
    group.command(
        "experiments", help="List the experiments of a store: result, age, cost; newest first."
    )(list_experiments)
    app.add_typer(group, name="list")


def _all(context: typer.Context, as_json: JsonOption = False) -> None:
    """List every kind on one line."""
    if context.invoked_subcommand is not None:
        return
    names_of = {what.value: [str(row["name"]) for row in entries(what)] for what in What}
    if as_json:
        print_json(names_of)
        return
    rows = [
        {"kind": kind, "names": ", ".join(names) or "none"} for kind, names in names_of.items()
    ]
    _show(rows, "kinds", as_json=False)
    typer.echo(
        "\n`drillyard list KIND` shows more; `drillyard list runs` lists your runs; "
        "`drillyard list machines` what can be rented."
    )


def _command(what: What) -> Callable[..., None]:
    def command(as_json: JsonOption = False) -> None:
        _show(entries(what), what.value, as_json)

    return command


def entries(what: What) -> Sequence[Mapping[str, Json]]:
    """Returns one row for each entry; ``name`` comes first."""
    from drillyard.registry import KINDS, OURS

    if what is What.PRESETS:
        from drillyard.spec.presets import statement, studies, table

        presets = [(e["name"], e["when"], statement(e)) for e in table()]
        return [
            {
                "name": name,
                "algorithm": of["algorithm"],
                "simulators": ", ".join(of["simulators"]),
                "measured": measured,
            }
            for name, of, measured in [*presets, *((e["name"], e, e["about"]) for e in studies())]
        ]
    if what is What.STATUSES:
        from drillyard.mailbox.status import TABLE

        return [
            {
                "name": status.value,
                "number": meaning.number,
                "ended": status.ended,
                "prefect": meaning.prefect,
                "mlflow": meaning.mlflow,
                "optuna": meaning.optuna,
                "exit_code": int(meaning.exit_code),
            }
            for status, meaning in TABLE.items()
        ]
    if what is What.PLUGINS:
        return [
            {"name": row["name"], "kind": kind, **row}
            for kind in KINDS
            for row in _registered(kind)
            if row["package"] not in OURS
        ]
    return _registered("learners" if what is What.ALGORITHMS else what.value)


def _registered(kind: str) -> list[dict[str, str | None]]:
    """Returns the entries of a kind. Imports plug-ins, so that a broken one is reported."""
    from drillyard.errors import PluginError
    from drillyard.registry import OURS, conflict, describe, load

    rows = []
    for name, target, package in describe(kind):
        problem = conflict(kind, name, package)
        if package not in OURS and problem is None:
            try:
                load(kind, name)
            except PluginError as error:
                problem = str(error).strip()
        rows.append({"name": name, "object": target, "package": package, "problem": problem})
    return rows


def _show(rows: Sequence[Mapping[str, Json]], what: str, as_json: bool) -> None:
    if as_json:
        print_json(rows)
        return
    from drillyard.system.tables import rows_grid
    from drillyard.system.terminal import print_grid

    if not rows:
        typer.echo(f"no {what}")
        return
    columns = [c for c in rows[0] if any(r.get(c) for r in rows)]
    cells = [["" if r[c] is None else str(r[c]) for c in columns] for r in rows]
    print_grid(rows_grid("", columns, cells))
