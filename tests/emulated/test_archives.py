"""An experiment in a bucket: archived, deleted, read back, and watched from elsewhere."""

from __future__ import annotations

import json
import urllib.request
import uuid

import pytest

from drillyard.archives import delete, restore, write_archive
from drillyard.errors import StoreUnavailable
from drillyard.mailbox import Mailbox, pace
from drillyard.report.live.server import LivePages
from drillyard.report.live.watched import PACES
from drillyard.runs.locate import open_mailbox
from drillyard_backends.gcp.bucket import ensure_bucket
from drillyard_backends.gcp.store import GcsStore
from tests.helpers.fixtures_store import write_experiment

# -- A whole experiment in a bucket: archived, deleted in spite of an interruption, read back -


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


# -- ``drillyard watch`` for an experiment in a bucket, from a machine that has only the bucket


def test_the_page_of_an_experiment_in_a_bucket(at_cloud, tmp_path):
    store = GcsStore(f"gs://lab-{uuid.uuid4().hex[:10]}/runs")
    assert ensure_bucket(store, at_cloud.project, "europe-west1")
    written = write_experiment(tmp_path, seeds=(1, 2, 3), finished=1).store
    for info in written.list(""):
        store.put(info.key, written.get(info.key))
    mailbox = open_mailbox(f"{store.url}/cstr-ppo")
    with (
        LivePages(mailbox.store) as pages,
        urllib.request.urlopen(pages.url(mailbox.experiment) + "state") as answer,
    ):
        state = json.load(answer)
    assert state["trouble"] == ""
    assert "1 of 3 runs ended, 1 running." in state["parts"]["summary"]
    assert "<svg" in state["parts"]["curves"]
    assert "rollout 2" in state["parts"]["log"]
    assert state["every_s"] == PACES * pace(store)  # each request costs money
