"""The bucket store on the emulated Cloud Storage: the contract, and what goes wrong."""

import hashlib
import uuid

import pytest

from drillyard.errors import CorruptObject, StoreUnavailable
from drillyard.mailbox import open_store, pace
from drillyard.mailbox.store import folders
from drillyard.testing.store_suite import StoreSuite
from drillyard_backends.gcp import store as module
from drillyard_backends.gcp.bucket import MACHINE_ROLES, ensure_bucket
from drillyard_backends.gcp.store import GcsStore
from drillyard_emulators.http.handle import GcpEmulator


@pytest.fixture
def store(at_cloud):
    made = GcsStore(f"gs://lab-{uuid.uuid4().hex[:10]}/some/folder")
    assert ensure_bucket(made, at_cloud.project, "europe-west1")
    return made


class TestGcsStore(StoreSuite):
    @pytest.fixture
    def store(self, store):
        return store

    @pytest.fixture
    def other(self, store):
        return open_store(store.url)


def objects(cloud: GcpEmulator, store: GcsStore) -> list[str]:
    return list(cloud.ask("objects", bucket=store.bucket_name))


def test_the_bucket_is_made_once_closed_and_tidy(at_cloud):
    store = GcsStore(f"gs://lab-{uuid.uuid4().hex[:10]}")
    with pytest.raises(StoreUnavailable, match="bucket does not exist"):
        store.put("a", b"1")
    assert ensure_bucket(store, at_cloud.project, "europe-west1")
    assert not ensure_bucket(store, at_cloud.project, "europe-west1")
    from google.cloud import storage

    bucket = storage.Client(project=at_cloud.project).get_bucket(store.bucket_name)
    assert bucket.location == "EUROPE-WEST1"
    assert bucket.iam_configuration.uniform_bucket_level_access_enabled
    assert bucket.iam_configuration.public_access_prevention == "enforced"
    (rule,) = bucket.lifecycle_rules
    assert rule["action"]["type"] == "AbortIncompleteMultipartUpload"


def test_a_bucket_of_somebody_else_is_said(at_cloud):
    name = f"theirs-{uuid.uuid4().hex[:10]}"
    at_cloud.ask("bucket", name=name, owner="somebody")
    with pytest.raises(StoreUnavailable, match=r"somebody else|no permission"):
        ensure_bucket(GcsStore(f"gs://{name}"), at_cloud.project, "europe-west1")


def test_a_create_whose_answer_was_lost_is_still_won(store, cloud):
    """The library asks again and is told 412; what is there is ours by its token."""
    cloud.fault("/upload/", method="POST", lose=True, after=True, times=1)
    assert store.put_if_absent("claims/t.1.json", b"token 1")
    assert not store.put_if_absent("claims/t.1.json", b"token 2")


@pytest.mark.parametrize("status", [403, 429, 503])
def test_a_store_that_is_busy_is_asked_again(store, cloud, status):
    """A 403 of the emulator has the reason ``rateLimitExceeded``, as Google's for a rate."""
    cloud.fault("storage.googleapis.com", status=status, times=2)
    store.put("k", b"1")
    for _ in range(2):
        cloud.fault("storage.googleapis.com", status=status, times=1)
        assert store.get("k") == b"1"
        assert [info.key for info in store.list("k")] == ["k"]


def test_two_writers_of_one_object_wait_for_each_other(store, cloud):
    """G93: one object takes one change a second; as `rehearse --fault rate=1` plays it."""
    cloud.ask("storage", writes_per_s=1.0)
    try:
        other = GcsStore(store.url)
        store.put("k", b"1")
        other.put("k", b"2")
        assert store.get("k") == b"2"
        assert [e for e in cloud.log("POST .*/upload/") if e["status"] == 429]
    finally:
        cloud.ask("storage", writes_per_s=0.0)


def test_damage_on_the_way_is_read_again_and_damage_that_stays_is_said(store, cloud):
    store.put("k", b"a" * 5000)
    cloud.fault("alt=media", method="GET", flip=True, times=1)
    assert store.get("k") == b"a" * 5000
    cloud.fault("alt=media", method="GET", flip=True)
    with pytest.raises(CorruptObject):
        store.get("k")


def test_a_large_file_goes_up_in_pieces_over_broken_ones(store, cloud, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "CHUNK", 1 << 20)
    source = tmp_path / "replay"
    source.write_bytes(hashlib.sha256(b"seed").digest() * (9 * 32768 + 5))
    cloud.fault("upload_id", method="PUT", status=503, times=1, skip=2)
    store.upload("big", source)
    store.download("big", tmp_path / "copy")
    assert (tmp_path / "copy").read_bytes() == source.read_bytes()
    puts = [e for e in cloud.log("PUT .*upload_id") if store.bucket_name in e["path"]]
    assert len(puts) >= 9


def test_no_permission_is_said_with_the_grant(store, cloud):
    cloud.fault(f"/b/{store.bucket_name}/", status=403, reason="forbidden")
    with pytest.raises(StoreUnavailable, match="no permission") as error:
        store.put("k", b"1")
    assert "roles/storage.objectAdmin" in error.value.hint


def test_folders_are_listed_without_what_is_in_them(store, cloud):
    for key in ("one/experiment.json", "one/runs/a/b", "two/experiment.json", "three"):
        store.put(key, b"{}")
    assert folders(store) == ["one", "two"]
    assert folders(store, "one/") == ["runs"]
    assert pace(store) > 0


def test_nothing_lies_outside_the_prefix(store, cloud):
    store.put("a/b", b"1")
    assert objects(cloud, store) == ["some/folder/a/b"]


def test_a_store_that_is_away_is_asked_every_few_seconds(monkeypatch):
    """L2: the library waits up to a minute between two tries, also after the bucket is back."""
    from google.api_core import exceptions
    from google.api_core.retry import retry_unary

    slept: list[float] = []
    monkeypatch.setattr(retry_unary.time, "sleep", slept.append)

    def away() -> str:
        if len(slept) < 30:
            raise exceptions.ServiceUnavailable("away")
        return "back"

    assert module._retry(module.PATIENCE_S)(away)() == "back"
    assert max(slept) <= module.LONGEST_DELAY_S


@pytest.mark.parametrize("killed", [False, True])
def test_the_machines_have_rights_on_a_bucket_that_drillyard_made(at_cloud, killed):
    """M9: each machine failed at its first read and was replaced, twenty times."""
    from google.cloud import storage

    store = GcsStore(f"gs://lab-{uuid.uuid4().hex[:10]}")
    if killed:  # after the bucket was made
        assert ensure_bucket(store, at_cloud.project, "europe-west1")
    account = at_cloud.service_account
    for _ in range(2):
        ensure_bucket(store, at_cloud.project, "europe-west1", account)
    made = storage.Client(project=at_cloud.project).bucket(store.bucket_name)
    found = made.get_iam_policy(requested_policy_version=3).bindings
    assert sorted((b["role"], list(b["members"])) for b in found) == [
        ("roles/storage.legacyBucketReader", [f"serviceAccount:{account}"]),
        ("roles/storage.objectAdmin", [f"serviceAccount:{account}"]),
    ]
    made.reload()
    assert made.soft_delete_policy.retention_duration_seconds in (0, "0")  # M12


def test_the_machines_have_rights_on_the_mailboxs_folder_alone(at_cloud):
    """M11: on a bucket that drillyard made, with a prefix, they reach no other experiment."""
    store = GcsStore(f"gs://lab-{uuid.uuid4().hex[:10]}/exp1/a")
    for _ in range(2):
        ensure_bucket(store, at_cloud.project, "europe-west1", at_cloud.service_account)
    answers = at_cloud.log(f"PUT storage.googleapis.com/storage/v1/b/{store.bucket_name}")
    folder = f"/{store.bucket_name}/managedFolders/exp1%2Fa%2F/iam"
    assert [(a["path"].rpartition("/b")[2], a["status"]) for a in answers] == [(folder, 200)]


def test_a_lost_answer_to_the_creation_leaves_no_machine_without_rights(at_cloud):
    """The library repeats the call, hears that the bucket exists, and the rights were left out."""
    from google.cloud import storage

    store = GcsStore(f"gs://lab-{uuid.uuid4().hex[:10]}")
    at_cloud.fault(r"/storage/v1/b\?", method="POST", lose=True, after=True, times=1)
    ensure_bucket(store, at_cloud.project, "europe-west1", at_cloud.service_account)
    assert [rule["played"] for rule in at_cloud.state()["faults"]] == [1]
    at_cloud.clear_faults()
    made = storage.Client(project=at_cloud.project).bucket(store.bucket_name)
    found = made.get_iam_policy(requested_policy_version=3).bindings
    assert {binding["role"] for binding in found} == set(MACHINE_ROLES)
