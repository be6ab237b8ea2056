"""A project of Google Cloud as the read-only questions of ``plan`` see it: a dict that answers."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from drillyard.errors import ControlPlaneError, UserError
from drillyard_backends.gcp import rights
from drillyard_backends.gcp.read_only_client import Answer, Question

ACCOUNT = "runner@lab-1234.iam.gserviceaccount.com"
SETTINGS: dict[str, Any] = {
    "project": "lab-1234",
    "bucket": "lab-runs",
    "service_account": ACCOUNT,
    "zones": ["europe-west1-b", "europe-west1-c"],
    "machine_types": ["n2-highcpu-8"],
    "image": "projects/lab-1234/global/images/drillyard",
}


def _quota(**limits: float) -> list[dict[str, Any]]:
    return [{"metric": k, "limit": v, "usage": 0.0} for k, v in limits.items()]


@dataclass
class World:
    """Everything is there and allowed, until a test takes it away."""

    identity: str = "serviceAccount:me@lab-1234.iam.gserviceaccount.com"
    allowed: set[str] = field(
        default_factory=lambda: {
            *rights.DRIVER,
            *rights.BUCKET,
            "iam.serviceAccounts.actAs",
            "storage.buckets.create",
        }
    )
    off: set[str] = field(default_factory=set)
    hidden: set[str] = field(default_factory=set)
    """Last parts of Compute's paths that we may not read."""
    compute: dict[str, dict[str, Any]] = field(default_factory=dict)
    buckets: dict[str, dict[str, Any]] = field(
        default_factory=lambda: {"lab-runs": {"location": "EUROPE-WEST1"}}
    )
    bucket_policy: list[dict[str, Any]] = field(
        default_factory=lambda: [
            {"role": f"roles/storage.{role}", "members": [f"serviceAccount:{ACCOUNT}"]}
            for role in ("objectAdmin", "legacyBucketReader")
        ]
    )
    folders: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    """Policies of managed folders, by their quoted names."""
    project_policy: list[dict[str, Any]] = field(
        default_factory=lambda: [
            {
                "role": f"projects/lab-1234/roles/{rights.MACHINE_ROLE}",
                "members": [f"serviceAccount:{ACCOUNT}"],
                "condition": {"expression": rights.machine_condition("dy")},
            }
        ]
    )
    repository_policy: list[dict[str, Any]] | None = None
    accounts: dict[str, dict[str, Any]] = field(default_factory=lambda: {ACCOUNT: {}})
    skew_s: float = 0.0
    no_credentials: bool = False
    offline: bool = False
    lost: int = 0
    """How many of the next answers are lost on their way."""
    asked: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        n2 = {"guestCpus": 8}
        self.compute = {
            "projects/lab-1234": {"quotas": _quota(CPUS_ALL_REGIONS=1000, GPUS_ALL_REGIONS=0)},
            "projects/lab-1234/regions/europe-west1": {
                "quotas": _quota(
                    CPUS=72,
                    N2_CPUS=64,
                    INSTANCES=50,
                    INSTANCE_GROUP_MANAGERS=20,
                    SSD_TOTAL_GB=500,
                    PREEMPTIBLE_CPUS=0,
                    NVIDIA_T4_GPUS=1,
                    PREEMPTIBLE_NVIDIA_T4_GPUS=0,
                )
            },
            "projects/lab-1234/regions/europe-west1/subnetworks/default": {
                "privateIpGoogleAccess": True
            },
            "projects/lab-1234/global/images/drillyard": {},
            "projects/lab-1234/aggregated/acceleratorTypes": {
                "items": {
                    "zones/us-central1-a": {"acceleratorTypes": [{"name": "nvidia-tesla-t4"}]}
                }
            },
        }
        for zone in ("europe-west1-b", "europe-west1-c"):
            path = f"projects/lab-1234/zones/{zone}"
            self.compute[path] = {"status": "UP", "region": ".../regions/europe-west1"}
            self.compute[f"{path}/machineTypes/n2-highcpu-8"] = n2
            self.compute[f"{path}/machineTypes/n1-standard-4"] = {"guestCpus": 4}
            self.compute[f"{path}/machineTypes"] = {
                "items": [{"name": "n2-highcpu-8"}, {"name": "n1-standard-4"}]
            }

    def send(self, question: Question) -> Answer:
        self.asked.append(f"{question.method} {question.url}")
        if self.offline or self.lost:
            self.lost = max(0, self.lost - 1)
            raise ControlPlaneError("compute.googleapis.com cannot be reached", hint="online?")
        if question.signed and self.no_credentials:
            raise UserError("no Google credentials: none", hint="gcloud auth …")
        if not question.signed:
            return Answer(401, {}, time.time() - self.skew_s)
        status, found = self._answer(
            question.url.removeprefix("https://"), question.params, question.body
        )
        return Answer(status, found, time.time() - self.skew_s)

    def _answer(
        self, url: str, params: Sequence[tuple[str, str]], body: Any
    ) -> tuple[int, dict[str, Any]]:
        host, _, path = url.partition("/")
        if host in self.off:
            return 403, {"error": {"message": f"{host} has not been used in project 1 before"}}
        if path.rpartition("/")[2] in self.hidden:
            return 403, {}
        if host.startswith("compute"):
            found = self.compute.get(path.removeprefix("compute/v1/"))
            return (
                (404, {"error": {"message": "was not found"}}) if found is None else (200, found)
            )
        if host.startswith("serviceusage"):
            services = [
                {"name": v, "state": "DISABLED" if v.rpartition("/")[2] in self.off else "ENABLED"}
                for _, v in params
            ]
            return 200, {"services": services}
        if host.startswith("artifactregistry"):
            policy = self.repository_policy
            return (403, {}) if policy is None else (200, {"bindings": policy})
        if path.endswith(":getIamPolicy"):
            return 200, {"bindings": self.project_policy}
        if "/managedFolders/" in path:
            found = self.folders.get(path.split("/")[-2])
            return (404, {}) if found is None else (200, {"bindings": found})
        if path.endswith(":testIamPermissions"):
            return 200, {"permissions": [p for p in body["permissions"] if p in self.allowed]}
        if host.startswith("iam"):
            account = self.accounts.get(path.rpartition("/")[2])
            # "If you specify - as the project … the response contains an HTTP 403 Forbidden error
            # instead of a 404": discovery document iam.v1, projects.serviceAccounts.get.
            status = 403 if "/projects/-/" in path else 404
            return (status, {}) if account is None else (200, account)
        name = path.removeprefix("storage/v1/b/").partition("/")[0]
        if name not in self.buckets:
            return 404, {}
        if path.endswith("/iam"):
            return 200, {"bindings": self.bucket_policy}
        if path.endswith("testPermissions"):
            return 200, {"permissions": [v for _, v in params if v in self.allowed]}
        return 200, self.buckets[name]
