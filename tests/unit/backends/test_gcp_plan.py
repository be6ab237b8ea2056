"""What ``plan`` and ``doctor`` say of a project: every fault in one list, with its command."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from drillyard.findings import Severity
from drillyard_backends.gcp import plan, prices, quotas, read_only_client, rights
from drillyard_backends.gcp.machines import machine_types
from drillyard_backends.gcp.settings import read_settings
from drillyard_backends.gcp.zones import candidates, hourly
from tests.helpers.gcp_examined import (
    examined,
    faults,
    less,
    order,
    quota,
)
from tests.helpers.google_world import ACCOUNT, SETTINGS, World

ROOT = Path(__file__).parents[3]


def test_a_project_that_is_ready_has_no_fault():
    found = examined(World())
    assert faults(found) == []
    assert {f.subject for f in found} == {
        "login",
        "apis",
        "rights",
        "service_account",
        "quota",
        "bucket",
    }
    assert faults(plan.examine(read_settings(SETTINGS), None, World())) == []


def test_hosts_of_copies_are_machines_with_a_price_and_a_port():
    hosting, config = order(1, hosts=4), read_settings(SETTINGS)
    one = plan.estimate(config, order(1)).per_hour
    assert plan.estimate(config, hosting).per_hour == pytest.approx(5 * one)
    assert [f.subject for f in faults(examined(quota_of(INSTANCES=4), hosting))] == ["quota"]
    (said,) = [f for f in examined(World(), hosting) if f.subject == "simulator.copies_on"]
    assert "reach the others at any TCP port" in said.message
    (said,) = [
        f
        for f in examined(World(), hosting, copies_port=7700)
        if f.subject == "simulator.copies_on"
    ]
    assert "at TCP port 7700" in said.message and said.fix is None


def quota_of(**limits: float) -> World:
    world = World()
    for metric, limit in limits.items():
        quota(metric, limit)(world)
    return world


def test_lost_answers_are_asked_for_again():
    assert faults(examined(World(lost=3))) == []
    assert [f.subject for f in faults(examined(World(lost=4)))] == ["login"]


def test_everything_that_is_missing_comes_in_one_list():
    world = World()
    less("compute.instances.delete", "iam.serviceAccounts.actAs", "storage.objects.list")(world)
    quota("INSTANCES", 1)(world)
    world.off = {"iam.googleapis.com"}
    subjects = {f.subject for f in faults(examined(world))}
    assert {"rights", "service_account", "bucket", "quota", "apis"} <= subjects


def test_a_quota_that_another_region_has_is_no_error():
    world = World()
    path = "projects/lab-1234/zones/europe-west4-a"
    world.compute[path] = {"status": "UP", "region": "r/regions/europe-west4"}
    world.compute[f"{path}/machineTypes/n2-highcpu-8"] = {"guestCpus": 8}
    world.compute["projects/lab-1234/regions/europe-west4"] = {
        "quotas": [{"metric": "N2_CPUS", "limit": 99, "usage": 0}]
    }
    quota("N2_CPUS", 0)(world)
    found = examined(world, zones=["europe-west1-b", "europe-west4-a"])
    assert [f.severity.value for f in found if f.subject == "quota"] == ["warning"]


@pytest.mark.parametrize(
    ("hours", "good"), [(0.005, False), (0.01, True), (2880, True), (2881, False)]
)
def test_the_life_that_google_allows(hours, good):
    found = examined(World(), order(hours=hours))
    assert ("budget.max_hours" in {f.subject for f in faults(found)}) is not good


def test_a_store_on_this_machine_is_refused_for_machines_elsewhere():
    found = faults(examined(World(), order(store_url="/home/me/drillyard-runs")))
    (one,) = [f for f in found if f.subject == "store"]
    assert "cannot reach /home/me/drillyard-runs" in one.message
    assert "--store gs://lab-runs" in (one.fix or "")


def test_spot_gpus_have_a_quota_of_their_own():
    machine = quotas.Machine("n1-standard-4", 4, "nvidia-tesla-t4", 1, spot=True)
    limits = [
        {"metric": m, "limit": x, "usage": 0}
        for m, x in (("PREEMPTIBLE_NVIDIA_T4_GPUS", 0), ("NVIDIA_T4_GPUS", 8), ("CPUS", 99))
    ]
    short = list(quotas.short(machine, 2, "r", limits, []))
    assert [s.metric for s in short] == ["PREEMPTIBLE_NVIDIA_T4_GPUS"]


@pytest.mark.parametrize(
    ("gpu", "spot", "metric"),
    [
        ("nvidia-l4", False, "NVIDIA_L4_GPUS"),
        ("nvidia-tesla-t4-vws", False, "NVIDIA_T4_GPUS"),
        ("nvidia-a100-80gb", True, "NVIDIA_A100_80GB_GPUS"),
        ("nvidia-h100-80gb", True, "PREEMPTIBLE_NVIDIA_H100_GPUS"),
        ("nvidia-h100-80gb", False, "GPUS_PER_GPU_FAMILY"),
        ("nvidia-h200-141gb", True, "PREEMPTIBLE_NVIDIA_H200_GPUS"),
        ("nvidia-b200", True, "PREEMPTIBLE_NVIDIA_B200_GPUS"),
        ("nvidia-b200", False, "GPUS_PER_GPU_FAMILY"),
    ],
)
def test_each_series_of_gpus_counts_against_the_quota_that_google_names(gpu, spot, metric):
    machine = quotas.Machine("a3-highgpu-1g", 26, gpu, 1, spot=spot)
    assert quotas.gpu_metric(machine, []) == metric


def test_a_quota_that_the_region_does_not_list_is_said_to_be_unknown():
    world = World()
    types = "projects/lab-1234/zones/europe-west1-b/machineTypes"
    world.compute[f"{types}/c4-standard-8"] = {"guestCpus": 8}
    found = examined(
        world,
        zones=["europe-west1-b"],
        machine_types=["c4-standard-8"],
        disk_type="hyperdisk-balanced",
    )
    (quota_finding,) = [f for f in found if f.subject == "quota"]
    assert quota_finding.severity is Severity.WARNING
    assert quota_finding.message == (
        "unknown: Google does not list CPUS_PER_VM_FAMILY with a region; "
        "it limits c4-standard-8 in europe-west1"
    )
    assert "metric=CPUS_PER_VM_FAMILY" in (quota_finding.fix or "")


def test_the_estimate_is_that_of_the_dearest_choice():
    config = read_settings({**SETTINGS, "on_demand_after": None})
    spot = plan.estimate(config, order(3))
    machine = prices.price("n2-highcpu-8", "europe-west1", True) or 0.0
    disk = (prices.disk_price("pd-balanced", "europe-west1") or 0.0) * 20 / prices.HOURS_A_MONTH
    assert spot.per_hour == pytest.approx(3 * (machine + disk))
    assert spot.spot and spot.prices_of == prices.date()
    assert [p.count for p in spot.parts] == [3, 3, 1, 1, 1]
    assert sum(p.per_hour * p.count for p in spot.parts) == pytest.approx(spot.per_hour)
    assert "the Spot price is not known" in spot.note
    fallback = plan.estimate(read_settings(SETTINGS), order(3))
    assert fallback.per_hour == spot.per_hour and not fallback.spot


def test_a_spot_price_is_that_of_its_region_or_not_known(tmp_path, monkeypatch):
    parts = {"n2 core": 0.01, "n2 ram": 0.001}
    dearer = {name: 2 * price for name, price in parts.items()}
    listed = {"europe-west1": parts, "us-central1": dearer}
    table = {**prices.LIST.package_list(), "date": "2026-11-25", "base_date": "2025-06-01"}
    (tmp_path / "list.json").write_text(
        json.dumps({**table, "skus": {"spot": listed, "on_demand": {"europe-west1": dearer}}})
    )
    monkeypatch.setenv(prices.OVERRIDE, str(tmp_path / "list.json"))
    small = machine_types_of("n2-highcpu-8")
    spot = {place.region: place.spot_price for place in small.places}
    assert spot["us-central1"] == pytest.approx(2 * spot["europe-west1"]) == pytest.approx(0.176)
    assert spot["europe-west4"] is None, "no factor stands in for it"
    assert prices.price("n2-highcpu-8", "europe-west4", True) == prices.price(
        "n2-highcpu-8", "europe-west4", False
    )
    assert prices.date_of("n2-highcpu-8", "europe-west1") == "2026-11-25"
    assert prices.date_of("n2-highcpu-8", "europe-west4") == "2025-06-01"
    found = plan.estimate(read_settings(SETTINGS), order(3))
    assert "as Spot" in found.note and "not known" not in found.note
    assert found.prices_of == "2026-11-25"
    for other in (
        {"machine_types": ["n2-highcpu-8"], "gpu_type": "nvidia-tesla-t4"},
        {"zones": ["europe-west1-b", "europe-west4-a"]},
    ):
        old = plan.estimate(read_settings({**SETTINGS, **other}), order(3))
        assert old.prices_of == "2025-06-01", "a part of the price is that old"


def test_the_plan_names_the_cheapest_of_several_regions():
    zones = ["europe-west2-b", "us-central1-a", "europe-west1-b"]
    several = plan.estimate(read_settings({**SETTINGS, "zones": zones}), order(3))
    alone = plan.estimate(read_settings({**SETTINGS, "zones": ["us-central1-a"]}), order(3))
    assert "in us-central1, the cheapest of the regions, " in several.note
    assert "cheapest" not in alone.note and alone.per_hour < several.per_hour
    said = float(several.note.rpartition(" ")[2])
    assert said == pytest.approx(alone.per_hour, rel=0.1)


def machine_types_of(name):
    return next(kind for kind in machine_types().types if kind.name == name)


def test_a_type_without_a_price_is_said():
    world = World()
    world.compute["projects/lab-1234/zones/europe-west1-b/machineTypes/z9-big-1"] = {
        "guestCpus": 1
    }
    found = faults(examined(world, machine_types=["z9-big-1"]))
    assert any(f.subject == "prices" and "z9-big-1" in f.message for f in found)


@pytest.mark.parametrize(
    ("name", "wanted"), [("role.yaml", rights.DRIVER), ("machine-role.yaml", rights.MACHINE)]
)
def test_the_roles_that_ship_are_what_is_asked_for(name, wanted):
    import re

    text = (ROOT / "deployments" / "gcp" / name).read_text()
    assert tuple(re.findall(r"^- (\S+)$", text, re.M)) == wanted
    said = rights.grant_role("role", name, wanted, "p-1", "user:me")
    made = f"role --project=p-1 --file={ROOT}/deployments/gcp/{name}"
    assert f"iam roles update {made} --quiet || gcloud iam roles create {made}; }}" in said
    elsewhere = rights.grant_role("role", "elsewhere.yaml", wanted, "p-1", "user:me")
    assert f"--permissions={','.join(wanted)}" in elsewhere


@pytest.mark.parametrize(
    "condition",
    [
        {"age": 30, "isLive": False},
        {"numNewerVersions": 3},
        {"age": 30, "matchesPrefix": ["tmp/"]},
    ],
)
def test_a_rule_that_spares_the_mailbox_is_no_fault(condition):
    world = World()
    rule = {"action": {"type": "Delete"}, "condition": condition}
    abort = {"action": {"type": "AbortIncompleteMultipartUpload"}, "condition": {"age": 7}}
    world.buckets["lab-runs"]["lifecycle"] = {"rule": [rule, abort]}
    world.bucket_policy = []
    role = {"role": "roles/storage.objectAdmin", "members": [f"serviceAccount:{ACCOUNT}"]}
    world.folders["runs%2F"] = [role]
    assert faults(examined(world, prefix="runs")) == []


@pytest.mark.parametrize(
    ("gpus", "settings", "said"),
    [
        (1, {}, "1 GPU a machine asked for (resources.gpus), and n2-highcpu-8 has none"),
        (2, {"machine_types": ["g2-standard-4"]}, "2 GPUs a machine asked for"),
        (1, {"machine_types": ["g2-standard-4"], "workers_per_machine": 2}, "g2-standard-4 has 1"),
        (1, {"machine_types": ["g2-standard-4"]}, ""),
        (1, {"template": "mine"}, ""),
    ],
)
def test_gpus_that_machines_do_not_have_are_refused(gpus, settings, said):
    """M8: it was refused on the machine, after it was rented."""
    world = World()
    card = {"guestAcceleratorType": "nvidia-l4", "guestAcceleratorCount": 1}
    for zone in ("europe-west1-b", "europe-west1-c"):
        path = f"projects/lab-1234/zones/{zone}/machineTypes/g2-standard-4"
        world.compute[path] = {"guestCpus": 4, "accelerators": [card]}
    found = [f for f in examined(world, order(gpus=gpus), **settings) if f.subject == "gpus"]
    assert [f.severity.value for f in found] == ["error"] * bool(said)
    assert not said or said in found[0].message


@pytest.mark.heavy
@pytest.mark.parametrize("own", [None, "billing-1"])
def test_a_persons_login_asks_on_the_quota_of_the_project(monkeypatch, own):
    """G-D6: the APIs about projects, identities and services refuse a login without one."""
    import google.auth
    from google.oauth2 import credentials, service_account

    person = credentials.Credentials("token", quota_project_id=own)
    monkeypatch.setattr(google.auth, "default", lambda **_: (person, None))
    session = read_only_client.HttpsLine("lab-1234")._signed()
    assert session.credentials.quota_project_id == (own or "lab-1234")
    machine = service_account.Credentials(None, "me@lab", "https://token")
    monkeypatch.setattr(google.auth, "default", lambda **_: (machine, None))
    assert read_only_client.HttpsLine("lab-1234")._signed().credentials.quota_project_id is None


def test_a_machines_role_without_a_condition_is_a_warning_with_the_command():
    """M11: code on a machine could delete every machine of the project."""
    world = World()
    del world.project_policy[0]["condition"]
    (found,) = faults(examined(world, group_prefix="exp1"))
    assert found.severity is Severity.WARNING and "can delete every machine" in found.message
    assert '.startsWith("exp1-")' in (found.fix or "")
    assert "remove-iam-policy-binding lab-1234" in (found.fix or "")
    world.project_policy = []
    (found,) = faults(examined(world))
    assert "cannot delete themselves" in found.message
    assert "iam roles create drillyardMachine" in (found.fix or "")


def test_machines_with_rights_on_the_whole_bucket_are_a_warning_where_a_folder_is_enough():
    """M11: code on a machine could read and rewrite the objects of other experiments."""
    world = World()
    (found,) = faults(examined(world, prefix="exp1"))
    assert "can read and write all of gs://lab-runs" in found.message
    assert "managed-folders add-iam-policy-binding gs://lab-runs/exp1" in (found.fix or "")
    world.bucket_policy = []
    (found,) = faults(examined(world, prefix="exp1"))
    assert "gs://lab-runs/exp1 does not give" in found.message
    role = {"role": "roles/storage.objectAdmin", "members": [f"serviceAccount:{ACCOUNT}"]}
    world.folders["exp1%2F"] = [role]
    assert faults(examined(world, prefix="exp1")) == []


@pytest.mark.parametrize(
    ("image", "settings", "subject", "said"),
    [
        ({"diskSizeGb": "50"}, {}, "disk_gb", "needs 50 GB"),
        ({"diskSizeGb": "50"}, {"disk_gb": 50}, "", ""),
        ({"deprecated": {"state": "DELETED"}}, {}, "image", "is deleted"),
        ({"architecture": "ARM64"}, {}, "image", "is built for ARM64"),
    ],
)
def test_an_image_that_no_machine_can_be_made_from_is_refused(image, settings, subject, said):
    """M15: each machine was refused by its group, and the search for room went on."""
    world = World()
    world.compute["projects/lab-1234/global/images/drillyard"] = image
    found = faults(examined(world, **settings))
    assert [f.subject for f in found] == [subject] * bool(subject)
    assert not said or said in found[0].message


@pytest.mark.parametrize(("owner", "warned"), [("other-lab", True), ("debian-cloud", False)])
def test_an_image_of_another_project_needs_a_right_there(owner, warned):
    """M15: Google's own agent makes the machines, not the person who runs `plan`."""
    world = World()
    world.compute[f"projects/{owner}/global/images/i"] = {}
    found = faults(examined(world, image=f"projects/{owner}/global/images/i", image_family=None))
    assert [f.subject for f in found] == ["image"] * warned
    assert all("@cloudservices.gserviceaccount.com" in (f.fix or "") for f in found)


@pytest.mark.parametrize(
    ("disk", "refused"), [("pd-balanced", True), ("hyperdisk-balanced", False)]
)
def test_series_that_take_hyperdisk_alone_are_refused_with_another_disk(disk, refused):
    """M15: n4 and c4 machines were rented with a disk that they cannot have."""
    world = World()
    for zone in ("europe-west1-b", "europe-west1-c"):
        path = f"projects/lab-1234/zones/{zone}/machineTypes/n4-standard-4"
        world.compute[path] = {"guestCpus": 4}
    found = examined(world, machine_types=["n4-standard-4"], disk_type=disk)
    assert ("disk_type" in {f.subject for f in found}) is refused


def test_a_group_that_repairs_needs_a_right_that_conditions_cannot_restrict():
    (found,) = faults(examined(World(), repair=True))
    assert found.subject == "repair" and "leave repair out" in (found.fix or "")


def test_the_account_of_machines_is_asked_for_by_its_own_project():
    """G-D18: with `-` for the project Google answers 403 where there is no account."""
    world = World()
    world.accounts.clear()
    (found,) = [f for f in faults(examined(world)) if f.subject == "service_account"]
    assert f"there is no service account {ACCOUNT}" in found.message
    assert "iam service-accounts create" in (found.fix or "")


def test_a_private_container_that_machines_may_not_pull_is_a_warning():
    """G-D19: the pull was refused on each machine, and each was replaced."""
    world = World(repository_policy=[])
    name = f"europe-docker.pkg.dev/lab-1234/images/drillyard@sha256:{'0' * 64}"
    (found,) = faults(examined(world, container=name))
    assert found.subject == "container"
    assert "artifacts repositories add-iam-policy-binding images" in (found.fix or "")
    role = {"role": "roles/artifactregistry.reader", "members": [f"serviceAccount:{ACCOUNT}"]}
    world.repository_policy = [role]
    assert faults(examined(world, container=name)) == []


def test_gpus_that_a_machine_type_includes_are_priced_once():
    """No template attaches them again; the estimate refused orders that the budget allows."""
    plain = {**SETTINGS, "machine_types": ["g2-standard-4"], "spot": False}
    named = {**plain, "gpu_type": "nvidia-l4", "gpu_count": 1}
    one, same = read_settings(plain), read_settings(named)
    assert plan.estimate(same, order(1)).per_hour == plan.estimate(one, order(1)).per_hour
    assert hourly(same, candidates(same)[0]) == hourly(one, candidates(one)[0])
