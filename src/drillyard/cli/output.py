"""What several commands print."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from pathlib import Path

    from drillyard.mailbox import Mailbox


def show_stages(mailbox: Mailbox, *, as_json: bool) -> None:
    """Prints the stages of a composite, and the result of each.

    Args:
        mailbox: The composite.
        as_json: Print one JSON document instead.
    """
    from drillyard.cli.common import print_json
    from drillyard.results.stages import as_dict, grid, read
    from drillyard.system.terminal import print_grid

    results = read(mailbox)
    if as_json:
        print_json(as_dict(results))
        return
    print_grid(grid(results))
    typer.echo("")
    for stage in results.stages:
        if stage.name in results.verdicts:
            typer.echo(f"{stage.experiment}: {results.verdicts[stage.name]}")


def write_csv(text: str, path: Path) -> None:
    """Writes CSV to a file, or to stdout for ``-``.

    Raises:
        ConfigError, StoreUnavailable: The file cannot be written.
    """
    from drillyard.system.output_files import writing

    if str(path) == "-":
        typer.echo(text, nl=False)
        return
    with writing(path, "--csv"):
        path.write_text(text, encoding="utf-8", newline="")
    typer.echo(f"{max(0, text.count(chr(10)) - 1):,} rows: {path}", err=True)
