"""``drillyard schedule``: runs experiment files of one's own at set times."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from drillyard.cli import completing
from drillyard.cli.common import JsonOption, print_json
from drillyard.errors import misused
from drillyard_flows.deploying.cron import EXAMPLE, problems_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from prefect.client.schemas.actions import DeploymentScheduleCreate

    from drillyard.errors import ConfigError
    from drillyard.spec import ExperimentSpec

_DO = ("--cron", "--pause", "--resume", "--off")


NameOption = Annotated[
    str | None,
    typer.Option(
        "--name",
        help="Name of each experiment; {name} is the file's, {date} and {time} are those "
        "of the planned start. Default: {name}-{date}-{time}, so that each run is a "
        "new experiment.",
    ),
]


def schedule(
    file: Annotated[
        str | None,
        typer.Argument(
            help="Experiment file. To pause, resume or delete a schedule, you can give its "
            "name instead. Without FILE, all schedules are listed.",
            autocompletion=completing.files,
        ),
    ] = None,
    cron: Annotated[
        str | None,
        typer.Option("--cron", help='Times in cron format: "0 3 * * *" is each night at 3.'),
    ] = None,
    timezone: Annotated[
        str, typer.Option("--timezone", help="Time zone of the times: Europe/Berlin.")
    ] = "UTC",
    name: NameOption = None,
    more: Annotated[
        list[str] | None,
        typer.Option(
            "--continue",
            metavar="WHAT=N",
            help="Add to one experiment instead: seeds=1, steps=50000, trials=10, hours=2 or "
            "cost=5 each time. Repeatable.",
        ),
    ] = None,
    pause: Annotated[bool, typer.Option("--pause", help="Start nothing until --resume.")] = False,
    resume: Annotated[bool, typer.Option("--resume", help="End a pause.")] = False,
    off: Annotated[bool, typer.Option("--off", help="Delete the file's schedule.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Run an experiment file at set times; needs `drillyard deploy` and a worker of Prefect.

    You can repeat the command: each file has one schedule, and the last times count.
    """
    asked = [word for word, given in zip(_DO, (cron, pause, resume, off), strict=True) if given]
    if file is None and not (asked or name or more):
        _list(as_json)
        return
    _one_of(file, asked)
    assert file is not None
    if cron is None:
        _switch(file, off, resume, as_json)
    else:
        _put(file, cron, timezone, name, more or [], as_json)


def _list(as_json: bool) -> None:
    from drillyard_flows.deploying import schedules
    from drillyard_flows.prefect_api import connected

    with connected() as client:
        rows = schedules.listed(client)
    print_json(rows) if as_json else _print(rows)


def _switch(file: str, off: bool, resume: bool, as_json: bool) -> None:
    """Deletes, resumes or pauses the schedule of a file, or of a name."""
    from drillyard_flows.deploying import schedules
    from drillyard_flows.prefect_api import connected

    with connected() as client:
        slug = _name_of(file, schedules.listed(client))
        done = (
            schedules.delete(client, slug)
            if off
            else schedules.switch(client, slug, active=resume)
        )
    print_json({"slug": slug, "what": done}) if as_json else typer.echo(f"{slug}: {done}")


def _put(
    file: str, cron: str, timezone: str, name: str | None, more: list[str], as_json: bool
) -> None:
    """Makes a file have one schedule with these times."""
    from drillyard_flows.deploying import schedules
    from drillyard_flows.prefect_api import connected

    path, spec = _checked(file, cron, timezone, name, more)
    flow = "experiment" if spec.study is None else "study"
    schedule = _wanted(spec, path, cron, timezone, name, more)
    with connected() as client:
        done = schedules.put(client, flow, schedule)
    if as_json:
        print_json({"deployment": f"{flow}/nightly", "slug": spec.name, "what": done})
        return
    adding = f", adding {', '.join(more)} each time" if more else ""
    typer.echo(f"{done}: {cron} ({timezone}), as {schedule.parameters['name']}{adding}")


def _one_of(file: str | None, asked: list[str]) -> None:
    if file is None or len(asked) != 1:
        raise misused(
            "give a file, and times or what to do with its schedule",
            "--cron",
            " ".join(asked) or None,
            f"one of {', '.join(_DO)}",
            'drillyard schedule FILE --cron "0 3 * * *"',
        )


def _name_of(file: str, rows: list[dict[str, object]]) -> str:
    """The schedule of a file, also of a broken one: the server knows it. Else, of a name."""
    path = str(Path(file).resolve())
    known = [str(row["schedule"]) for row in rows if row["file"] == path]
    if len(known) == 1:
        return known[0]
    return _loaded(file)[1].name if Path(file).exists() else file


def _loaded(file: str) -> tuple[Path, ExperimentSpec]:
    from drillyard.spec.load import load

    return Path(file).resolve(), load(Path(file)).spec


def _checked(
    file: str, cron: str, timezone: str, name: str | None, more: list[str]
) -> tuple[Path, ExperimentSpec]:
    """The file; everything that is wrong with it and the command line is refused at once."""
    from drillyard.errors import ConfigError, ConfigErrors, refuse_together

    problems = problems_of(cron, timezone)
    read: tuple[Path, ExperimentSpec] | None = None
    try:
        read = _loaded(file)
        problems += _of_name(read[1], name, more)
    except ConfigErrors as errors:
        problems += errors.errors
    except ConfigError as error:
        problems.append(error)
    refuse_together(problems)
    assert read is not None  # without it there is a problem
    return read


def _of_name(spec: ExperimentSpec, name: str | None, more: list[str]) -> Iterator[ConfigError]:
    """What speaks against the name of the runs, and what they add."""
    from drillyard.errors import ConfigError
    from drillyard_flows import form, growing

    try:
        growing.amounts(more, spec)
    except ConfigError as error:
        yield error
    called = _called(spec, name, more)
    dated = form.DATE in called or form.TIME in called
    if dated is bool(more):
        yield misused(
            "each run would be a separate experiment, with nothing to continue"
            if more
            else "each run would have the same name, and the second one would find all of it done",
            "--name",
            called,
            "a name without {date} and {time}" if more else "a name with {date} or {time}",
            "leave --name out" if more else "--name '{name}-{date}'; or --continue seeds=1",
        )


def _called(spec: ExperimentSpec, name: str | None, more: list[str]) -> str:
    each = "{name}" if more else "{name}-{date}-{time}"
    return (name or each).replace("{name}", spec.name)


def _wanted(
    spec: ExperimentSpec,
    path: Path,
    cron: str,
    timezone: str,
    name: str | None,
    more: list[str],
) -> DeploymentScheduleCreate:
    """The schedule, checked before the server is asked for anything."""
    from prefect.client.schemas.actions import DeploymentScheduleCreate
    from pydantic import ValidationError

    from drillyard_flows.deploying.times import next_of

    called = _called(spec, name, more)
    parameters: dict[str, object] = {"file": str(path), "name": called}
    parameters |= {"more": more} if more else {}
    times = {"cron": cron, "timezone": timezone}
    try:
        schedule = DeploymentScheduleCreate.model_validate(
            {"schedule": times, "active": True, "slug": spec.name, "parameters": parameters}
        )
    except ValidationError as error:
        # The messages about other types of schedules would only mislead.
        messages = [str(e["msg"]) for e in error.errors() if "CronSchedule" in e["loc"]]
        text = (*messages, "no times that cron can read")[0].removeprefix("Value error, ")
        allowed = "five fields of cron, and a time zone"
        raise misused(text, "--cron", f"{cron} ({timezone})", allowed, EXAMPLE) from None
    if next_of(schedule.schedule) is None:
        raise misused(
            "these times never come: no year has such a day",
            "--cron",
            cron,
            "minute, hour, day of the month, month, day of the week",
            '--cron "0 0 28 2 *" is the end of February; "0 2 * * 1" each Monday at two',
        )
    return schedule


def _print(rows: list[dict[str, object]]) -> None:
    from drillyard.results.formatting import NOTHING
    from drillyard.system.tables import rows_grid
    from drillyard.system.terminal import print_grid

    if not rows:
        typer.echo('no schedules; make one: drillyard schedule FILE --cron "0 3 * * *"')
        return
    columns = ("schedule", "deployment", "times", "state", "next", "file", "name", "adds")
    cells = [[str(row[name] or NOTHING) for name in columns] for row in rows]
    print_grid(rows_grid("schedules", columns, cells))
