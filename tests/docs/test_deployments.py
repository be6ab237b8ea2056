"""What `deployments/` says, as far as it can be checked without a cloud."""

from __future__ import annotations

import inspect
import os
import pkgutil
import re
import shutil
import subprocess
from datetime import UTC, datetime
from importlib import import_module
from pathlib import Path

import pytest
from prefect import Flow
from ruamel.yaml import YAML

from drillyard.registry import load_object
from drillyard.spec.load import load
from drillyard.spec.presets import experiment_file, statement, table
from drillyard_flows.deploying.files import desired
from drillyard_flows.form import SCHEDULED, request_of
from drillyard_flows.request import loaded_of
from tests.helpers.processes import run_process

# -- ``deployments/`` is data that Prefect reads: it must name flows and parameters that exist


ROOT = Path(__file__).parents[2]


def test_every_deployment_names_a_flow_its_parameters_and_a_file_that_is_there():
    found = YAML(typ="safe").load((ROOT / "deployments" / "prefect.yaml").read_text())
    assert found["deployments"]
    for deployment in found["deployments"]:
        flow = load_object(deployment["entrypoint"])
        parameters = deployment.get("parameters", {})
        inspect.signature(flow.fn).bind(**parameters)
        assert "file" not in parameters or experiment_file(parameters["file"])


def test_every_flow_has_a_deployment():
    import drillyard_flows

    flows = set()
    for module in pkgutil.iter_modules(drillyard_flows.__path__, "drillyard_flows."):
        for found in vars(import_module(module.name)).values():
            if isinstance(found, Flow):
                flows.add(found.name)
    deployed = {load_object(d["entrypoint"]).name for d in desired().deployments}
    assert flows and flows <= deployed


def test_the_study_that_ships_is_one():
    (study,) = [d for d in desired().deployments if d["entrypoint"].endswith(":study")]
    # Whoever names a file of their own clears nothing: every other field is empty.
    assert study["parameters"].keys() == {"file"}
    request = request_of(study["parameters"])
    spec = loaded_of(request).spec
    assert spec.name == "cstr-ppo-search"
    assert spec.study is not None and spec.study.trials == 6 and spec.train.steps == 20_000
    assert request_of({"seeds": 3, "max_cost": 2.5}).sets == [
        "seeds=[1, 2, 3]",
        "budget.max_cost=2.5",
    ]


def test_a_schedule_has_a_name_for_each_of_its_runs():
    """Under one name, the second run would find everything done."""
    nights = [datetime(2026, 3, day, 3, 5, tzinfo=UTC) for day in (1, 2)]
    for parameters in ({"file": "cstr/ppo"}, {"file": "m.yaml", "name": "mine-{date}-{time}"}):
        first, second, again = [
            request_of(parameters, night, [SCHEDULED]).name for night in (*nights, nights[0])
        ]
        # The same run, repeated later, continues its own experiment.
        assert first != second and first == again
    assert request_of({"file": "cstr/ppo"}, nights[0], [SCHEDULED]).name == (
        "cstr-ppo-2026-03-01-0305"
    )
    # Whoever gives a name, or asks for a run by hand, continues that experiment.
    assert request_of({"file": "m.yaml", "name": "mine"}, nights[0], [SCHEDULED]).name == "mine"
    assert request_of({"file": "m.yaml"}, nights[0]).name is None


@pytest.mark.parametrize("entry", table(), ids=lambda entry: entry["name"])
def test_a_preset_trains_for_the_budget_that_it_was_measured_with(entry, tmp_path, monkeypatch):
    """What `list presets` prints is what `drillyard run NAME` does."""
    monkeypatch.setenv("DRILLYARD_HOME", str(tmp_path))
    path = experiment_file(entry["name"])
    assert path is not None
    train = load(path).spec.train
    assert train is not None and f"{train.steps:,} steps" in statement(entry)


def test_the_page_of_azure_puts_beside_each_dockerfile_what_it_copies():
    page = (ROOT / "docs" / "how-to" / "azure-first-hour.md").read_text()
    recipes = sorted((ROOT / "deployments" / "azure").glob("*/Dockerfile"))
    assert len(recipes) == 2
    for recipe in recipes:
        folder = recipe.parent.relative_to(ROOT)
        (copied,) = re.findall(r"^COPY (.+) \S+$", recipe.read_text(), re.MULTILINE)
        (put,) = re.findall(rf"^cp (.+) {folder}/$", page, re.MULTILINE)
        assert all((ROOT / path).is_file() for path in put.split())
        there = {path.name for path in [*recipe.parent.iterdir(), *map(Path, put.split())]}
        assert {*copied.split()} <= there, folder


# -- ``deployments/control-plane/``: what can be checked without a cloud ----------------------


FOLDER = ROOT / "deployments" / "control-plane"
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


@pytest.mark.heavy
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


@pytest.mark.heavy
@pytest.mark.parametrize("cloud", CLOUDS)
def test_without_a_yes_nothing_is_made(cloud, tmp_path):
    _, given, store = CLOUDS[cloud]
    assert run(cloud, tmp_path, *given, store)[::2] == (1, [])
    assert run(cloud, tmp_path, *given, store, answers="y\nn\n")[0] == 1


@pytest.mark.heavy
@pytest.mark.parametrize("cloud", CLOUDS)
def test_bad_words_are_refused_before_anything_is_made(cloud, tmp_path):
    _, given, store = CLOUDS[cloud]
    for words in (given, [*given, "s3://b"], [*given[:2], "a;b", given[3], store]):
        code, _, told = run(cloud, tmp_path, "--yes", *words)
        assert (code, told) == (2, [])


@pytest.mark.heavy
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


# -- ``deployments/servers/``: what can be checked without Docker and without installing it ---


SERVER_FOLDER = Path(__file__).parents[2] / "deployments" / "servers"


def test_compose_opens_the_proxy_alone_and_every_server_asks_for_a_password():
    text = (SERVER_FOLDER / "compose.yaml").read_text()
    services = YAML(typ="safe").load(text)["services"]
    assert [name for name, one in services.items() if "ports" in one] == ["proxy"]
    assert "PREFECT_SERVER_API_AUTH_STRING" in services["prefect"]["environment"]
    assert "basic-auth" in services["mlflow"]["command"]
    assert (
        "postgresql" in services["prefect"]["environment"]["PREFECT_API_DATABASE_CONNECTION_URL"]
    )
    assert "postgresql" in services["mlflow"]["environment"]["MLFLOW_BACKEND_STORE_URI"]
    assert all("restart" in one for one in services.values())
    asked = set(re.findall(r"\$\{(\w+)", text))
    given = set(re.findall(r"^(\w+)=", (SERVER_FOLDER / "env.example").read_text(), re.M))
    assert asked == given
    for one in services.values():
        for volume in one.get("volumes", []):
            source = volume.partition(":")[0]
            assert not source.startswith("./") or (SERVER_FOLDER / source).is_file()


@pytest.mark.heavy
@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="no systemd on this machine")
def test_units_are_understood_by_systemd(tmp_path):
    units = sorted((SERVER_FOLDER / "systemd").glob("*.service"))
    assert len(units) == 4
    for unit in units:
        text = unit.read_text()
        assert "EnvironmentFile=" in text and "password" not in text.split("[Unit]")[1].lower()
        # Their programs are where they will be installed, and not here.
        text = re.sub(r"/opt/drillyard/bin/\w+", "/bin/true", text)
        (tmp_path / unit.name).write_text(re.sub(r"(?m)^(User|EnvironmentFile)=.*\n", "", text))
    done = run_process(
        ["systemd-analyze", "verify", *map(str, sorted(tmp_path.iterdir()))], timeout=120
    )
    assert done.returncode == 0 and "Unknown" not in done.stderr, done.stderr
