"""What an image of Azure ML is built of: counted as Azure counts it, refused before it is sent."""

from __future__ import annotations

import sys
import tomllib
from pathlib import Path

import pytest

from drillyard.backend import Order
from drillyard.errors import UserError
from drillyard.findings import Finding, Severity
from drillyard_backends.azure import context, environment
from drillyard_backends.azure.settings import AzureConfig
from drillyard_backends.azure.start import COMMAND, refusal
from tests.helpers.processes import run_process

ROOT = Path(__file__).parents[3]
OURS = ROOT / "deployments" / "azure" / "environment"


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "Dockerfile").write_text("FROM python:3.12-slim\n")
    return tmp_path


def looked_at(folder: Path) -> list[Finding]:
    return list(context.examine(folder))


def test_as_much_as_azure_takes_is_taken(folder):
    for n in range(98):
        (folder / f"f{n}").touch()
    (folder / "sub").mkdir()
    used = (folder / "Dockerfile").stat().st_size
    (folder / "sub" / "data").write_bytes(b"x" * (1_000_000 - used))
    assert looked_at(folder) == []
    context.check(folder)


def test_a_byte_or_a_file_more_is_refused_with_what_to_do(folder):
    used = (folder / "Dockerfile").stat().st_size
    (folder / "data.bin").write_bytes(b"x" * (1_000_001 - used))
    (found,) = looked_at(folder)
    assert found.severity is Severity.ERROR and found.subject == "build"
    assert "data.bin (1.00 MB)" in found.message and "100 files and 1 MB" in found.message
    assert str(folder / ".amlignore") in found.fix and "wheel" in found.fix
    with pytest.raises(UserError, match=r"backends\.azure\.build") as error:
        context.check(folder)
    assert error.value.hint == found.fix

    (folder / "data.bin").unlink()
    for n in range(100):
        (folder / f"f{n}").touch()
    (found,) = looked_at(folder)
    assert "101 files" in found.message


def test_an_environment_of_too_large_a_folder_has_no_version(folder):
    (folder / "data.bin").write_bytes(b"x" * 1_000_001)
    config = AzureConfig.model_construct(build=str(folder), environment=None, image=None)
    order = Order(lease_id="dy-0123456789", experiment="x", store_url="az://abc/def")
    with pytest.raises(UserError, match="100 files and 1 MB"):
        environment.version(config, order)


@pytest.mark.heavy
def test_what_the_client_does_not_send_is_not_counted(folder):
    """Of two files with rules the first alone counts, as for azure-ai-ml itself."""
    pytest.importorskip("azure.ai.ml")
    (folder / "data").mkdir()
    (folder / "data" / "big.csv").write_bytes(b"x" * 2_000_000)
    (folder / ".gitignore").write_text("\ufeffdata\n")
    assert looked_at(folder) == []
    assert {name for name, _ in context.files(folder)} == {"Dockerfile", ".gitignore"}
    (folder / ".amlignore").write_text("*.log\n")
    assert [found.severity for found in looked_at(folder)] == [Severity.ERROR]


@pytest.mark.parametrize("rules", [b"data\\\n", b"d\xe4ta\n"])
def test_rules_that_cannot_be_read_are_named(folder, rules):
    (folder / ".gitignore").write_bytes(rules)
    (found,) = looked_at(folder)
    assert found.severity is Severity.ERROR and ".gitignore" in found.message


def test_links_are_followed_and_one_to_nothing_is_named(folder, tmp_path):
    elsewhere = tmp_path.parent / f"{tmp_path.name}-elsewhere"
    elsewhere.mkdir()
    (elsewhere / "big").write_bytes(b"x" * 2_000_000)
    (folder / "linked").symlink_to(elsewhere)
    (found,) = looked_at(folder)
    assert "linked/big" in found.message
    (folder / "linked").unlink()
    (folder / "lost").symlink_to(elsewhere / "nothing")
    (found,) = looked_at(folder)
    assert found.severity is Severity.ERROR and "lost cannot be sent" in found.message


def test_a_wheel_of_drillyard_is_said_to_be_of_no_use(folder):
    (folder / "drillyard-0.1.0-py3-none-any.whl").touch()
    (found,) = looked_at(folder)
    assert found.severity is Severity.WARNING and "is not used" in found.message
    context.check(folder)


def test_our_own_folder_fits_and_has_what_drillyard_needs(tmp_path):
    size = sum(p.stat().st_size for p in OURS.iterdir())
    size += (ROOT / "requirements.lock").stat().st_size
    assert size < context.MOST_BYTES / 10 and looked_at(OURS) == []
    given = {
        line
        for line in (OURS / "requirements.txt").read_text().splitlines()
        if not line.startswith("#")
    }
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    assert given == {
        *project["dependencies"],
        *extras["rl"],
        *extras["mirror"],
        *extras["blob"],
    }
    dockerfile = (OURS / "Dockerfile").read_text()
    assert ".whl" not in dockerfile and "COPY requirements.txt requirements.lock" in dockerfile


def test_nothing_changes_the_command_of_a_job_on_its_way():
    """Neither a shell nor Azure ML's ``${{…}}``; it is one line and names no version."""
    start, program = COMMAND[:11], COMMAND[11:-1]
    assert start == 'python -c "' and COMMAND.endswith('"')
    assert not set(program) & set('$\\`"{}!\n') and program.isascii()
    compile(program, "command", "exec")


def test_why_a_job_could_not_start_is_read_from_its_log():
    begun = ["Traceback (most recent call last):", '  File "<string>", line 1, in <module>']
    nothing = "ModuleNotFoundError: No module named 'azure.identity'"
    lacks = "drillyard cannot start: this environment lacks numpy"
    assert refusal(["before", lacks, "after"]) == "this environment lacks numpy"
    assert "lacks azure-identity" in str(refusal([*begun, nothing]))
    # What an experiment's own code says is none of it.
    assert refusal(["  File 'mine.py', line 1, in <module>", nothing]) is None
    assert refusal([*begun, "ModuleNotFoundError: No module named 'azureml'"]) is None


@pytest.mark.heavy
def test_a_command_without_its_packages_ends_as_it_is_read():
    """The interpreter has no site-packages: what it prints is what ``refusal`` looks for."""
    alone = COMMAND.replace("python -c", f"{sys.executable} -I -S -c", 1)
    done = run_process(["/bin/bash", "-c", alone])
    assert done.returncode == 1
    assert "lacks azure-identity" in str(refusal(done.stderr.splitlines()))


@pytest.mark.parametrize("name", [".amlignore", ".gitignore"])
@pytest.mark.parametrize(
    "rules",
    [
        "data\n",
        "*.log\n!keep.log\n",
        "/data/\n# a note\n\n",
        "data/**\n!data/deep/x.py\n",
        "**/deep\n",
        "!keep.log\n*.log\n",
        "da?a/*.log   \n",
    ],
)
def test_what_is_left_out_is_what_azure_ai_ml_leaves_out(tmp_path, name, rules):
    utils = pytest.importorskip("azure.ai.ml._utils._asset_utils")
    (tmp_path / "data" / "deep").mkdir(parents=True)
    for each in ("Dockerfile", "keep.log", "a.log", "data/a.log", "data/deep/x.py", "data/deep/b"):
        (tmp_path / each).touch()
    (tmp_path / name).write_text(rules)
    theirs = utils.get_ignore_file(tmp_path)
    everything = [path for path in tmp_path.rglob("*") if path.is_file()]
    sent = {path for path in everything if not theirs.is_file_excluded(path)}
    assert {path for _, path in context.files(tmp_path)} == sent
