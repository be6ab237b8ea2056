"""Clusters whose service answers late, in conflict, or with less than it should."""

import pytest

pytest.importorskip("azure.ai.ml")

from drillyard.backend import Liveness
from drillyard.errors import ControlPlaneError, UserError
from drillyard.leases import release
from drillyard_backends.azure import clusters, known_clusters
from drillyard_backends.azure.backend import AzureBackend
from drillyard_backends.azure.errors import Exists
from drillyard_backends.azure.service import Service
from tests.helpers.azure_lab import (
    another,
    gone,
    needs_azurite,
    opened,
    order_of,
    rented,
    statuses,
)
from tests.helpers.patience import until

pytestmark = [needs_azurite(), pytest.mark.timeout(300)]
TICKET = "t0001-s1.train"


@pytest.fixture(scope="module")
def azure(tmp_path_factory):
    for cloud in opened(tmp_path_factory.mktemp("azure"), bodies=True):
        cloud.physics(processes=False)
        yield cloud


def test_a_new_cluster_that_is_answered_as_missing_is_not_written_off(azure, backend, settings):
    """For a while after a PUT the service may know nothing of it, in lists as well."""
    azure.physics(visible_s=1000.0)
    lease = backend.provision(order_of(backend))
    assert backend.probe(lease) is Liveness.UNKNOWN
    assert another(backend).probe(lease) is Liveness.UNKNOWN
    azure.physics(visible_s=0.0)
    until(lambda: backend.probe(lease) is Liveness.ALIVE, what="its being seen")
    gone(azure, backend, lease)
    # One that was seen, or was ended here, is gone when it is missing.
    assert backend.probe(lease) is Liveness.GONE


def test_a_cluster_that_refuses_changes_while_a_node_comes_is_deleted_after_it(azure, backend):
    """A55: as `rehearse --fault form=resizing-refuses` plays it."""
    azure.physics(resizing_conflicts=True, unready=1)
    lease = rented(backend, order_of(backend))
    backend.launch(lease, TICKET)
    until(
        lambda: [n for n in azure.state()["nodes"] if not n["ready"] and n["gone"] is None],
        what="a node that comes",
    )
    with pytest.raises(Exists, match="being resized"):
        Service(backend.config).delete_compute(lease.lease_id)
    # A teardown cancels the jobs first, and asks again after a conflict.
    gone(azure, backend, lease)


def test_a_service_that_refuses_to_make_a_cluster_twice_gives_the_one_that_is_there(
    azure, settings, monkeypatch
):
    """412: another driver was faster, or the answer to the first PUT was lost."""
    monkeypatch.setattr(clusters, "LOOK_S", 0.01)
    azure.physics(conditions=True)
    backend = AzureBackend(**{**settings, "compute": "kept-raced"})
    rented(backend, order_of(backend))
    azure.fault("computes/kept-raced", method="GET", status=404, times=2)
    backend.provision(order_of(backend))
    assert [e["status"] for e in azure.log("PUT .*computes/kept-raced")] == [201, 412]
    own = AzureBackend(**settings)
    azure.fault("/computes/", method="PUT", lose=True, after=True, times=1)
    lease = rented(own, order_of(own))
    assert azure.log(f"PUT .*computes/{lease.lease_id}")[-1]["status"] == 412
    gone(azure, own, lease)


def test_a_cluster_that_is_there_and_cannot_be_read_yet_is_not_called_taken(
    azure, settings, monkeypatch
):
    """A53: for a while after a PUT the service answers 404; trying again helps."""
    monkeypatch.setattr(clusters, "TAKEN_S", -1.0)
    azure.physics(conditions=True, visible_s=1000.0)
    backend = AzureBackend(**{**settings, "compute": "kept-unseen"})
    backend.provision(order_of(backend))
    with pytest.raises(ControlPlaneError, match="cannot be read yet"):
        another(backend).provision(order_of(backend))


def test_a_cluster_that_is_missing_for_long_is_gone(azure, backend, monkeypatch):
    lease = rented(backend, order_of(backend))
    gone(azure, backend, lease)
    # Two clocks of one store may differ by two seconds: the lease is not "younger" than now.
    monkeypatch.setattr(known_clusters, "SETTLED_S", -10.0)
    assert another(backend).probe(lease) is Liveness.GONE


def test_a_conflict_at_the_end_is_asked_again(azure, backend, monkeypatch):
    """409 while it is being made: neither an error of the user's nor of ours."""
    monkeypatch.setattr(release, "_ASK_AGAIN_S", 0.2)
    azure.physics(create_s=1.0)
    lease = backend.provision(order_of(backend))
    gone(azure, backend, lease)


@pytest.mark.parametrize("state", ["Failed", "Canceled"])
def test_a_cluster_of_which_a_change_failed_is_not_gone_while_jobs_are_on_it(
    azure, backend, state
):
    lease = rented(backend, order_of(backend))
    azure.ask("cluster", name=lease.lease_id, state=state)
    assert another(backend).probe(lease) is Liveness.GONE  # nothing is on it: another one is made
    azure.ask("cluster", name=lease.lease_id, state="Succeeded")
    job = backend.launch(lease, TICKET)["job"]
    until(lambda: statuses(azure, lease)[job] == "Running", what="the job")
    azure.ask("cluster", name=lease.lease_id, state=state)
    assert another(backend).probe(lease) is Liveness.UNKNOWN
    gone(azure, backend, lease)


def test_a_kept_cluster_of_which_a_change_failed_is_not_replaced(azure, settings):
    """It cannot be: the next lease would have the same one. ``plan`` refuses it."""
    backend = AzureBackend(**{**settings, "compute": "kept-failed"})
    lease = rented(backend, order_of(backend))
    azure.ask("cluster", name="kept-failed", state="Failed")
    assert another(backend).probe(lease) is Liveness.UNKNOWN


def test_a_leases_cluster_without_its_tags_is_found_and_ended_by_its_name(azure, backend):
    azure.physics(cluster_tags=False)
    lease = rented(backend, order_of(backend))
    fresh = another(backend)
    assert lease.lease_id in [one.lease_id for one in fresh.leases()]
    gone(azure, fresh, lease)


def test_a_lease_whose_id_ends_in_digits_has_a_cluster_that_azure_takes(azure, backend):
    """The specification refuses names that end in ``-`` and digits alone."""
    order = order_of(backend).model_copy(update={"lease_id": "dy-0123456789"})
    lease = rented(backend, order)
    assert lease.provider["compute"] == "dy-0123456789c"
    fresh = another(backend)
    assert lease.lease_id in [one.lease_id for one in fresh.leases()]
    job = fresh.launch(lease, TICKET)["job"]
    until(lambda: statuses(azure, lease)[job] == "Running", what="the job")
    gone(azure, fresh, lease)
    assert "dy-0123456789c" not in azure.state()["computes"]
    assert clusters.lease_of("dy-0123456789c") == "dy-0123456789"
    assert clusters.lease_of("dy-012345678ac") is None


def test_a_name_that_is_taken_in_the_region_is_said_with_the_setting(azure, settings, monkeypatch):
    monkeypatch.setattr(clusters, "TAKEN_S", -1.0)
    azure.ask("manager", taken=["theirs"])
    backend = AzureBackend(**{**settings, "compute": "theirs"})
    with pytest.raises(UserError, match="taken by a cluster of another workspace") as raised:
        backend.provision(order_of(backend))
    assert "backends.azure.compute" in str(raised.value.hint)


def test_the_age_of_a_cluster_is_told(azure, backend):
    """The reaper spares what is young: nothing is from 1970."""
    before = azure.state()["now"]
    lease = rented(backend, order_of(backend))
    (made,) = [one.created_at for one in backend.leases() if one.lease_id == lease.lease_id]
    assert before - 1.0 <= made <= azure.state()["now"] + 1.0
    gone(azure, backend, lease)


def test_errors_of_a_cluster_are_told_with_their_text(azure, backend):
    """A cluster may show "Succeeded" and never get a node."""
    lease = rented(backend, order_of(backend))
    text = "The VM size STANDARD_F4S_V2 is not allowed for LowPriority."
    errors = [{"code": "UnsupportedVMSizeForLowPriority", "message": text}]
    azure.ask("cluster", name=lease.lease_id, errors=errors)
    lines = list(backend.logs(lease))
    assert f"cluster {lease.lease_id}: UnsupportedVMSizeForLowPriority: {text}" in lines
    gone(azure, backend, lease)


def test_the_body_is_what_azure_ml_s_own_client_would_send(azure, backend):
    """Field by field; and no port for SSH is open to the world."""
    from azure.ai.ml.entities import (
        AmlCompute,
        IdentityConfiguration,
        ManagedIdentityConfiguration,
    )

    order = order_of(backend)
    config = backend.config
    ours = clusters.body(config, order, "westeurope")
    assert ours["properties"]["properties"]["remoteLoginPortPublicAccess"] == "Disabled"
    identity = IdentityConfiguration(
        type="user_assigned",
        user_assigned_identities=[ManagedIdentityConfiguration(resource_id=config.identity)],
    )
    theirs = AmlCompute(
        name="theirs",
        size=config.vm_size,
        min_instances=0,
        max_instances=1,
        idle_time_before_scale_down=config.node_idle_s,
        tier="low_priority",
        identity=identity,
        tags=ours["tags"],
        location="westeurope",
        ssh_public_access_enabled=False,
    )
    mark = max((e["number"] for e in azure.log("")), default=0)
    backend._service.client.compute.begin_create_or_update(theirs).result()
    (sent,) = [e["asked"] for e in azure.log("^PUT management", mark)]
    assert sent["location"] == ours["location"] and sent["tags"] == ours["tags"]
    assert sent["identity"]["type"].lower() == ours["identity"]["type"].lower()
    assert list(sent["identity"]["userAssignedIdentities"]) == [config.identity]
    outer, inner = sent["properties"], sent["properties"]["properties"]
    assert outer["computeType"] == ours["properties"]["computeType"]
    mine = ours["properties"]["properties"]
    theirs_idle = inner["scaleSettings"].pop("nodeIdleTimeBeforeScaleDown")
    assert (theirs_idle, mine["scaleSettings"].pop("nodeIdleTimeBeforeScaleDown")) == (
        "PT2M",
        "PT120S",
    )
    assert {name: inner[name] for name in mine} == mine
    backend._service.delete_compute("theirs")
