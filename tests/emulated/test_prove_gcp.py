"""``drillyard prove gcp`` against the emulated Google Cloud: honest, lying, and killed."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any

import pytest
import yaml

from drillyard.backend import Lease
from drillyard.errors import (
    ConfigError,
    NoCapacity,
    StoreUnavailable,
    TeardownUnconfirmed,
    UserError,
)
from drillyard.leases.reaper import reap
from drillyard_backends.gcp import rights
from drillyard_backends.prove import record
from drillyard_backends.prove.lease import ProofLease
from drillyard_backends.prove.probes import Verdict
from drillyard_backends.prove.runner import Proof
from drillyard_backends.prove.show import Show
from drillyard_emulators.http.handle import GcpEmulator
from drillyard_emulators.rehearsal import OnEmulator, rehearsal_of
from tests.helpers.patience import PATIENCE_S, until
from tests.helpers.proofs import (
    CHANGES,
    gcp_prover,
    gcp_settings,
    killed_at,
    nothing_left_at_google,
    proof,
    verdict,
    verdicts,
)
from tests.helpers.rented import Lab

pytestmark = pytest.mark.heavy
DEPLOYMENTS = Path(__file__).parents[2] / "deployments"
HOLDS, FAILS, UNTESTED = Verdict.HOLDS, Verdict.FAILS, Verdict.UNTESTED
HONEST = {
    "listing_lag_s": 0.0,
    "listing_lag_least_s": 0.0,
    "lost_stay_listed": True,
    "processes": True,
    "boot_failures": 0,
    "false_done": [],
    "stockouts": [],
}


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GcpEmulator]:
    with GcpEmulator(tmp_path_factory.mktemp("prove")) as cloud:
        cloud.physics(boot_s=0.1, shutdown_s=1.0, notice_s=1.0)
        yield cloud


@pytest.fixture
def cloud(project: GcpEmulator, monkeypatch: pytest.MonkeyPatch) -> Iterator[GcpEmulator]:
    for name, value in project.env.items():
        monkeypatch.setenv(name, value)
    yield project
    project.clear_faults()
    project.ask("project", denied=[])
    project.physics(**HONEST)


@pytest.fixture
def settings(cloud: GcpEmulator) -> dict[str, Any]:
    return gcp_settings(cloud)


def test_an_honest_cloud_holds_and_nothing_is_left(
    cloud: GcpEmulator, settings: dict[str, Any], tmp_path: Path
) -> None:
    prover = gcp_prover(settings, pace=0.05)
    report = proof(prover, tmp_path)
    assert report.created and report.unconfirmed is None
    assert report.of(FAILS) == []
    tested = {one.claim.id for one in report.of(HOLDS)}
    assert tested >= {"G91", "G45", "G11", "G101", "G141", "G60", "G5", "G131", "G42", "G1"}
    # The emulated login may do everything, which proves nothing about the role.
    assert verdict(report, "G120") is UNTESTED
    nothing_left_at_google(cloud, settings, tmp_path)
    told = record.record_of("gcp", "2026-11-23", report.observations, prover.private())
    text = told.model_dump_json()
    for private in (cloud.project, settings["bucket"], cloud.service_account, "dy-"):
        assert private not in text.replace("dy-LEASE", "")


@pytest.mark.slow
@pytest.mark.parametrize("extra", [[], ["compute.firewalls.create"]])
def test_the_role_that_ships_is_proven_only_by_who_has_no_more(
    cloud: GcpEmulator, settings: dict[str, Any], tmp_path: Path, extra: list[str]
) -> None:
    cloud.physics(processes=False)
    role = yaml.safe_load((DEPLOYMENTS / "gcp" / "role.yaml").read_text("utf-8"))
    user = f"user@{cloud.project}.iam.gserviceaccount.com"
    given = [*role["includedPermissions"], *rights.BUCKET, "iam.serviceAccounts.actAs", *extra]
    gcp_prover(settings).prepare(f"gs://{settings['bucket']}")
    cloud.ask("project", granted={user: given})
    try:
        prover = bodiless(settings)
        report = proof(prover, tmp_path)
    finally:
        cloud.ask("project", granted={})
    assert verdict(report, "G120") is (UNTESTED if extra else HOLDS)
    nothing_left_at_google(cloud, settings, tmp_path)


@pytest.mark.slow
def test_what_it_costs_stays_below_what_was_said(
    cloud: GcpEmulator, settings: dict[str, Any], tmp_path: Path
) -> None:
    cloud.physics(processes=False)
    before = {m["id"] for m in cloud.state()["all_machines"]}
    prover = gcp_prover(settings)
    report = proof(prover, tmp_path)
    mine = [m for m in cloud.state()["all_machines"] if m["id"] not in before]
    assert len(mine) == 2
    hours = sum(m["lived_s"] for m in mine) / 3600
    assert hours * report.price.per_hour / 2 <= report.price.total <= 2.0
    assert all(m["lived_s"] <= report.price.life_s for m in mine)


def test_a_cloud_that_lies_is_reported_and_nothing_is_left(
    cloud: GcpEmulator, settings: dict[str, Any], tmp_path: Path
) -> None:
    cloud.physics(lost_stay_listed=False)
    accounts = r"GET iam\.googleapis\.com/.*serviceAccounts/drillyard-"
    cloud.fault(accounts, status=403, reason="forbidden")
    cloud.fault(r"POST cloudresourcemanager.*testIamPermissions", status=400, times=1)
    prover = gcp_prover(settings)
    slow = "a token on a machine", "a machine ends itself"
    prover.probes = tuple(p for p in prover.probes if p.name not in slow)
    report = proof(prover, tmp_path)
    lies = {claim: verdict(report, claim) for claim in ("G5", "G122", "G125")}
    assert lies == {"G5": FAILS, "G122": FAILS, "G125": FAILS}
    assert verdict(report, "G45") is HOLDS
    nothing_left_at_google(cloud, settings, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("physics", "claim"),
    [
        ({"listing_lag_s": 4.0, "listing_lag_least_s": 4.0}, "G52"),
        ({"boot_failures": 2}, "G101"),
    ],
)
def test_a_cloud_that_lies_slowly_is_reported_and_nothing_is_left(
    cloud: GcpEmulator,
    settings: dict[str, Any],
    tmp_path: Path,
    physics: dict[str, Any],
    claim: str,
) -> None:
    cloud.physics(**physics)
    # The listing is too late for the settings, which is what a proof should find out.
    report = proof(gcp_prover(settings, pace=0.05), tmp_path)
    assert verdict(report, claim) is FAILS, verdicts(report, claim)
    if "listing_lag_s" in physics:
        cloud.wait(lambda state: not state["machines"] and not state["groups"], 60)
    nothing_left_at_google(cloud, settings, tmp_path)


@pytest.mark.slow
def test_a_cloud_without_room_does_not_lie(
    cloud: GcpEmulator, settings: dict[str, Any], tmp_path: Path
) -> None:
    prover = gcp_prover(settings)
    cloud.physics(stockouts=[{"zone": zone} for zone in prover.config.zones])
    prover.probes = tuple(p for p in prover.probes if not p.reads)
    report = proof(prover, tmp_path)
    assert isinstance(report.refusal, NoCapacity)
    assert report.ended and report.of(FAILS) == []
    assert verdict(report, "G101") is UNTESTED
    nothing_left_at_google(cloud, settings, tmp_path)


@pytest.mark.slow
def test_a_deletion_that_was_none_is_asked_for_again(
    cloud: GcpEmulator, settings: dict[str, Any], tmp_path: Path
) -> None:
    cloud.physics(processes=False, false_done=[{"times": 2}])
    report = proof(gcp_prover(settings), tmp_path)
    assert report.unconfirmed is None
    nothing_left_at_google(cloud, settings, tmp_path)


@pytest.mark.slow
def test_the_record_makes_an_emulator_behave_as_the_service_did(
    cloud: GcpEmulator, settings: dict[str, Any], tmp_path: Path
) -> None:
    cloud.physics(lost_stay_listed=False)
    first = proof(gcp_prover(settings, pace=0.05), tmp_path)
    path = tmp_path / "record.json"
    record.write(record.record_of("gcp", "2026-11-23", first.observations, {}), path)
    assert path.stat().st_mode & 0o777 == 0o600
    cloud.physics(**HONEST)
    cloud.physics(**record.read(path).physics)
    again = gcp_settings(cloud)
    second = proof(gcp_prover(again, pace=0.05), tmp_path)
    found = [
        {one.claim.id: one.verdict for one in report.observations} for report in (first, second)
    ]
    assert found[0] == found[1]
    assert verdict(second, "G5") is FAILS


@pytest.mark.slow
def test_a_rehearsal_behaves_as_the_record_says(tmp_path: Path) -> None:
    rehearsal = rehearsal_of("gcp", {}, [], tmp_path / "cloud", 0)
    assert isinstance(rehearsal, OnEmulator)
    try:
        rehearsal.behave({"lost_stay_listed": False, "listing_lag_s": 2.5})
        physics = rehearsal._cloud.state()["physics"]
        assert (physics["lost_stay_listed"], physics["listing_lag_s"]) == (False, 2.5)
        with pytest.raises(UserError, match="cannot do that"):
            rehearsal.behave({"unheard_of": 1})
    finally:
        rehearsal.close()


# -- refused before anything is created -----------------------------------------------------------


def test_a_cost_that_is_too_small_is_refused_before_any_request(
    cloud: GcpEmulator, settings: dict[str, Any], tmp_path: Path
) -> None:
    before = len(cloud.log())
    with pytest.raises(ConfigError, match="costs at most") as refusal:
        Proof(gcp_prover(settings), 0.01, home=tmp_path)
    assert "--max-cost" in str(refusal.value.hint)
    assert len(cloud.log()) == before


@pytest.mark.parametrize("amount", [0.0, -1.0, float("nan"), float("inf")])
def test_an_amount_that_is_none_is_refused(
    cloud: GcpEmulator, settings: dict[str, Any], tmp_path: Path, amount: float
) -> None:
    with pytest.raises(ConfigError, match="not an amount"):
        Proof(gcp_prover(settings), amount, home=tmp_path)


def test_machines_without_a_price_are_refused(
    cloud: GcpEmulator, settings: dict[str, Any], tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match="does not know"):
        Proof(gcp_prover({**settings, "machine_types": ["z9-standard-4"]}), 2.0, home=tmp_path)


def test_without_rights_nothing_is_created(
    cloud: GcpEmulator, settings: dict[str, Any], tmp_path: Path
) -> None:
    cloud.ask("project", denied=["compute.instanceGroupManagers.delete"])
    report = proof(gcp_prover(settings), tmp_path)
    assert not report.created
    faults = [f for f in report.findings if f.severity.value == "error"]
    assert "compute.instanceGroupManagers.delete" in faults[0].message
    assert verdict(report, "G122") is HOLDS
    assert verdict(report, "G5") is UNTESTED
    assert settings["bucket"] not in cloud.state()["buckets"]
    nothing_left_at_google(cloud, settings, tmp_path)


def test_a_dry_run_only_reads(
    cloud: GcpEmulator, settings: dict[str, Any], tmp_path: Path
) -> None:
    since = len(cloud.log())
    report = Proof(gcp_prover(settings), 2.0, home=tmp_path).run(dry_run=True)
    assert not report.created
    changes = [e for e in cloud.log(since=0)[since:] if e["method"] in ("PUT", "DELETE", "PATCH")]
    assert changes == []
    assert settings["bucket"] not in cloud.state()["buckets"]


def test_a_no_creates_nothing(
    cloud: GcpEmulator, settings: dict[str, Any], tmp_path: Path
) -> None:
    class No(Show):
        def confirm(self, price: Any) -> None:
            raise UserError("nothing was done")

    with pytest.raises(UserError, match="nothing was done"):
        Proof(gcp_prover(settings), 2.0, No(), home=tmp_path).run()
    assert settings["bucket"] not in cloud.state()["buckets"]
    nothing_left_at_google(cloud, settings, tmp_path)


# -- killed --------------------------------------------------------------------------------------


def bodiless(settings: dict[str, Any]) -> Any:
    """A proof without the probes that wait for machines to work; they create nothing."""
    prover = gcp_prover(settings)
    waiting = ("a token on a machine", "a machine ends itself", "preemption")
    prover.probes = tuple(p for p in prover.probes if not p.reads and p.name not in waiting)
    return prover


def finishing(settings: dict[str, Any], home: Path) -> Any:
    """The same command again, as far as it matters here: it finishes what is left."""
    prover = gcp_prover(settings)
    prover.probes = tuple(p for p in prover.probes if not p.paid and not p.reads)
    return Proof(prover, 2.0, home=home).run()


def test_killed_with_machines_it_is_finished_by_the_same_command(
    cloud: GcpEmulator,
    settings: dict[str, Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    cloud.physics(processes=False)
    with killed_at(1, re.compile("POST .*/createInstances")):
        proof(bodiless(settings), tmp_path)
    assert cloud.state()["groups"]
    # From another machine, which knows of nothing, and with a store that is away at first.
    real, away = ProofLease.left, [True]

    def left(self: ProofLease, *, stored: bool = True) -> list[Lease]:
        if stored and away and away.pop():
            raise StoreUnavailable("it does not answer")
        return real(self, stored=stored)

    monkeypatch.setattr(ProofLease, "left", left)
    assert len(finishing(settings, tmp_path / "other").finished) == 1
    assert not away
    shutil.rmtree(tmp_path / "intents")
    nothing_left_at_google(cloud, settings, tmp_path)


@pytest.mark.slow
def test_killed_after_each_change_it_is_finished_by_the_same_command(
    cloud: GcpEmulator, settings: dict[str, Any], tmp_path: Path
) -> None:
    cloud.physics(processes=False)
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
        nothing_left_at_google(cloud, settings, tmp_path)
    assert number > 8 and finished > 4
    nothing_left_at_google(cloud, settings, tmp_path)


PIECES = 8
"""Of the test with one kill after each of some hundred requests."""


@pytest.mark.slow
@pytest.mark.parametrize("first", range(1, PIECES + 1))
def test_killed_after_each_request_it_is_finished_by_the_same_command(
    cloud: GcpEmulator, settings: dict[str, Any], tmp_path: Path, first: int
) -> None:
    cloud.physics(processes=False)
    for number in count(first, PIECES):
        with killed_at(number, re.compile("")) as seen:
            proof(bodiless(settings), tmp_path)
        if len(seen) < number:
            break
        finishing(settings, tmp_path)
        nothing_left_at_google(cloud, settings, tmp_path)
    assert number > 40
    nothing_left_at_google(cloud, settings, tmp_path)


@pytest.mark.slow
def test_killed_while_it_finishes_another_it_is_finished_again(
    cloud: GcpEmulator, settings: dict[str, Any], tmp_path: Path
) -> None:
    cloud.physics(processes=False)
    number = 0
    while True:
        number += 1
        with killed_at(1, re.compile("POST .*/createInstances")):
            proof(bodiless(settings), tmp_path)
        with killed_at(number, CHANGES) as seen:
            finishing(settings, tmp_path)
        if len(seen) < number:
            break
        finishing(settings, tmp_path)
        nothing_left_at_google(cloud, settings, tmp_path)
    assert number > 1
    nothing_left_at_google(cloud, settings, tmp_path)


@pytest.mark.slow
def test_killed_it_is_finished_by_the_reaper(
    cloud: GcpEmulator,
    settings: dict[str, Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    cloud.physics(processes=False)
    with killed_at(1, re.compile("POST .*/createInstances")):
        proof(bodiless(settings), tmp_path)
    assert cloud.state()["groups"]
    for name, value in settings.items():
        monkeypatch.setenv(f"DRILLYARD_GCP_{name.upper()}", str(value))
    monkeypatch.setenv("DRILLYARD_HOME", str(tmp_path))
    monkeypatch.setattr("drillyard.mailbox.driver_lock.STALE_S", 0.0)

    def reaped() -> bool:
        """The proof's last sign of life may be from less than a second ago."""
        report = reap(["gcp"], grace_s=0.0, home=tmp_path)
        assert report.good, report
        return any(outcome.deleted for outcome in report.outcomes)

    until(reaped, what="the end of the lease")
    state = cloud.state()
    assert not state["machines"] and not state["groups"] and not state["disks"]
    assert not list((tmp_path / "intents").glob("*"))


@pytest.mark.slow
def test_what_cannot_be_ended_stays_in_the_ledger(
    cloud: GcpEmulator,
    settings: dict[str, Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    cloud.physics(processes=False)
    cloud.fault(r"DELETE .*instanceGroupManagers", status=403, reason="forbidden")
    report = proof(bodiless(settings), tmp_path)
    assert isinstance(report.unconfirmed, TeardownUnconfirmed)
    assert list((tmp_path / "intents").glob("dy-*.json"))
    cloud.clear_faults()
    assert len(finishing(settings, tmp_path).finished) == 1
    nothing_left_at_google(cloud, settings, tmp_path)


@pytest.mark.slow
def test_two_proofs_in_one_store_are_refused(
    cloud: GcpEmulator, settings: dict[str, Any], tmp_path: Path
) -> None:
    cloud.physics(processes=False)

    class Twice(Show):
        def begins(self, probe: Any) -> None:
            if probe.name == "bucket":
                with pytest.raises(UserError, match="another `drillyard prove`"):
                    finishing(settings, tmp_path / "other")
                refused.append(probe.name)

    refused: list[str] = []
    Proof(bodiless(settings), 2.0, Twice(), home=tmp_path).run()
    assert refused
    nothing_left_at_google(cloud, settings, tmp_path)


def test_the_record_is_json_that_people_can_read(tmp_path: Path) -> None:
    path = tmp_path / "r.json"
    path.write_text("{}")
    with pytest.raises(UserError, match="not a record"):
        record.read(path)
    record.write(record.record_of("gcp", "2026-11-23", [], {}), path)
    assert json.loads(path.read_text())["kind"] == "gcp"


# -- the command line -----------------------------------------------------------------------------


@pytest.fixture
def lab(cloud: GcpEmulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Lab]:
    made = Lab(cloud, tmp_path, monkeypatch)
    yield made
    made.close()


def test_a_dry_run_of_the_command_prints_the_price_and_what_it_read(lab: Lab) -> None:
    said = lab.run("prove", "gcp", "--max-cost", "2", "--dry-run")
    assert "creates group, template, machines" in said
    assert "G80   holds" in said
    assert "record: " in said
    text = next((lab.folder / ".drillyard" / "proofs").glob("gcp-*.json")).read_text()
    assert lab.bucket not in text and lab.cloud.project not in text


def test_a_dry_run_without_rights_prints_one_object_and_the_fix(lab: Lab) -> None:
    lab.cloud.ask("project", denied=["compute.instanceGroupManagers.delete"])
    command = "prove", "gcp", "--max-cost", "2", "--dry-run", "--json"
    assert lab.start(*command).wait(PATIENCE_S) == 2
    told = json.loads(lab.said)
    assert told["dry_run"] and not told["created"] and told["cost_at_most"] <= 2
    errors = [each for each in told["findings"] if each["severity"] == "error"]
    assert "instanceGroupManagers.delete" in errors[0]["message"]
    assert "roles update" in errors[0]["fix"]


def test_without_a_terminal_nobody_is_charged(lab: Lab) -> None:
    assert lab.start("prove", "gcp", "--max-cost", "2").wait(PATIENCE_S) == 2
    assert "there is no terminal to ask on" in lab.said
    assert "Traceback" not in lab.said
    assert lab.bucket not in lab.cloud.state()["buckets"]


@pytest.mark.slow
def test_the_command_killed_by_kill_9_is_finished_by_reap(lab: Lab) -> None:
    lab.cloud.physics(processes=False)
    child = lab.start("prove", "gcp", "--max-cost", "2", "--yes")
    lab.cloud.wait(lambda state: any(g["managed"] for g in state["groups"]), 120)
    os.killpg(child.pid, signal.SIGKILL)
    child.wait()
    assert lab.left()
    lab.run("reap", "--on", "gcp", "--grace", "0s")
    assert lab.left() == {}
    assert not list((lab.folder / ".drillyard" / "intents").glob("*"))


@pytest.mark.slow
def test_sigterm_ends_the_lease_before_the_command(lab: Lab) -> None:
    lab.cloud.physics(processes=False)
    child = lab.start("prove", "gcp", "--max-cost", "2", "--yes")
    lab.cloud.wait(lambda state: any(g["managed"] for g in state["groups"]), 120)
    child.terminate()
    assert child.wait(PATIENCE_S) == 130
    assert lab.left() == {}
    assert lab.cloud.ask("objects", bucket=lab.bucket) == []
    assert not list((lab.folder / ".drillyard" / "intents").glob("*"))
