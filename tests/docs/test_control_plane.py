"""``deployments/control-plane/``: what can be checked without a cloud."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from tests.helpers.processes import run_process

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "deployments" / "control-plane"
pytestmark = pytest.mark.heavy
CLOUDS = {
    "gcp": (
        "gcloud",
        ["my-project", "europe-west1-b", "p.example.org", "m.example.org"],
        "gs://b/f",
    ),
    "azure": ("az", ["group", "westeurope", "p.example.org", "m.example.org"], "az://account/c"),
}


def run(cloud: str, tmp: Path, *words: str, answers: str = "") -> tuple[int, str, list[str]]:
    """A script with a stand-in for its cloud's program; what it prints, and what that was told."""
    tool = tmp / CLOUDS[cloud][0]
    heard = tmp / "heard"
    # It keeps what it is told, and the file of the first start.
    tool.write_text(
        f'#!/bin/sh\necho "$@" >> {heard}\n'
        'for word; do case "$word" in user-data=*|@*) '
        f'cp "${{word#*[=@]}}" {tmp}/first;; esac; done\n'
    )
    tool.chmod(0o755)
    done = run_process(
        [FOLDER / f"{cloud}.sh", *words],
        env={
            "PATH": f"{tmp}:{os.environ['PATH']}",
            "DRILLYARD_SOURCE": "https://git.example.org/drillyard",
            "DRILLYARD_VERSION": "v0.1",
        },
        input=answers,
        timeout=60,
    )
    told = heard.read_text().splitlines() if heard.exists() else []
    return done.returncode, done.stdout + done.stderr, told


@pytest.mark.parametrize("cloud", CLOUDS)
def test_it_makes_one_small_machine_with_an_account_and_opens_no_port(cloud, tmp_path):
    _, given, store = CLOUDS[cloud]
    code, said, told = run(cloud, tmp_path, "--yes", *given, store)
    assert code == 0, said
    (machine,) = [t for t in told if t.startswith(("compute instances create", "vm create"))]
    assert "e2-medium" in machine or "Standard_B2s" in machine
    assert "--service-account" in machine or "--assign-identity" in machine
    assert not any("firewall" in t or "nsg rule" in t for t in told)
    assert cloud == "gcp" or "--nsg-rule NONE" in machine  # Azure would open SSH
    assert "delete all of it" in said
    first = YAML(typ="safe").load(tmp_path / "first")
    script = first["write_files"][0]["content"]
    assert "@" not in script and f"STORE={store}" in script and "SITE=p.example.org" in script


@pytest.mark.parametrize("cloud", CLOUDS)
def test_without_a_yes_nothing_is_made(cloud, tmp_path):
    _, given, store = CLOUDS[cloud]
    assert run(cloud, tmp_path, *given, store)[::2] == (1, [])
    assert run(cloud, tmp_path, *given, store, answers="y\nn\n")[0] == 1


@pytest.mark.parametrize("cloud", CLOUDS)
def test_bad_words_are_refused_before_anything_is_made(cloud, tmp_path):
    _, given, store = CLOUDS[cloud]
    for words in (given, [*given, "s3://b"], [*given[:2], "a;b", given[3], store]):
        code, _, told = run(cloud, tmp_path, "--yes", *words)
        assert (code, told) == (2, [])


def test_the_first_start_sets_every_variable_of_the_servers(tmp_path):
    """In a folder of this machine, with stand-ins for git and Docker; a repeat changes nothing."""
    first = YAML(typ="safe").load(FOLDER / "cloud-init.yaml")
    servers = tmp_path / "drillyard" / "deployments" / "servers"
    servers.mkdir(parents=True)
    script = first["write_files"][0]["content"].replace(
        "/opt/drillyard", str(tmp_path / "drillyard")
    )
    for tool in ("git", "docker"):
        (tmp_path / tool).write_text(f'#!/bin/sh\necho "{tool} $@" >> {tmp_path}/told\n')
        (tmp_path / tool).chmod(0o755)
    environment = {"PATH": f"{tmp_path}:{os.environ['PATH']}"}
    texts = []
    for _ in range(2):
        subprocess.run(["sh", "-c", script], check=True, env=environment, timeout=60)
        texts.append((servers / ".env").read_text())
    assert texts[0] == texts[1] and (servers / ".env").stat().st_mode & 0o077 == 0
    given = dict(line.split("=", 1) for line in texts[0].splitlines())
    example = (ROOT / "deployments/servers/env.example").read_text()
    assert given.keys() == set(re.findall(r"^(\w+)=", example, re.M))
    secrets = [v for k, v in given.items() if "PASSWORD" in k or "KEY" in k]
    assert len(set(secrets)) == 5 and min(map(len, secrets)) >= 40
    assert (tmp_path / "told").read_text().count("docker compose -f compose.yaml up") == 2
    from cryptography.fernet import Fernet

    Fernet(given["PREFECT_ENCRYPTION_KEY"].encode())
