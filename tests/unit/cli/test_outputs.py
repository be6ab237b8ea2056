"""Files that a user names: refused before the work, with exit code 2, never as our bug."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from drillyard.cli.main import main
from drillyard.errors import ConfigError, ExitCode, StoreUnavailable
from drillyard.system.output_files import check_file, check_folder, write_whole, writing

BAD = {
    "no folder": "nowhere/made.svg",
    "a file on the way": "taken/made.svg",
    "a folder": "there.svg",
}
COMMANDS = {
    "record": ["record", "cstr.yaml", "--policy", "hold", "--out"],
    "picture": ["check", "cstr", "--picture"],
    "schema": ["schema", "--out"],
    "generate": ["generate", "-a", "ppo", "-s", "cstr", "--out"],
}


SUFFIX = {"record": "npz", "generate": "yaml"}


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A folder with a file and a folder that are in the way."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "taken").write_text("")
    for name in ("there.svg", "there.npz", "there.yaml"):
        (tmp_path / name).mkdir()
    text = "schema: 1\nname: a\nsimulator: {id: cstr}\ntrain: {steps: 10}\n"
    (tmp_path / "cstr.yaml").write_text(text + "learner: {algorithm: ppo}\n")
    return tmp_path


@pytest.mark.parametrize("bad", BAD)
def test_a_file_that_cannot_be_written_is_refused_before_the_work(here, bad):
    with pytest.raises(ConfigError) as refused:
        check_file(Path(BAD[bad]), "--out")
    assert refused.value.field == "--out" and refused.value.hint


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("bad", BAD)
def test_no_command_calls_a_bad_name_our_bug(here, command, bad, capsys):
    name = BAD[bad].replace("svg", SUFFIX.get(command, "svg"))
    assert main([*COMMANDS[command], name]) == ExitCode.USER_INPUT
    said = capsys.readouterr()
    assert name in said.err and "fix:" in said.err
    assert command == "schema" or not said.out  # nothing was done before it was refused


def test_no_episode_is_played_for_a_file_that_cannot_be_written(here, monkeypatch):
    from drillyard.learners import demonstrations

    monkeypatch.setattr(demonstrations, "play", lambda *given: pytest.fail("it was played"))
    assert main([*COMMANDS["record"], "nowhere/made.npz"]) == ExitCode.USER_INPUT


@pytest.mark.parametrize(
    "words",
    [
        ["rehearse", "cstr.yaml", "--on", "gcp", "--keep"],
        ["assess", "cstr.yaml", "--conditions", "none.csv", "--out"],
        ["tensorboard", "--folder"],
    ],
)
def test_a_folder_below_a_file_is_refused_by_each_command(here, words, capsys):
    assert main([*words, "taken/deep"]) == ExitCode.USER_INPUT
    assert "taken is not a folder" in capsys.readouterr().err


def test_a_folder_is_made_with_its_parents_but_not_below_a_file(here):
    check_folder(Path("new/deep"), "--out")
    with pytest.raises(ConfigError, match="taken is not a folder"):
        check_folder(Path("taken/deep"), "--out")


def test_a_rehearsal_that_cannot_be_kept_does_not_begin(here, capsys):
    assert main(["rehearse", "cstr.yaml", "--keep", "taken/deep"]) == ExitCode.USER_INPUT
    assert "taken is not a folder" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("number", "error"), [(errno.EACCES, ConfigError), (errno.ENOSPC, StoreUnavailable)]
)
def test_another_name_does_not_mend_a_full_disk(number, error):
    with pytest.raises(error, match=os.strerror(number)), writing(Path("x"), "--out"):
        raise OSError(number, os.strerror(number))


def test_a_file_is_there_as_a_whole_or_as_it_was(tmp_path, monkeypatch):
    path = tmp_path / "made.npz"
    write_whole(path, b"first", "--out")
    path.chmod(0o600)

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(os, "replace", full)
        with pytest.raises(StoreUnavailable, match="No space left"):
            write_whole(path, b"second", "--out")
    assert (path.read_bytes(), os.listdir(tmp_path)) == (b"first", ["made.npz"])
    modes = []

    def chmod(beside: Path, mode: int) -> None:
        modes.append(beside.stat().st_mode & 0o777)
        os.chmod(beside, mode)

    monkeypatch.setattr(Path, "chmod", chmod)
    write_whole(path, b"third", "--out")
    assert (path.read_bytes(), path.stat().st_mode & 0o777) == (b"third", 0o600)
    assert modes == [0o600], "others could read it while it was written"
