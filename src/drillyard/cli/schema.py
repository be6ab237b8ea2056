"""``drillyard schema``: prints the JSON Schema of experiment files, for editors."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from drillyard.cli.common import JsonOption


def schema(
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="File to write; default: print it.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Print the JSON Schema of experiment files, with a description of every field."""
    import json

    from drillyard.spec.schema import document
    from drillyard.system.output_files import writing

    text = json.dumps(document(), indent=2, ensure_ascii=False) + "\n"
    if out is None:
        typer.echo(text, nl=False)
    else:
        with writing(out, "--out"):
            out.write_text(text, encoding="utf-8")
        if as_json:
            typer.echo(json.dumps({"wrote": str(out)}))
            return
        typer.echo(f"wrote {out}; for VS Code: # yaml-language-server: $schema={out}")
