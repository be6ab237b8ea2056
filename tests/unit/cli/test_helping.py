"""`--help`, and what shells complete."""

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
from tests.helpers.study_store import write_search

# -- `--help`: every command in a section, sentences whole, values by names that people use ---


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
    named = [name for names in SECTIONS.values() for name in names.split()]
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


# -- Shell completion: what is offered, by the protocol of the shells; nothing where it fails -


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A working folder with an experiment in its usual store."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DRILLYARD_STORE", raising=False)
    write_search(tmp_path / "drillyard-runs", 3)
    return tmp_path


def offered(
    line: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> list[str]:
    """What bash is told for a line whose last word is incomplete."""
    monkeypatch.setenv("_DRILLYARD_COMPLETE", "complete_bash")
    monkeypatch.setenv("COMP_WORDS", line)
    monkeypatch.setenv("COMP_CWORD", str(len(line.split(" ")) - 1))
    assert main([]) == 0
    said = capsys.readouterr()
    assert said.err == ""
    return said.out.split()


def test_experiments_and_runs(folder, monkeypatch, capsys):
    (name,) = offered("drillyard status ", monkeypatch, capsys)
    assert (folder / "drillyard-runs" / name / "experiment.json").is_file()
    for command in ("resume", "cancel", "report", "results", "cost", "sync"):
        assert offered(f"drillyard {command} {name[:1]}", monkeypatch, capsys) == [name]
    runs = offered("drillyard logs t0001", monkeypatch, capsys)
    assert runs and all(run.startswith("t0001-s") for run in runs)
    whole = offered(f"drillyard export {name}/t0001", monkeypatch, capsys)
    assert whole == [f"{name}/{run}" for run in runs]
    assert offered(f"drillyard export {name}/t9", monkeypatch, capsys) == []
    assert offered("drillyard status nope", monkeypatch, capsys) == []


def test_completion_offers_names_of_the_store_that_is_given(folder, monkeypatch, capsys):
    (name,) = offered("drillyard status ", monkeypatch, capsys)
    (folder / "drillyard-runs").rename(folder / "elsewhere")
    assert offered("drillyard status ", monkeypatch, capsys) == []
    assert not (folder / "drillyard-runs").exists()
    assert offered("drillyard status --store elsewhere ", monkeypatch, capsys) == [name]
    monkeypatch.setenv("DRILLYARD_STORE", "elsewhere")
    assert offered("drillyard status ", monkeypatch, capsys) == [name]
    monkeypatch.setenv("DRILLYARD_STORE", "gs://no-such-bucket/runs")
    assert offered("drillyard status ", monkeypatch, capsys) == []


def test_files_presets_and_names(folder, monkeypatch, capsys):
    (folder / "cstr.yaml").touch()
    (folder / "cstr.txt").touch()
    (folder / "more").mkdir()
    (folder / "more" / "x.json").touch()
    for command in ("run", "check", "explain", "bench"):
        found = offered(f"drillyard {command} cs", monkeypatch, capsys)
        assert "cstr.yaml" in found and "cstr/ppo" in found and "cstr.txt" not in found
    assert "more/" in offered("drillyard plan mo", monkeypatch, capsys)
    assert offered("drillyard run more/", monkeypatch, capsys) == ["more/x.json"]
    assert offered(f"drillyard run {folder}/cs", monkeypatch, capsys) == [f"{folder}/cstr.yaml"]
    assert "sac" in offered("drillyard run -a s", monkeypatch, capsys)
    assert "cstr" in offered("drillyard generate -s ", monkeypatch, capsys)
    assert "local" in offered("drillyard check x.yaml --on l", monkeypatch, capsys)


def test_what_cannot_be_read_offers_nothing(folder, monkeypatch, capsys):
    (name,) = offered("drillyard status ", monkeypatch, capsys)
    for file in (folder / "drillyard-runs" / name / "runs").rglob("run.json"):
        file.write_text("{")
    assert offered("drillyard logs t", monkeypatch, capsys) == []


def test_the_names_of_commands(folder, monkeypatch, capsys):
    """Every command, although a command line that names one prepares that one alone."""
    assert offered("drillyard res", monkeypatch, capsys) == ["results", "restore", "resume"]
    assert "--json" in offered("drillyard status --js", monkeypatch, capsys)


@pytest.mark.parametrize("words", [[], ["--help"], ["--help", "run"], ["--version", "run"], ["r"]])
def test_only_a_command_line_that_begins_with_a_command_has_that_one_alone(words):
    def names(arguments: list[str]) -> set[str | None]:
        app, _ = build(arguments)
        return {each.name for each in (*app.registered_commands, *app.registered_groups)}

    assert names(["run", "results"]) == {"run"}
    assert {"run", "results", "status"} <= names(words)
