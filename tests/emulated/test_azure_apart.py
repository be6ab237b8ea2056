"""Experiments with an identity and a container each do not reach one another."""

import json
import os
import sys

import pytest

from tests.helpers.processes import run_process

pytest.importorskip("azure.ai.ml")

from drillyard.backend import Liveness
from drillyard.mailbox import open_store
from drillyard_backends.azure.backend import AzureBackend
from drillyard_emulators.azure.cloud import identity_id
from tests.helpers.azure_lab import gone, named, needs_azurite, order_of, rented
from tests.helpers.patience import until

BODILESS = True

pytestmark = [needs_azurite(), pytest.mark.timeout(300)]
TICKET = "t0001-s1.train"
CODE = """
import json, sys, urllib.error, urllib.request
from azure.core.exceptions import HttpResponseError
from azure.storage.blob import ContainerClient
from drillyard_backends.azure.login import credential
account, root, cluster, job = sys.argv[1:]
login, found = credential(), {}

def tried(name, call):
    try:
        call()
        found[name] = 200
    except HttpResponseError as error:
        found[name] = error.status_code
    except urllib.error.HTTPError as error:
        found[name] = error.code

for name in ("ours", "other"):
    at = ContainerClient(f"https://{account}.blob.core.windows.net", name, credential=login)
    tried(f"{name} list", lambda: list(at.list_blobs()))
    tried(f"{name} read", lambda: at.download_blob("e/experiments/a.json").readall())
    tried(f"{name} write", lambda: at.upload_blob("e/experiments/b.json", b"x", overwrite=True))
    tried(f"{name} delete", lambda: at.delete_blob("e/experiments/a.json"))
token = login.get_token("https://management.azure.com/.default").token
for method, path in (
    ("GET", "/jobs"),
    ("POST", f"/jobs/{job}/cancel"),
    ("PUT", "/jobs/mine"),
    ("DELETE", f"/computes/{cluster}"),
    ("PUT", f"/computes/{cluster}"),
    ("POST", "/datastores/workspaceblobstore/listSecrets"),
    ("GET", ""),
):
    url = f"https://management.azure.com{root}{path}?api-version=2024-04-01"
    headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
    body = None if method == "GET" else b"{}"
    asked = urllib.request.Request(url, body, headers, method=method)
    tried(f"{method} {path}", lambda: urllib.request.urlopen(asked))
print(json.dumps(found))
"""


def test_code_on_a_node_reaches_no_other_experiment(azure):
    for name in ("ours", "other"):
        azure.ask("identity", id=identity_id(name), containers=[name])
    backend = AzureBackend(
        **named(
            azure,
            identity=identity_id("other"),
            image="mcr.example/drillyard:1",
            compute=None,
            account=azure.account,
            container="other",
            prefix="e",
        )
    )
    order = order_of(backend)
    lease = rented(backend, order)
    job = str(backend.launch(lease, TICKET)["job"])
    until(lambda: backend.probe(lease, TICKET) is Liveness.ALIVE, what="the other job")
    for name in ("ours", "other"):
        open_store(f"az://{azure.account}/{name}/e").put("experiments/a.json", b"it")
    store = open_store(f"az://{azure.account}/other/e")
    before = sorted(store.keys(""))
    where = azure.workspace
    root = (
        f"/subscriptions/{where['subscription_id']}/resourceGroups/{where['resource_group']}"
        "/providers/Microsoft.MachineLearningServices/workspaces/" + where["workspace_name"]
    )
    done = run_process(
        [sys.executable, "-c", CODE, azure.account, root, lease.lease_id, job],
        env={"PATH": os.environ["PATH"], **azure.ask("node", identity="ours")},
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert {v for k, v in found.items() if k.startswith("ours")} == {200}, found
    assert {v for k, v in found.items() if not k.startswith("ours")} == {403}, found
    assert len(found) == 15
    # The other experiment is as it was.
    assert backend.probe(lease, TICKET) is Liveness.ALIVE
    assert sorted(store.keys("")) == before
    assert store.get("experiments/a.json") == b"it"
    gone(azure, backend, lease)
