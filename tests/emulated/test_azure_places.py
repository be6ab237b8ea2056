"""Lists of sizes and regions on Azure: cheapest first, elsewhere when there is no node."""

from __future__ import annotations

import json

import pytest

pytest.importorskip("azure.ai.ml")

from drillyard.backend import Liveness
from drillyard.errors import ConfigError, NoCapacity
from drillyard.leases.ledger import Ledger
from drillyard.leases.setup_wait import SetupWait
from drillyard.mailbox import Mailbox, open_store
from drillyard.system.clock import SYSTEM
from drillyard_backends.azure import capacity, clusters
from drillyard_backends.azure.backend import AzureBackend
from drillyard_backends.azure.choices import alternatives
from tests.helpers.azure_lab import (
    gone,
    needs_azurite,
    order_of,
    reactor,
    rented,
    statuses,
)
from tests.helpers.patience import until

BODILESS = True

pytestmark = needs_azurite()
SMALL, LARGE = "Standard_F4s_v2", "Standard_F8s_v2"
SIZES = f"backends: {{azure: {{compute: null, capacity_s: 4, vm_sizes: [{LARGE}, {SMALL}]}}}}"


def test_each_pair_of_size_and_region_has_a_cluster_of_its_own():
    found = alternatives(
        {"vm_sizes": [SMALL, LARGE], "locations": ["westeurope", "eastus"]}, False
    )
    assert [one.words for one in found] == [
        f"{size}, {region}" for size in (SMALL, LARGE) for region in ("westeurope", "eastus")
    ]
    names = [str(one.settings["compute"]) for one in found]
    assert len(set(names)) == 4 and max(map(len, names)) <= 24
    assert {one.settings["capacity_s"] for one in found} == {900.0}
    (single,) = alternatives({"vm_size": SMALL}, False)
    assert single.settings == {}  # as before: no limit of the wait
    (among_others,) = alternatives({"vm_size": SMALL}, True)
    assert among_others.settings == {"capacity_s": 900.0}


def test_a_pair_with_a_long_name_has_a_cluster_for_each_priority():
    """A cluster has one priority for ever, and one of low priority is paid for otherwise."""
    long = [SMALL, "Standard_NC24ads_A100_v4", "Standard_ND96amsr_A100_v4"]
    regions = ["westeurope", "eastus"]
    names = [
        str(one.settings["compute"])
        for low in (True, False)
        for one in alternatives(
            {"vm_sizes": long, "locations": regions, "low_priority": low}, False
        )
    ]
    assert len(set(names)) == len(names) and max(map(len, names)) <= 24
    assert names[0] == "dy-f4sv2-low-r16fab3", "clusters that are there keep their names"


def test_a_kept_cluster_that_could_not_be_created_is_no_place(azure, settings, monkeypatch):
    """The set-up says why, or tries the next size; a cluster with jobs of ours is let be."""
    monkeypatch.setattr(capacity, "BROKEN_S", 0.5)
    name = "kept-broken"
    backend = AzureBackend(**{**settings, "compute": name})
    lease = rented(backend, order_of(backend))
    errors = [{"code": "ClusterMinNodesExceedCoreQuota", "message": "no room for it"}]
    azure.ask("cluster", name=name, state="Failed", errors=errors)
    mailbox = Mailbox(open_store(lease.order.store_url), lease.order.experiment)
    waiting = SetupWait(mailbox, AzureBackend(**{**settings, "compute": name}), lease, 2400.0)
    raised: list[NoCapacity] = []

    def said() -> bool:
        try:
            waiting.step(SYSTEM.monotonic())
        except NoCapacity as error:
            raised.append(error)
        return bool(raised)

    until(said, what="what is wrong")
    assert f"cluster {name} is failed: ClusterMinNodesExceedCoreQuota" in raised[0].message
    assert f"az ml compute delete --name {name}" in str(raised[0].hint)
    azure.ask("cluster", name=name, state="Succeeded", errors=[])
    job = str(backend.launch(lease, "t0001-s1.train")["job"])
    until(lambda: statuses(azure, lease)[job] == "Running", what="the job")
    azure.ask("cluster", name=name, state="Failed", errors=errors)
    until(lambda: backend.probe(lease) is Liveness.UNKNOWN, what="the state")
    since = SYSTEM.monotonic()
    until(lambda: backend.tend(lease, 1) == 1 and SYSTEM.monotonic() - since > 1.0)
    azure.ask("cluster", name=name, state="Succeeded", errors=[])
    gone(azure, backend, lease)


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"vm_sizes": ["big"]}, "'big' is not a size"),
        ({"vm_sizes": [SMALL, SMALL.upper().replace("STANDARD", "Standard")]}, "there twice"),
        ({"vm_sizes": [SMALL], "vm_size": LARGE}, "not both"),
        ({"locations": ["West Europe"]}, "is not a region"),
    ],
)
def test_a_wrong_list_is_refused(settings, more, words):
    with pytest.raises(ConfigError, match=words):
        AzureBackend(**{**settings, **more})


def test_jobs_without_a_node_raise_no_capacity_and_a_node_ends_the_wait(azure, settings):
    backend = AzureBackend(**settings, vm_size=SMALL, location="eastus", capacity_s=1)
    azure.physics(full=["eastus"])
    lease = rented(backend, order_of(backend))
    assert backend.tend(lease, 1) == 1  # nothing waits yet
    backend.launch(lease, "t0001-s1.train")
    raised: list[NoCapacity] = []

    def full() -> bool:
        try:
            backend.tend(lease, 1)
        except NoCapacity as error:
            raised.append(error)
        return bool(raised)

    until(full, what="the end of the patience")
    assert "1 jobs have waited" in raised[0].message and "0 of at most" in raised[0].message
    azure.physics(full=[])
    until(lambda: set(statuses(azure, lease).values()) == {"Running"}, what="a node")
    until(lambda: backend.probe(lease, "t0001-s1.train") is Liveness.ALIVE, what="the listing")
    assert backend.tend(lease, 1) == 1
    cluster = backend._clusters.read(clusters.name_of(backend.config, lease.order))
    assert cluster is not None and cluster.region == "eastus"
    gone(azure, backend, lease)


def test_a_missing_quota_of_a_job_raises_no_capacity(azure, settings):
    backend = AzureBackend(**settings)
    said = "JobNodeCountExceedsCoreQuota, The specified subscription has a Standard DSv2 family"
    backend._failures.reason = lambda job: said  # type: ignore[method-assign]
    lease = rented(backend, order_of(backend))
    name = str(backend.launch(lease, "t0001-s1.train")["job"])
    until(lambda: statuses(azure, lease)[name] == "Running")
    azure.ask("finish", name=name, code=1)
    until(lambda: statuses(azure, lease)[name] == "Failed")
    with pytest.raises(NoCapacity, match="JobNodeCountExceedsCoreQuota"):
        until(lambda: backend.probe(lease, "t0001-s1.train") is Liveness.GONE, what="a listing")
        backend.launch(lease, "t0001-s1.train")
    gone(azure, backend, lease)


def test_plan_shows_the_order_with_prices_and_a_full_size_is_left(lab):
    lab.cloud.physics(full=[SMALL.lower()])
    path = lab.write(reactor("sizes", 256, more=SIZES))
    shown = json.loads(lab.run("plan", str(path), "--on", "azure", "--json"))
    assert [place["backend"] for place in shown["places"]] == [
        f"azure ({SMALL})",
        f"azure ({LARGE})",
    ]
    prices = [place["per_hour"] for place in shown["places"]]
    assert 0 < prices[0] < prices[1]
    lab.run("run", str(path), "--on", "azure")
    leases = Ledger(lab.mailbox("sizes")).entries()
    assert [(e.intent.order.settings["vm_size"], e.gone and e.gone.reason) for e in leases] == [
        (SMALL, "no capacity"),
        (LARGE, "torn down"),
    ]
    assert all(e.gone is not None and e.gone.confirmed for e in leases)
    assert lab.left() == {}
    assert {node["size"] for node in lab.cloud.state()["nodes"]} == {LARGE}
