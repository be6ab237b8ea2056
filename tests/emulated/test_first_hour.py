"""The pages of the first hour: every command, in the order of the page, on an emulated cloud."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from drillyard.mailbox.records import Phase
from drillyard.runs.wheels import THIS_PYTHON
from drillyard_emulators.http.handle import GcpEmulator
from tests.helpers.azure_lab import needs_azurite
from tests.helpers.documents import blocks
from tests.helpers.processes import run_process
from tests.helpers.rented import Lab

pytestmark = [pytest.mark.heavy, pytest.mark.slow]
ROOT = Path(__file__).parents[2]
AZURE = ROOT / "docs" / "how-to" / "azure-first-hour.md"
GOOGLE = ROOT / "docs" / "how-to" / "google-cloud-first-hour.md"
PIP = """#!/bin/sh
[ "$1" = wheel ] || exit 1
mkdir -p dist && touch dist/drillyard-0.1.0-py3-none-any.whl
"""


def scripts(page: Path) -> list[str]:
    """The commands of a page, block by block."""
    return [block.body for block in blocks(page.read_text("utf-8")) if block.language == "bash"]


def laptop(folder: Path, *programs: str) -> Path:
    """A checkout, with stand-ins for the programs of the provider and for pip."""
    for name in ("experiments", "requirements.lock"):
        (folder / name).symlink_to(ROOT / name)
    shutil.copytree(ROOT / "deployments", folder / "deployments")  # the page writes into it
    bin_ = folder / "bin"
    bin_.mkdir()
    (bin_ / "pip").write_text(PIP)
    for name in programs:
        program = ROOT / "tests" / "helpers" / "stand_in_cloud_command.py"
        (bin_ / name).write_text(f'#!/bin/sh\nexec {sys.executable} {program} {name} "$@"\n')
    for path in bin_.iterdir():
        path.chmod(0o755)
    return bin_


def typed(text: str, **words: str) -> str:
    """A block as a test runs it: with its own names, a short training, and a proof that looks."""
    for word, value in words.items():
        text = re.sub(rf"(?<![\w/]){word}=\S+", f"{word}={value}", text)
    text = re.sub(r"(drillyard prove .*?) --yes", r"\1 --dry-run", text)
    short = " --set train.steps=4096 --set evaluate.every=null --set evaluate.episodes=2"
    return re.sub(r"(drillyard (?:run|plan|prove) \S+)", rf"\1{short}", text)


@pytest.fixture
def google(tmp_path, monkeypatch):
    with GcpEmulator(tmp_path / "cloud") as cloud:
        lab = Lab(cloud, tmp_path, monkeypatch)
        try:
            yield lab
        finally:
            lab.close()


def without_gpu(text: str, gpu: str) -> str:
    """A page for emulated machines, which have no GPU: what needs one is planned and looked at."""
    begin = text.index(gpu)
    return text[:begin] + text[begin:].replace("drillyard run", "drillyard plan")


def ran(lab, text: str, **variables: str) -> str:
    """A script of bash; what it printed."""
    env = {k: v for k, v in lab.cloud.environ().items() if not k.startswith("DRILLYARD_")}
    bin_ = laptop(lab.folder, "gcloud", "az")
    paths = [bin_, Path(sys.executable).parent, "/usr/bin", "/bin"]
    env |= {
        "PATH": os.pathsep.join(map(str, paths)),
        "HOME": str(lab.folder),
        "DRILLYARD_HOME": str(lab.folder / "home"),
        "DRILLYARD_CONFIG_DIR": str(lab.folder),
        "PREFECT_HOME": str(lab.folder / ".prefect"),
        "STAND_IN": lab.cloud.control_url,
        "STAND_IN_NOTES": str(lab.folder),
        "DRILLYARD_RESTART_S": "0",
        **variables,
    }
    script = lab.folder / "page.sh"
    script.write_text(f"set -eu\n{text}")
    done = run_process(["bash", str(script)], cwd=lab.folder, env=env, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr + lab.serials()
    return done.stdout + done.stderr


def test_the_page_of_google_leads_from_nothing_to_a_result(google):
    cloud = google.cloud
    text = without_gpu("\n".join(scripts(GOOGLE)), "make-image.sh --gpu")
    text = typed(text, PROJECT=cloud.project, BUCKET=google.bucket)
    who = json.loads(Path(cloud.env["GOOGLE_APPLICATION_CREDENTIALS"]).read_text())["client_email"]
    said = ran(
        google,
        text,
        STAND_IN_ACCOUNT=who,
        DRILLYARD_GCP_LISTING_LAG_S="0.2",
        DRILLYARD_GCP_PYTHON=THIS_PYTHON,
    )
    assert "cstr-ppo: can be run. Nothing was created." in said
    assert "cstr-gpu: can be run. Nothing was created." in said
    mailbox = google.mailbox("cstr-ppo")
    for seed in (1, 2):
        assert mailbox.accepted(f"t0001-s{seed}", Phase.STORE) is not None
    assert not google.left()


@needs_azurite()
def test_the_page_of_azure_leads_from_nothing_to_a_result(lab):
    where = lab.cloud.workspace
    outputs = {
        "account show": where["subscription_id"],
        "identity show --name drillyard-node --resource-group "
        f"{where['resource_group']} --query id": lab.cloud.identity,
    }
    text = without_gpu("\n".join(scripts(AZURE)), "environment-cuda")
    text = typed(text, GROUP=where["resource_group"], WORKSPACE=where["workspace_name"])
    said = ran(
        lab,
        text,
        STAND_IN_OUTPUTS=json.dumps(outputs),
        DRILLYARD_AZURE_LISTING_LAG_S="0",
        DRILLYARD_AZURE_PYTHON=THIS_PYTHON,
        DRILLYARD_AZURE_PREFIX=lab.prefix,
    )
    assert "cstr-ppo: can be run. Nothing was created." in said
    assert "cstr-gpu: can be run. Nothing was created." in said
    mailbox = lab.mailbox("cstr-ppo")
    for seed in (1, 2):
        assert mailbox.accepted(f"t0001-s{seed}", Phase.STORE) is not None


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
