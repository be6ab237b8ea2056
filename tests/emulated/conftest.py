"""Emulated clouds for the tests that leave them as they found them; machines keep the rules."""

from __future__ import annotations

import tempfile
import uuid
from pathlib import Path
from typing import Any

import pytest

from drillyard_emulators.http.handle import AzureEmulator, Emulator, GcpEmulator
from tests.helpers import rules
from tests.helpers.azure_lab import AzureLab, named, needs_azurite, opened, point
from tests.helpers.proofs import AzureBench, GcpBench, ProofBench

_start = Emulator.__init__


def _start_with_rules(self: Emulator, *given: Any, **more: Any) -> None:
    """An emulated machine gets nothing of this process's environment by itself."""
    _start(self, *given, **more)
    self.ask("machine_env", PYTHONPATH=rules.path())


Emulator.__init__ = _start_with_rules  # type: ignore[method-assign]


@pytest.fixture(scope="session")
def shared_cloud(tmp_path_factory):
    """For tests that use names of their own and put no world-wide fault in force."""
    with GcpEmulator(tmp_path_factory.mktemp("cloud"), bodies=True) as cloud:
        yield cloud


@pytest.fixture
def cloud(shared_cloud):
    """The shared cloud, without rules left over."""
    yield shared_cloud
    shared_cloud.clear_faults()


@pytest.fixture
def at_cloud(cloud, monkeypatch):
    """The shared cloud, with this process's environment pointing to it, proxy, tokens and all."""
    for name, value in cloud.env.items():
        monkeypatch.setenv(name, value)
    return cloud


@pytest.fixture
def bucket(cloud):
    """A bucket of one test."""
    from tests.helpers.storage_client import a_client

    return a_client(cloud).create_bucket(f"b-{uuid.uuid4().hex[:12]}")


@pytest.fixture(scope="module")
def quick_cloud(tmp_path_factory):
    """A cloud of one file, whose machines boot at once."""
    with GcpEmulator(tmp_path_factory.mktemp("compute"), bodies=True) as cloud:
        cloud.physics(boot_s=0.05, operation_s=0.02, retry_s=0.1)
        yield cloud


@pytest.fixture
def compute(cloud):
    """Its clients; no fault is left in force."""
    from tests.helpers.compute_client import Compute

    yield Compute(cloud)
    cloud.clear_faults()
    plain = {"stockouts": [], "false_done": [], "boot_failures": 0, "listing_lag_s": 0.0}
    cloud.physics(**plain, notice_s=30.0, shutdown_s=30.0)


@pytest.fixture(scope="module")
def azure(request, tmp_path_factory):
    """A workspace of Azure for one file; where that says ``BODILESS``, nodes start nothing."""
    for cloud in opened(tmp_path_factory.mktemp("azure")):
        if getattr(request.module, "BODILESS", False):
            cloud.physics(processes=False)
        yield cloud


@pytest.fixture
def settings(azure, monkeypatch):
    """Of a backend in that workspace, which is afterwards as it was."""
    from drillyard_backends.azure import jobs, known_clusters

    for module in (jobs, known_clusters):
        monkeypatch.setattr(module, "FRESH_S", 0.1)  # most tests wait for what is read next
    usual = azure.state()["physics"]
    prefix = f"lab-{uuid.uuid4().hex[:8]}"
    yield named(azure, image="mcr.example/drillyard:1", compute=None, prefix=prefix)
    azure.clear_faults()
    azure.physics(**usual)
    azure.ask("manager", denied=[], foreign=[], taken=[])


@pytest.fixture
def backend(settings):
    """A backend in it."""
    from drillyard_backends.azure.backend import AzureBackend

    return AzureBackend(**settings)


@pytest.fixture
def lab(tmp_path, monkeypatch):
    """A user's laptop beside a workspace of its own."""
    with tempfile.TemporaryDirectory(prefix="dy") as folder, AzureEmulator(Path(folder)) as cloud:
        point(monkeypatch, cloud)
        made = AzureLab(cloud, tmp_path, monkeypatch)
        yield made
        made.close()


@pytest.fixture(scope="module")
def proof_project(tmp_path_factory):
    """A Google Cloud on which proofs run."""
    with GcpEmulator(tmp_path_factory.mktemp("prove")) as cloud:
        cloud.physics(boot_s=0.1, shutdown_s=1.0, notice_s=1.0)
        yield cloud


@pytest.fixture
def gcp_bench(proof_project, monkeypatch, tmp_path):
    """Proofs on it; afterwards it is honest."""
    for name, value in proof_project.env.items():
        monkeypatch.setenv(name, value)
    honest = proof_project.state()["physics"]
    yield GcpBench(proof_project, tmp_path)
    proof_project.clear_faults()
    proof_project.ask("project", denied=[], granted={})
    proof_project.physics(**honest)


@pytest.fixture(scope="module")
def proof_workspace(tmp_path_factory):
    """A workspace of Azure in which proofs run."""
    yield from opened(tmp_path_factory.mktemp("prove"))


@pytest.fixture
def azure_bench(proof_workspace, tmp_path):
    """Proofs in it; afterwards it is honest."""
    honest = proof_workspace.state()["physics"]
    proof_workspace.physics(notice_s=1.0)
    yield AzureBench(proof_workspace, tmp_path)
    proof_workspace.clear_faults()
    proof_workspace.physics(**honest)
    proof_workspace.ask("manager", denied=[], quota_form="reported", foreign=[])


@pytest.fixture(params=["gcp", pytest.param("azure", marks=needs_azurite())])
def bench(request):
    """Proofs on either cloud."""
    found: ProofBench = request.getfixturevalue(f"{request.param}_bench")
    return found
