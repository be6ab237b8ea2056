"""``drillyard prove gcp`` against the emulated Google Cloud: honest, lying, and by the command.

What holds for Azure too is in ``test_prove.py``.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
from pathlib import Path

import pytest
import yaml

from drillyard.errors import (
    ConfigError,
    NoCapacity,
    StoreUnavailable,
    TeardownUnconfirmed,
    UserError,
)
from drillyard_backends.gcp import rights
from drillyard_backends.prove import record
from drillyard_backends.prove.lease import ProofLease
from drillyard_backends.prove.probes import Verdict
from drillyard_backends.prove.runner import Proof
from drillyard_backends.prove.show import Show
from drillyard_emulators.rehearsal import rehearsal_of
from tests.helpers.patience import PATIENCE_S
from tests.helpers.proofs import verdict, verdicts
from tests.helpers.rented import Lab

pytestmark = pytest.mark.heavy
DEPLOYMENTS = Path(__file__).parents[2] / "deployments"
HOLDS, FAILS, UNTESTED = Verdict.HOLDS, Verdict.FAILS, Verdict.UNTESTED


@pytest.fixture
def cloud(gcp_bench):
    return gcp_bench.cloud


def test_an_honest_cloud_holds_and_nothing_is_left(gcp_bench, cloud):
    prover = gcp_bench.prover(pace=0.05)
    report = gcp_bench.proof(prover)
    assert report.created and report.unconfirmed is None
    assert report.of(FAILS) == []
    tested = {one.claim.id for one in report.of(HOLDS)}
    assert tested >= {"G91", "G45", "G11", "G101", "G141", "G60", "G5", "G131", "G42", "G1"}
    # The emulated login may do everything, which proves nothing about the role.
    assert verdict(report, "G120") is UNTESTED
    gcp_bench.nothing_left()
    told = record.record_of("gcp", "2026-11-23", report.observations, prover.private())
    text = told.model_dump_json().replace("dy-LEASE", "")
    names = (cloud.project, gcp_bench.settings["bucket"], cloud.service_account, "dy-")
    assert not [name for name in names if name in text]


@pytest.mark.slow
@pytest.mark.parametrize("extra", [[], ["compute.firewalls.create"]])
def test_the_role_that_ships_is_proven_only_by_who_has_no_more(gcp_bench, cloud, extra):
    cloud.physics(processes=False)
    role = yaml.safe_load((DEPLOYMENTS / "gcp" / "role.yaml").read_text("utf-8"))
    user = f"user@{cloud.project}.iam.gserviceaccount.com"
    given = [*role["includedPermissions"], *rights.BUCKET, "iam.serviceAccounts.actAs", *extra]
    gcp_bench.prover().prepare(f"gs://{gcp_bench.settings['bucket']}")
    cloud.ask("project", granted={user: given})
    report = gcp_bench.proof(gcp_bench.bodiless())
    assert verdict(report, "G120") is (UNTESTED if extra else HOLDS)
    gcp_bench.nothing_left()


@pytest.mark.slow
def test_what_it_costs_stays_below_what_was_said(gcp_bench, cloud):
    cloud.physics(processes=False)
    before = {m["id"] for m in cloud.state()["all_machines"]}
    report = gcp_bench.proof()
    mine = [m for m in cloud.state()["all_machines"] if m["id"] not in before]
    assert len(mine) == 2
    hours = sum(m["lived_s"] for m in mine) / 3600
    assert hours * report.price.per_hour / 2 <= report.price.total <= 2.0
    assert all(m["lived_s"] <= report.price.life_s for m in mine)


def test_a_cloud_that_lies_is_reported_and_nothing_is_left(gcp_bench, cloud):
    cloud.physics(lost_stay_listed=False)
    accounts = r"GET iam\.googleapis\.com/.*serviceAccounts/drillyard-"
    cloud.fault(accounts, status=403, reason="forbidden")
    cloud.fault(r"POST cloudresourcemanager.*testIamPermissions", status=400, times=1)
    slow = "a token on a machine", "a machine ends itself"
    report = gcp_bench.proof(gcp_bench.only(lambda probe: probe.name not in slow))
    assert {verdict(report, claim) for claim in ("G5", "G122", "G125")} == {FAILS}
    assert verdict(report, "G45") is HOLDS
    gcp_bench.nothing_left()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("physics", "claim"),
    [
        ({"listing_lag_s": 4.0, "listing_lag_least_s": 4.0}, "G52"),
        ({"boot_failures": 2}, "G101"),
    ],
)
def test_a_cloud_that_lies_slowly_is_reported_and_nothing_is_left(
    gcp_bench, cloud, physics, claim
):
    cloud.physics(**physics)
    # The listing is too late for the settings, which is what a proof should find out.
    report = gcp_bench.proof(pace=0.05)
    assert verdict(report, claim) is FAILS, verdicts(report, claim)
    if "listing_lag_s" in physics:
        cloud.wait(lambda state: not state["machines"] and not state["groups"], 60)
    gcp_bench.nothing_left()


@pytest.mark.slow
def test_a_cloud_without_room_does_not_lie(gcp_bench, cloud):
    prover = gcp_bench.only(lambda probe: not probe.reads)
    cloud.physics(stockouts=[{"zone": zone} for zone in prover.config.zones])
    report = gcp_bench.proof(prover)
    assert isinstance(report.refusal, NoCapacity)
    assert report.ended and report.of(FAILS) == []
    assert verdict(report, "G101") is UNTESTED
    gcp_bench.nothing_left()


@pytest.mark.slow
def test_a_deletion_that_was_none_is_asked_for_again(gcp_bench, cloud):
    cloud.physics(processes=False, false_done=[{"times": 2}])
    assert gcp_bench.proof().unconfirmed is None
    gcp_bench.nothing_left()


@pytest.mark.slow
def test_a_rehearsal_behaves_as_the_record_says(tmp_path):
    rehearsal = rehearsal_of("gcp", {}, [], tmp_path / "cloud", 0)
    try:
        rehearsal.behave({"lost_stay_listed": False, "listing_lag_s": 2.5})
        physics = rehearsal._cloud.state()["physics"]
        assert (physics["lost_stay_listed"], physics["listing_lag_s"]) == (False, 2.5)
        with pytest.raises(UserError, match="cannot do that"):
            rehearsal.behave({"unheard_of": 1})
    finally:
        rehearsal.close()


# -- refused before anything is created -----------------------------------------------------------


@pytest.mark.parametrize("amount", [0.0, -1.0, float("nan"), float("inf")])
def test_an_amount_that_is_none_is_refused(gcp_bench, amount):
    with pytest.raises(ConfigError, match="not an amount"):
        Proof(gcp_bench.prover(), amount, home=gcp_bench.home)


def test_machines_without_a_price_are_refused(gcp_bench):
    with pytest.raises(ConfigError, match="does not know"):
        Proof(gcp_bench.prover(machine_types=["z9-standard-4"]), 2.0, home=gcp_bench.home)


def test_a_dry_run_only_reads(gcp_bench, cloud):
    since = len(cloud.log())
    report = Proof(gcp_bench.prover(), 2.0, home=gcp_bench.home).run(dry_run=True)
    assert not report.created
    changes = [e for e in cloud.log(since=0)[since:] if e["method"] in ("PUT", "DELETE", "PATCH")]
    assert changes == []
    assert gcp_bench.settings["bucket"] not in cloud.state()["buckets"]


def test_a_no_creates_nothing(gcp_bench, cloud):
    class No(Show):
        def confirm(self, price):
            raise UserError("nothing was done")

    with pytest.raises(UserError, match="nothing was done"):
        Proof(gcp_bench.prover(), 2.0, No(), home=gcp_bench.home).run()
    assert gcp_bench.settings["bucket"] not in cloud.state()["buckets"]
    gcp_bench.nothing_left()


# -- killed ---------------------------------------------------------------------------------------


def test_killed_with_machines_it_is_finished_by_the_same_command(
    gcp_bench, cloud, tmp_path, monkeypatch
):
    cloud.physics(processes=False)
    assert gcp_bench.killed(1, gcp_bench.create)
    assert cloud.state()["groups"]
    # From another machine, which knows of nothing, and with a store that is away at first.
    real, away = ProofLease.left, [True]

    def left(self, *, stored=True):
        if stored and away and away.pop():
            raise StoreUnavailable("it does not answer")
        return real(self, stored=stored)

    monkeypatch.setattr(ProofLease, "left", left)
    assert len(gcp_bench.finish(tmp_path / "other").finished) == 1
    assert not away
    shutil.rmtree(tmp_path / "intents")
    gcp_bench.nothing_left()


@pytest.mark.slow
def test_what_cannot_be_ended_stays_in_the_ledger(gcp_bench, cloud):
    cloud.physics(processes=False)
    cloud.fault(r"DELETE .*instanceGroupManagers", status=403, reason="forbidden")
    report = gcp_bench.proof(gcp_bench.bodiless())
    assert isinstance(report.unconfirmed, TeardownUnconfirmed)
    assert list((gcp_bench.home / "intents").glob("dy-*.json"))
    cloud.clear_faults()
    assert len(gcp_bench.finish().finished) == 1
    gcp_bench.nothing_left()


@pytest.mark.slow
def test_two_proofs_in_one_store_are_refused(gcp_bench, cloud, tmp_path):
    cloud.physics(processes=False)

    class Twice(Show):
        def begins(self, probe):
            if probe.name == "bucket":
                with pytest.raises(UserError, match="another `drillyard prove`"):
                    gcp_bench.finish(tmp_path / "other")
                refused.append(probe.name)

    refused: list[str] = []
    Proof(gcp_bench.bodiless(), 2.0, Twice(), home=gcp_bench.home).run()
    assert refused
    gcp_bench.nothing_left()


# -- the command line -----------------------------------------------------------------------------


@pytest.fixture
def lab(cloud, tmp_path, monkeypatch):
    made = Lab(cloud, tmp_path, monkeypatch)
    yield made
    made.close()


def test_a_dry_run_of_the_command_prints_the_price_and_what_it_read(lab):
    said = lab.run("prove", "gcp", "--max-cost", "2", "--dry-run")
    assert "creates group, template, machines" in said
    assert "G80   holds" in said
    assert "record: " in said
    text = next((lab.folder / ".drillyard" / "proofs").glob("gcp-*.json")).read_text()
    assert lab.bucket not in text and lab.cloud.project not in text


def test_a_dry_run_without_rights_prints_one_object_and_the_fix(lab):
    lab.cloud.ask("project", denied=["compute.instanceGroupManagers.delete"])
    command = "prove", "gcp", "--max-cost", "2", "--dry-run", "--json"
    assert lab.start(*command).wait(PATIENCE_S) == 2
    told = json.loads(lab.said)
    assert told["dry_run"] and not told["created"] and told["cost_at_most"] <= 2
    errors = [each for each in told["findings"] if each["severity"] == "error"]
    assert "instanceGroupManagers.delete" in errors[0]["message"]
    assert "roles update" in errors[0]["fix"]


def test_without_a_terminal_nobody_is_charged(lab):
    assert lab.start("prove", "gcp", "--max-cost", "2").wait(PATIENCE_S) == 2
    assert "there is no terminal to ask on" in lab.said
    assert "Traceback" not in lab.said
    assert lab.bucket not in lab.cloud.state()["buckets"]


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_command_that_is_ended_leaves_nothing(lab, number):
    """Killed, it is finished by ``reap``; told to end, it ends its lease first."""
    lab.cloud.physics(processes=False)
    child = lab.start("prove", "gcp", "--max-cost", "2", "--yes")
    lab.cloud.wait(lambda state: any(g["managed"] for g in state["groups"]), 120)
    os.killpg(child.pid, number)
    code = child.wait(PATIENCE_S)
    if number == signal.SIGKILL:
        assert lab.left()
        lab.run("reap", "--on", "gcp", "--grace", "0s")
    else:
        assert code == 130
        assert lab.cloud.ask("objects", bucket=lab.bucket) == []
    assert lab.left() == {}
    assert not list((lab.folder / ".drillyard" / "intents").glob("*"))
