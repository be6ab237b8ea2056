"""The whole way of a user on Azure ML: the same test on the emulator and in a real workspace.

On the real Azure, which costs a few cents: name a workspace and an environment with drillyard as
docs/how-to/azure.md does, then ``python -m pytest -m live_azure tests/emulated``:

    DRILLYARD_AZURE_SUBSCRIPTION_ID, DRILLYARD_AZURE_RESOURCE_GROUP, DRILLYARD_AZURE_WORKSPACE
    DRILLYARD_AZURE_ENVIRONMENT (or _IMAGE, _BUILD), DRILLYARD_AZURE_IDENTITY …
    a sign-in as ``az login`` leaves it, or AZURE_TENANT_ID, AZURE_CLIENT_ID, AZURE_CLIENT_SECRET
"""

import tempfile
from pathlib import Path

import pytest

pytest.importorskip("azure.ai.ml")

from drillyard.system.processes import end, marked
from drillyard_emulators.http.handle import AzureEmulator
from tests.emulated.test_gcp_live import GIVEN, Laptop, own, the_whole_way
from tests.helpers.azure_lab import needs_azurite

NEEDED = ("SUBSCRIPTION_ID", "RESOURCE_GROUP", "WORKSPACE")


@pytest.fixture
def emulated(tmp_path):
    with tempfile.TemporaryDirectory(prefix="dy") as folder, AzureEmulator(Path(folder)) as cloud:
        where = cloud.workspace
        settings = {
            "SUBSCRIPTION_ID": where["subscription_id"],
            "IMAGE": "mcr.example/drillyard:1",
            "RESOURCE_GROUP": where["resource_group"],
            "WORKSPACE": where["workspace_name"],
            "IDENTITY": cloud.identity,
        }
        more = {f"DRILLYARD_AZURE_{k}": v for k, v in settings.items()}
        env = cloud.environ(**more, HOME=str(tmp_path), **own(tmp_path))
        yield Laptop(tmp_path, env, 600.0)
        end(marked(str(tmp_path / "prefect"), "PREFECT_HOME"), grace_s=5.0)


@pytest.fixture
def real(tmp_path):
    missing = [f"DRILLYARD_AZURE_{n}" for n in NEEDED if f"DRILLYARD_AZURE_{n}" not in GIVEN]
    if missing:
        pytest.skip(f"no real workspace is named: set {', '.join(missing)}")
    yield Laptop(tmp_path, {**GIVEN, **own(tmp_path)}, 3000.0)
    end(marked(str(tmp_path / "prefect"), "PREFECT_HOME"), grace_s=5.0)


@needs_azurite()
@pytest.mark.slow
def test_the_whole_way_on_the_emulated_azure(emulated):
    the_whole_way(emulated, "azure")


@pytest.mark.live_azure
@pytest.mark.timeout(7200)
def test_the_whole_way_on_the_real_azure(real):
    the_whole_way(real, "azure")
