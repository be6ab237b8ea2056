"""``drillyard schema``: the JSON Schema of experiment files, for editors."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from drillyard.cli.common import JsonOption


def register(app: typer.Typer) -> None:
    """Join the command line."""
    app.command("schema")(schema)


def schema(
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Write it to a file instead.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Print the JSON Schema of experiment files, with a description of every field."""
    import json

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


def document() -> dict[str, Any]:
    """The schema, with the names that are registered here as examples."""
    from drillyard.registry import names
    from drillyard.spec import bench
    from drillyard.spec.experiment import ExperimentSpec

    found = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "drillyard experiment",
        **ExperimentSpec.model_json_schema(by_alias=True),
    }
    found["title"] = "drillyard experiment"
    known = found["$defs"]
    known["LearnerSpec"]["properties"]["algorithm"]["examples"] = names("learners")
    known["SimulatorSpec"]["properties"]["id"]["examples"] = names("simulators")
    properties = found["properties"]
    properties["bench"] = bench.SCHEMA
    # Short forms, which the models turn into the long ones before they look.
    properties["seeds"] = _or({"const": "auto"}, properties["seeds"])
    for model, field in (("SimulatorSpec", "wrappers"), ("LearnerSpec", "callbacks")):
        items = known[model]["properties"][field]
        items["items"] = _or({"type": "string"}, items["items"])
    properties["backend"]["examples"] = names("backends")
    properties["workload"]["examples"] = names("workloads")
    properties["baselines"]["items"]["examples"] = names("baselines")
    return found


def _or(short: dict[str, Any], long: dict[str, Any]) -> dict[str, Any]:
    """A schema that takes a short form too; what describes the field stays outside."""
    about: dict[str, Any] = {k: long[k] for k in ("description", "default", "title") if k in long}
    rest = {k: v for k, v in long.items() if k not in about}
    return {**about, "anyOf": [short, rest]}
