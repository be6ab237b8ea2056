"""Packages of an experiment on rented machines: resolved where the command runs, sent once."""

from __future__ import annotations

import pytest

from drillyard.mailbox.records import Phase
from drillyard.mailbox.store import keys
from drillyard_emulators.http.handle import GcpEmulator
from tests.helpers.azure_lab import AzureLab, needs_azurite, point
from tests.helpers.patience import PATIENCE_S
from tests.helpers.rented import Lab
from tests.helpers.wheel_index import needed, source_only

pytestmark = pytest.mark.heavy


@pytest.fixture
def google(tmp_path, monkeypatch):
    with GcpEmulator(tmp_path / "cloud") as cloud:
        yield from closing(Lab(cloud, tmp_path, monkeypatch))


@pytest.fixture
def microsoft(azure, tmp_path, monkeypatch):
    point(monkeypatch, azure)
    yield from closing(AzureLab(azure, tmp_path, monkeypatch))


def closing(lab):
    try:
        yield lab
    finally:
        lab.close()


@pytest.mark.parametrize("cloud", ["google", pytest.param("microsoft", marks=needs_azurite())])
def test_a_machine_gets_its_packages_from_the_store(cloud, request, tmp_path, monkeypatch):
    """Also of those machines that are processes of this computer, and could ask its index."""
    lab = request.getfixturevalue(cloud)
    needed(tmp_path, tmp_path / "index", monkeypatch)
    lab.cloud.ask("machine_env", PIP_FIND_LINKS="/nowhere", PIP_NO_INDEX="1")
    where = "gcp" if cloud == "google" else "azure"
    said = lab.run("run", "needs.yaml", "--on", where, "--no-prefect")
    mailbox = lab.mailbox("needs")
    assert mailbox.accepted("t0001-s1", Phase.STORE) is not None
    stored = list(keys(mailbox.store, "needs/code/wheels/"))
    assert [key for key in stored if key.endswith(".json")], said
    assert not [key for key in stored if key.endswith(".whl")], "they are deleted at the end"


def test_a_package_without_a_wheel_is_refused_before_anything_is_rented(
    google, tmp_path, monkeypatch
):
    needed(tmp_path, tmp_path / "index", monkeypatch)
    source_only(tmp_path / "index", "dy_source", "1.0")
    more = ("--on", "gcp", "--set", 'requirements=["dy_source==1.0"]')
    assert google.start("run", "needs.yaml", "--no-prefect", *more).wait(PATIENCE_S) == 2
    assert "dy_source==1.0 has no wheel for Python" in google.said
    assert "backends.gcp" in google.said and "Traceback" not in google.said
    state = google.cloud.state()
    assert not state["all_machines"] and not state["groups"]
