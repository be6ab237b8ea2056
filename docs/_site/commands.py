"""The commands and their options, made from the texts of `--help`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from typer.main import get_command

from drillyard.cli.helping import SECTIONS
from drillyard.cli.main import build

if TYPE_CHECKING:
    from typer._click import Command, Context


def markdown() -> str:
    """Returns one section for each command, in the order of `drillyard --help`."""
    top = get_command(build()[0])
    context = top.make_context("drillyard", ["schema"])
    parts: list[str] = []
    for heading, names in SECTIONS.items():
        parts.append(f"## {heading}\n")
        for name in names.split():
            command = top.get_command(context, name)
            if command is not None and not command.hidden:
                parts += _command(command, f"drillyard {name}", context)
    return "\n".join(parts)


def _command(command: Command, name: str, parent: Context, depth: int = 3) -> list[str]:
    context = type(parent)(command, info_name=name.rpartition(" ")[2], parent=parent)
    parts = [f"{'#' * depth} `{name}`\n", _prose(command.help or "") + "\n"]
    if getattr(command, "commands", None):
        for inner in command.list_commands(context):
            member = command.get_command(context, inner)
            if not member.hidden:
                parts += _command(member, f"{name} {inner}", context, depth + 1)
        return parts
    usage = " ".join([name, *command.collect_usage_pieces(context)])
    parts.append(f"```text\n{usage}\n```\n")
    records = [p.get_help_record(context) for p in command.params]
    rows = [f"| `{_cell(r[0])}` | {_cell(r[1])} |" for r in records if r]
    if rows:
        parts.append("\n".join(["| option | what it does |", "|---|---|", *rows]) + "\n")
    return parts


def _prose(text: str) -> str:
    return "\n\n".join(" ".join(block.split()) for block in text.replace("\b", "").split("\n\n"))


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|").replace("<", "&lt;")
