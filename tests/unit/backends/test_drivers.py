"""The table of drivers, the recipes that follow it, and what `plan` says of images with GPUs."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
from typing import get_args

import pytest

from drillyard.backend import Order
from drillyard.findings import Severity
from drillyard.spec.running import Gpu
from drillyard.system.gpu_software import needed_driver
from drillyard_backends import drivers
from drillyard_backends.azure import plan as azure_plan
from drillyard_backends.azure.machines import machine_types as azure_types
from drillyard_backends.azure.settings import AzureConfig
from drillyard_backends.drivers import Software
from drillyard_backends.gcp import wheelhouse
from drillyard_backends.gcp.machines import machine_types as gcp_types
from drillyard_backends.gcp.wheelhouse import TORCH
from tests.conftest import ROOT
from tests.helpers.gcp_examined import examined, order
from tests.helpers.google_world import World
from tests.helpers.wheel_index import wheel

RECIPES = {
    ("gcp", "image"): ROOT / "deployments/gcp/image/make-image.sh",
    ("gcp", "container"): ROOT / "deployments/gcp/image/Dockerfile",
    ("azure", "environment"): ROOT / "deployments/azure/environment-cuda/Dockerfile",
}


def test_every_gpu_has_a_row_with_a_source_where_it_can_be_rented():
    rows, sources = drivers.table()["rows"], drivers.table()["sources"]
    for place, types in (("gcp", gcp_types()), ("azure", azure_types())):
        rented = {kind.gpu for kind in types.types if kind.gpu}
        listed = {gpu for row in rows if row["place"] == place for gpu in row["gpus"]}
        assert rented <= listed, f"{place} rents {rented - listed}"
    assert {gpu for row in rows for gpu in row["gpus"]} == set(get_args(Gpu))
    assert all(row["source"] in sources for row in rows)
    for text in sources.values():
        assert re.search(r"20\d\d-\d\d", text), f"no date: {text}"


@pytest.mark.parametrize("row", drivers.table()["rows"], ids=lambda row: f"{row['place']}")
def test_the_build_of_a_row_runs_on_its_oldest_driver_and_its_recipe_takes_it(row):
    build, jax = row["torch"], row["jax"]
    needed = needed_driver(f"{build[2:-1]}.{build[-1]}")
    assert needed is not None and needed <= row["oldest"]
    assert jax == f"cuda{build[2:4]}", "JAX's plugin has the same CUDA"
    text = RECIPES[row["place"], row["image"]].read_text()
    assert build in text and f"jax[{jax}]" in text


def test_recipes_for_cpus_take_builds_for_cpus(monkeypatch, tmp_path):
    assert drivers.of_folder(ROOT / "deployments/azure/environment") == Software("cpu", "")
    assert drivers.of_folder(ROOT / "deployments/azure/environment-cuda") == Software(
        "cu126", "cuda12"
    )
    assert "ARG TORCH=cpu" in RECIPES["gcp", "container"].read_text()
    asked: list[list[str]] = []
    monkeypatch.setattr(wheelhouse, "build", lambda *given: asked.append(given[3]))
    monkeypatch.setattr(wheelhouse, "publish", lambda *given: "gs://b/w/1")
    assert wheelhouse.main(["gs://b/w", "-c", "lock"]) == 0
    assert wheelhouse.main(["gs://b/w", "--torch", "cu130"]) == 0
    assert [options[-1].rpartition("/")[2] for options in asked] == ["cpu", "cu130"]
    assert asked[0][:2] == ["-c", "lock"]


BUILDS = {
    "deployments/azure/environment/Dockerfile": {},
    "deployments/azure/environment-cuda/Dockerfile": {},
    "deployments/gcp/image/Dockerfile": {"TORCH": "cpu"},
    "deployments/gcp/image/Dockerfile --build-arg": {"TORCH": "cu130", "JAX": "'jax[cuda13]'"},
    "deployments/gcp/image/make-image.sh": {"torch": f"--extra-index-url {TORCH}cpu"},
    "deployments/gcp/image/make-image.sh --gpu": {
        "torch": f"--extra-index-url {TORCH}cu130",
        "jax": "'jax[cuda13]'",
    },
    "deployments/servers/Dockerfile": {},
}
"""Recipe -> the variables of its shell."""


@pytest.fixture(scope="module")
def indexes(tmp_path_factory):
    """PyPI, whose torch is built for CUDA 13, and PyTorch's own indexes; a lock."""
    folder = tmp_path_factory.mktemp("indexes")
    plugins = [f"jax_cuda{n}_plugin==0.10.2; extra == 'cuda{n}'" for n in (12, 13)]
    packages = {
        "pypi/torch": ("torch", "2.13.0", "nvidia_cublas==13.1"),
        "pypi/jax": ("jax", "0.10.2", *plugins),
        "pypi/jax-cuda12-plugin": ("jax_cuda12_plugin", "0.10.2"),
        "pypi/jax-cuda13-plugin": ("jax_cuda13_plugin", "0.10.2"),
        "pypi/nvidia-cublas": ("nvidia_cublas", "13.1"),
        "pypi/drillyard": ("drillyard", "0.1", "torch>=2.10; extra == 'rl'"),
        **{f"{b}/torch": ("torch", f"2.13.0+{b}") for b in ("cpu", "cu126", "cu130")},
    }
    for place, package in packages.items():
        (folder / place).mkdir(parents=True)
        wheel(folder / place, *package)
        (file,) = (folder / place).iterdir()
        link = f'<a href="{file.name.replace("+", "%2B")}">{file.name}</a>'
        (folder / place / "index.html").write_text(link)
    (folder / "lock").write_text("torch==2.13.0\njax==0.10.2\n")
    return folder


@pytest.mark.heavy
@pytest.mark.parametrize("recipe", BUILDS)
def test_pip_takes_the_build_of_the_recipe(recipe, indexes):
    """The lock names 2.13.0; PyPI has that, PyTorch's indexes have 2.13.0+cpu and others."""
    text = (ROOT / recipe.partition(" ")[0]).read_text()
    (line, *_) = re.findall(r"(?:bin/)?pip install (.+)", text)
    variables = {"constraint": "-c /requirements.lock", **BUILDS[recipe]}
    line = re.sub(r"\$\{?(\w+)(?::\+[^}]*\})?\}?", lambda m: variables.get(m[1], ""), line)
    line = re.sub(
        r"['\"]?\S*\[(rl|control)[^]]*\]['\"]?", "drillyard[rl]", line.partition("&&")[0]
    )
    line = line.replace(TORCH, f"file://{indexes}/").replace("'", "").replace(" asyncpg", "")
    words = shlex.split(
        re.sub(r"\S*requirements\.lock", str(indexes / "lock"), line.rstrip("\\ "))
    )
    command = [sys.executable, "-m", "pip", "install", "--isolated", "--dry-run", "--report", "-"]
    command += ["-q", "--ignore-installed", "--index-url", f"file://{indexes}/pypi", *words]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    entries = [entry["metadata"] for entry in json.loads(done.stdout)["install"]]
    taken = {entry["name"]: entry["version"] for entry in entries}
    build = taken["torch"].partition("+")[2]
    plugins = [name for name in taken if "plugin" in name]
    if "cuda" in recipe or "--" in recipe:
        place = "azure" if "azure" in recipe else "gcp"
        (row, *_) = [row for row in drivers.table()["rows"] if row["place"] == place]
        assert (build, plugins) == (row["torch"], [f"jax_{row['jax']}_plugin"])
    else:
        assert (build, plugins) == ("cpu", []) and "nvidia_cublas" not in taken


def of(software, place="azure", model="A10", gpus=1, **more):
    wanted = Order(lease_id="dy-0", experiment="e", store_url="x", gpus=gpus, **more)
    image = "environment" if place == "azure" else "image"
    return [
        (finding.severity, finding.message)
        for finding in drivers.examine(wanted, place, image, model, software)
    ]


@pytest.mark.parametrize(
    ("software", "place", "model", "severity", "words"),
    [
        (
            Software("cu130"),
            "azure",
            "A10",
            Severity.ERROR,
            "needs driver 580 or newer; machines with A10",
        ),
        (
            Software("cu130"),
            "azure",
            "T4",
            Severity.WARNING,
            "machines with T4 have driver 535 or newer",
        ),
        (
            Software("cu126"),
            "azure",
            "A10",
            Severity.OK,
            "machines with A10 have driver 550 to 570",
        ),
        (Software("cpu"), "azure", "T4", Severity.ERROR, "torch for CPUs: no T4 would be used"),
        (Software(), "azure", "T4", Severity.WARNING, "which CUDA is not known"),
        (
            Software("cu126"),
            "gcp",
            "K80",
            Severity.WARNING,
            "machines with K80 have an unknown driver",
        ),
        (
            Software("cu130"),
            "gcp",
            "B200",
            Severity.OK,
            "machines with B200 have driver 580 or newer",
        ),
        (
            Software("cu130", driver=570),
            "gcp",
            "L4",
            Severity.ERROR,
            "machines with L4 have driver 570",
        ),
    ],
)
def test_pairs_that_are_known_to_fail_are_refused_and_unknown_ones_are_warned_of(
    software, place, model, severity, words
):
    ((found, message),) = of(software, place, model)
    assert found is severity and words in message
    assert of(software, place, model, gpus=0) == []


@pytest.mark.parametrize(
    ("plugin", "requirements", "severity"),
    [
        ("", [], Severity.ERROR),
        ("", ["jax[cuda12]==0.10.2"], None),
        (None, [], Severity.WARNING),
        ("cuda12", [], None),
    ],
)
def test_a_learner_in_jax_on_a_gpu_without_the_plugin_is_refused(plugin, requirements, severity):
    found = of(Software("cu126", plugin), jax=True, requirements=requirements)
    assert [kind for kind, _ in found[1:]] == ([] if severity is None else [severity])
    assert len(of(Software("cu126", ""), jax=False)) == 1


def test_plan_reads_the_labels_of_googles_image_and_the_recipe_of_azures(tmp_path):
    world = World()
    place = "projects/lab-1234/zones/europe-west1-b"
    world.compute[f"{place}/machineTypes/g2-standard-4"] = {
        "guestCpus": 4,
        "accelerators": [{"guestAcceleratorType": "nvidia-l4", "guestAcceleratorCount": 1}],
    }
    image, ours = "projects/lab-1234/global/images/x", {"drillyard": "image"}
    given = {
        "machine_types": ["g2-standard-4"],
        "zones": ["europe-west1-b"],
        "image": image,
    }
    for labels, severity in (
        ({**ours, "torch": "cpu"}, Severity.ERROR),
        ({**ours, "torch": "cu130", "driver": "595", "jax": "cuda13"}, Severity.OK),
        ({}, Severity.WARNING),
        ({"torch": "yes", "driver": "nvidia-580"}, Severity.WARNING),
    ):
        world.compute[image] = {"status": "READY", "labels": labels}
        found = examined(world, order(gpus=1, jax=True), **given)
        assert severity in {f.severity for f in found if f.subject == "driver"}
        assert [f for f in examined(world, **given) if f.subject == "driver"] == []
    settings = {"subscription_id": "01234567-89ab-cdef-0123-456789abcdef", "resource_group": "g"}
    settings |= {"workspace": "lab", "vm_size": "standard_nv36ads_a10_v5"}
    (tmp_path / "Dockerfile").write_text("RUN pip install torch -i https://x/whl/cu130\n")
    for folder, severity in (
        (tmp_path, Severity.ERROR),
        (ROOT / "deployments/azure/environment-cuda", Severity.OK),
        (ROOT / "deployments/azure/environment", Severity.ERROR),
    ):
        config = AzureConfig(**settings, build=str(folder))
        wanted = order(gpus=1, store_url="az://a/b")
        assert [f.severity for f in azure_plan._driver(config, wanted)] == [severity]
