"""``drillyard import``: a policy of another program as a bundle."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer


def register(app: typer.Typer) -> None:
    """Join the command line."""
    app.command("import")(import_)


def import_(
    file: Annotated[Path, typer.Argument(help="A zip of Stable-Baselines3 or sb3-contrib.")],
    algorithm: Annotated[str, typer.Option("--algorithm", help="What it was trained with.")],
    simulator: Annotated[str, typer.Option("--simulator", help="What it acts in.")],
    out: Annotated[Path, typer.Option("--out", metavar="FOLDER", help="The bundle to write.")],
    args: Annotated[
        str,
        typer.Option("--args", help="learner.args as JSON: {policy_kwargs: {net_arch: [64, 64]}}"),
    ] = "{}",
) -> None:
    """Convert the tensors of a zip into a bundle; nothing that is pickled in it is run."""
    import json5

    from drillyard.errors import ConfigError
    from drillyard.registry import nearest
    from drillyard.spec.algorithms.signatures import ARGUMENTS
    from drillyard.spec.learning import SimulatorSpec
    from drillyard.system.import_path import importable

    if algorithm not in ARGUMENTS:
        raise ConfigError(
            "no such algorithm",
            file="command line",
            field="--algorithm",
            value=algorithm,
            allowed=", ".join(ARGUMENTS),
            hint=nearest(algorithm, list(ARGUMENTS)),
        )
    try:
        given: Any = json5.loads(args)
    except ValueError as error:
        raise ConfigError(
            f"is no JSON: {error}",
            file="command line",
            field="--args",
            value=args,
            allowed="learner.args",
            hint="quote it: '{…}'",
        ) from error
    with importable(Path.cwd()):
        from drillyard.learners.import_sb3 import import_zip

        import_zip(file, algorithm, SimulatorSpec(id=simulator), given, out)
    typer.echo(f"{file} is now the bundle {out}")
