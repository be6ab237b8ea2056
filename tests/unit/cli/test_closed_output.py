"""A reader that ends early (`| head`) ends no work, and the exit code is that of the result."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest
import typer

from drillyard.cli import main as command_line
from drillyard.errors import ExitCode
from drillyard.system import closed_output
from tests.helpers.patience import PATIENCE_S

FILE = """\
schema: 1
name: cut
workload: script
seeds: [1]
script: {{run: [[sh, -c, "exit {code}"]]}}
tracking: {{mlflow: null}}
"""
pytestmark = pytest.mark.heavy


START = ("-m", "drillyard.cli.start")
WORKS_ON = """\
from drillyard.system.closed_output import tell
{imports}
{call}
{call}
raise SystemExit(7)
"""
TOLD = {
    "tell": ("", "tell('a step')"),
    "prove": (
        "from drillyard_backends.prove.show import Show",
        "Show(True, quiet=False).line('a step')",
    ),
    "mlflow": (
        "from drillyard_backends.gcp.mlflow_server import commands",
        "commands._say('a', 'b')",
    ),
}
"""Lines that are printed between two steps of work: what to import, and how."""


def ended(folder: Path, *words: str, both: bool = False) -> tuple[int, str]:
    """The exit code of a program whose output cannot be written, and what it says of it.

    Args:
        folder: Its working directory.
        words: For Python.
        both: Standard error cannot be written either.
    """
    reader, writer = os.pipe()
    os.close(reader)
    try:
        child = subprocess.run(
            [sys.executable, *words],
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=writer,
            stderr=writer if both else subprocess.PIPE,
            text=True,
            timeout=PATIENCE_S,
        )
    finally:
        os.close(writer)
    return child.returncode, child.stderr or ""


@pytest.mark.parametrize(
    "code", [ExitCode.DONE, ExitCode.EXPERIMENT_FAILED], ids=["success", "failure"]
)
@pytest.mark.parametrize("form", [[], ["--json"]], ids=["table", "json"])
def test_a_run_ends_with_the_code_of_its_result(tmp_path, code, form):
    (tmp_path / "cut.yaml").write_text(FILE.format(code=int(code)))
    found, said = ended(tmp_path, *START, "run", "cut.yaml", "--no-prefect", *form)
    assert found == code, said
    assert "Traceback" not in said and "BrokenPipe" not in said


def test_a_run_without_a_file_is_not_ended_by_its_first_line(tmp_path):
    short = ["run", "-a", "ppo", "-s", "CartPole-v1", "--steps", "64", "--seeds", "1"]
    found, said = ended(tmp_path, *START, *short, "--no-prefect")
    assert found == ExitCode.DONE, said
    assert list(tmp_path.glob("drillyard-runs/*/runs/t0001-s1"))


@pytest.mark.parametrize("who", TOLD)
def test_what_is_said_between_two_steps_ends_no_work(tmp_path, who):
    imports, call = TOLD[who]
    program = WORKS_ON.format(imports=imports, call=call)
    assert ended(tmp_path, "-c", program) == (7, "")


def test_a_command_that_only_shows_says_that_it_was_cut_off(tmp_path):
    assert ended(tmp_path, *START, "--version") == (ExitCode.OUTPUT_CLOSED, "")


def test_a_refusal_keeps_its_code_when_nothing_can_be_said(tmp_path):
    words = [*START, "check", "missing.yaml"]
    assert ended(tmp_path, *words, both=True) == (ExitCode.USER_INPUT, "")


def test_a_connection_that_breaks_is_not_taken_for_a_reader_that_is_gone(monkeypatch, capsys):
    broken = BrokenPipeError(errno.EPIPE, "Broken pipe")
    app = typer.Typer()

    @app.command()
    def asks() -> None:
        raise broken

    monkeypatch.setattr(command_line, "build", lambda arguments: (app, {}))
    assert command_line.main([]) == ExitCode.INFRASTRUCTURE
    assert "Broken pipe" in capsys.readouterr().err
    with pytest.raises(BrokenPipeError), closed_output.ignored():
        raise broken
