"""``drillyard import``: converts a policy of another program into a bundle."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from drillyard.documents.json_types import JsonObject


def import_(
    file: Annotated[Path, typer.Argument(help="Zip file of Stable-Baselines3 or sb3-contrib.")],
    algorithm: Annotated[str, typer.Option("--algorithm", help="Algorithm that trained it.")],
    simulator: Annotated[str, typer.Option("--simulator", help="Simulator that it acts in.")],
    out: Annotated[Path, typer.Option("--out", metavar="FOLDER", help="Bundle to write.")],
    args: Annotated[
        str,
        typer.Option("--args", help="learner.args as JSON: {policy_kwargs: {net_arch: [64, 64]}}"),
    ] = "{}",
) -> None:
    """Convert the tensors of a zip file into a bundle, without running anything pickled in it."""
    import json5

    from drillyard.errors import misused
    from drillyard.spec.algorithms.argument_table import ARGUMENTS
    from drillyard.spec.learning import SimulatorSpec
    from drillyard.system.import_path import importable

    if algorithm not in ARGUMENTS:
        raise misused("there is no such algorithm", "--algorithm", algorithm, known=ARGUMENTS)
    try:
        arguments: JsonObject = json5.loads(args)
    except ValueError as error:
        message, hint = f"is not JSON: {error}", "quote it: '{…}'"
        raise misused(message, "--args", args, "learner.args", hint) from error
    with importable(Path.cwd()):
        from drillyard.learners.import_sb3 import import_zip

        import_zip(file, algorithm, SimulatorSpec(id=simulator), arguments, out)
    typer.echo(f"wrote the bundle {out} from {file}")
