"""``drillyard export``: writes a trained policy as a self-contained bundle."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from drillyard.cli import completing
from drillyard.cli.common import JsonOption, StoreOption, print_json


class Format(StrEnum):
    """Format of the weights in a bundle."""

    ONNX = "onnx"
    C = "c"
    SAFETENSORS = "safetensors"


class Which(StrEnum):
    """The policies that a training keeps."""

    BEST = "best"
    FINAL = "final"


RunArgument = Annotated[
    str,
    typer.Argument(
        metavar="RUN",
        help="Run (t0001-s1), NAME/RUN, or NAME (its best run).",
        autocompletion=completing.runs,
    ),
]


def export(
    run: RunArgument,
    format_: Annotated[
        Format,
        typer.Option(
            "--format",
            "--to",
            help="ONNX for any runtime, C as a program besides, safetensors for torch.",
        ),
    ] = Format.ONNX,
    which: Annotated[
        Which, typer.Option("--policy", help="Best policy of the training, or the final one.")
    ] = Which.BEST,
    out: Annotated[
        Path | None,
        typer.Option("--out", metavar="FOLDER", help="Folder to write; default: NAME-RUN-policy."),
    ] = None,
    store: StoreOption = None,
    as_json: JsonOption = False,
) -> None:
    """Write a policy to a folder that needs neither drillyard nor the simulator."""
    from drillyard.agents.trained import trained
    from drillyard.policies.best_run import choose
    from drillyard.policies.card import said_difference
    from drillyard.results.collect import collect
    from drillyard.runs.locate import find_runs

    mailbox, runs = find_runs(run, store)
    chosen = choose(mailbox, runs)
    folder = (out or Path(f"{mailbox.experiment}-{chosen.run}-policy")).absolute()
    with trained(mailbox, chosen.run, which.value) as policy:
        from drillyard.policies.bundles import must_be_new
        from drillyard.policies.export import export as export_
        from drillyard.policies.export import to_json

        must_be_new(folder)
        exported = export_(policy, format_.value, folder, collect(mailbox, curves=False), chosen)
    if as_json:
        print_json(to_json(exported))
        return
    why = f", {chosen.words}" if chosen.words else ""
    typer.echo(
        f"{policy.which} policy of {mailbox.experiment}/{chosen.run}{why}: {out or folder.name}"
    )
    if exported.largest_difference is not None:
        typer.echo(
            f"acts as the trained one on {exported.checked:,} observations: "
            f"{said_difference(exported.largest_difference)}"
        )
    if format_ is Format.C:
        why = "not compared, because there is no C compiler here"
        why += ": use test_vectors.csv" if "test_vectors.csv" in exported.files else ""
        found = exported.c_difference
        typer.echo(f"policy.c: {why if found is None else said_difference(found)}")
