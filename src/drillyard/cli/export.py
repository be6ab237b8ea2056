"""``drillyard export``: a trained policy as a bundle that stands for itself."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from drillyard.cli.common import JsonOption, StoreOption, print_json


class Format(StrEnum):
    """What a bundle holds."""

    ONNX = "onnx"
    SAFETENSORS = "safetensors"


class Which(StrEnum):
    """Which policy of a training."""

    BEST = "best"
    FINAL = "final"


def register(app: typer.Typer) -> None:
    """Join the command line."""
    app.command("export")(export)


def export(
    run: Annotated[
        str, typer.Argument(metavar="RUN", help="A run (t0001-s1), NAME/RUN, or NAME: its best.")
    ],
    format_: Annotated[
        Format, typer.Option("--format", help="ONNX for anything, safetensors for torch.")
    ] = Format.ONNX,
    which: Annotated[
        Which, typer.Option("--policy", help="The best while training, or the last.")
    ] = Which.BEST,
    out: Annotated[
        Path | None, typer.Option("--out", metavar="FOLDER", help="Default: NAME-RUN-policy.")
    ] = None,
    store: StoreOption = None,
    as_json: JsonOption = False,
) -> None:
    """Write a policy as a folder that needs neither drillyard nor the simulator."""
    from drillyard.agents.trained import trained
    from drillyard.policies.best_run import choose
    from drillyard.policies.card import said_difference
    from drillyard.results.collect import collect
    from drillyard.runs.locate import find_runs

    mailbox, runs = find_runs(run, store)
    chosen = choose(mailbox, runs)
    with trained(mailbox, chosen.run, which.value) as policy:
        from drillyard.policies.bundles import must_be_new
        from drillyard.policies.export import export as export_
        from drillyard.policies.export import to_json

        folder = out or Path(f"{mailbox.experiment}-{chosen.run}-policy")
        must_be_new(folder)
        made = export_(policy, format_.value, folder, collect(mailbox, curves=False), chosen)
    if as_json:
        print_json(to_json(made))
        return
    why = f", {chosen.words}" if chosen.words else ""
    typer.echo(f"{policy.which} policy of {mailbox.experiment}/{chosen.run}{why}: {made.folder}")
    if made.largest_difference is not None:
        typer.echo(
            f"acts as the trained one on {made.checked:,} observations: "
            f"{said_difference(made.largest_difference)}"
        )
