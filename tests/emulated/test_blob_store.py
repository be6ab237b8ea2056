"""The store in Azure's blob storage, on Azurite: the contract, and what goes wrong."""

import hashlib
import uuid

import pytest

pytest.importorskip("azure.storage.blob")

from drillyard.errors import CorruptObject, StoreUnavailable, UserError
from drillyard.mailbox import open_store, pace
from drillyard.mailbox.store import folders
from drillyard.testing.store_suite import StoreSuite
from drillyard_backends.azure import store as module
from drillyard_backends.azure.storage_errors import StoreRefused
from drillyard_backends.azure.store import BlobStore
from tests.helpers.azure_lab import needs_azurite

pytestmark = needs_azurite()


@pytest.fixture
def store(azure):
    made = BlobStore(f"az://{azure.account}/lab-{uuid.uuid4().hex[:10]}/some/folder")
    assert made.make_container() and not made.make_container()
    yield made
    azure.clear_faults()


class TestBlobStore(StoreSuite):
    @pytest.fixture
    def store(self, store):
        return store

    @pytest.fixture
    def other(self, store):
        return open_store(store.url)

    @pytest.mark.slow
    def test_many_objects(self, store):
        """Azurite takes some ten milliseconds for each of them."""
        super().test_many_objects(store)


def test_a_create_whose_answer_was_lost_is_still_won(store, azure):
    """The library asks again and is told 409; what is there is ours by its token."""
    azure.fault("claims", method="PUT", lose=True, after=True, times=1)
    assert store.put_if_absent("claims/t.1.json", b"token 1")
    assert not store.put_if_absent("claims/t.1.json", b"token 2")


@pytest.mark.parametrize("status", [500, 503])
def test_a_store_that_is_busy_is_asked_again(store, azure, status):
    azure.fault("blob.core.windows.net", status=status, times=2)
    store.put("k", b"1")
    assert store.get("k") == b"1"


def test_damage_on_the_way_is_read_again_and_damage_that_stays_is_said(store, azure, monkeypatch):
    monkeypatch.setattr(module, "RETRIES", 1)  # the library pauses longer before each
    store = BlobStore(store.url)
    store.put("k", b"a" * 5000)
    azure.fault("/k$", method="GET", flip=True, times=1)
    assert store.get("k") == b"a" * 5000
    azure.fault("/k$", method="GET", flip=True)
    with pytest.raises(CorruptObject):
        store.get("k")


def test_a_large_file_goes_up_in_pieces_over_broken_ones(store, azure, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "CHUNK", 1 << 18)
    other = BlobStore(store.url)
    source = tmp_path / "replay"
    source.write_bytes(hashlib.sha256(b"seed").digest() * (9 * 8192 + 5))
    azure.fault("comp=block&", method="PUT", status=503, times=1, skip=2)
    other.upload("big", source)
    other.download("big", tmp_path / "copy")
    assert (tmp_path / "copy").read_bytes() == source.read_bytes()
    blocks = [e for e in azure.log("PUT .*comp=block&") if store.container in e["path"]]
    assert len(blocks) >= 10 and sum(e["status"] == 503 for e in blocks) == 1


def test_what_is_missing_is_said_with_what_mends_it(store, azure):
    azure.fault(store.container, status=403, reason="AuthorizationPermissionMismatch")
    with pytest.raises(StoreUnavailable, match="no permission") as error:
        store.put("k", b"1")
    assert "Storage Blob Data Contributor" in error.value.hint
    with pytest.raises(StoreUnavailable, match="account or container"):
        BlobStore(f"az://{azure.account}/no-such-container").put("k", b"1")


def test_a_network_that_is_kept_out_is_not_told_to_get_a_role(store, azure):
    azure.fault(store.container, status=403, reason="AuthorizationFailure")
    with pytest.raises(StoreRefused, match="no permission") as error:
        store.put("k", b"1")
    assert "network rules" in error.value.hint and "Contributor" not in error.value.hint


@pytest.mark.parametrize(
    ("status", "code"), [(412, "LeaseIdMissing"), (409, "BlobImmutableDueToPolicy")]
)
def test_a_conflict_that_is_none_of_ours_is_an_error_of_the_store(
    store, azure, tmp_path, status, code
):
    """A lease or a policy of somebody else's: nothing of it leaves as another exception."""
    (tmp_path / "file").write_bytes(b"1")
    store.put("k", b"1")
    azure.fault(f"{store.container}.*/k", status=status, reason=code)
    for attempt in (
        lambda: store.put("k", b"2"),
        lambda: store.delete("k"),
        lambda: store.get("k"),
        lambda: store.upload("k", tmp_path / "file"),
        lambda: store.download("k", tmp_path / "copy"),
    ):
        with pytest.raises(StoreUnavailable):
            attempt()


def test_a_read_that_meets_a_write_is_read_again(store, azure, tmp_path):
    """The library refuses to mix two contents: 412 in the middle of a read."""
    store.put("k", b"new")
    azure.fault(f"GET .*{store.container}.*/k", status=412, reason="ConditionNotMet", times=1)
    assert store.get("k") == b"new"
    azure.fault(f"GET .*{store.container}.*/k", status=412, reason="ConditionNotMet", times=1)
    store.download("k", tmp_path / "copy")
    assert (tmp_path / "copy").read_bytes() == b"new"


def test_folders_are_listed_without_what_is_in_them(store, azure):
    for key in ("one/experiment.json", "one/runs/a/b", "two/experiment.json", "three"):
        store.put(key, b"{}")
    assert folders(store) == ["one", "two"]
    assert folders(store, "one/") == ["runs"]
    assert pace(store) > 0
    names = azure.ask("objects", container=store.container)
    assert all(name.startswith("some/folder/") for name in names) and len(names) == 4


def test_an_account_with_real_folders_is_refused_before_anything_is_kept_there(store, azure):
    """Its flat listings show folders among the blobs, which nobody can read as one."""
    store.check_flat()
    azure.ask("around", hierarchical=True)
    try:
        with pytest.raises(UserError, match="hierarchical namespace") as error:
            store.check_flat()
    finally:
        azure.ask("around", hierarchical=False)
    assert "another storage account" in error.value.hint
    assert azure.ask("objects", container=store.container) == []


@pytest.mark.parametrize(
    "url",
    [
        "az://a/b",
        "az://Account/container",
        "az://acc/con--tainer",
        "az://account",
        "az://account/container/../x",
    ],
)
def test_what_is_no_container_is_refused(url):
    with pytest.raises(UserError):
        BlobStore(url)
