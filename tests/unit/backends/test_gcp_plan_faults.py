"""Each fault that ``plan`` finds in a project, with the command that fixes it."""

from __future__ import annotations

from collections.abc import Callable
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


def fault(
    subject: str,
    said: str,
    fix: str,
    change: Callable[[World], object] = lambda world: None,
    *,
    severity: str = "error",
    workers: int = 3,
    **settings: object,
) -> tuple[Any, ...]:
    """What is wrong in the project or in the settings; what is said of it, and in the fix."""
    return subject, said, fix, change, severity, workers, settings


FAULTS: list[Any] = [
    fault(
        "quota", "N2_CPUS in europe-west1: 8000 needed, 64 free", "metric=N2_CPUS", workers=1000
    ),
    fault(
        "machine_types",
        "'n2-mega' is in none of europe-west1-b, europe-west1-c",
        "n2-highcpu-8",
        machine_types=["n2-mega"],
    ),
    fault(
        "gpu_type",
        "nvidia-tesla-t4 is in none of",
        "zones that have it: us-central1-a",
        machine_types=["n1-standard-4"],
        gpu_type="nvidia-tesla-t4",
    ),
    fault("gpu_type", "cannot be attached to n2-highcpu-8", "n1", gpu_type="nvidia-tesla-t4"),
    fault(
        "zones",
        "there is no zone 'europe-west1-b'",
        "gcloud compute zones list",
        without("zones/europe-west1-b"),
    ),
    fault(
        "bucket",
        "gs://lab-runs is in us-east1, machines run in europe-west1",
        "a bucket in europe-west1",
        lambda w: w.buckets["lab-runs"].update(location="US-EAST1"),
        severity="warning",
    ),
    fault(
        "quota",
        "0 free (0 of 0 used)",
        "https://console.cloud.google.com/iam-admin/quotas?project=lab-1234&metric=N2_CPUS",
        quota("N2_CPUS", 0),
    ),
    fault("quota", "INSTANCES in europe-west1", "raise", quota("INSTANCES", 50, 49)),
    fault("login", "no Google credentials", "gcloud auth", setting("no_credentials", True)),
    fault(
        "login",
        "me@lab-1234.iam.gserviceaccount.com does not see project 'lab-1234'",
        "projects list",
        without(""),
    ),
    fault(
        "rights",
        "nothing is created that could not be found and deleted again",
        "deployments/gcp/role.yaml; } && gcloud projects add-iam-policy-binding lab-1234 "
        "--member=serviceAccount:me@lab-1234.iam.gserviceaccount.com",
        less("compute.instances.delete", "compute.instanceGroupManagers.list"),
    ),
    fault(
        "service_account",
        "iam.serviceAccounts.actAs is missing",
        "roles/iam.serviceAccountUser",
        less("iam.serviceAccounts.actAs"),
    ),
    fault(
        "service_account",
        f"there is no service account {ACCOUNT}",
        "machine-role.yaml",
        lambda w: w.accounts.clear(),
    ),
    fault(
        "bucket",
        "missing on gs://lab-runs: storage.objects.delete",
        "roles/storage.objectAdmin",
        less("storage.objects.delete"),
    ),
    fault(
        "bucket",
        "has a retention policy and it is locked",
        "another bucket",
        lambda w: w.buckets["lab-runs"].update(
            retentionPolicy={"retentionPeriod": "9", "isLocked": True}
        ),
    ),
    fault(
        "rights",
        "storage.buckets.create",
        "roles/storage.admin",
        lambda w: (w.buckets.clear(), w.allowed.discard("storage.buckets.create")),
    ),
    fault(
        "apis",
        "not enabled in lab-1234: compute.googleapis.com",
        "gcloud services enable compute.googleapis.com",
        setting("off", {"compute.googleapis.com"}),
    ),
    fault(
        "network",
        "there is no subnetwork",
        "subnets list",
        without("regions/europe-west1/subnetworks/default"),
        severity="warning",
    ),
    fault(
        "network",
        "no Private Google Access",
        "--enable-private-ip-google-access",
        lambda w: w.compute["projects/lab-1234/regions/europe-west1/subnetworks/default"].update(
            privateIpGoogleAccess=False
        ),
    ),
    fault(
        "network",
        "use Cloud NAT for the bucket",
        "--enable-private-ip-google-access",
        lambda w: w.compute.update(
            {
                "projects/lab-1234/regions/europe-west1/subnetworks/default": {},
                "projects/lab-1234/regions/europe-west1/routers": {
                    "items": [{"name": "r", "nats": [{"name": "nat"}]}]
                },
            }
        ),
        severity="warning",
    ),
    fault(
        "network",
        "may not reach the bucket",
        "give yourself compute.routers.list",
        lambda w: (
            w.hidden.add("routers"),
            w.compute["projects/lab-1234/regions/europe-west1/subnetworks/default"].clear(),
        ),
        severity="warning",
    ),
    fault("image", "there is no image", "images", without("global/images/drillyard")),
    fault("image", "nothing says where", "image", image=None),
    fault("template", "no instance template 'mine'", "list", template="mine"),
    fault("login", "cannot be reached", "online", setting("offline", True)),
    fault(
        "bucket",
        "deletes objects by a lifecycle rule",
        "another bucket",
        changed_bucket(
            lifecycle={"rule": [{"action": {"type": "Delete"}, "condition": {"age": 30}}]}
        ),
    ),
    fault(
        "bucket",
        "holds each new object",
        "--no-default-event-based-hold",
        changed_bucket(defaultEventBasedHold=True),
    ),
    fault(
        "bucket",
        "billed to the requester",
        "--no-requester-pays",
        changed_bucket(billing={"requesterPays": True}),
    ),
    fault(
        "bucket",
        "certain networks",
        "--clear-ip-filter",
        changed_bucket(ipFilter={"mode": "Enabled"}),
        severity="warning",
    ),
    fault(
        "bucket",
        "the class COLDLINE",
        "STANDARD",
        changed_bucket(storageClass="COLDLINE"),
        severity="warning",
    ),
    fault(
        "bucket",
        "keeps what is overwritten for 7 days",
        "--clear-soft-delete",
        changed_bucket(softDeletePolicy={"retentionDurationSeconds": "604800"}),
        severity="warning",
    ),
    fault(
        "bucket",
        f"does not give {ACCOUNT} roles/storage.objectAdmin",
        f"--member=serviceAccount:{ACCOUNT}",
        lambda w: w.bucket_policy.clear(),
        severity="warning",
    ),
    fault("clock", "1 min 15 s ahead of Google's", "ntp", setting("skew_s", 75.0)),
    fault("clock", "1 h 00 min behind Google's", "ntp", setting("skew_s", -3600.0)),
]


@pytest.mark.parametrize(
    ("subject", "said", "fix", "change", "severity", "workers", "settings"), FAULTS
)
def test_what_is_missing_is_said_with_the_command_that_mends_it(
    subject, said, fix, change, severity, workers, settings
):
    world = World()
    change(world)
    found = faults(examined(world, order(workers), **settings))
    mine = [f for f in found if f.subject == subject and said in f.message]
    assert mine, found
    assert mine[0].severity.value == severity
    assert fix in (mine[0].fix or "")
