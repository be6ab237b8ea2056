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

    found = read(mailbox)
    if as_json:
        print_json(as_dict(found))
        return
    print_grid(grid(found))
    typer.echo("")
    for stage in found.stages:
        if stage.name in found.verdicts:
            typer.echo(f"{stage.experiment}: {found.verdicts[stage.name]}")


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
