"""Containers on bare machines: images that buildah builds from the Dockerfiles that we ship."""

import os
import tempfile
from pathlib import Path

import pytest
from filelock import FileLock

from drillyard.mailbox.records import Phase
from drillyard.runs.wheel_resolution import Target, download_all
from drillyard_emulators.gcp.registry import HOST
from drillyard_emulators.http.handle import AzureEmulator
from tests.conftest import ROOT
from tests.helpers import process_rules
from tests.helpers.azure_lab import AzureLab, needs_azurite
from tests.helpers.wheel_index import wheel
from tests.machines import containers
from tests.machines.conftest import CACHE
from tests.machines.containers import Builder
from tests.machines.laptop import laptop

pytestmark = [pytest.mark.heavy, pytest.mark.slow]
RECIPES = ROOT / "deployments"
LOCK = ROOT / "requirements.lock"
READ = "artifactregistry.repositories.downloadArtifacts"


@pytest.fixture(scope="module")
def builder(roots, every_wheel, tmp_path_factory):
    if why := containers.unable():
        pytest.skip(f"no image can be built here: {why}")
    builder = Builder(tmp_path_factory.mktemp("buildah"), roots, every_wheel)
    yield builder
    builder.close()


@pytest.fixture(scope="module")
def shipped(builder, every_wheel):
    """The image of the Dockerfile for Google Cloud."""
    wheel = next(every_wheel.glob("drillyard-*.whl"))
    return builder.build(RECIPES / "gcp" / "image" / "Dockerfile", [wheel, LOCK])


@pytest.fixture
def lab(tmp_path, roots, monkeypatch):
    """The laptop; machines have podman instead of Python, as Container-Optimized OS has docker."""
    with laptop(tmp_path, roots(containers.HOST), monkeypatch) as lab:
        del lab.settings["IMAGE_FAMILY"]
        yield lab


def name(lab, builder, image):
    """Pushes an image; its name for the setting."""
    digest = builder.push(image, lab.cloud.folder / "registry")
    lab.settings["CONTAINER"] = f"{HOST}/{lab.cloud.project}/images/drillyard@{digest}"
    return digest


def test_a_container_trains_an_agent(lab, builder, shipped):
    """With nothing but what the Dockerfile installs, on a system without Python."""
    name(lab, builder, shipped)
    lab.finishes("cstr", more=("--set", "train.steps=2048"))


def test_a_registry_that_refuses_the_pull(lab, builder, shipped):
    name(lab, builder, shipped)
    lab.cloud.ask("project", denied=[READ])
    lab.begin()
    lived_s, said = lab.first_life(600)
    print(f"a registry that refuses: {lived_s:.0f} s\n{said[-1500:]}")
    assert "the registry gave no" in said and "roles/artifactregistry.reader" in said
    assert lived_s < 240


def test_a_container_for_another_architecture(lab, builder):
    name(lab, builder, builder.foreign())
    lab.begin()
    lived_s, said = lab.first_life(600)
    print(f"another architecture: {lived_s:.0f} s\n{said[-1500:]}")
    assert "built for arm64, and this machine is amd64: docker build --platform" in said
    assert lived_s < 240


@pytest.fixture(scope="module")
def environment(roots, tmp_path_factory):
    """The image of the Dockerfile for Azure ML: its root filesystem, and its variables."""
    recipe = RECIPES / "azure" / "environment"
    python = "3.12"
    why = containers.unable() or ("" if containers.python_home(python) else f"no Python {python}")
    if why:
        pytest.skip(f"the environment cannot be built here: {why}")
    folder = tmp_path_factory.mktemp("azure")
    builder = Builder(folder / "buildah", roots, _wheels(recipe / "requirements.txt", python))
    try:
        image = builder.build(recipe / "Dockerfile", [recipe / "requirements.txt", LOCK])
        yield builder.root(image, folder / "root")
    finally:
        builder.close()


def _wheels(requirements: Path, python: str) -> Path:
    """Wheels for another Python, once; torch is a stand-in, as many indexes have it for no CPU."""
    place = CACHE / f"azure-wheels-{python}"
    with FileLock(f"{place}.lock"):
        if place.is_dir():
            return place
        with tempfile.TemporaryDirectory(dir=CACHE) as scratch:
            folder = Path(scratch)
            wheel(folder / "own", "torch", "2.13.0+cpu")
            lines = [x for x in requirements.read_text().splitlines() if not x.startswith("#")]
            options = ["-c", str(LOCK), "--find-links", str(folder / "own")]
            os.environ[process_rules.EXEMPT] = "pip asks an index"
            try:
                target = Target("azure", python, ())
                download_all(lines, target, folder / "wheels", folder, options)
            finally:
                del os.environ[process_rules.EXEMPT]
            (folder / "wheels").rename(place)
    return place


@needs_azurite()
def test_a_job_of_azure_runs_with_what_its_image_has(environment, tmp_path, monkeypatch):
    """Python, packages and variables are those of the image that the Dockerfile makes."""
    root, variables = environment
    options = ("--image", str(root))
    module = "drillyard_emulators.azure.bare"
    (tmp_path / "laptop").mkdir()
    with AzureEmulator(tmp_path / "cloud", module=module, options=options) as cloud:
        cloud.ask("variables", variables=variables)
        lab = AzureLab(cloud, tmp_path / "laptop", monkeypatch)
        lab.settings["PYTHON"] = "3.12"
        try:
            for name in ("script.yaml", "sorting.py"):
                (lab.folder / name).write_bytes((ROOT / "experiments" / name).read_bytes())
            limits = ("budget.max_hours=1", "budget.max_cost=5", "seeds=[1]")
            words = [word for each in limits for word in ("--set", each)]
            lab.run("run", "script.yaml", "--on", "azure", "--no-prefect", *words)
            mailbox = lab.mailbox("sorting")
            (record,) = mailbox.runs()
            assert mailbox.accepted(record.run, Phase.STORE) is not None
            left = lab.left()
            assert set(left) <= {"computes"}, left  # a kept cluster, which has no node
        finally:
            lab.close()
    assert not list((tmp_path / "cloud" / "machines").glob("*"))
