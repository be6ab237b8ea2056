"""The Azure ML backend on the emulated Azure: contract, calls, bad input, faults."""

import json
import uuid

import pytest

from tests.helpers import records

pytest.importorskip("azure.ai.ml")

from drillyard.backend import Liveness, open_backend
from drillyard.errors import ConfigError, ConfigErrors, WorkerLost
from drillyard.findings import Severity
from drillyard.mailbox import Mailbox, open_store
from drillyard.mailbox.records import Claim, WorkerRecord
from drillyard.mailbox.status import Cause
from drillyard.testing.backend_suite import BackendSuite
from drillyard_backends.azure.backend import AzureBackend
from drillyard_backends.azure.login import credential
from tests.emulated.troubles import no_requests, refusals
from tests.helpers.azure_lab import needs_azurite
from tests.helpers.patience import until

pytestmark = needs_azurite()
NOBODYS = "00000000-0000-0000-0000-000000000000"
CHANGES = "^(PUT|POST|PATCH|DELETE) management"


@pytest.fixture
def backend(backend):
    backend.prepare_store(backend.store_url())
    return backend


@pytest.fixture
def order(backend):
    return records.order_of(backend.store_url(), workers=1)


class TestAzureBackend(BackendSuite):
    @pytest.fixture(autouse=True)
    def _at_once(self, azure):
        """The suite asks once for an end: a cluster that is still being made is deleted, too."""
        azure.physics(conflicts=False)
        yield
        azure.physics(conflicts=True)

    def broken(self, error):
        return no_requests(error)

    @pytest.fixture(autouse=True)
    def _cloud(self, azure):
        self.cloud = azure

    def troubles(self, backend):
        yield from super().troubles(backend)
        yield from refusals(self.cloud, "management.azure.com.*MachineLearningServices")

    @pytest.mark.slow
    def test_another_process_needs_only_the_text(self, backend, order, settings):
        """It imports azure-ai-ml three times."""
        super().test_another_process_needs_only_the_text(backend, order, settings)

    @pytest.fixture
    def settings(self, settings):
        return settings

    @pytest.fixture
    def backend(self, backend):
        return backend

    @pytest.fixture
    def order(self, order):
        return order


def since(azure):
    """A number to look at the log from."""
    return max((e["number"] for e in azure.log("")), default=0)


def alive(backend, lease):
    until(lambda: backend.probe(lease) is Liveness.ALIVE, what="the cluster")


@pytest.mark.slow
def test_a_second_submission_creates_nothing_and_a_job_is_one_call(azure, settings, order):
    settings["compute"] = f"kept-{uuid.uuid4().hex[:6]}"
    first = open_backend("azure", settings)
    alive(first, first.provision(order))
    mark = since(azure)
    again = open_backend("azure", settings)
    lease = again.provision(order.model_copy(update={"lease_id": f"dy-{uuid.uuid4().hex[:10]}"}))
    assert azure.log(CHANGES, mark) == []
    handle = again.launch(lease, "t0001-s1.train")
    assert again.launch(lease, "t0001-s1.train") == handle
    # The job goes on to the later phases of its run: they need none of their own.
    assert again.launch(lease, "t0001-s1.evaluate") == handle
    assert len(azure.log(CHANGES, mark)) == 1
    again.launch(lease, "t0001-s2.train")
    puts = azure.log(CHANGES, mark)
    assert [e["path"].rpartition("/")[2] for e in puts] == [
        f"{lease.lease_id}-t0001-s1-train-1",
        f"{lease.lease_id}-t0001-s2-train-1",
    ]
    # A new process that lost the answer finds the job that is there.
    assert open_backend("azure", settings).launch(lease, "t0001-s1.train")["job"] == handle["job"]
    again.teardown(lease)
    until(lambda: lease.lease_id not in [one.lease_id for one in again.leases()], what="its end")
    assert settings["compute"] in azure.state()["computes"]


@pytest.mark.parametrize(
    ("given", "world", "subject", "words"),
    [
        ({"vm_size": "Standard_F32s_v2"}, {}, "vm_size", "Standard_F32s_v2 is not available"),
        ({"vm_size": "Standard_X1_v9"}, {}, "vm_size", "Standard_X1_v9 is not available"),
        ({}, {"everywhere": 0}, "quota", "the quota is 0"),
        ({}, {"everywhere": 6}, "quota", "too small"),
        (
            {},
            {"denied": ["Microsoft.MachineLearningServices/workspaces/jobs/write"]},
            "rights",
            "jobs/write",
        ),
        ({"workspace": "elsewhere"}, {}, "workspace", "no workspace 'elsewhere'"),
        ({"resource_group": "elsewhere"}, {}, "login", "elsewhere"),
        (
            {"subscription_id": "0" * 8 + "-0000-0000-0000-" + "0" * 12},
            {},
            "login",
            "subscription",
        ),
        ({"image": None}, {}, "environment", "what the nodes' environment is"),
        ({"image": None, "environment": "mine:3"}, {}, "environment", "mine:3"),
    ],
)
def test_what_cannot_work_is_said_before_anything_is_made(
    azure, settings, order, given, world, subject, words
):
    usual = {"everywhere": 100, "denied": []}
    azure.ask("manager", **{**usual, **world})
    mark = since(azure)
    try:
        found = AzureBackend(**{**settings, **given}).check(
            order.model_copy(update={"workers": 2})
        )
    finally:
        azure.ask("manager", **usual)
    errors = {f.subject: f for f in found if f.severity is Severity.ERROR}
    assert subject in errors, found
    assert words in errors[subject].message and errors[subject].fix
    assert not errors[subject].infrastructure
    assert azure.log(CHANGES, mark) == []


def test_an_expired_sign_in_is_said(azure, settings, order):
    backend = AzureBackend(**settings, account="abc", container="def")
    azure.ask("entra", trouble="AADSTS7000222: The provided client secret keys are expired.")
    credential.cache_clear()
    try:
        (error,) = [f for f in backend.check() if f.severity is Severity.ERROR]
    finally:
        azure.ask("entra", trouble="")
        credential.cache_clear()
    assert error.subject == "login" and "AADSTS7000222" in error.message
    assert "az login" in error.fix


@pytest.mark.slow
def test_a_cluster_that_is_there_is_used_as_it_is(azure, settings, order):
    settings["compute"] = f"kept-{uuid.uuid4().hex[:6]}"
    alive(AzureBackend(**settings), AzureBackend(**settings).provision(order))
    other = {**settings, "vm_size": "Standard_D4s_v3", "low_priority": False}
    found = AzureBackend(**other).check(order.model_copy(update={"workers": 5}))
    texts = [f.message for f in found if f.subject == "compute"]
    assert any("vm_size is Standard_D4s_v3" in t for t in texts)
    assert any("low_priority is false" in t for t in texts)
    assert any("5 nodes are needed" in t and "has 1 nodes" in t for t in texts)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["None", "SystemAssigned"])
def test_the_second_job_whose_identity_the_store_refuses_ends_the_waiting(
    azure, settings, order, kind, caplog
):
    """Without an identity, and with one that has no role on the storage account."""
    backend, ticket = AzureBackend(**settings), "t0001-s1.train"
    lease = backend.provision(order)
    alive(backend, lease)
    (cluster,) = [name for name in azure.state()["computes"] if order.lease_id in name]
    azure.ask("cluster", name=cluster, identity={"type": kind})
    for _ in range(2):
        backend.launch(lease, ticket)
        until(lambda: backend.probe(lease, ticket) is Liveness.GONE, what="the job's end")
    with pytest.raises(WorkerLost, match="refused the identity") as raised:
        backend.launch(lease, ticket)
    assert "Storage Blob Data Contributor" in raised.value.hint
    # Each failed job is a line on the console, with its name.
    failed = [r.getMessage() for r in caplog.records if " failed" in r.getMessage()]
    assert len({text.split()[1] for text in failed}) == 2, failed
    backend.teardown(lease)


@pytest.mark.parametrize("nodes", [1, 2], ids=["one node", "a run over two nodes"])
def test_what_a_worker_holds_is_lost_with_its_own_job(azure, settings, order, nodes):
    """Its node claimed the ticket just before the driver saw its job fail, and sent another."""
    given = {"preparing_s": 1, "build_s": 0, "instance_count": nodes}
    backend, ticket = AzureBackend(**settings, **given), "t0001-s1.train"
    order = order.model_copy(update={"spread": nodes})
    lease = backend.provision(order)
    alive(backend, lease)
    azure.ask("physics", stuck=1)
    first = backend.launch(lease, ticket)["job"]
    until(lambda: backend.probe(lease, ticket) is Liveness.GONE, what="giving it up")
    box = Mailbox(open_store(order.store_url), order.experiment)
    host = first if nodes == 1 else f"{first}-0"
    worker = WorkerRecord(
        worker="w", lease=order.lease_id, host=host, pid=1, pid_started=1.0, written_at=0.0
    )
    box.write("workers/w.json", worker)
    box.claim(Claim(ticket=ticket, attempt=1, worker="w", token="t", claimed_at=0.0))
    assert backend.launch(lease, ticket)["job"] != first
    assert backend.probe(lease, ticket) is Liveness.GONE
    assert backend.lost_to(lease, ticket) is Cause.INFRASTRUCTURE
    lost = records.failed(ticket, by="d")
    box.end(lost)
    assert backend.probe(lease, ticket) is not Liveness.GONE  # the second job has the next attempt
    backend.teardown(lease)


@pytest.mark.parametrize(
    ("given", "field"),
    [
        ({"subscription_id": "mine"}, "subscription_id"),
        ({"vm_size": "large"}, "vm_size"),
        ({"build": "/no/such"}, "environment"),
        ({"account": "abc"}, "container"),
        ({"tags": {"dy-x": "1"}}, "tags"),
        ({"tags": {f"t{n}": "1" for n in range(43)}}, "tags"),
        ({"workspace": "ab"}, "workspace"),
        ({"workspace": "räume"}, "workspace"),
    ],
)
def test_bad_settings_are_refused_by_name(settings, given, field):
    with pytest.raises((ConfigError, ConfigErrors)) as raised:
        AzureBackend(**{**settings, **given})
    assert f"backends.azure.{field}" in f"{raised.value} {getattr(raised.value, 'field', '')}"


def test_the_workspace_is_found_where_azure_ml_keeps_it(tmp_path, monkeypatch, settings, azure):
    """In ``config.json`` of this folder or above; the subscription also of ``az login``."""
    for name in ("subscription_id", "resource_group", "workspace"):
        settings.pop(name)
    monkeypatch.setenv("AZURE_CONFIG_DIR", str(tmp_path / "az"))
    (tmp_path / "deep").mkdir()
    monkeypatch.chdir(tmp_path / "deep")
    with pytest.raises(ConfigError, match="missing"):
        open_backend("azure", settings)
    (tmp_path / "config.json").write_text(json.dumps(azure.workspace), encoding="utf-8-sig")
    made = open_backend("azure", settings)
    assert made.config.workspace == azure.workspace["workspace_name"]
    (tmp_path / "config.json").unlink()
    (tmp_path / "az").mkdir()
    mine = {"id": NOBODYS, "isDefault": True}
    (tmp_path / "az" / "azureProfile.json").write_text(json.dumps({"subscriptions": [mine]}))
    made = open_backend("azure", {**settings, "resource_group": "g", "workspace": "team"})
    assert made.config.subscription_id == NOBODYS


def test_a_price_and_its_parts(backend, order):
    cost = backend.estimate(order.model_copy(update={"workers": 3}))
    assert cost.spot and cost.per_hour == pytest.approx(3 * 0.2 * 0.194)
    assert {"compute cluster", "environment", "job"} <= {part.what for part in cost.parts}


def test_the_studio_shows_a_leases_jobs(settings, order):
    backend = AzureBackend(**settings)
    page = str(backend.console(backend._lease(order, 0.0)))
    assert page.startswith("https://ml.azure.com/experiments?wsid=/subscriptions/")
    assert page.endswith(f"/workspaces/{settings['workspace']}")
