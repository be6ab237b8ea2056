"""The pages of the first hour: every command, in the order of the page, on an emulated cloud."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from sysconfig import get_path

import pytest

from drillyard.mailbox.records import Phase
from drillyard.runs.wheels import THIS_PYTHON
from drillyard_emulators.http.handle import GcpEmulator
from tests.helpers.azure_lab import needs_azurite
from tests.helpers.documents import blocks
from tests.helpers.played_gpu import played
from tests.helpers.processes import run_process
from tests.helpers.rented import Lab

pytestmark = [pytest.mark.heavy, pytest.mark.slow]
ROOT = Path(__file__).parents[2]
AZURE = ROOT / "docs" / "how-to" / "azure-first-hour.md"
GOOGLE = ROOT / "docs" / "how-to" / "google-cloud-first-hour.md"
EDITABLES = """
class EditableProject:
    def __init__(self, name, folder):
        self.name, self.folders = name, []

    def add_to_path(self, folder):
        self.folders.append(str(folder))

    def files(self):
        yield f"{self.name}.pth", chr(10).join(self.folders)

    def dependencies(self):
        return []
"""
"""What hatchling fetches to install a checkout, and our environments do not keep: tests have no
internet."""
CHECKOUT = ("src", "backends", "flows", "tasks", "deployments", "experiments")
GPU = {
    GOOGLE: "make-image.sh --gpu",
    AZURE: "export DRILLYARD_AZURE_BUILD=deployments/azure/environment-cuda",
}
"""Where a page begins with GPUs: from there on machines have one."""


def scripts(page: Path) -> list[str]:
    """The commands of a page, block by block."""
    return [block.body for block in blocks(page.read_text("utf-8")) if block.language == "bash"]


@pytest.fixture(scope="module")
def index(tmp_path_factory) -> Path:
    """The packages of this environment, without drillyard: gigabytes that pip need not install."""
    folder = tmp_path_factory.mktemp("index")
    for path in Path(get_path("purelib")).iterdir():
        if "drillyard" not in path.name:
            (folder / path.name).symlink_to(path)
    (folder / "editables.py").write_text(EDITABLES)
    return folder


def laptop(folder: Path, *programs: str) -> Path:
    """A checkout, with stand-ins for the programs of the provider."""
    for name in CHECKOUT:  # the page writes into it
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("requirements.lock", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, folder / name)
    bin_ = folder / "bin"
    bin_.mkdir()
    for name in programs:
        program = ROOT / "tests" / "helpers" / "stand_in_cloud_command.py"
        (bin_ / name).write_text(f'#!/bin/sh\nexec {sys.executable} {program} {name} "$@"\n')
    for path in bin_.iterdir():
        path.chmod(0o755)
    return bin_


def typed(text: str, **words: str) -> str:
    """A block as a test runs it: with its own names, and a short training."""
    for word, value in words.items():
        text = re.sub(rf"(?<![\w/]){word}=\S+", f"{word}={value}", text)
    short = " --set train.steps=4096 --set evaluate.every=null --set evaluate.episodes=2"
    short += " --set budget.check_s=300"  # a busy machine imports torch for a minute
    return re.sub(r"(drillyard (?:run|plan|prove) \S+)", rf"\1{short}", text)


@pytest.fixture
def google(tmp_path, monkeypatch):
    with GcpEmulator(tmp_path / "cloud") as cloud:
        lab = Lab(cloud, tmp_path, monkeypatch)
        try:
            yield lab
        finally:
            lab.close()


def with_gpu(page: Path, **variables: str) -> str:
    """The commands of a page; from its part on GPUs on, machines start with these variables."""
    before, begin, after = "\n".join(scripts(page)).partition(GPU[page])
    start = before.rindex("\n") + 1
    played = shlex.quote(json.dumps(variables))
    tell = f"curl -sS --noproxy '*' --json {played} $STAND_IN/machine_env"
    return f"{before[:start]}{tell}\n{before[start:]}{begin}{after}"


def folder_of_python(folder: Path) -> Path:
    """A folder with python3 alone: drillyard comes from what the page installs."""
    folder.mkdir()
    (folder / "python3").symlink_to(Path(sys.base_prefix) / "bin" / "python3")
    return folder


def ran(lab, index: Path, text: str, **variables: str) -> str:
    """A script of bash; what it printed."""
    env = {k: v for k, v in lab.cloud.environ().items() if not k.startswith("DRILLYARD_")}
    bin_ = laptop(lab.folder, "gcloud", "az")
    python = folder_of_python(lab.folder / "python")
    paths = [bin_, python, "/usr/bin", "/bin"]
    env |= {
        "PATH": os.pathsep.join(map(str, paths)),
        "HOME": str(lab.folder),
        "DRILLYARD_HOME": str(lab.folder / "home"),
        "DRILLYARD_CONFIG_DIR": str(lab.folder),
        "PREFECT_HOME": str(lab.folder / ".prefect"),
        "STAND_IN": lab.cloud.control_url,
        "STAND_IN_NOTES": str(lab.folder),
        "DRILLYARD_RESTART_S": "0",
        "PYTHONPATH": str(index),
        "PIP_NO_INDEX": "1",
        "PIP_NO_BUILD_ISOLATION": "0",
        **variables,
    }
    script = lab.folder / "page.sh"
    script.write_text(f"set -eu\n{text}")
    done = run_process(["bash", str(script)], cwd=lab.folder, env=env, timeout=1500)
    assert done.returncode == 0, done.stdout + done.stderr + lab.serials()
    return done.stdout + done.stderr


def looked_at(said: str, lab) -> None:
    """Both results, both proofs and what each of them says at its end."""
    assert "does not provide the extra" not in said and "Successfully installed drillyard" in said
    for experiment in ("cstr-ppo", "cstr-gpu"):
        mailbox = lab.mailbox(experiment)
        for seed in (1, 2):
            assert mailbox.accepted(f"t0001-s{seed}", Phase.STORE) is not None, said
    assert said.count("nothing is left: the listing of the provider confirms it") == 2, said
    assert "torch 2.13.0 for CUDA 13.0" in said and "driver 580.126.09" in said, said


def test_the_page_of_google_leads_from_nothing_to_a_result(index, google):
    cloud = google.cloud
    text = with_gpu(GOOGLE, **played(google.folder / "gpu"))
    text = typed(text, PROJECT=cloud.project, BUCKET=google.bucket)
    who = json.loads(Path(cloud.env["GOOGLE_APPLICATION_CREDENTIALS"]).read_text())["client_email"]
    said = ran(
        google,
        index,
        text,
        STAND_IN_ACCOUNT=who,
        DRILLYARD_GCP_LISTING_LAG_S="0.2",
        DRILLYARD_GCP_PYTHON=THIS_PYTHON,
    )
    assert "cstr-ppo: can be run. Nothing was created." in said
    assert "cstr-gpu: can be run. Nothing was created." in said
    looked_at(said, google)
    assert not google.left()


@needs_azurite()
def test_the_page_of_azure_leads_from_nothing_to_a_result(index, lab):
    where = lab.cloud.workspace
    outputs = {
        "account show": where["subscription_id"],
        "identity show --name drillyard-node --resource-group "
        f"{where['resource_group']} --query id": lab.cloud.identity,
    }
    text = with_gpu(AZURE, **played(lab.folder / "gpu"))
    text = typed(text, GROUP=where["resource_group"], WORKSPACE=where["workspace_name"])
    said = ran(
        lab,
        index,
        text,
        STAND_IN_OUTPUTS=json.dumps(outputs),
        DRILLYARD_AZURE_LISTING_LAG_S="0",
        DRILLYARD_AZURE_PYTHON=THIS_PYTHON,
        DRILLYARD_AZURE_PREFIX=lab.prefix,
    )
    assert "cstr-ppo: can be run. Nothing was created." in said
    assert "cstr-gpu: can be run. Nothing was created." in said
    looked_at(said, lab)


@pytest.mark.skipif(shutil.which("gcloud") is None, reason="gcloud is not installed")
def test_gcloud_knows_every_command_of_the_page(tmp_path):
    """It checks them by its own grammar, and sends nothing."""
    text = "\n".join(scripts(GOOGLE)).replace("\\\n", " ")
    lines = [line.strip() for line in text.splitlines() if "gcloud " in line]
    commands = [line[line.index("gcloud ") :] for line in lines if "=$(" not in line]
    assert len(commands) > 12
    quiet = {"CLOUDSDK_CORE_CHECK_GCE_METADATA": "0", "CLOUDSDK_CORE_DISABLE_PROMPTS": "1"}
    for command in commands:
        plain = re.sub(r"\$\(gcloud .*\)$", "x", command)
        plain = re.sub(r"\$(PROJECT|BUCKET)", "my-project-1", plain)
        plain = re.sub(r"\$\w+", "x", plain)
        done = subprocess.run(
            ["gcloud", "meta", "lint-gcloud-commands", f"--command-string={plain}"],
            env={**os.environ, **quiet, "CLOUDSDK_CONFIG": str(tmp_path)},
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        )
        (verdict,) = json.loads(done.stdout)
        assert verdict["success"], (command, verdict["error_message"])
