"""``drillyard rehearse``: the whole cloud path at home, before money is spent."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from drillyard.cli.arguments import FREE, Arguments, with_arguments
from drillyard.cli.common import (
    JsonOption,
    OptionalFileArgument,
    print_json,
)
from drillyard.errors import ConfigError, UserError
from drillyard.system import closed_output
from drillyard.system.durations import duration

if TYPE_CHECKING:
    from drillyard.spec.running import BudgetSpec
    from drillyard_emulators.rehearsal import Account


class Machines(StrEnum):
    """What the machines of an emulated cloud are."""

    PROCESSES = "processes"
    BARE = "bare"


PATIENCE_S = 30.0
"""How long machines that are leaving by themselves are waited for."""
BUDGET = {"max_hours": 1.0, "max_cost": 10.0}
"""What a file without a budget gets: real machines need one, and a rehearsal spends nothing."""
# A rehearsal leaves no trace on the user's servers, and finds no other emulator.
_NOT_INHERITED = (
    "DRILLYARD_STORE",
    "PREFECT_API_URL",
    "MLFLOW_TRACKING_URI",
    "STORAGE_EMULATOR_HOST",
    "GCE_METADATA_HOST",
    "AZURE_TOKEN_CREDENTIALS",
    "MSI_ENDPOINT",
    "IDENTITY_ENDPOINT",
)

FaultOption = Annotated[
    list[str] | None,
    typer.Option(
        metavar="NAME=VALUE",
        help="Fault to play: preempt=2, stockout=europe-west1-b, lost=0.1, … Repeatable. "
        "`--fault list` shows all faults of the cloud that --on names.",
    ),
]
LikeOption = Annotated[
    Path | None,
    typer.Option(
        "--like",
        metavar="RECORD",
        help="Record of `drillyard prove`; the emulated cloud then behaves like yours.",
    ),
]
MachinesOption = Annotated[
    Machines,
    typer.Option(
        help="What the cloud's machines are: processes on this machine, or machines with nothing "
        "of this one (Google Cloud; needs root and Linux)."
    ),
]


def register(app: typer.Typer) -> None:
    """Join the command line."""
    app.command("rehearse", context_settings=FREE)(rehearse_command)


@with_arguments("on")
def rehearse_command(
    file: OptionalFileArgument = None,
    on: Annotated[
        str | None,
        typer.Option("--on", metavar="BACKEND", help="Backend whose cloud is emulated."),
    ] = None,
    fault: FaultOption = None,
    keep: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Keep the results in this folder.")
    ] = None,
    like: LikeOption = None,
    seed: Annotated[int, typer.Option(help="Seed of the emulated cloud's random choices.")] = 0,
    machines: MachinesOption = Machines.PROCESSES,
    *,
    arguments: Arguments,
    as_json: JsonOption = False,
) -> None:
    """Run an experiment on an emulated cloud on this machine, without any cost.

    Machines are processes on this machine, unless --machines says otherwise; everything else is
    what runs on the cloud. Exits with code 4 if a machine, group, template or disk is left.
    """
    from drillyard.system.output_files import check_folder
    from drillyard_emulators.faults import parse_faults
    from drillyard_emulators.rehearsal import physics_of, rehearsal_of, start_of, way_to_index

    if fault == ["list"]:
        _list_faults(on or "gcp")
        return
    if file is None:
        raise UserError(
            "Missing argument 'FILE'.",
            hint="name an experiment file; only `drillyard rehearse --fault list` needs none",
        )
    if keep is not None:
        check_folder(keep, "--keep")
    arguments = replace(arguments, on=on)
    spec = arguments.load(file).spec
    place = rehearsed(spec.places)
    kind = place.partition("/")[0]
    faults = parse_faults(fault or [], start_of(kind).kinds)
    physics = {} if like is None else physics_of(like, kind)
    command = [sys.executable, "-m", "drillyard.cli.start", "run", str(file)]
    command += arguments.words(_missing_limits(spec.budget))
    with tempfile.TemporaryDirectory(prefix="drillyard-rehearsal-") as text:
        folder = Path(text)
        home = folder / "home" if keep is None else keep.absolute() / "home"
        given = dict(spec.backends.get(kind, {}))
        bare = machines is Machines.BARE
        rehearsal = rehearsal_of(place, given, faults, folder / "cloud", seed, bare)
        try:
            rehearsal.behave(physics)
            command += rehearsal.arguments()
            env = rehearsal.env()
            if spec.requirements:
                env |= way_to_index(env)
            code = _run(command, home, env, quiet=as_json)
            account = rehearsal.account(PATIENCE_S)
            if keep is not None:
                rehearsal.keep(keep / "store")
        finally:
            rehearsal.close()
    with closed_output.ignored():
        if as_json:
            print_json({**account.as_dict(), "exit_code": code})
        else:
            show(account)
            if keep is not None:
                typer.echo(f"results: drillyard results {spec.name} --store {keep / 'store'}")
        warn_of_unplayed(account)
    raise typer.Exit(4 if account.left else code)


def _list_faults(backend: str) -> None:
    from drillyard_emulators.rehearsal import start_of

    cloud = start_of(backend.partition("/")[0])
    for name, known in cloud.kinds.items():
        typer.echo(f"{name}={known.value}")
    for rule in cloud.always:
        typer.echo(f"always: {rule}")


def _missing_limits(budget: BudgetSpec) -> list[str]:
    """Returns the limits that a rehearsal gives a file without them, and says so."""
    limits = [
        f"budget.{name}={value:g}"
        for name, value in BUDGET.items()
        if getattr(budget, name) is None
    ]
    if limits:
        typer.echo(
            f"the file has no such limit; for this rehearsal: {', '.join(limits)} (change it "
            "with --set). A real run needs both in the file.",
            err=True,
        )
    return limits


def rehearsed(places: Sequence[str]) -> str:
    """Returns the backend whose cloud is emulated; the others are this machine.

    Args:
        places: Backends of the experiment.

    Raises:
        ConfigError: A rehearsal would reach another provider, or a machine of the user's.
    """
    clouds = [text for text in places if text.partition("/")[0] != "local"]
    if len({text.partition("/")[0] for text in clouds}) > 1:
        raise ConfigError(
            "a rehearsal reaches one emulated cloud and nothing else",
            field="backend",
            value=f"[{', '.join(places)}]",
            allowed="backends of one cloud, and local",
            hint=f"choose one: drillyard rehearse FILE --on {clouds[-1]}",
        )
    return clouds[0] if clouds else places[0]


def _run(command: list[str], home: Path, env: dict[str, str], *, quiet: bool) -> int:
    """Run the experiment as the user would; its exit code."""
    base = {k: v for k, v in os.environ.items() if k not in _NOT_INHERITED}
    # The memory of what was rented must not make a later `reap` look for it on the real cloud.
    # Prefect's too: it would remember the results of another rehearsal under the same names.
    apart = {"DRILLYARD_HOME": str(home), "PREFECT_HOME": str(home / "prefect")}
    process = subprocess.Popen(
        command, env={**base, **env, **apart}, stdout=sys.stderr if quiet else None
    )
    while True:
        try:
            return process.wait()
        except KeyboardInterrupt:
            continue  # it has heard it, too, and leaves in order


def show(account: Account) -> None:
    """Print the account: machines, faults, what is left, what it would have cost."""
    from drillyard.system.tables import Table
    from drillyard.system.terminal import print_grid

    table = Table("rehearsal: machines", account.machines)
    table.text("machine", lambda m: m.name)
    table.text("zone", lambda m: m.zone)
    table.text("type", lambda m: f"{m.kind}{' (Spot)' if m.spot else ''}")
    table.number("lived", lambda m: duration(m.lived_s))
    table.text("ended", lambda m: m.ended_by or "STILL THERE")
    table.number(account.currency, lambda m: "?" if m.cost is None else f"{m.cost:.4f}")
    typer.echo()
    print_grid(table)
    for text, played in account.faults:
        typer.echo(f"fault {text}: played {played} time{'' if played == 1 else 's'}")
    calls = ", ".join(f"{count:,} to {service}" for service, count in account.calls.items())
    typer.echo(f"calls: {calls}")
    if account.refused_hosts:
        typer.echo(f"refused (outside the emulated cloud): {', '.join(account.refused_hosts)}")
    ended = sum(1 for m in account.machines if m.ended_by)
    typer.echo(
        f"machines: {len(account.machines)} made, {ended} deleted; left: {len(account.left)}"
    )
    for name in account.left:
        typer.echo(f"  left: {name}")
    dated = f" (prices of {account.prices_of})" if account.prices_of else ""
    typer.echo(f"it would have cost {account.cost:.4f} {account.currency}{dated}")


def warn_of_unplayed(account: Account) -> None:
    """Name the faults that met nothing, also to people whose script reads the account."""
    for text, played in account.faults:
        if not played:
            typer.echo(
                f"warning: fault {text} was played 0 times, so this rehearsal says nothing about "
                "it: nothing was asked for that it hits",
                err=True,
            )
