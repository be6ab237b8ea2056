"""``drillyard prove azure`` against the emulated workspace, honest and lying.

What holds for Google too is in ``test_prove.py``.
"""

import pytest

from drillyard.errors import ConfigError, ConfigErrors
from drillyard_backends.azure.prove import AzureProver
from drillyard_backends.prove import record
from drillyard_backends.prove.probes import Verdict
from drillyard_backends.prove.runner import Proof
from drillyard_emulators.azure.cloud import STRANGER, identity_id
from tests.helpers.azure_lab import needs_azurite
from tests.helpers.proofs import verdict, verdicts

pytestmark = [pytest.mark.heavy, needs_azurite()]
HOLDS, FAILS, UNTESTED = Verdict.HOLDS, Verdict.FAILS, Verdict.UNTESTED


def test_an_honest_workspace_holds_and_nothing_is_left(azure_bench):
    azure = azure_bench.cloud
    azure.physics(empty_tags=True)
    before = len(azure.state()["nodes"])
    prover = azure_bench.prover()
    report = azure_bench.proof(prover)
    hours = sum(node["lived_s"] for node in azure.state()["nodes"][before:]) / 3600
    assert 0 < hours * report.price.per_hour <= report.price.total <= 2.0
    assert report.created and report.unconfirmed is None
    # The emulator refuses what the service may refuse; drillyard looks at the job then.
    assert {one.claim.id for one in report.of(FAILS)} == {"A23"}
    assert not any(one.claim.matters for one in report.of(FAILS))
    tested = {one.claim.id for one in report.of(HOLDS)}
    assert tested >= {"A71", "A103", "A53", "A58", "A10", "A14", "A15", "A17", "A93", "A94", "A59"}
    assert "Running: accepted; Queued: accepted" in verdicts(report, "A22")[0].evidence
    ends = [one.evidence.partition(":")[0] for one in verdicts(report, "A23")]
    assert ends == ["Canceled", "Finalizing", "Completed"]
    azure_bench.nothing_left()
    told = record.record_of("azure", "2026-11-23", report.observations, prover.private())
    text = told.model_dump_json()
    names = (azure.workspace["subscription_id"], azure.account, azure.container)
    assert not [name for name in (*names, azure_bench.settings["prefix"]) if name in text]


@pytest.mark.parametrize(
    ("physics", "claims"),
    [
        pytest.param({"listing_lag_s": 3.0}, {"A17"}, marks=pytest.mark.slow),
        (
            {"cluster_tags": False, "empty_tags": False, "preparing_first": True},
            {"A58", "A15", "A6"},
        ),
    ],
)
def test_a_workspace_that_lies_is_reported_and_nothing_is_left(azure_bench, physics, claims):
    azure_bench.cloud.physics(**physics)
    report = azure_bench.proof(pace=0.05)
    assert {one.claim.id for one in report.of(FAILS)} >= claims
    assert verdict(report, "A93") is HOLDS
    azure_bench.nothing_left()


def test_jobs_of_others_in_a_listing_by_tag_are_reported_and_spared(azure_bench):
    azure_bench.cloud.physics(tag_filter=False)
    theirs = {"name": "theirs", "properties": {"status": "Running", "tags": {"x": "y"}}}
    azure_bench.cloud.ask("manager", foreign=[theirs])
    assert verdict(azure_bench.proof(), "A14") is FAILS
    assert azure_bench.cloud.log(r"POST .*/jobs/theirs/cancel") == []
    azure_bench.nothing_left()


def test_a_job_that_gets_no_rights_on_the_store_is_reported(azure_bench):
    report = azure_bench.proof(pace=0.05, identity=identity_id(STRANGER))
    assert verdict(report, "A93") is FAILS
    assert verdict(report, "A35") is UNTESTED
    azure_bench.nothing_left()


def test_a_quota_of_other_names_is_reported(azure_bench):
    azure_bench.cloud.fault(r"GET management\.azure\.com/.*/usages", status=200)
    report = Proof(azure_bench.prover(), 2.0, home=azure_bench.home).run(dry_run=True)
    assert verdict(report, "A71") in (FAILS, UNTESTED)


def test_without_settings_it_is_refused(monkeypatch, tmp_path):
    monkeypatch.setenv("DRILLYARD_CONFIG_DIR", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    with pytest.raises((ConfigError, ConfigErrors), match="subscription_id"):
        AzureProver(given={})
