"""Shell completion: what is offered, by the protocol of the shells; nothing where it fails."""

from __future__ import annotations

import pytest

from drillyard.cli.main import build, main
from tests.helpers.study_store import write_search


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


def test_another_store(folder, monkeypatch, capsys):
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
