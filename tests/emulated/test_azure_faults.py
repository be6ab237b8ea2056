"""What goes wrong on Azure, call by call; the jobs run nothing, so that each takes a moment."""

import time
import uuid

import pytest

pytest.importorskip("azure.ai.ml")

from drillyard.backend import Liveness
from drillyard.driver.lease_supervisor import limit_reached
from drillyard.errors import ControlPlaneError, UserError
from drillyard.leases.reaper import reap
from drillyard.leases.release import release_confirmed
from drillyard_backends.azure import known_clusters
from drillyard_backends.azure.backend import AzureBackend
from drillyard_backends.azure.login import credential
from drillyard_backends.azure.rest import CONNECT_S, READ_S
from tests.helpers.azure_lab import (
    gone,
    needs_azurite,
    order_of,
    rented,
    statuses,
)
from tests.helpers.patience import until

BODILESS = True

pytestmark = needs_azurite()


def test_a_cluster_that_goes_before_a_job_comes_is_gone_and_nobody_s_mistake(azure, backend):
    lease = rented(backend, order_of(backend))  # probed just now: it lives
    AzureBackend(**backend.config.model_dump()).teardown(lease)
    until(lambda: lease.lease_id not in azure.state()["computes"], what="its end")
    with pytest.raises(ControlPlaneError, match="is gone"):
        backend.launch(lease, "t0001-s1.train")
    assert backend.probe(lease) is Liveness.GONE


@pytest.mark.parametrize("seen", [True, False], ids=["read before", "read now"])
def test_a_job_for_a_cluster_that_is_being_deleted_waits_until_it_is_gone(
    azure, backend, seen, monkeypatch
):
    """An admin deletes it during a run, which takes minutes; it is no mistake of the user's."""
    lease = rented(backend, order_of(backend))
    azure.physics(create_s=1000.0)
    try:
        if not seen:
            backend._clusters.forget()
        backend._service.delete_compute(lease.lease_id)
        with monkeypatch.context() as slow_machine:
            slow_machine.setattr(known_clusters, "FRESH_S", 600.0)
            with pytest.raises(ControlPlaneError, match="is being deleted"):
                backend.launch(lease, "t0001-s1.train")
        assert backend.probe(lease) is Liveness.UNKNOWN
        sent = [e["status"] for e in azure.log(f"PUT .*jobs/{lease.lease_id}")]
        assert sent == ([400] if seen else [])
        azure.advance(1001.0)
    finally:
        azure.physics(create_s=0.3)
    until(lambda: backend.probe(lease) is Liveness.GONE, what="its end")


@pytest.mark.slow
@pytest.mark.parametrize(
    "rule",
    [{"status": 429}, {"status": 503}, {"status": 500}, {"method": "GET", "lose": True}],
    ids=["429", "503", "500", "lost questions"],
)
def test_a_service_that_is_busy_is_asked_again(azure, backend, rule):
    """Every third call: one cluster, one job, and nothing left."""
    azure.fault("management", probability=0.3, **rule)
    lease = rented(backend, order_of(backend))
    backend.launch(lease, "t0001-s1.train")
    until(lambda: backend.probe(lease, "t0001-s1.train") is Liveness.ALIVE, what="the job")
    assert list(statuses(azure, lease)) == [f"{lease.lease_id}-t0001-s1-train-1"]
    gone(azure, backend, lease)
    assert sum(rule["played"] for rule in azure.state()["faults"]) > 0


@pytest.mark.slow
def test_scarce_nodes_are_waited_for(azure, backend):
    """The second job waits in the queue, is not submitted again, and runs after the first."""
    azure.physics(low_priority=1)
    try:
        lease = rented(backend, order_of(backend, workers=2))
        for ticket in ("t0001-s1.train", "t0001-s2.train"):
            backend.launch(lease, ticket)
        until(lambda: "Running" in statuses(azure, lease).values(), what="one job")
        assert sorted(statuses(azure, lease).values()) == ["Queued", "Running"]
        assert backend.probe(lease, "t0001-s2.train") is Liveness.PENDING
        backend.launch(lease, "t0001-s2.train")
        backend.cancel(lease, "t0001-s1.train")
        until(
            lambda: sorted(statuses(azure, lease).values()) == ["Canceled", "Running"],
            what="the second",
        )
    finally:
        azure.physics(low_priority=None)
    gone(azure, backend, lease)


def test_a_limit_that_ends_a_job_in_the_queue_says_that_it_waited(azure, backend):
    azure.physics(low_priority=0)
    try:
        lease = rented(backend, order_of(backend, deadline_of="budget.max_hours = 0.1"))
        job = backend.launch(lease, "t0001-s1.train")["job"]
        until(lambda: statuses(azure, lease)[job] == "Queued", what="the queue")
        said = limit_reached(backend, lease, {})
    finally:
        azure.physics(low_priority=None)
    began = "budget.max_hours = 0.1 ended the lease before any work had begun"
    assert str(said).startswith(f"{began}; cluster {lease.lease_id}")
    assert str(said).endswith(f"{job}: Queued")
    gone(azure, backend, lease)


def at_work(azure, backend):
    """A lease with a job that runs."""
    lease = rented(backend, order_of(backend))
    job = backend.launch(lease, "t0001-s1.train")["job"]
    until(lambda: statuses(azure, lease)[job] == "Running", what="the job")
    backend._jobs[lease.lease_id].look(0.0)
    return lease, job


@pytest.mark.parametrize("status", [400, 409, 412, 500])
def test_a_refused_cancel_does_not_keep_the_cluster(azure, backend, status):
    """The first asks are in vain; the next ones help, and the command goes on."""
    lease, job = at_work(azure, backend)
    azure.fault(f"{job}/cancel", method="POST", status=status, message="not now", times=40)
    with pytest.raises(ControlPlaneError, match="not now"):
        backend.teardown(lease)
    assert azure.log(f"DELETE .*computes/{lease.lease_id}")
    azure.clear_faults()
    release_confirmed(backend, lease, timeout_s=60.0)
    assert lease.lease_id not in azure.state()["computes"]
    assert statuses(azure, lease)[job] == "Canceled"


def test_one_lease_in_conflict_does_not_end_the_reaping(azure, backend, tmp_path, monkeypatch):
    """The others are ended, and the next reaping ends that one, too."""
    for name, value in backend.config.model_dump(exclude_unset=True).items():
        if value is not None:
            monkeypatch.setenv(f"DRILLYARD_AZURE_{name.upper()}", str(value))
    monkeypatch.setenv("DRILLYARD_HOME", str(tmp_path))
    monkeypatch.setattr("drillyard_backends.azure.backend.TEARDOWN_S", 3.0)
    past = time.time() - 3600.0
    first, second = (rented(backend, order_of(backend, deadline=past)) for _ in range(2))
    azure.fault(f"computes/{first.lease_id}", method="DELETE", status=409)
    options = {"on": ["azure"], "grace_s": 0.0, "home": tmp_path, "confirm_s": 0.0}

    def ended():
        report = reap(**options)
        return {o.lease.lease_id: o for o in report.outcomes}

    found = ended()
    assert found[second.lease_id].deleted is True
    assert found[first.lease_id].deleted is False
    assert found[first.lease_id].problem
    azure.clear_faults()
    assert ended()[first.lease_id].deleted is True


def test_a_refused_cancel_gives_no_job_up_for_prepared_too_long(azure, settings):
    """The look that times a node's preparing goes on, and tries again."""
    backend = AzureBackend(**settings, preparing_s=1, build_s=0)
    azure.ask("physics", stuck=1)
    lease = rented(backend, order_of(backend))
    job = backend.launch(lease, "t0001-s1.train")["job"]
    until(lambda: statuses(azure, lease)[job] == "Preparing", what="the job")
    azure.fault(f"{job}/cancel", method="POST", status=400, message="not now", times=1)
    seen = backend._jobs[lease.lease_id]
    until(lambda: seen.look(0.0) and seen.of("t0001-s1.train") is None, what="giving it up")
    assert [e["status"] for e in azure.log(f"POST .*{job}/cancel")] == [400, 202]
    gone(azure, backend, lease)


@pytest.mark.slow
def test_tokens_that_run_out_are_renewed(azure, backend):
    """Tokens of two seconds; what is signed in goes on for longer than one of them."""
    azure.ask("entra", life_s=2)
    credential.cache_clear()
    try:
        lease = rented(
            AzureBackend(**backend.config.model_dump(exclude_unset=True)), order_of(backend)
        )
        asked = len(azure.log("login.*/token"))
        until(
            lambda: bool(list(backend.leases())) and len(azure.log("login.*/token")) > asked,
            what="another token",
        )
    finally:
        azure.ask("entra", life_s=3600)
        credential.cache_clear()
    gone(azure, backend, lease)


def test_several_nodes_of_a_job_share_its_runs(azure, settings):
    """Four runs on four nodes are two jobs of two; the cluster has room for whole jobs."""
    backend = AzureBackend(**settings, instance_count=2)
    order = order_of(backend, workers=3)
    lease = rented(backend, order)
    runs = [f"t0001-s{seed}.train" for seed in (1, 2, 3, 4, 5)]
    jobs = [backend.launch(lease, run)["job"] for run in runs]
    assert len(set(jobs)) == 2 and jobs[0] == jobs[1] and jobs[2] == jobs[3]
    assert [backend.launch(lease, run)["job"] for run in runs] == jobs
    until(lambda: set(statuses(azure, lease).values()) == {"Running"}, what="both jobs")
    mine = [n for n in azure.state()["nodes"] if n["job"] in jobs]
    assert len(mine) == 4
    until(lambda: backend.probe(lease, runs[4]) is Liveness.ALIVE, what="a new listing")
    # Another driver does not know who has which run: one that lives is no reason to give up.
    other = AzureBackend(**settings, instance_count=2)
    assert other.probe(lease, runs[1]) is Liveness.ALIVE
    assert {other.launch(lease, run)["job"] for run in runs} == set(jobs)
    gone(azure, backend, lease)


def test_several_runs_share_a_node(azure, settings):
    """Five runs, four side by side, two to a node: two jobs of one node each."""
    backend = AzureBackend(**settings, runs_per_machine=2)
    order = order_of(backend, workers=4)
    parts = {p.what.split()[0]: p for p in backend.estimate(order).parts}
    assert (parts["node"].count, parts["job"].count) == (2, 2)
    assert parts["job"].note == "one for every 2 runs"
    lease = rented(backend, order)
    runs = [f"t0001-s{seed}.train" for seed in (1, 2, 3, 4, 5)]
    jobs = [backend.launch(lease, run)["job"] for run in runs]
    assert len(set(jobs)) == 2 and jobs[0] == jobs[1] and jobs[2] == jobs[3]
    until(lambda: set(statuses(azure, lease).values()) == {"Running"}, what="both jobs")
    assert len([n for n in azure.state()["nodes"] if n["job"] in jobs]) == 2
    made = backend._service.client.jobs.get(jobs[0])
    assert made.environment_variables["DRILLYARD_JOB_SLOTS"] == "2"
    gone(azure, backend, lease)


def test_a_run_that_spreads_over_nodes_is_a_job_of_its_own(azure, settings):
    """Two runs are two jobs of two nodes each, and each names its own run's folder."""
    backend = AzureBackend(**settings, instance_count=2)
    order = order_of(backend, workers=2, spread=4)
    assert {p.what: p.count for p in backend.estimate(order).parts}["job"] == 2
    lease = rented(backend, order)
    jobs = [backend.launch(lease, f"t0001-s{seed}.train")["job"] for seed in (1, 2)]
    assert len(set(jobs)) == 2
    until(lambda: set(statuses(azure, lease).values()) == {"Running"}, what="both jobs")
    assert len([n for n in azure.state()["nodes"] if n["job"] in jobs]) == 4
    for seed, name in enumerate(jobs, 1):
        path = backend._service.client.jobs.get(name).outputs["results"].path
        assert path.rstrip("/").endswith(f"runs/t0001-s{seed}")
    gone(azure, backend, lease)


@pytest.mark.parametrize("status", [400, 409])
def test_an_environment_that_another_driver_registers_first_is_used(azure, settings, status):
    """The service then says "is already registered and cannot be changed", a bad request.

    Reported: Azure/azure-cli-extensions#5440.
    """
    given = {**settings, "image": f"mcr.example/drillyard:{uuid.uuid4().hex[:6]}"}
    backend = AzureBackend(**given)
    backend.teardown(backend.provision(order_of(backend)))
    azure.fault("GET management.*/environments/", status=404, times=1)
    azure.fault("PUT management.*/environments/", status=status, reason="UserError", times=1)
    backend = AzureBackend(**given)
    gone(azure, backend, rented(backend, order_of(backend)))
    assert [rule["played"] for rule in azure.state()["faults"]] == [1, 1]


def test_an_environment_that_is_refused_is_the_user_s_to_mend(azure, settings):
    backend = AzureBackend(**{**settings, "image": f"mcr.example/{uuid.uuid4().hex[:6]}:1"})
    azure.fault("PUT management.*/environments/", status=400, reason="UserError", times=1)
    with pytest.raises(UserError, match="refused"):
        backend.provision(order := order_of(backend))
    azure.clear_faults()
    gone(azure, backend, backend._lease(order, 0.0))


def test_the_upload_of_a_folder_does_not_wait_for_ever(backend):
    """azure-ai-ml has a client for each of its kinds; by default they wait for five minutes."""
    environments = backend._service.client.environments
    lines = [environments._service_client, environments._version_operations._client]
    for line in (one._client if hasattr(one, "_client") else one for one in lines):
        limits = line._pipeline._transport.connection_config
        assert (limits.timeout, limits.read_timeout) == (CONNECT_S, READ_S)


def test_recreate_makes_an_environment_of_each_leases_own(azure, settings):
    """Without it the second lease finds what the first one made."""
    image = f"mcr.example/drillyard:{uuid.uuid4().hex[:6]}"
    made = []
    for recreate in (False, False, True, True):
        before = set(azure.state()["environments"])
        backend = AzureBackend(**{**settings, "image": image, "recreate": recreate})
        backend.teardown(backend.provision(order_of(backend)))
        made.append(len(set(azure.state()["environments"]) - before))
    assert made == [1, 0, 1, 1]


def test_what_a_job_is_made_of(azure, backend):
    """Under the experiment's name, with a limit, and the run's folder as a named output."""
    order = order_of(backend, deadline=backend._clock.now() + 600.0)
    lease = rented(backend, order)
    name = backend.launch(lease, "t0001-s1.train")["job"]
    job = backend._service.client.jobs.get(name)
    assert job.experiment_name == "faults" and job.display_name == "t0001-s1"
    assert 600 <= job.limits.timeout <= 600 + 120
    place = f"workspaceblobstore/paths/{backend.config.prefix}/faults/runs/t0001-s1"
    assert job.outputs["results"].path.rstrip("/").endswith(place)
    gone(azure, backend, lease)


@pytest.mark.parametrize(
    ("given", "order", "words"),
    [
        ({"instance_count": 4}, {"workers": 2}, "2 of them have something to do"),
        ({"instance_count": 2, "runs_per_machine": 2}, {"workers": 2}, "1 of them have something"),
        ({"runs_per_machine": 2}, {"spread": 3}, "2 runs are to share one"),
        ({"instance_count": 4}, {"spread": 3}, "3 of them have something to do"),
        ({"instance_count": 4, "max_nodes": 2}, {"workers": 4}, "never starts on a cluster of 2"),
    ],
)
def test_nodes_for_nothing_are_refused(backend, settings, given, order, words):
    made = AzureBackend(**{**settings, **given})
    found = made.check(order_of(backend, **order))
    found = [f for f in found if f.subject in ("instance_count", "runs_per_machine")]
    assert any(words in f.message and f.fix for f in found), found
