"""How jobs of Azure ML get drillyard: from the store, not in the image that Azure builds."""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
import uuid
from pathlib import Path

import pytest

pytest.importorskip("azure.ai.ml")

from drillyard.backend import Lease, Liveness
from drillyard.errors import UserError, WorkerLost
from drillyard.findings import Severity
from drillyard.mailbox import open_store
from drillyard.mailbox.records import Phase
from drillyard_backends import wheel
from drillyard_backends.azure import context
from drillyard_backends.azure.backend import AzureBackend
from drillyard_emulators.http.handle import AzureEmulator
from tests.helpers.azure_lab import AzureLab, named, needs_azurite, point
from tests.helpers.environments import without_drillyard
from tests.helpers.patience import until
from tests.helpers.records import order_of

pytestmark = needs_azurite()
ROOT = Path(__file__).parents[2]
RUN = "import drillyard, sys; drillyard.run(sys.argv[1], flow=False)"
MOCK = """schema: 1
name: sent
workload: mock
seeds: [1]
backend: azure
budget: {max_hours: 1, max_cost: 1}
"""
CHANGES = "^(PUT|POST|PATCH|DELETE) "
TICKET = "t0001-s1.train"


@pytest.fixture(scope="module")
def image(tmp_path_factory):
    """What plays the image of every environment: all that drillyard needs, and no drillyard."""
    return without_drillyard(tmp_path_factory.mktemp("image") / "venv").parent.parent


@pytest.fixture(scope="module")
def cloud(image):
    with (
        tempfile.TemporaryDirectory(prefix="dy") as folder,
        AzureEmulator(Path(folder), options=("--image", str(image))) as made,
    ):
        yield made


@pytest.fixture
def settings(cloud, monkeypatch):
    point(monkeypatch, cloud)
    prefix = f"lab/{uuid.uuid4().hex[:8]}"
    return named(cloud, image="mcr.example/python:3.12", compute=None, prefix=prefix)


@pytest.fixture
def backend(settings):
    made = AzureBackend(**settings)
    made.prepare_store(made.store_url())
    return made


@pytest.fixture
def order(backend):
    return order_of(backend.store_url())


def over(backend: AzureBackend, lease: Lease) -> None:
    until(lambda: backend.probe(lease) is Liveness.ALIVE, what="the cluster")
    backend.launch(lease, TICKET)
    until(lambda: backend.probe(lease, TICKET) is Liveness.GONE, what="the end of the job")


def test_a_job_gets_drillyard_from_the_store_and_does_its_run(cloud, tmp_path, monkeypatch):
    """Its environment is built of our own folder and has none; the driver's very wheel is read."""
    point(monkeypatch, cloud)
    lab = AzureLab(cloud, tmp_path, monkeypatch)
    folder = shutil.copytree(ROOT / "deployments" / "azure" / "environment", tmp_path / "build")
    shutil.copy(ROOT / "requirements.lock", folder)
    del lab.settings["IMAGE"]
    lab.settings["BUILD"] = str(folder)
    try:
        lab.command = [sys.executable, "-c", RUN]
        lab.run(str(lab.write(MOCK)))
        mailbox = lab.mailbox("sent")
        assert mailbox.accepted("t0001-s1", Phase.STORE) is not None
        assert lab.left().keys() <= {"computes"}
    finally:
        lab.close()
    sent = cloud.ask("objects", container=cloud.container, prefix="LocalUpload/")
    names = ("Dockerfile", "requirements.lock", "requirements.txt")
    assert sorted(name.rpartition("/")[2] for name in sent) == [*names]
    (pointer,) = (k for k in mailbox.store.keys("sent/leases/") if k.endswith("/wheel.json"))
    key = json.loads(mailbox.store.get(pointer))["key"]
    assert mailbox.store.get(key) == wheel.pack().data
    assert cloud.log(f"GET .*{key.rpartition('/')[2]}")


def test_a_wheel_that_was_changed_is_refused(cloud, backend, order):
    lease = backend.provision(order)
    store = open_store(order.store_url)
    key = f"x/code/{wheel.pack().sha256}.whl"
    data = bytearray(store.get(key))
    data[len(data) // 2] ^= 1
    store.put(key, bytes(data))
    over(backend, lease)
    with pytest.raises(WorkerLost, match=r"is not what was sent \(sha256\)") as raised:
        backend.launch(lease, TICKET)
    assert key in raised.value.message and raised.value.hint
    jobs = [name for name in cloud.state()["jobs"] if name.startswith(order.lease_id)]
    assert len(jobs) == 1
    assert not store.stat(f"x/leases/{order.lease_id}/workers")
    backend.teardown(lease)


def test_an_environment_without_what_drillyard_needs_is_said(backend, order, image):
    (lost,) = image.glob("lib/python3*/site-packages/json5-*.dist-info")
    target = lost.readlink()
    lost.unlink()
    try:
        lease = backend.provision(order)
        over(backend, lease)
        with pytest.raises(WorkerLost, match="this environment lacks json5") as raised:
            backend.launch(lease, TICKET)
        assert "deployments/azure/environment" in str(raised.value.hint)
        backend.teardown(lease)
    finally:
        lost.symlink_to(target)


@pytest.fixture
def too_large(tmp_path):
    folder = tmp_path / "build"
    folder.mkdir()
    (folder / "Dockerfile").write_text("FROM python:3.12-slim\n")
    for n in range(100):
        (folder / f"f{n}.txt").write_text(f"{n}")
    return folder


def test_a_folder_beyond_azures_limits_is_refused_before_anything_is_made(
    cloud, settings, order, too_large
):
    backend = AzureBackend(**{**settings, "image": None, "build": str(too_large)})
    mark = max(e["number"] for e in cloud.log(""))
    errors = [f for f in backend.check(order) if f.severity is Severity.ERROR]
    assert [f.subject for f in errors] == ["build"]
    assert "101 files" in errors[0].message and ".amlignore" in errors[0].fix
    with pytest.raises(UserError, match="101 files"):
        backend.provision(order)
    assert cloud.log(CHANGES, mark) == []


def test_the_emulated_azure_does_not_build_it(settings, order, too_large, monkeypatch):
    """Registered without a word, as on the real one; one file less is built."""
    backend = AzureBackend(**{**settings, "image": None, "build": str(too_large)})
    monkeypatch.setattr(context, "check", lambda folder: None)
    lease = backend.provision(order)
    over(backend, lease)
    with pytest.raises(WorkerLost, match="could not be built"):
        backend.launch(lease, TICKET)
    assert not any("image_build_log" in line for line in backend.logs(lease))
    backend.teardown(lease)
    (too_large / "f99.txt").unlink()
    other = order.model_copy(update={"lease_id": f"dy-{uuid.uuid4().hex[:10]}"})
    lease = backend.provision(other)
    until(lambda: backend.probe(lease) is Liveness.ALIVE, what="the cluster")
    backend.launch(lease, TICKET)
    until(lambda: backend.probe(lease, TICKET) is not Liveness.PENDING, what="a node at work")
    assert not any("could not be built" in line for line in backend.logs(lease))
    backend.teardown(lease)
