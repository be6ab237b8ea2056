"""``drillyard list experiments`` and ``drillyard list runs``: list what a store holds."""

from __future__ import annotations

import enum
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Annotated

import typer

from drillyard.cli.common import JsonOption, NameArgument, StoreOption, print_json

if TYPE_CHECKING:
    from drillyard.mailbox import Store


class Sort(enum.StrEnum):
    """Orders of ``list experiments``."""

    STARTED = "started"
    NAME = "name"
    STATUS = "status"
    RESULT = "result"
    COST = "cost"


StatusOption = Annotated[
    list[str] | None,
    typer.Option(
        "--status",
        metavar="STATUS",
        help="List only experiments with this status: RUNNING, FAILED, … Repeatable.",
    ),
]
PatternArgument = Annotated[
    str | None,
    typer.Argument(
        metavar="PATTERN", help="Names to list: part of a name, or a pattern such as 'cstr-*'."
    ),
]
SortOption = Annotated[
    Sort,
    typer.Option("--sort", help="Order of the list. By result or cost, the highest comes first."),
]
AlgorithmOption = Annotated[
    str | None, typer.Option("--algorithm", help="List only experiments with this algorithm.")
]


def list_experiments(
    pattern: PatternArgument = None,
    store: StoreOption = None,
    sort: SortOption = Sort.STARTED,
    reverse: Annotated[bool, typer.Option("--reverse", help="Reverse the order.")] = False,
    status: StatusOption = None,
    algorithm: AlgorithmOption = None,
    simulator: Annotated[
        str | None, typer.Option("--simulator", help="List only experiments on this simulator.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Prints one line for each experiment."""
    rows = experiment_rows(store, pattern)
    if statuses := _statuses(status or []):
        rows = [row for row in rows if row.status in statuses]
    if algorithm is not None:
        rows = [row for row in rows if (row.algorithm or "").lower() == algorithm.lower()]
    if simulator is not None:
        rows = [row for row in rows if row.simulator == simulator]
    rows = in_order(rows, sort, reverse=reverse)
    if as_json:
        print_json([asdict(row) for row in rows])
    elif rows:
        _print(rows)
    else:
        chosen = pattern or status or algorithm or simulator
        typer.echo("no experiments" + (" match" if chosen else ""))


def _print(rows: list[ExperimentRow]) -> None:
    from drillyard.results import formatting
    from drillyard.system.tables import Table
    from drillyard.system.terminal import print_grid

    table = Table(f"experiments in {rows[0].store}", rows)
    table.text("experiment", lambda r: r.name)
    table.text("what", lambda r: r.learner)
    table.text("status", lambda r: r.status)
    table.number("runs", lambda r: f"{r.runs_finished} / {r.runs}")
    table.number("result", _result)
    table.number("age", lambda r: formatting.duration(r.age_s))
    table.number(
        "cost",
        lambda r: formatting.money(r.cost, r.currency) if r.cost else None,
        spare=True,
    )
    print_grid(table.text("started", lambda r: formatting.moment(r.created_at), spare=True))
    for row in rows:
        if row.problem:
            typer.echo(f"warning: {row.name}: {row.problem}", err=True)


def _statuses(typed: list[str]) -> list[str]:
    """Statuses as records have them.

    Raises:
        ConfigError: One of them is not a status.
    """
    from drillyard.errors import misused, nearest
    from drillyard.mailbox.status import Status

    known = [status.value for status in Status]
    for text in typed:
        if text.upper() not in known:
            near = nearest(text.upper(), known)
            raise misused("no such status", "--status", text, ", ".join(known), near)
    return [text.upper() for text in typed]


def _result(row: ExperimentRow) -> str:
    from drillyard.results import formatting

    if row.mean_return is not None:
        return formatting.number(row.mean_return)
    if row.metric is not None:
        return f"{row.metric} {formatting.number(row.metric_value)}"
    return formatting.NOTHING


@dataclass
class ExperimentRow:
    """An experiment of a store.

    Attributes:
        learner: Algorithm and simulator, as tables show them; the workload where nothing learns.
        metric: The first metric, where no policy is trained.
        age_s: Seconds since it was created, by the store's clock.
        cost: Cost so far, if one currency is enough for it.
        problem: Why something is missing.
    """

    name: str
    store: str
    status: str = "UNKNOWN"
    learner: str = ""
    algorithm: str | None = None
    simulator: str | None = None
    runs: int = 0
    runs_finished: int = 0
    mean_return: float | None = None
    metric: str | None = None
    metric_value: float | None = None
    created_at: float | None = None
    age_s: float | None = None
    cost: float = 0.0
    currency: str = ""
    problem: str | None = None


def in_order(rows: list[ExperimentRow], sort: Sort, *, reverse: bool) -> list[ExperimentRow]:
    """Rows in an order; those without the value that decides come last, also when reversed.

    Args:
        rows: The rows, newest first.
        sort: What decides. Names and statuses go upwards, the others start with the largest.
        reverse: The other way round.
    """

    def key(row: ExperimentRow) -> float | str | None:
        if sort is Sort.NAME:
            return row.name
        if sort is Sort.STATUS:
            return row.status
        if sort is Sort.COST:
            return row.cost or None
        if sort is Sort.RESULT:
            return row.metric_value if row.mean_return is None else row.mean_return
        return row.created_at

    upwards = sort in (Sort.NAME, Sort.STATUS)
    known = [row for row in rows if key(row) is not None]
    unknown = [row for row in rows if key(row) is None]
    return sorted(known, key=key, reverse=upwards == reverse) + unknown  # type: ignore[arg-type]


def experiment_rows(store: str | None = None, pattern: str | None = None) -> list[ExperimentRow]:
    """Returns the rows of ``list experiments``; an unreadable experiment has the reason.

    Args:
        store: The store.
        pattern: Only names that match it; without ``*``, ``?`` and ``[``, names that hold it.

    Raises:
        NotFound: There is no such store.
    """
    from fnmatch import fnmatchcase
    from pathlib import Path

    from drillyard.errors import NotFound
    from drillyard.mailbox import open_store
    from drillyard.runs.locate import ANOTHER_STORE, experiments, store_url

    url = store_url(store)
    if "://" not in url and not Path(url).is_dir():
        if store is not None:
            raise NotFound(f"no store at {url}", hint=ANOTHER_STORE)
        return []  # reading must not create the folder
    opened = open_store(url)
    glob = pattern or "*"
    if not any(sign in glob for sign in "*?["):
        glob = f"*{glob}*"
    return [_row(opened, name) for name in experiments(opened) if fnmatchcase(name, glob)]


def _row(store: Store, name: str) -> ExperimentRow:
    from drillyard.errors import CorruptObject, NewerVersion
    from drillyard.mailbox import Mailbox
    from drillyard.mailbox.driver_lock import DELETING
    from drillyard.results import collect, formatting

    row = ExperimentRow(name, store.url)
    try:
        results = collect(Mailbox(store, name), curves=False)
    except (CorruptObject, NewerVersion) as error:
        row.problem = str(error)
        return row
    if store.stat(f"{name}/{DELETING}") is not None:
        row.problem = f"it is being deleted; finish that with `drillyard delete {name}`"
    row.status = results.status
    row.learner = formatting.learner(results)
    row.algorithm = (results.spec.get("learner") or {}).get("algorithm")
    row.simulator = (results.spec.get("simulator") or {}).get("id")
    row.runs = len(results.runs)
    row.runs_finished = sum(r.finished for r in results.runs)
    # The best score of a search is that of a lucky trial; run again, it has the one to report.
    agents = sorted(results.agents, key=lambda agent: agent.role != "confirms")
    row.mean_return = agents[0].mean_return if agents else None
    if results.metrics and row.mean_return is None:
        row.metric, row.metric_value = results.metrics[0].metric, results.metrics[0].mean
    row.created_at = results.created_at
    row.age_s = max(0.0, store.now() - results.created_at)
    currencies = {lease.currency for lease in results.costs if lease.total}
    if len(currencies) == 1:
        row.cost = sum(lease.total for lease in results.costs)
        row.currency = currencies.pop()
    return row


def list_runs(
    name: NameArgument = None, store: StoreOption = None, as_json: JsonOption = False
) -> None:
    """Prints one line for each run."""
    from drillyard.results import collect, runs_grid
    from drillyard.runs.locate import open_mailbox

    results = collect(open_mailbox(name, store), curves=False)
    if as_json:
        print_json(results.to_dict()["runs"])
        return
    from drillyard.system.terminal import print_grid

    print_grid(runs_grid(results))
