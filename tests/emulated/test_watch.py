"""``drillyard watch`` for an experiment in a bucket, from a machine that has only the bucket."""

import json
import urllib.request
import uuid

from drillyard.mailbox import pace
from drillyard.report.live.server import LivePages
from drillyard.report.live.watched import PACES
from drillyard.runs.locate import open_mailbox
from drillyard_backends.gcp.bucket import ensure_bucket
from drillyard_backends.gcp.store import GcsStore
from tests.helpers.fixtures_store import write_experiment


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
