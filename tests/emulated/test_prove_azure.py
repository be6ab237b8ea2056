"""``drillyard prove azure`` against the emulated workspace: honest, lying, and killed."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from drillyard.errors import ConfigError, ConfigErrors
from drillyard.leases.reaper import reap
from drillyard_backends.prove import record
from drillyard_backends.prove.probes import Verdict
from drillyard_backends.prove.runner import Proof
from drillyard_emulators.azure.cloud import STRANGER, identity_id
from drillyard_emulators.http.handle import AzureEmulator
from tests.helpers.azure_lab import needs_azurite, opened
from tests.helpers.proofs import (
    CHANGES,
    azure_prover,
    azure_settings,
    killed_at,
    nothing_left_at_azure,
    proof,
    verdict,
    verdicts,
)

pytestmark = [pytest.mark.heavy, needs_azurite()]
HOLDS, FAILS, UNTESTED = Verdict.HOLDS, Verdict.FAILS, Verdict.UNTESTED


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AzureEmulator]:
    yield from opened(tmp_path_factory.mktemp("prove"))


@pytest.fixture
def azure(workspace: AzureEmulator) -> Iterator[AzureEmulator]:
    honest = workspace.state()["physics"]
    workspace.physics(notice_s=1.0)
    yield workspace
    workspace.clear_faults()
    workspace.physics(**honest)
    workspace.ask("manager", denied=[], quota_form="reported", foreign=[])


@pytest.fixture
def settings(azure: AzureEmulator) -> dict[str, Any]:
    return azure_settings(azure)


def test_an_honest_workspace_holds_and_nothing_is_left(
    azure: AzureEmulator, settings: dict[str, Any], tmp_path: Path
) -> None:
    azure.physics(empty_tags=True)
    before = len(azure.state()["nodes"])
    prover = azure_prover(settings)
    report = proof(prover, tmp_path)
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
    nothing_left_at_azure(azure, settings, tmp_path)
    told = record.record_of("azure", "2026-11-23", report.observations, prover.private())
    text = told.model_dump_json()
    for private in (
        azure.workspace["subscription_id"],
        azure.account,
        azure.container,
        settings["prefix"],
    ):
        assert private not in text


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
def test_a_workspace_that_lies_is_reported_and_nothing_is_left(
    azure: AzureEmulator,
    settings: dict[str, Any],
    tmp_path: Path,
    physics: dict[str, Any],
    claims: set[str],
) -> None:
    azure.physics(**physics)
    report = proof(azure_prover(settings, pace=0.05), tmp_path)
    assert {one.claim.id for one in report.of(FAILS)} >= claims
    assert verdict(report, "A93") is HOLDS
    nothing_left_at_azure(azure, settings, tmp_path)


def test_jobs_of_others_in_a_listing_by_tag_are_reported_and_spared(
    azure: AzureEmulator, settings: dict[str, Any], tmp_path: Path
) -> None:
    azure.physics(tag_filter=False)
    theirs = {"name": "theirs", "properties": {"status": "Running", "tags": {"x": "y"}}}
    azure.ask("manager", foreign=[theirs])
    report = proof(azure_prover(settings), tmp_path)
    assert verdict(report, "A14") is FAILS
    cancels = azure.log(r"POST .*/jobs/theirs/cancel")
    assert cancels == []
    nothing_left_at_azure(azure, settings, tmp_path)


def test_a_job_that_gets_no_rights_on_the_store_is_reported(
    azure: AzureEmulator, settings: dict[str, Any], tmp_path: Path
) -> None:
    given = {**settings, "identity": identity_id(STRANGER)}
    report = proof(azure_prover(given, pace=0.05), tmp_path)
    assert verdict(report, "A93") is FAILS
    assert verdict(report, "A35") is UNTESTED
    nothing_left_at_azure(azure, settings, tmp_path)


def test_a_quota_of_other_names_is_reported(
    azure: AzureEmulator, settings: dict[str, Any], tmp_path: Path
) -> None:
    azure.fault(r"GET management\.azure\.com/.*/usages", status=200)
    report = Proof(azure_prover(settings), 2.0, home=tmp_path).run(dry_run=True)
    assert verdict(report, "A71") in (FAILS, UNTESTED)


@pytest.mark.slow
def test_the_record_makes_an_emulator_behave_as_the_service_did(
    azure: AzureEmulator, settings: dict[str, Any], tmp_path: Path
) -> None:
    honest = azure.state()["physics"]
    azure.physics(cluster_tags=False, repeats=True, cancel_status=409)
    first = proof(azure_prover(settings), tmp_path)
    path = tmp_path / "record.json"
    record.write(record.record_of("azure", "2026-11-23", first.observations, {}), path)
    azure.physics(**{**honest, "notice_s": 1.0})
    physics = record.read(path).physics
    assert physics["cluster_tags"] is False and physics["repeats"] is True
    azure.physics(**physics)
    second = proof(azure_prover(azure_settings(azure)), tmp_path)
    found = [
        {one.claim.id: one.verdict for one in report.observations} for report in (first, second)
    ]
    assert found[0] == found[1]


# -- refused before anything is created -----------------------------------------------------------


def test_a_cost_that_is_too_small_is_refused_before_any_request(
    azure: AzureEmulator, settings: dict[str, Any], tmp_path: Path
) -> None:
    before = len(azure.log())
    with pytest.raises(ConfigError, match="costs at most"):
        Proof(azure_prover(settings), 0.01, home=tmp_path)
    assert len(azure.log()) == before


def test_without_settings_it_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("DRILLYARD_CONFIG_DIR", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    with pytest.raises((ConfigError, ConfigErrors), match="subscription_id"):
        azure_prover({})


def test_without_rights_nothing_is_created(
    azure: AzureEmulator, settings: dict[str, Any], tmp_path: Path
) -> None:
    right = "Microsoft.MachineLearningServices/workspaces/computes/delete"
    azure.ask("manager", denied=[right])
    report = proof(azure_prover(settings), tmp_path)
    assert not report.created
    assert any(right in f.message for f in report.findings if f.severity.value == "error")
    assert azure.state()["computes"] == {}
    nothing_left_at_azure(azure, settings, tmp_path)


# -- killed --------------------------------------------------------------------------------------


def bodiless(settings: dict[str, Any]) -> Any:
    """A proof without the probe that waits for a job to work; it creates nothing."""
    prover = azure_prover(settings)
    prover.probes = tuple(p for p in prover.probes if not p.reads and p.name != "a token in a job")
    return prover


def finishing(settings: dict[str, Any], home: Path) -> Any:
    """The same command again, as far as it matters here: it finishes what is left."""
    prover = azure_prover(settings)
    prover.probes = tuple(p for p in prover.probes if not p.paid and not p.reads)
    return Proof(prover, 2.0, home=home).run()


def test_killed_with_a_job_it_is_finished_by_the_same_command(
    azure: AzureEmulator, settings: dict[str, Any], tmp_path: Path
) -> None:
    azure.physics(processes=False)
    with killed_at(1, re.compile("PUT .*/jobs/")):
        proof(bodiless(settings), tmp_path)
    assert azure.state()["computes"]
    assert len(finishing(settings, tmp_path).finished) == 1
    nothing_left_at_azure(azure, settings, tmp_path)


@pytest.mark.slow
def test_killed_after_each_change_it_is_finished_by_the_same_command(
    azure: AzureEmulator, settings: dict[str, Any], tmp_path: Path
) -> None:
    # Without processes the job that ends by itself would be waited for.
    number, finished = 0, 0
    while True:
        number += 1
        with killed_at(number, CHANGES) as seen:
            proof(bodiless(settings), tmp_path)
        if len(seen) < number:
            break  # it came to its end
        report = finishing(settings, tmp_path)
        assert report.unconfirmed is None
        finished += len(report.finished)
        nothing_left_at_azure(azure, settings, tmp_path)
    assert number > 8 and finished > 4
    nothing_left_at_azure(azure, settings, tmp_path)


PIECES = 8
"""Of the test with one kill after each of some hundred requests."""


@pytest.mark.slow
@pytest.mark.parametrize("first", range(1, PIECES + 1))
def test_killed_after_each_request_it_is_finished_by_the_same_command(
    azure: AzureEmulator, settings: dict[str, Any], tmp_path: Path, first: int
) -> None:
    for number in count(first, PIECES):
        with killed_at(number, re.compile("")) as seen:
            proof(bodiless(settings), tmp_path)
        if len(seen) < number:
            break
        finishing(settings, tmp_path)
        nothing_left_at_azure(azure, settings, tmp_path)
    assert number > 40
    nothing_left_at_azure(azure, settings, tmp_path)


@pytest.mark.slow
def test_killed_while_it_finishes_another_it_is_finished_again(
    azure: AzureEmulator, settings: dict[str, Any], tmp_path: Path
) -> None:
    azure.physics(processes=False)
    number = 0
    while True:
        number += 1
        with killed_at(1, re.compile("PUT .*/jobs/")):
            proof(bodiless(settings), tmp_path)
        with killed_at(number, CHANGES) as seen:
            finishing(settings, tmp_path)
        if len(seen) < number:
            break
        finishing(settings, tmp_path)
        nothing_left_at_azure(azure, settings, tmp_path)
    assert number > 1
    nothing_left_at_azure(azure, settings, tmp_path)


def test_killed_it_is_finished_by_the_reaper(
    azure: AzureEmulator,
    settings: dict[str, Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    azure.physics(processes=False)
    with killed_at(1, re.compile("PUT .*/jobs/")):
        proof(bodiless(settings), tmp_path)
    assert azure.state()["computes"]
    for name, value in settings.items():
        monkeypatch.setenv(f"DRILLYARD_AZURE_{name.upper()}", str(value))
    monkeypatch.setenv("DRILLYARD_AZURE_COMPUTE", "kept")
    monkeypatch.setattr("drillyard.mailbox.driver_lock.STALE_S", 0.0)
    report = reap(["azure"], grace_s=0.0, home=tmp_path)
    assert report.good, report
    assert azure.state()["computes"] == {}
    assert not list((tmp_path / "intents").glob("*"))
