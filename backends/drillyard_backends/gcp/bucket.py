"""Making the bucket: once, with the settings that a mailbox needs."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING
from urllib.parse import quote

from drillyard.errors import StoreUnavailable
from drillyard_backends.gcp.storage_errors import seam
from drillyard_backends.gcp.store import GcsStore

if TYPE_CHECKING:
    from google.cloud.storage import Bucket

ABANDONED_UPLOAD_DAYS = 7
MACHINE_ROLES = ("roles/storage.objectAdmin", "roles/storage.legacyBucketReader")
"""Roles of the machines on the bucket, if the mailbox is all of it."""
FOLDER_ROLE = "roles/storage.objectAdmin"
"""Role of the machines on a managed folder, if the mailbox is a folder of the bucket."""
_LABELS = {"drillyard": "mailbox"}
"""Label of a bucket that drillyard created."""
log = logging.getLogger(__name__)


def ensure_bucket(
    store: GcsStore, project: str, location: str, service_account: str | None = None
) -> bool:
    """Make the bucket of a store unless it is there; safe to repeat and to race.

    Its access is by IAM alone (no object has rules of its own, none can become public), uploads
    that a killed machine left half done are removed after a week, and what is overwritten is gone
    at once: heartbeats are, every few seconds, and would be kept and billed for a week.

    Args:
        store: Whose bucket.
        project: Where it is billed.
        location: A region, or ``EU`` / ``US``; near the machines costs no egress.
        service_account: Account of the machines; gets rights on a bucket that drillyard created;
            also on one that was made by a call that was killed before it gave them.

    Returns:
        True when it was made by this call.

    Raises:
        StoreUnavailable: It does not exist and cannot be created, or belongs to another project.
    """
    from google.api_core import exceptions as api
    from google.cloud import storage

    prefix = store.url.removeprefix(f"gs://{store.bucket_name}").strip("/")
    with seam(store.url):
        client = storage.Client(project=project)
        there = client.lookup_bucket(store.bucket_name)
        if there is not None:
            _grant_on_ours(there, service_account, prefix)
            return False
        bucket = _configured(client.bucket(store.bucket_name))
        try:
            client.create_bucket(bucket, project=project, location=location)
        except api.Conflict:
            # A racer of ours was faster (then it can be read now), or the name is taken.
            there = client.lookup_bucket(store.bucket_name)
            if there is None:
                raise StoreUnavailable(
                    f"the bucket name {store.bucket_name!r} belongs to another project",
                    hint="bucket names are shared by the whole world: choose another one",
                ) from None
            # The answer to our own first call may have been lost.
            _grant_on_ours(there, service_account, prefix)
            return False
        if service_account:
            _grant(bucket, service_account, prefix)
    log.info("made bucket %s in %s", store.bucket_name, location)
    return True


def _configured(bucket: Bucket) -> Bucket:
    bucket.iam_configuration.uniform_bucket_level_access_enabled = True
    bucket.iam_configuration.public_access_prevention = "enforced"
    bucket.add_lifecycle_abort_incomplete_multipart_upload_rule(age=ABANDONED_UPLOAD_DAYS)
    bucket.soft_delete_policy.retention_duration_seconds = 0
    bucket.labels = _LABELS
    return bucket


def _grant_on_ours(bucket: Bucket, service_account: str | None, prefix: str) -> None:
    if service_account and dict(bucket.labels) == _LABELS:
        _grant(bucket, service_account, prefix)


def _grant(bucket: Bucket, service_account: str, prefix: str) -> None:
    """Gives the machines their rights, unless they have them.

    Without a prefix they are on the bucket. With one they are on a managed folder, so that code on
    the machines reads and writes nothing outside it. Source:
    https://cloud.google.com/storage/docs/managed-folders
    """
    from google.api_core import exceptions as api

    member = f"serviceAccount:{service_account}"
    try:
        if prefix:
            _grant_on_folder(bucket, member, f"{prefix}/")
            return
        policy = bucket.get_iam_policy(requested_policy_version=3)
        missing = [
            role
            for role in MACHINE_ROLES
            if not any(
                b["role"] == role and member in b["members"] and not b.get("condition")
                for b in policy.bindings
            )
        ]
        if missing:
            policy.version = 3
            policy.bindings += [{"role": role, "members": {member}} for role in missing]
            bucket.set_iam_policy(policy)
            log.info("gave %s %s on %s", member, ", ".join(missing), bucket.name)
    except api.Forbidden as error:
        # Who may use a bucket may not always look at its rights; `plan` says what is missing.
        log.warning("the machines' rights on %s are not known: %s", bucket.name, error)


def _grant_on_folder(bucket: Bucket, member: str, folder: str) -> None:
    """Makes a managed folder and grants the machines' role on it, which the library cannot."""
    from google.api_core import exceptions as api

    request = bucket.client._connection.api_request
    try:
        request(method="POST", path=f"/b/{bucket.name}/managedFolders", data={"name": folder})
    except api.Conflict:
        log.debug("the managed folder %s exists", folder)
    path = f"/b/{bucket.name}/managedFolders/{quote(folder, safe='')}/iam"
    policy = request(method="GET", path=path, query_params={"optionsRequestedPolicyVersion": 3})
    bindings = policy.setdefault("bindings", [])
    if not any(b["role"] == FOLDER_ROLE and member in b["members"] for b in bindings):
        bindings.append({"role": FOLDER_ROLE, "members": [member]})
        request(method="PUT", path=path, data=policy)
        log.info("gave %s %s on gs://%s/%s", member, FOLDER_ROLE, bucket.name, folder)
