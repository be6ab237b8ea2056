"""Each fault that ``plan`` finds in a project, with the command that fixes it."""

from __future__ import annotations

from typing import Any

import pytest

from tests.helpers.gcp_examined import (
    changed_bucket,
    examined,
    faults,
    less,
    order,
    quota,
    setting,
    without,
)
from tests.helpers.google_world import ACCOUNT, World

FAULTS: list[Any] = [
    # catalogue row, what is wrong, settings, severity, subject, said, in the fix
    (
        50,
        None,
        {},
        "error",
        "quota",
        "N2_CPUS in europe-west1: 8000 needed, 64 free",
        "metric=N2_CPUS",
        1000,
    ),
    (
        51,
        None,
        {"machine_types": ["n2-mega"]},
        "error",
        "machine_types",
        "'n2-mega' is in none of europe-west1-b, europe-west1-c",
        "n2-highcpu-8",
        3,
    ),
    (
        52,
        None,
        {"machine_types": ["n1-standard-4"], "gpu_type": "nvidia-tesla-t4"},
        "error",
        "gpu_type",
        "nvidia-tesla-t4 is in none of",
        "zones that have it: us-central1-a",
        3,
    ),
    (
        52,
        None,
        {"gpu_type": "nvidia-tesla-t4"},
        "error",
        "gpu_type",
        "cannot be attached to n2-highcpu-8",
        "n1",
        3,
    ),
    (
        53,
        without("zones/europe-west1-b"),
        {},
        "error",
        "zones",
        "there is no zone 'europe-west1-b'",
        "gcloud compute zones list",
        3,
    ),
    (
        54,
        lambda w: w.buckets["lab-runs"].update(location="US-EAST1"),
        {},
        "warning",
        "bucket",
        "gs://lab-runs is in us-east1, machines run in europe-west1",
        "a bucket in europe-west1",
        3,
    ),
    (
        55,
        quota("N2_CPUS", 0),
        {},
        "error",
        "quota",
        "0 free (0 of 0 used)",
        "https://console.cloud.google.com/iam-admin/quotas?project=lab-1234&metric=N2_CPUS",
        3,
    ),
    (
        55,
        quota("INSTANCES", 50, 49),
        {},
        "error",
        "quota",
        "INSTANCES in europe-west1",
        "raise",
        3,
    ),
    (
        56,
        setting("no_credentials", True),
        {},
        "error",
        "login",
        "no Google credentials",
        "gcloud auth",
        3,
    ),
    (
        56,
        without(""),
        {},
        "error",
        "login",
        "me@lab-1234.iam.gserviceaccount.com does not see project 'lab-1234'",
        "projects list",
        3,
    ),
    (
        57,
        less("compute.instances.delete", "compute.instanceGroupManagers.list"),
        {},
        "error",
        "rights",
        "nothing is created that could not be found and deleted again",
        "deployments/gcp/role.yaml; } && gcloud projects add-iam-policy-binding lab-1234 "
        "--member=serviceAccount:me@lab-1234.iam.gserviceaccount.com",
        3,
    ),
    (
        57,
        less("iam.serviceAccounts.actAs"),
        {},
        "error",
        "service_account",
        "iam.serviceAccounts.actAs is missing",
        "roles/iam.serviceAccountUser",
        3,
    ),
    (
        57,
        lambda w: w.accounts.clear(),
        {},
        "error",
        "service_account",
        f"there is no service account {ACCOUNT}",
        "machine-role.yaml",
        3,
    ),
    (
        58,
        less("storage.objects.delete"),
        {},
        "error",
        "bucket",
        "missing on gs://lab-runs: storage.objects.delete",
        "roles/storage.objectAdmin",
        3,
    ),
    (
        58,
        lambda w: w.buckets["lab-runs"].update(
            retentionPolicy={"retentionPeriod": "9", "isLocked": True}
        ),
        {},
        "error",
        "bucket",
        "has a retention policy and it is locked",
        "another bucket",
        3,
    ),
    (
        58,
        lambda w: (w.buckets.clear(), w.allowed.discard("storage.buckets.create")),
        {},
        "error",
        "rights",
        "storage.buckets.create",
        "roles/storage.admin",
        3,
    ),
    (
        0,
        setting("off", {"compute.googleapis.com"}),
        {},
        "error",
        "apis",
        "not enabled in lab-1234: compute.googleapis.com",
        "gcloud services enable compute.googleapis.com",
        3,
    ),
    (
        0,
        without("regions/europe-west1/subnetworks/default"),
        {},
        "warning",
        "network",
        "there is no subnetwork",
        "subnets list",
        3,
    ),
    (
        0,
        lambda w: w.compute["projects/lab-1234/regions/europe-west1/subnetworks/default"].update(
            privateIpGoogleAccess=False
        ),
        {},
        "warning",
        "network",
        "no Private Google Access",
        "--enable-private-ip-google-access",
        3,
    ),
    (
        0,
        without("global/images/drillyard"),
        {},
        "error",
        "image",
        "there is no image",
        "images",
        3,
    ),
    (0, None, {"image": None}, "error", "image", "nothing says where", "image", 3),
    (0, None, {"template": "mine"}, "error", "template", "no instance template 'mine'", "list", 3),
    (0, setting("offline", True), {}, "error", "login", "cannot be reached", "online", 3),
    (
        0,
        changed_bucket(
            lifecycle={"rule": [{"action": {"type": "Delete"}, "condition": {"age": 30}}]}
        ),
        {},
        "error",
        "bucket",
        "deletes objects by a lifecycle rule",
        "another bucket",
        3,
    ),
    (
        0,
        changed_bucket(defaultEventBasedHold=True),
        {},
        "error",
        "bucket",
        "holds each new object",
        "--no-default-event-based-hold",
        3,
    ),
    (
        0,
        changed_bucket(billing={"requesterPays": True}),
        {},
        "error",
        "bucket",
        "billed to the requester",
        "--no-requester-pays",
        3,
    ),
    (
        0,
        changed_bucket(ipFilter={"mode": "Enabled"}),
        {},
        "warning",
        "bucket",
        "certain networks",
        "--clear-ip-filter",
        3,
    ),
    (
        0,
        changed_bucket(storageClass="COLDLINE"),
        {},
        "warning",
        "bucket",
        "the class COLDLINE",
        "STANDARD",
        3,
    ),
    (
        0,
        changed_bucket(softDeletePolicy={"retentionDurationSeconds": "604800"}),
        {},
        "warning",
        "bucket",
        "keeps what is overwritten for 7 days",
        "--clear-soft-delete",
        3,
    ),
    (
        0,
        lambda w: w.bucket_policy.clear(),
        {},
        "warning",
        "bucket",
        f"does not give {ACCOUNT} roles/storage.objectAdmin",
        f"--member=serviceAccount:{ACCOUNT}",
        3,
    ),
    (90, setting("skew_s", 75.0), {}, "error", "clock", "1 min 15 s ahead of Google's", "ntp", 3),
    (90, setting("skew_s", -3600.0), {}, "error", "clock", "1 h 00 min behind Google's", "ntp", 3),
]


@pytest.mark.parametrize(
    ("row", "change", "settings", "severity", "subject", "said", "fix", "workers"), FAULTS
)
def test_what_is_missing_is_said_with_the_command_that_mends_it(
    row, change, settings, severity, subject, said, fix, workers
):
    world = World()
    if change is not None:
        change(world)
    found = faults(examined(world, order(workers), **settings))
    mine = [f for f in found if f.subject == subject and said in f.message]
    assert mine, found
    assert mine[0].severity.value == severity
    assert fix in (mine[0].fix or "")
