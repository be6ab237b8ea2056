"""A reader that ends early (`| head`) changes no exit code: it says how the work ended."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from drillyard.errors import ExitCode
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


def ended(folder: Path, *words: str) -> tuple[int, str]:
    """The exit code of a command whose output cannot be written, and what it says of it."""
    reader, writer = os.pipe()
    os.close(reader)
    try:
        child = subprocess.run(
            [sys.executable, "-m", "drillyard.cli.start", *words],
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=writer,
            stderr=subprocess.PIPE,
            text=True,
            timeout=PATIENCE_S,
        )
    finally:
        os.close(writer)
    return child.returncode, child.stderr


@pytest.mark.parametrize(
    "code", [ExitCode.DONE, ExitCode.EXPERIMENT_FAILED], ids=["success", "failure"]
)
@pytest.mark.parametrize("form", [[], ["--json"]], ids=["table", "json"])
def test_a_run_ends_with_the_code_of_its_result(
    tmp_path: Path, code: ExitCode, form: list[str]
) -> None:
    (tmp_path / "cut.yaml").write_text(FILE.format(code=int(code)))
    found, said = ended(tmp_path, "run", "cut.yaml", "--no-prefect", *form)
    assert found == code, said
    assert "Traceback" not in said and "BrokenPipe" not in said


def test_a_command_that_only_shows_says_that_it_was_cut_off(tmp_path: Path) -> None:
    assert ended(tmp_path, "--version") == (ExitCode.OUTPUT_CLOSED, "")


def test_a_refusal_keeps_its_code_when_nothing_can_be_said(tmp_path: Path) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    command = [sys.executable, "-m", "drillyard.cli.start", "check", "missing.yaml"]
    try:
        child = subprocess.run(
            command, cwd=tmp_path, stdout=writer, stderr=writer, timeout=PATIENCE_S
        )
    finally:
        os.close(writer)
    assert child.returncode == ExitCode.USER_INPUT
