"""A user's own experiment on the emulated Azure: the real jobs, and the account at the end."""

import os
import subprocess
from contextlib import closing

import pytest

pytest.importorskip("azure.ai.ml")

from drillyard.errors import ConfigError
from drillyard.mailbox import Mailbox, open_store
from drillyard.mailbox.records import Phase
from drillyard.results.fingerprint import fingerprint
from drillyard_backends.azure import rights
from drillyard_backends.azure.backend import AzureBackend
from drillyard_emulators.azure.rehearsal import KINDS, AzureRehearsal
from drillyard_emulators.faults import parse_faults
from tests.emulated.test_rehearse import BUDGET, MOCK, account_of, played
from tests.helpers.azure_lab import needs_azurite, reactor
from tests.helpers.patience import PATIENCE_S
from tests.helpers.rented import DRILLYARD

pytestmark = needs_azurite()
OWN_CLUSTER = ("--set", "backends.azure.compute=null")
THREE = reactor("three", 768, "[1, 2, 3]", "workers: 2, ")


@pytest.mark.slow
def test_the_roles_that_ship_are_enough_for_an_experiment(tmp_path):
    """The driver with the role files, the nodes with one container, and a cluster of their own."""
    account_of(tmp_path, MOCK, "azure", *BUDGET, *OWN_CLUSTER, faults=("roles=shipped",))


def test_the_roles_that_ship_are_enforced(tmp_path, monkeypatch):
    """What the role file has is granted; endpoints are in a file of their own."""
    faults = parse_faults(["roles=shipped"], KINDS)
    with closing(AzureRehearsal("azure", {}, faults, tmp_path)) as rehearsal:
        for name, value in rehearsal.env().items():
            monkeypatch.setenv(name, value)
        service = AzureBackend()._service
        asked = [*rights.RUN, *rights.CLUSTER, f"{rights.ML}/onlineEndpoints/write"]
        assert service.denied(asked) == [f"{rights.ML}/onlineEndpoints/write"]
        assert service.denied([rights.ASSIGN], rehearsal._cloud.identity) == []


def test_only_the_roles_that_ship_can_be_asked_for(tmp_path):
    with pytest.raises(ConfigError, match="roles"):
        AzureRehearsal("azure", {}, parse_faults(["roles=owner"], KINDS), tmp_path)


@pytest.mark.slow
def test_a_service_as_bad_as_it_can_be_changes_no_result(tmp_path):
    faults = ("outage=5", "lag=3", "form=preparing-first", "form=resizing-refuses")
    words = (*BUDGET, *OWN_CLUSTER, "--set", "backends.azure.listing_lag_s=3")
    assert played(account_of(tmp_path, MOCK, "azure", *words, faults=faults))["outage=5"] >= 1


@pytest.mark.slow
@pytest.mark.parametrize("fault", ["preempt", "cut", "evict", "crash", "kill"])
def test_three_seeds_of_which_one_loses_its_node_are_those_of_a_laptop(tmp_path, fault):
    (tmp_path / "three.yaml").write_text(THREE)
    kept = ("--keep", "kept")
    account = account_of(tmp_path, "three.yaml", "azure", *kept, faults=[f"{fault}=1"])
    assert played(account) == {f"{fault}=1": 1} and account["made"] == 4
    subprocess.run(
        [DRILLYARD, "run", "three.yaml", "--store", "here"],
        cwd=tmp_path,
        timeout=PATIENCE_S,
        check=True,
        env={**os.environ, "DRILLYARD_HOME": str(tmp_path / ".local")},
    )
    there = Mailbox(open_store(str(tmp_path / "kept" / "store")), "three")
    here = Mailbox(open_store(str(tmp_path / "here")), "three")
    for seed in (1, 2, 3):
        assert fingerprint(there, f"t0001-s{seed}") == fingerprint(here, f"t0001-s{seed}")
    endings = [there.ending(t, n) for t, n, ended in there.claims() if ended]
    causes = [e.cause.value for e in endings if e is not None and e.cause is not None]
    assert causes == ["infrastructure" if fault in ("crash", "kill") else "preemption"]


@pytest.mark.slow
def test_two_nodes_of_one_job_do_the_runs_and_are_given_back(tmp_path):
    """One job; both nodes are taken away at once, and both go on from their checkpoints."""
    (tmp_path / "three.yaml").write_text(THREE)
    words = ("--keep", "kept", "--set", "backends.azure.instance_count=2")
    account = account_of(tmp_path, "three.yaml", "azure", *words, faults=["cut=1"])
    assert account["made"] == 4
    assert len({m["name"].partition("/")[0] for m in account["machines"]}) == 1
    there = Mailbox(open_store(str(tmp_path / "kept" / "store")), "three")
    assert all(there.accepted(f"t0001-s{seed}", Phase.STORE) for seed in (1, 2, 3))
    assert (
        len({claim.worker for t, n, _ in there.claims() if (claim := there.read_claim(t, n))}) > 2
    )
