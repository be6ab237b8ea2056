"""`--help`: every command in a section, sentences whole, values by names that people use."""

from __future__ import annotations

import io
import re
import shlex
import sys
from typing import Any

import pytest
import typer

from drillyard.cli.common import print_findings
from drillyard.cli.helping import OTHERS, SECTIONS
from drillyard.cli.main import build, main
from drillyard.findings import Finding, Severity


class _Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def command(monkeypatch):
    """The command line on a terminal of 80 columns."""
    monkeypatch.setenv("COLUMNS", "80")
    group = typer.main.get_command(build()[0])
    assert isinstance(group, typer.core.TyperGroup)
    return group


def test_every_command_of_ours_stands_in_one_section(command):
    named = [name for names in SECTIONS.values() for name in names]
    assert sorted(named) == sorted(command.commands)


def test_the_list_fits_and_is_not_cut(command, capsys):

    assert main(["--help"]) == 0
    said = capsys.readouterr().out
    assert all(heading in said for heading in SECTIONS)
    assert OTHERS not in said and not [o for o in said.splitlines()[1:] if o.endswith("...")]
    assert max(map(len, said.splitlines())) <= 80


def test_a_command_prepares_no_other(monkeypatch, capsys):
    prepared: list[str | None] = []
    prepare = typer.main.get_command_from_info

    def noted(command_info: typer.models.CommandInfo, **more: Any) -> Any:
        prepared.append(command_info.name)
        return prepare(command_info, **more)

    monkeypatch.setattr(typer.main, "get_command_from_info", noted)
    assert main(["schema"]) == 0
    assert main(["list", "backends"]) == 0
    assert "run" not in prepared and prepared[0] == "schema" and "backends" in prepared
    assert main(["schemo"]) == 2
    assert "schema" in capsys.readouterr().err and "run" in prepared


def test_no_help_names_a_value_by_its_type(command, capsys):
    for name in command.commands:
        assert main([name, "--help"]) == 0
    said = capsys.readouterr().out
    options = [line for line in said.splitlines() if line.lstrip().startswith("-")]
    assert not [o for o in options for kind in ("<str>", "range>", "<path>", "list[") if kind in o]
    assert "--on BACKEND" in said and "--episodes N" in said


def test_findings_go_on_below_themselves_on_a_terminal_and_stay_whole_in_a_file(monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    long = "one thing after the other " * 5
    found = [
        Finding(Severity.WARNING, "store", long, "make room, " * 9 + "or not"),
        Finding(Severity.OK, "preset", "is used", "null takes none"),
    ]
    shown = []
    for stream in (_Terminal(), io.StringIO()):
        monkeypatch.setattr(sys, "stdout", stream)
        print_findings(found)
        shown.append(stream.getvalue().splitlines())
    terminal, file = shown
    assert max(map(len, file)) > 100 and len(file) == 4
    assert "".join(terminal).count("thing") == 5 and len(terminal) > 4
    assert all(
        line[:14].strip() == ""
        for line in terminal[1:]
        if "warn" not in line[:20] and "preset" not in line
    )
    assert file[-1].strip() == "null takes none"


def whole(path: str, command: object) -> list[str]:
    """A command and those inside it, each with its whole name."""
    inner = getattr(command, "commands", {})
    return [path, *(p for name, one in inner.items() for p in whole(f"{path} {name}", one))]


def test_every_help_ends_with_examples_that_parse(command, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("boiler.py", "conditions.csv", "model.zip"):
        (tmp_path / name).touch()
    top = command.make_context("drillyard", [], resilient_parsing=True)
    paths = [path for name in command.commands for path in whole(name, command.commands[name])]
    for path in paths:
        assert main([*path.split(), "--help"]) == 0
        examples = re.findall(r"(?m)^    (drillyard .*)$", capsys.readouterr().out)
        assert 1 <= len(examples) <= 2, path
        for example in examples:
            _, first, *rest = shlex.split(example)
            assert example.split()[1 : 1 + len(path.split())] == path.split(), example
            member = command.get_command(top, first)
            assert member is not None, example
            while rest and rest[0] in getattr(member, "commands", {}):
                member, first, *rest = getattr(member, "commands", {})[rest[0]], *rest
            context = member.make_context(first, rest, parent=top)
            assert not [word for word in context.args if word.startswith("-")], example
    capsys.readouterr()
