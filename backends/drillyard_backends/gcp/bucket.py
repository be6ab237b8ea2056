"""Making the bucket: once, with the settings that a mailbox needs."""

from __future__ import annotations

import logging

from drillyard.errors import StoreUnavailable
from drillyard_backends.gcp.storage_errors import seam
from drillyard_backends.gcp.store import GcsStore

ABANDONED_UPLOAD_DAYS = 7
log = logging.getLogger(__name__)


def ensure_bucket(store: GcsStore, project: str, location: str) -> bool:
    """Make the bucket of a store unless it is there; safe to repeat and to race.

    Its access is by IAM alone (no object has rules of its own, none can become public), and
    uploads that a killed machine left half done are removed after a week.

    Args:
        store: Whose bucket.
        project: Where it is billed.
        location: A region, or ``EU`` / ``US``; near the machines costs no egress.

    Returns:
        True when it was made by this call.

    Raises:
        StoreUnavailable: It is not there and cannot be made, or belongs to somebody else.
    """
    from google.api_core import exceptions as api
    from google.cloud import storage

    with seam(store.url):
        client = storage.Client(project=project)
        if client.lookup_bucket(store.bucket_name) is not None:
            return False
        bucket = client.bucket(store.bucket_name)
        configuration = bucket.iam_configuration
        configuration.uniform_bucket_level_access_enabled = True
        configuration.public_access_prevention = "enforced"
        bucket.add_lifecycle_abort_incomplete_multipart_upload_rule(age=ABANDONED_UPLOAD_DAYS)
        bucket.labels = {"drillyard": "mailbox"}
        try:
            client.create_bucket(bucket, project=project, location=location)
        except api.Conflict:
            # A racer of ours was faster (then it can be read now), or the name is taken.
            if client.lookup_bucket(store.bucket_name) is None:
                raise StoreUnavailable(
                    f"the bucket name {store.bucket_name!r} belongs to somebody else",
                    hint="bucket names are shared by the whole world: choose another one",
                ) from None
            return False
    log.info("made bucket %s in %s", store.bucket_name, location)
    return True
