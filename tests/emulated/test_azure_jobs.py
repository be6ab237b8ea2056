"""States and listings of jobs, where sources disagree or a service may be late: both are played.

The jobs run nothing, so that each takes a moment.
"""

import os
import subprocess

import pytest

pytest.importorskip("azure.ai.ml")

from drillyard.backend import ExplainsLosses, Liveness
from drillyard.errors import ControlPlaneError, TeardownUnconfirmed, WorkerLost
from drillyard.leases.release import release_confirmed
from drillyard.mailbox import open_store
from drillyard.mailbox.status import Cause
from drillyard.system.clock import SYSTEM
from drillyard_backends.azure import ending, environment, job_body, jobs
from drillyard_backends.azure import job as program
from drillyard_backends.azure.backend import AzureBackend
from drillyard_emulators.azure.model import seconds
from tests.helpers.azure_lab import (
    another,
    gone,
    needs_azurite,
    order_of,
    rented,
    statuses,
)
from tests.helpers.patience import until

BODILESS = True

pytestmark = [needs_azurite(), pytest.mark.timeout(300)]
TICKET = "t0001-s1.train"
CANCEL = "Microsoft.MachineLearningServices/workspaces/jobs/cancel/action"


def running(azure, backend, ticket=TICKET):
    """A lease with a job at work; its name."""
    lease = rented(backend, order_of(backend))
    name = backend.launch(lease, ticket)["job"]
    until(lambda: statuses(azure, lease)[name] == "Running", what="the job")
    return lease, name


# -- a node that is taken away --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("deed", "low_priority", "cause"),
    [
        ("evict", True, Cause.PREEMPTION),
        ("evict", False, Cause.INFRASTRUCTURE),
        ("crash", True, Cause.INFRASTRUCTURE),
    ],
)
def test_a_job_that_fails_as_its_node_is_taken_away_counts_as_a_preemption(
    azure, settings, deed, low_priority, cause
):
    """People report both: it starts again, or it fails with these words."""
    backend = AzureBackend(**settings, low_priority=low_priority)
    lease, name = running(azure, backend)
    azure.ask("happen", what=deed, machine=name)
    until(lambda: backend.probe(lease, TICKET) is Liveness.GONE, what="the job's end")
    assert isinstance(backend, ExplainsLosses)
    assert backend.lost_to(lease, TICKET) is cause
    gone(azure, backend, lease)


def test_a_lease_has_a_machine_while_it_has_a_job_or_a_node(azure, settings, backend):
    """The cluster itself costs nothing; an idle node does until it is released."""
    lease, name = running(azure, backend)
    assert not backend.idle(lease)
    azure.ask("finish", name=name, code=0)
    until(lambda: statuses(azure, lease)[name] == "Completed", what="the job's end")
    until(lambda: backend.idle(lease), what="the release of its node")
    assert backend.probe(lease) is Liveness.ALIVE, "the cluster takes further jobs"
    gone(azure, backend, lease)
    kept = AzureBackend(**{**settings, "compute": "kept-idle"})
    lease, name = running(azure, kept)
    assert not kept.idle(lease)
    azure.ask("finish", name=name, code=0)
    until(lambda: kept.idle(lease), what="the job's end")
    gone(azure, kept, lease)


# -- a job that does not end ----------------------------------------------------------------------


def test_a_job_that_does_not_end_on_a_kept_cluster_is_said_with_what_frees_its_node(
    azure, settings, monkeypatch
):
    """A24: users report 12 and 40 hours; the message said nothing about the node."""
    backend = AzureBackend(**{**settings, "compute": "kept-hanging"})
    lease, name = running(azure, backend)
    azure.physics(finalize_s=1000.0)
    azure.ask("finish", name=name, code=0)
    until(lambda: statuses(azure, lease)[name] == "Finalizing", what="its last state")
    backend.teardown(lease)  # for some minutes a cancelled job may take its time
    monkeypatch.setattr(jobs, "HANGING_S", 0.0)
    with pytest.raises(ControlPlaneError, match="az ml compute update --name kept-hanging"):
        backend.teardown(lease)
    azure.advance(1000.0)
    until(lambda: statuses(azure, lease)[name] == "Completed", what="its end")
    backend.teardown(lease)


def test_a_teardown_lists_the_jobs_of_its_own_lease_alone(azure, backend):
    """A-D18: the workspace keeps every job, so each look at all of them took longer each week."""
    lease, name = running(azure, backend)
    mark = max(entry["number"] for entry in azure.log(""))
    release_confirmed(backend, lease, timeout_s=60)
    assert statuses(azure, lease)[name] == "Canceled"
    asked = [entry["query"] for entry in azure.log("GET .*/jobs[?]", mark)]
    assert asked and all(f"tag={lease.lease_id}" in query for query in asked)


# -- a job that does not respond ------------------------------------------------------------------


def test_a_job_that_does_not_respond_is_followed_by_none_and_ended_with_its_lease(azure, backend):
    """It may go back to any earlier state: it is listed, and nobody takes it for over."""
    lease, name = running(azure, backend)
    azure.happen("silent", name)
    until(lambda: statuses(azure, lease)[name] == "NotResponding", what="silence")
    fresh = another(backend)
    assert fresh.probe(lease, TICKET) is Liveness.UNKNOWN
    assert lease.lease_id in [one.lease_id for one in fresh.leases()]
    assert fresh.launch(lease, TICKET)["job"] == name
    azure.happen("heard", name)
    until(lambda: fresh.probe(lease, TICKET) is Liveness.ALIVE, what="its return")
    azure.happen("silent", name)
    gone(azure, fresh, lease)
    assert list(statuses(azure, lease)) == [name]


def test_a_job_that_does_not_respond_for_a_minute_goes_on(azure, backend):
    """A2: as `rehearse --fault not-responding=1` plays it."""
    lease, name = running(azure, backend)
    azure.happen("not-responding", name)
    until(lambda: statuses(azure, lease)[name] == "NotResponding", what="silence")
    assert another(backend).probe(lease, TICKET) is Liveness.UNKNOWN
    azure.advance(60.0)
    until(lambda: backend.probe(lease, TICKET) is Liveness.ALIVE, what="its return")
    gone(azure, backend, lease)
    assert list(statuses(azure, lease)) == [name]


def test_a_job_that_never_responds_again_is_cancelled_and_then_followed(
    azure, backend, monkeypatch
):
    lease, name = running(azure, backend)
    monkeypatch.setattr(jobs, "NOT_RESPONDING_S", 0.5)
    azure.happen("silent", name)
    until(lambda: backend.probe(lease, TICKET) is Liveness.GONE, what="its end")
    assert statuses(azure, lease)[name] == "Canceled"
    assert backend.launch(lease, TICKET)["job"] != name
    gone(azure, backend, lease)


# -- one job a ticket -----------------------------------------------------------------------------


def test_a_lost_answer_and_another_driver_make_no_second_job(azure, backend):
    """The service says "already exists" to a repeat, even to the very same one."""
    lease = rented(backend, order_of(backend, deadline=SYSTEM.now() + 600.0))
    azure.fault("/jobs/", method="PUT", lose=True, after=True, times=1)
    first = backend.launch(lease, TICKET)["job"]
    # This one has never seen it: it is not listed yet, and the clock has gone on.
    azure.physics(listing_lag_s=1000.0)
    assert another(backend).launch(lease, TICKET)["job"] == first
    assert list(statuses(azure, lease)) == [first]
    azure.physics(listing_lag_s=0.0)
    gone(azure, backend, lease)


def test_a_job_is_made_of_the_order_alone(azure, backend, tmp_path, monkeypatch):
    """Whoever submits it, when and from which folder: the workspace learns no git repository."""
    order = order_of(backend, deadline=SYSTEM.now() + 600.0)
    lease = rented(backend, order)
    subprocess.run(["git", "init", "-q", tmp_path], check=True)
    address = ["remote", "add", "origin", "https://example.com/secret.git"]
    subprocess.run(["git", "-C", tmp_path, *address], check=True)
    here = [backend._entity(order, "name", TICKET)]
    monkeypatch.chdir(tmp_path)
    fresh = another(backend)
    monkeypatch.setattr(fresh, "_clock", _Later())
    fresh.provision(order)  # as who adopts the lease does
    here.append(fresh._entity(order, "name", TICKET))
    assert here[0] == here[1]
    written = open_store(order.store_url).stat(job_body.order_key(order))
    assert written is not None and order.deadline is not None
    left_s = int(order.deadline - written.updated_at)
    assert here[0]["limits"]["timeout"] == f"PT{left_s + job_body.MARGIN_S}S"
    name = fresh.launch(lease, TICKET)["job"]
    assert not fresh._service.job(name)["properties"].get("properties")
    gone(azure, backend, lease)


def test_the_environment_of_a_lease_stays_the_one_that_it_was_provisioned_with(
    azure, settings, tmp_path
):
    """The file is edited in the middle of a run: its jobs are alike, whoever submits them."""
    packages = tmp_path / "conda.yml"
    packages.write_text(f"dependencies: [python=3.11]  # {os.urandom(4).hex()}\n")
    backend = AzureBackend(**settings, conda=str(packages))
    order = order_of(backend, workers=4)
    lease = rented(backend, order)
    names = [backend.launch(lease, "t0001-s1.train")["job"]]
    made = set(azure.state()["environments"])
    packages.write_text("dependencies: [python=3.12]\n")
    names.append(backend.launch(lease, "t0001-s2.train")["job"])
    other = another(backend)
    names.append(other.launch(lease, "t0001-s3.train")["job"])
    adopting = another(backend)
    adopting.provision(order)
    names.append(adopting.launch(lease, "t0001-s4.train")["job"])
    assert set(azure.state()["environments"]) == made
    used = {backend._service.job(name)["properties"]["environmentId"] for name in names}
    assert len(used) == 1
    gone(azure, backend, lease)


def test_an_environment_that_was_deleted_meanwhile_is_made_again(azure, settings, tmp_path):
    packages = tmp_path / "conda.yml"
    packages.write_text(f"dependencies: [python=3.11]  # {os.urandom(4).hex()}\n")
    backend = AzureBackend(**settings, conda=str(packages))
    order = order_of(backend)
    lease = rented(backend, order)
    packages.write_text(f"dependencies: [python=3.12]  # {os.urandom(4).hex()}\n")
    azure.fault("GET management.*/environments/", status=404, times=1)
    backend.provision(order)
    job = another(backend).launch(lease, TICKET)["job"]
    assert azure.state()["jobs"][job]
    now = environment.named(backend.config, order).replace(":", "/versions/")
    assert backend._service.job(job)["properties"]["environmentId"].endswith(now)
    gone(azure, backend, lease)


class _Later:
    """The clock of a machine on which it is later."""

    def now(self):
        return SYSTEM.now() + 300.0

    def __getattr__(self, name):
        return getattr(SYSTEM, name)


def test_the_body_is_what_azure_ml_s_own_client_would_send(azure, backend):
    """Field by field, but for what that client adds: the repository, and defaults."""
    from azure.ai.ml import Output, PyTorchDistribution, command
    from azure.ai.ml.entities import JobResourceConfiguration, ManagedIdentityConfiguration

    wide = AzureBackend(**{**backend.config.model_dump(exclude_unset=True), "instance_count": 2})
    order = order_of(wide, spread=2, deadline=SYSTEM.now() + 600.0)
    lease = rented(wide, order)
    name = f"{order.lease_id}-theirs"
    ours = wide._entity(order, name, TICKET)
    folder = f"paths/{wide.config.prefix}/faults/runs/t0001-s1"
    path = f"azureml://datastores/workspaceblobstore/{folder}"
    made = command(
        name=name,
        display_name="t0001-s1",
        experiment_name="faults",
        command=ours["command"],
        environment=ours["environmentId"],
        compute=ours["computeId"],
        tags=ours["tags"],
        environment_variables=ours["environmentVariables"],
        outputs={"results": Output(type="uri_folder", path=path, mode="direct")},
        identity=ManagedIdentityConfiguration(),
    )
    made.resources = JobResourceConfiguration(instance_count=2)
    made.distribution = PyTorchDistribution(process_count_per_instance=1)
    limit_s = seconds(ours["limits"].pop("timeout"))
    made.set_limits(timeout=int(limit_s))
    wide._service.client.jobs.create_or_update(made)
    theirs = wide._service.job(name)["properties"]
    assert seconds(theirs["limits"].pop("timeout")) == limit_s
    kept = {name: _bare(theirs[name]) for name in ours}
    assert kept == {name: _bare(value) for name, value in ours.items()}
    gone(azure, wide, lease)


def _bare(value):
    """Without what is empty."""
    if isinstance(value, dict):
        return {k: _bare(v) for k, v in value.items() if v not in (None, {}, [])}
    return value


def test_a_name_that_another_ticket_has_gets_the_next_number(azure, backend):
    """Names have no dots: two tickets may have the same name of a job."""
    lease = rented(backend, order_of(backend))
    first = backend.launch(lease, "t0001-s1.train")["job"]
    assert backend.launch(lease, "t0001.s1.train")["job"] == first[:-1] + "2"
    gone(azure, backend, lease)


# -- an experiment of the same name, deleted before -----------------------------------------------


def test_a_failed_job_of_a_deleted_experiment_does_not_end_its_successor(azure, settings):
    """Azure keeps jobs for ever, and the new lease has the id of the old one."""
    azure.physics(broken_builds=1)
    given = {**settings, "image": f"mcr.example/drillyard:{os.urandom(4).hex()}"}
    backend = AzureBackend(**given)
    lease = rented(backend, order_of(backend, deadline=SYSTEM.now() + 600.0))
    first = backend.launch(lease, TICKET)["job"]
    until(lambda: backend.probe(lease, TICKET) is Liveness.GONE, what="the job's end")
    with pytest.raises(WorkerLost, match="could not be built"):
        another(backend).launch(lease, TICKET)
    gone(azure, backend, lease)
    successor, lease = _run_again(backend, lease)
    assert successor.launch(lease, TICKET)["job"] == first[:-1] + "2"
    gone(azure, successor, lease)


REFUSED_BUILDS = {
    "(TasksOperationsNotAllowed) ACR Tasks requests for the registry are not permitted": (
        "--image-build-compute"
    ),
    "toomanyrequests: You have reached your unauthenticated pull rate limit.": "mcr.microsoft.com",
}


@pytest.mark.parametrize("error", REFUSED_BUILDS)
def test_a_build_that_the_account_or_a_registry_refuses_has_a_fix(azure, settings, error):
    azure.physics(broken_builds=1, build_error=error)
    given = {**settings, "image": f"mcr.example/drillyard:{os.urandom(4).hex()}"}
    backend = AzureBackend(**given)
    lease = rented(backend, order_of(backend))
    backend.launch(lease, TICKET)
    until(lambda: backend.probe(lease, TICKET) is Liveness.GONE, what="the job's end")
    with pytest.raises(WorkerLost, match="could not be built") as raised:
        another(backend).launch(lease, TICKET)
    assert REFUSED_BUILDS[error] in str(raised.value.hint)
    gone(azure, backend, lease)


def test_a_completed_job_of_a_deleted_experiment_is_no_sign_of_a_built_image(azure, backend):
    lease, name = running(azure, backend)
    azure.ask("finish", name=name, code=0)
    until(lambda: statuses(azure, lease)[name] == "Completed", what="the job's end")
    long_s = backend.config.preparing_s + backend.config.build_s

    def patience_s(backend):
        seen = backend._of(lease.order)
        seen.look(0.0)
        return seen._limit_s("preparing")

    assert patience_s(another(backend)) == backend.config.preparing_s
    gone(azure, backend, lease)
    successor, lease = _run_again(backend, lease)
    assert patience_s(successor) == long_s
    gone(azure, successor, lease)


def _run_again(backend, lease):
    """Deletes what the store has of a lease; returns a new backend and a lease of the same id."""
    store, order = open_store(lease.order.store_url), lease.order
    begun = store.stat(job_body.order_key(order)).updated_at
    for key in list(store.keys(f"{order.experiment}/leases/{order.lease_id}/")):
        store.delete(key)
    # The store's times are whole seconds, and a real experiment is not run again within one.
    until(lambda: SYSTEM.now() > begun + 2.0, what="another second")
    fresh = another(backend)
    return fresh, rented(fresh, order.model_copy(update={"deadline": SYSTEM.now() + 900.0}))


# -- listings -------------------------------------------------------------------------------------


def test_a_job_that_is_not_listed_yet_is_ended_with_its_lease(azure, settings):
    """By a process that did not submit it; the listing is a second late."""
    azure.physics(listing_lag_s=1.0)
    backend = AzureBackend(**{**settings, "listing_lag_s": 2.0})
    lease = rented(backend, order_of(backend))
    backend.launch(lease, TICKET)
    gone(azure, another(backend), lease)


def test_a_job_of_ours_that_is_not_listed_is_asked_for_by_its_name(azure, backend, monkeypatch):
    """It is known to live, and known to be gone when it is."""
    azure.physics(listing_lag_s=1000.0)
    lease, name = None, None
    lease = backend.provision(order_of(backend))
    until(lambda: backend._service.compute(lease.lease_id) and _made(azure, lease), what="it")
    name = backend.launch(lease, TICKET)["job"]
    until(lambda: backend.probe(lease, TICKET) is Liveness.ALIVE, what="its running")
    azure.ask("job", name=name, deleted=True)
    monkeypatch.setattr(jobs, "SETTLED_S", 0.5)
    until(lambda: backend.probe(lease, TICKET) is Liveness.GONE, what="that it is gone")
    azure.physics(listing_lag_s=0.0)
    gone(azure, backend, lease)


def _made(azure, lease):
    return azure.state()["computes"][lease.lease_id]["state"] == "Succeeded"


def test_an_archived_job_is_listed_and_ended(azure, backend):
    lease, name = running(azure, backend)
    azure.ask("job", name=name, archived=True)
    fresh = another(backend)
    assert lease.lease_id in [one.lease_id for one in fresh.leases()]
    assert fresh.launch(lease, TICKET)["job"] == name
    gone(azure, fresh, lease)


def test_jobs_of_other_people_and_of_unknown_kinds_change_nothing(azure, backend):
    """Also where the service ignores the tag that it is asked for."""
    lease, name = running(azure, backend)
    theirs, stranger = running(azure, another(backend))
    odd = [
        {"name": "odd", "properties": None, "systemData": None},
        {"name": "newer", "properties": {"jobType": "Quantum", "status": "Dancing", "tags": None}},
        {"name": "plain", "properties": {"jobType": "Sweep", "tags": {"drillyard": "x"}}},
    ]
    azure.ask("manager", foreign=odd)
    azure.physics(tag_filter=False)
    found = [one.lease_id for one in another(backend).leases()]
    assert lease.lease_id in found and theirs.lease_id in found
    fresh = another(backend)
    assert fresh.probe(lease, TICKET) is Liveness.ALIVE
    release_confirmed(fresh, lease, timeout_s=60.0)
    assert statuses(azure, lease)[name] == "Canceled"
    assert statuses(azure, theirs)[stranger] == "Running"
    gone(azure, fresh, theirs)


def test_jobs_on_every_page_are_seen(azure, backend):
    azure.physics(page=2)
    order = order_of(backend, workers=5)
    lease = rented(backend, order)
    names = {backend.launch(lease, f"t0001-s{seed}.train")["job"] for seed in range(5)}
    fresh = another(backend)
    assert {job.name for job in fresh._of(order).look()} == names
    gone(azure, fresh, lease)


# -- cancelling -----------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [400, 409, 500])
def test_a_cancel_that_is_refused_while_a_job_ends_costs_no_teardown(azure, backend, status):
    """ "Finalizing" cannot be cancelled: it ends by itself, and the cluster goes all the same."""
    lease, name = running(azure, backend)
    azure.physics(cancel_status=status, finalize_s=1000.0)
    azure.ask("finish", name=name, code=0)
    until(lambda: statuses(azure, lease)[name] == "Finalizing", what="the end of its program")
    backend.cancel(lease, TICKET)
    backend.teardown(lease)
    azure.advance(1001.0)
    gone(azure, backend, lease)
    assert statuses(azure, lease)[name] == "Completed"


def test_only_a_missing_right_ends_a_teardown_and_the_cluster_is_asked_for(azure, backend):
    lease, _ = running(azure, backend)
    azure.ask("manager", denied=[CANCEL])
    with pytest.raises(TeardownUnconfirmed, match="no permission"):
        release_confirmed(backend, lease, timeout_s=600.0)
    until(lambda: lease.lease_id not in azure.state()["computes"], what="the cluster's end")
    azure.ask("manager", denied=[])
    gone(azure, backend, lease)


def test_a_job_whose_run_is_done_leaves_by_itself(azure, backend, monkeypatch):
    """Cancelled, it would look in the studio as if it had failed."""
    lease, name = running(azure, backend)
    monkeypatch.setattr(ending, "finished_runs", lambda order, shared: {"t0001-s1"})
    backend.teardown(lease)
    assert statuses(azure, lease)[name] == "Running"
    azure.ask("finish", name=name, code=0)
    gone(azure, backend, lease)
    assert statuses(azure, lease)[name] == "Completed"


def test_a_job_whose_run_is_done_and_that_does_not_leave_is_cancelled(azure, backend, monkeypatch):
    lease, name = running(azure, backend)
    monkeypatch.setattr(ending, "finished_runs", lambda order, shared: {"t0001-s1"})
    monkeypatch.setattr(jobs, "LEAVE_S", 0.5)
    gone(azure, backend, lease)
    assert statuses(azure, lease)[name] == "Canceled"


# -- before it runs -------------------------------------------------------------------------------


@pytest.mark.parametrize("first", [False, True], ids=["queued first", "prepared first"])
def test_a_slow_image_is_waited_for_in_either_order_of_states(azure, settings, first):
    """Preparing is a build as well: a node's patience is not meant for it."""
    azure.physics(preparing_first=first, image_s=1000.0)
    image = f"mcr.example/drillyard:{os.urandom(4).hex()}"
    given = {**settings, "image": image, "preparing_s": 1, "build_s": 600}
    backend = AzureBackend(**given)
    lease = rented(backend, order_of(backend, workers=2))
    name = backend.launch(lease, TICKET)["job"]
    until(lambda: statuses(azure, lease)[name] == "Preparing", what="its preparation")
    backend.probe(lease, TICKET)
    _look_for_s(backend, lease, 2.5)
    assert statuses(azure, lease)[name] == "Preparing"
    azure.advance(1001.0)
    until(lambda: statuses(azure, lease)[name] == "Running", what="it")
    # From now on the image is there: a second job is prepared by a node alone.
    azure.physics(stuck=1)
    until(lambda: backend.probe(lease, TICKET) is Liveness.ALIVE, what="that it is seen")
    second = backend.launch(lease, "t0001-s2.train")["job"]
    until(lambda: backend.probe(lease, "t0001-s2.train") is Liveness.GONE, what="giving it up")
    until(lambda: statuses(azure, lease)[second] == "Canceled", what="its end")
    gone(azure, backend, lease)


def _look_for_s(backend, lease, seconds):
    """Look at a lease's jobs until its clock has gone on so far."""
    until_s = SYSTEM.monotonic() + seconds
    until(lambda: backend.probe(lease, TICKET) and SYSTEM.monotonic() > until_s, what="time")


def test_a_node_that_never_gets_ready_is_given_up(azure, settings):
    """Its job shows "Queued" all the time; one that waits for a node is left in the queue."""
    backend = AzureBackend(**settings, preparing_s=1, build_s=0)
    lease = rented(backend, order_of(backend))
    azure.physics(unready=1)
    first = backend.launch(lease, TICKET)["job"]
    until(lambda: backend.probe(lease, TICKET) is Liveness.GONE, what="giving it up")
    azure.physics(low_priority=0)
    second = backend.launch(lease, TICKET)["job"]
    assert second != first
    _look_for_s(backend, lease, 5.0)
    assert statuses(azure, lease) == {first: "Canceled", second: "Queued"}
    gone(azure, backend, lease)


# -- on its nodes ---------------------------------------------------------------------------------


def test_each_job_knows_its_own_name(azure, backend):
    """Not from a variable of the service's that no page promises."""
    lease = rented(backend, order_of(backend, workers=2))
    names = [backend.launch(lease, f"t0001-s{seed}.train")["job"] for seed in (1, 2)]
    told = [
        backend._service.job(name)["properties"]["environmentVariables"][program.JOB]
        for name in names
    ]
    assert told == names
    gone(azure, backend, lease)


def test_a_node_of_several_that_is_not_told_its_rank_does_nothing(monkeypatch):
    """It would take itself for the first, and do the runs of the others again."""
    monkeypatch.setenv(program.WIDTH, "2")
    monkeypatch.setenv(program.JOB, "name")
    monkeypatch.delenv(program.RANK, raising=False)
    monkeypatch.delenv(program.STORE, raising=False)
    assert program.main() == 4
