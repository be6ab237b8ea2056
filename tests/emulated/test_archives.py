"""A whole experiment in a bucket: archived, deleted in spite of an interruption, read back."""

from __future__ import annotations

import uuid

import pytest

from drillyard.archives import delete, restore, write_archive
from drillyard.errors import StoreUnavailable
from drillyard.mailbox import Mailbox
from drillyard_backends.gcp.bucket import ensure_bucket
from drillyard_backends.gcp.store import GcsStore
from tests.helpers.fixtures_store import write_experiment


class Unplugged(GcsStore):
    left = 10**9

    def delete(self, key: str) -> None:
        self.left -= 1
        if self.left < 0:
            raise StoreUnavailable("the bucket is away")
        super().delete(key)


def test_a_bucket_keeps_nothing_and_an_archive_everything(at_cloud, tmp_path):
    store = Unplugged(f"gs://lab-{uuid.uuid4().hex[:10]}/runs")
    ensure_bucket(store, at_cloud.project, "europe-west1")
    source = write_experiment(tmp_path, "a", seeds=(1,))
    for info in source.store.list("a/"):
        store.put(info.key, source.store.get(info.key))
    store.put("a-neighbour/experiment.json", b"{}")
    box = Mailbox(store, "a")
    before = {i.key: store.get(i.key) for i in store.list("a/")}
    write_archive(box, tmp_path / "a.drillyard")
    store.left = 7
    with pytest.raises(StoreUnavailable):
        delete(box)
    store.left = 10**9
    delete(box)
    assert [i.key for i in store.list("")] == ["a-neighbour/experiment.json"]
    restore(tmp_path / "a.drillyard", store.url)
    assert {i.key: store.get(i.key) for i in store.list("a/")} == before
