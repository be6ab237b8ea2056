"""Calls to Azure and what it answers on a first day: limits, leases, clusters that change.

What comes from below the clients is replaced, nothing of ours and nothing of the libraries.
"""

import io
import json
import re
import time
from dataclasses import replace

import pytest
import urllib3

pytest.importorskip("azure.core")

from drillyard.backend import Lease, Order
from drillyard.errors import ControlPlaneError, StoreUnavailable, UserError, WorkerLost
from drillyard.findings import Severity
from drillyard.leases.reasons import Reasons
from drillyard.mailbox import Mailbox, open_store
from drillyard.mailbox.records import WorkerRecord
from drillyard.testing.clock import FakeClock
from drillyard_backends.azure import clusters, login, plan, rest
from drillyard_backends.azure.backend import AzureBackend
from drillyard_backends.azure.capacity import SAID_S
from drillyard_backends.azure.job_failures import APART_S
from drillyard_backends.azure.jobs import CANCEL_AGAIN_S, Job
from drillyard_backends.azure.naming import LEASE_TAG, TICKET_TAG

ORDER = Order(lease_id="dy-012345678a", experiment="first", store_url="memory://first-day")
SETTINGS = {
    "subscription_id": "01234567-89ab-cdef-0123-456789abcdef",
    "resource_group": "group",
    "workspace": "work",
}
ABSENT = {"error": {"code": "NotFound", "message": "it is not there"}}


class Token:
    def get_token(self, *_, **__):
        from azure.core.credentials import AccessToken

        return AccessToken("token", int(time.time()) + 3600)


@pytest.fixture
def azure(monkeypatch):
    """Answers requests by the first rule that fits; keeps the requests."""
    rules, requests = [], []

    def send(adapter, request, **_):
        requests.append(request)
        text = f"{request.method} {request.url}"
        status, body, headers = next(
            (answer for pattern, answer in rules if re.search(pattern, text)), (404, ABSENT, {})
        )
        answer = urllib3.HTTPResponse(
            io.BytesIO(json.dumps(body).encode()),
            headers={"Content-Type": "application/json", **headers},
            status=status,
            preload_content=False,
        )
        return adapter.build_response(request, answer)

    monkeypatch.setattr("requests.adapters.HTTPAdapter.send", send)
    for module in ("rest", "store"):
        monkeypatch.setattr(f"drillyard_backends.azure.{module}.credential", Token)

    def add(pattern, status, body=None, **headers):
        names = {name.replace("_", "-"): value for name, value in headers.items()}
        rules.insert(0, (pattern, (status, body or {}, names)))

    add("PUT .*/jobs/", 201)
    add("GET .*/jobs[?]", 200, {"value": []})
    add("GET .*/workspaces/work[?]", 200, {"location": "westeurope"})
    add.requests = requests
    return add


def test_each_call_names_drillyard_and_has_one_id_for_all_its_tries(azure):
    service = AzureBackend(**SETTINGS)._service
    azure("/score", 200)
    azure("GET .*/jobs/busy", 503)
    with pytest.MonkeyPatch.context() as patch, pytest.raises(ControlPlaneError):
        patch.setattr("time.sleep", lambda s: None)
        service.job("busy")
    tries = [request.headers for request in azure.requests]
    service.workspace()
    service.score("https://endpoint.example/score", "key", "blue", {})
    ids = [request.headers["x-ms-client-request-id"] for request in azure.requests]
    assert len(tries) > 2 and len(set(ids[: len(tries)])) == 1
    assert len(set(ids)) == 3
    assert all(r.headers["User-Agent"].startswith("drillyard/") for r in azure.requests)


def test_a_wait_that_outlasts_the_call_is_said_and_not_begun(azure, monkeypatch):
    slept = []
    monkeypatch.setattr("time.sleep", slept.append)
    monkeypatch.setattr(rest, "LONGEST_CALL_S", 50.0)
    azure("workspaces/work", 429, ABSENT, Retry_After="600")
    with pytest.raises(ControlPlaneError, match=r"\(429\) and asks to wait for 600 s") as error:
        AzureBackend(**SETTINGS)._service.workspace()
    assert "jobs continue" in str(error.value.hint) and slept == []


def test_a_wait_within_the_call_is_as_long_as_azure_asks_for_up_to_a_minute(azure, monkeypatch):
    slept = []
    monkeypatch.setattr("time.sleep", slept.append)
    for asked, waited in (("2", 2.0), ("170", 60.0)):
        azure("workspaces/work", 429, ABSENT, Retry_After=asked)
        with pytest.raises(ControlPlaneError, match=f"asks to wait for {asked} s"):
            AzureBackend(**SETTINGS)._service.workspace()
        assert slept and set(slept) == {waited}
        slept.clear()


def test_a_job_that_is_refused_while_its_cluster_changes_is_said_in_azure_s_words(azure):
    jobs = AzureBackend(**SETTINGS)._of(ORDER)
    jobs._make = lambda name, ticket: {}
    changes = "Compute drillyard is Updating: no operation is allowed until it has ended"
    azure("PUT .*/jobs/", 409, {"error": {"code": "Conflict", "message": changes}})
    with pytest.raises(ControlPlaneError, match=changes) as error:
        jobs.push("t0001-s1.train")
    assert "submitted again" in str(error.value.hint)
    azure("PUT .*/jobs/", 201, {"name": "now", "properties": {"status": "Queued"}})
    assert jobs.push("t0001-s1.train").name == "now"


def listed(azure, status, nodes=0, errors=()):
    """A lease with one job, on a cluster of twenty nodes at the most."""
    tags = {LEASE_TAG: ORDER.lease_id, TICKET_TAG: "t0001-s1.train"}
    job = {"name": "job-1", "properties": {"status": status, "tags": tags}}
    azure("GET .*/jobs[?]", 200, {"value": [job]})
    scale = {"scaleSettings": {"maxNodeCount": 20}, "currentNodeCount": nodes}
    errors = [{"error": {"code": code, "message": text}} for code, text in errors]
    inner = {"provisioningState": "Succeeded", "properties": {**scale, "errors": errors}}
    azure("GET .*/computes/", 200, {"name": "drillyard", "properties": inner})


def reasons_of(azure, clock):
    """What the user reads of two looks."""
    backend, said = AzureBackend(clock=clock, **SETTINGS), []
    reasons = Reasons(said.append)
    for _ in range(2):
        reasons.look(backend, backend._lease(ORDER, 0.0))
    return backend, reasons, said


def test_a_cluster_that_can_get_no_node_says_azure_s_own_errors_once(azure):
    quota = "ClusterCoreQuotaReached", "Operation exceeds the quota. Maximum allowed: 0"
    listed(azure, "Queued", errors=[quota])
    clock = FakeClock()
    backend, reasons, (said,) = reasons_of(azure, clock)
    assert f"cluster drillyard has 0 of at most 20 nodes: {quota[0]}: {quota[1]}" in said
    assert "budget.max_hours" in said
    listed(azure, "Queued", nodes=1, errors=[quota])
    clock.advance(60.0)
    assert reasons.look(backend, backend._lease(ORDER, 0.0)) == ""


def test_a_cluster_without_a_reason_is_said_when_it_should_have_a_node(azure):
    listed(azure, "Queued")
    clock = FakeClock()
    backend, reasons, said = reasons_of(azure, clock)
    clock.advance(SAID_S - 1.0)
    assert reasons.look(backend, backend._lease(ORDER, 0.0)) == "" and said == []
    clock.advance(2.0)
    assert "Azure gives no reason" in reasons.look(backend, backend._lease(ORDER, 0.0))


def test_a_job_that_is_given_up_for_another_one_is_said_once(azure):
    listed(azure, "Preparing")
    azure("POST .*/cancel", 202)
    clock = FakeClock()
    backend, reasons, said = reasons_of(azure, clock)
    assert said == []
    clock.advance(backend.config.preparing_s + backend.config.build_s + 1.0)
    for _ in range(2):
        reasons.look(backend, backend._lease(ORDER, 0.0))
        clock.advance(10.0)
    (line,) = said
    assert "the job of t0001-s1.train was Preparing for more than 5400 s: job-1 is canc" in line
    assert "another one follows now" in line


def most_nodes(azure, workers, **more):
    """Makes a cluster; returns its size, and Azure's description of it."""
    backend = AzureBackend(**SETTINGS, **more)
    order = ORDER.model_copy(update={"workers": workers})
    azure("GET .*/computes/", 404, ABSENT)
    azure("PUT .*/computes/", 201)
    assert clusters.ensure(backend._service, backend.config, order, "westeurope")
    cluster = json.loads(azure.requests[-1].body)
    return cluster["properties"]["properties"]["scaleSettings"]["maxNodeCount"], cluster


def test_a_kept_cluster_is_large_enough_for_the_next_experiment(azure):
    _, cluster = most_nodes(azure, workers=1)
    azure("GET .*/computes/", 200, {**cluster, "name": "drillyard"})
    backend = AzureBackend(**SETTINGS)
    order = ORDER.model_copy(update={"workers": 2})
    found = plan.examine(backend._service, backend.config, order)
    assert "ok" in [f.severity.value for f in found if f.subject == "compute"]
    assert not [f.message for f in found if "2 nodes are needed" in f.message]
    assert most_nodes(azure, workers=30)[0] == 30
    assert most_nodes(azure, workers=1, max_nodes=3)[0] == 3
    assert most_nodes(azure, workers=2, compute=None)[0] == 2


def sent(azure, jobs, seeds):
    """Sends the job of each seed; returns the names of those that were submitted."""
    jobs._make = lambda name, ticket: {}
    names = []
    for seed in seeds:
        ticket = f"t0001-s{seed}.train"
        azure(
            f"PUT .*/jobs/.*s{seed}",
            201,
            {
                "name": f"job-{seed}",
                "properties": {
                    "status": "Queued",
                    "tags": {LEASE_TAG: ORDER.lease_id, TICKET_TAG: ticket},
                },
            },
        )
        job = jobs.push(ticket)
        names += [job.name] if job else []
    return names


@pytest.mark.parametrize(("most", "jobs"), [(20, 2), (2, 5)])
def test_a_cluster_with_more_nodes_than_ordered_gets_no_more_jobs_than_ordered(azure, most, jobs):
    """The queue of a cluster that fits limits its jobs itself, also without the command."""
    scale = {"scaleSettings": {"maxNodeCount": most}}
    azure("GET .*/computes/", 200, {"name": "drillyard", "properties": {"properties": scale}})
    order = ORDER.model_copy(update={"workers": 2})
    assert len(sent(azure, AzureBackend(**SETTINGS)._of(order), range(1, 6))) == jobs


def test_why_a_job_failed_is_asked_once_there_is_room_for_another(azure, monkeypatch):
    scale = {"scaleSettings": {"maxNodeCount": 20}}
    cluster = {"name": "drillyard", "properties": {"properties": scale}}
    azure("GET .*/computes/", 200, cluster)
    order = ORDER.model_copy(update={"workers": 2})
    backend, asked = AzureBackend(**SETTINGS), []
    monkeypatch.setattr(backend._failures, "refuse_hopeless", lambda _, job: asked.append(job))
    jobs = backend._of(order)
    jobs._begun = lambda: "now"
    tags = {ORDER.lease_id: "now"}
    jobs._known["old"] = old = Job("old", "t0001-s3.train", "Failed", tags=tags)
    lease = Lease(lease_id=order.lease_id, backend="azure", order=order, created_at=0.0)
    assert len(sent(azure, jobs, (1, 2))) == 2
    assert backend.launch(lease, old.ticket) is None and asked == []
    jobs._known["job-1"] = replace(jobs._known["job-1"], status="Completed")
    assert backend.launch(lease, old.ticket) is not None and asked == [old]


def test_a_cancel_is_repeated_each_minute_while_a_job_ends_and_at_once_while_it_works(azure):
    clock = FakeClock()
    jobs = AzureBackend(clock=clock, **SETTINGS)._of(ORDER)
    azure("POST .*/cancel", 202)

    def requests(status):
        jobs.cancel(Job("job", "t0001-s1.train", status))
        return len([r for r in azure.requests if r.url.partition("?")[0].endswith("/cancel")])

    assert [requests("Running"), requests("Running")] == [1, 2]
    assert requests("CancelRequested") == 2
    clock.advance(CANCEL_AGAIN_S + 1.0)
    assert [requests("CancelRequested"), requests("CancelRequested")] == [3, 3]


@pytest.mark.parametrize(
    ("status", "code"), [(412, "LeaseIdMissing"), (409, "BlobImmutableDueToPolicy")]
)
def test_a_blob_that_another_program_holds_is_not_a_network_problem(azure, status, code):
    from drillyard_backends.azure.store import BlobStore

    azure("blob.core.windows.net", status, x_ms_error_code=code)
    with pytest.raises(StoreUnavailable, match=f"at k: .*{code}|at k: ") as error:
        BlobStore("az://account/container").put("k", b"1")
    assert "lease" in str(error.value.hint) and "network" not in str(error.value.hint)
    headers = azure.requests[-1].headers
    assert headers["User-Agent"].startswith("drillyard/") and headers["x-ms-client-request-id"]


def test_a_workspace_without_its_datastore_is_told_what_to_set(azure):
    with pytest.raises(UserError, match="work has no datastore workspaceblobstore") as error:
        AzureBackend(**SETTINGS).store_url()
    assert "backends.azure.account and backends.azure.container" in str(error.value.hint)
    named = AzureBackend(**SETTINGS, account="account", container="results")
    assert named.store_url() == "az://account/results/drillyard"
    azure("GET .*/workspaces/work[?]", 404, ABSENT)
    with pytest.raises(UserError, match="there is no workspace 'work'"):
        AzureBackend(**SETTINGS).store_url()


def test_plan_looks_for_the_datastore_that_jobs_write_to(azure):
    order = ORDER.model_copy(update={"store_url": "az://other/container"})

    def problems(**more):
        backend = AzureBackend(**SETTINGS, **more)
        found = plan.examine(backend._service, backend.config, order)
        return [f.message for f in found if f.subject == "store" and f.severity is Severity.ERROR]

    (said,) = problems()
    assert "no datastore workspaceblobstore" in said
    assert problems(account="other", container="container") == []


BUSY = "\tManagedIdentityCredential: (429) Temporarily throttled, too many requests"


NONE = "\tManagedIdentityCredential: no identity is assigned"


@pytest.mark.parametrize(("cause", "hopeless"), [(BUSY, False), (NONE, True)])
def test_a_token_endpoint_that_is_busy_is_not_a_missing_role(azure, monkeypatch, cause, hopeless):
    """A traceback quotes the library's source before the error."""
    log = [
        "    raise ClientAuthenticationError(message=message)",
        "azure.core.exceptions.ClientAuthenticationError: no token",
        cause,
    ]
    failures = AzureBackend(**SETTINGS, environment="own:1")._failures
    monkeypatch.setattr(failures, "lines", lambda job: log)
    first, second = (Job(f"job-{n}", "t0001-s1.train", "Failed") for n in (1, 2))
    why = failures.refuse_hopeless(ORDER, first)
    assert "raise ClientAuthenticationError" not in why
    if not hopeless:
        assert why == f"the sign-in of its node did not answer: {BUSY.strip()}"
        assert failures.refuse_hopeless(ORDER, second) == why
        return
    assert why == log[1]
    with pytest.raises(WorkerLost, match="no token") as error:
        failures.refuse_hopeless(ORDER, second)
    assert "Storage Blob Data Contributor" in str(error.value.hint)


def test_two_jobs_with_the_same_last_words_end_the_lease(azure, monkeypatch):
    """An outage that lasts for minutes is met by several jobs, and does not end it."""
    clock = FakeClock()
    failures = AzureBackend(clock=clock, **SETTINGS, environment="own:1")._failures
    logs = {
        "a": ["09:00:01 starts", "the store az://x/y cannot be reached from 10.0.0.4"],
        "b": ["09:10:01 starts", "something else"],
        "c": ["09:20:01 starts", "the store az://x/y cannot be reached from 10.0.0.9", ""],
    }
    monkeypatch.setattr(failures, "lines", lambda job: logs.get(job.name, []))
    third = Job("c", "t0001-s1.train", "Failed")
    for name in ("a", "b", "unknown"):
        failures.refuse_hopeless(ORDER, Job(name, "t0001-s1.train", "Failed"))
    clock.advance(APART_S)
    for name in ("a", "unknown-2"):  # the first one is asked about while the cluster is full
        failures.refuse_hopeless(ORDER, Job(name, "t0001-s1.train", "Failed"))
    other = ORDER.model_copy(update={"lease_id": "dy-0000000009"})
    failures.refuse_hopeless(other, third)
    with pytest.raises(WorkerLost, match=r"same way .*: the store az://x/y cannot be reached"):
        failures.refuse_hopeless(ORDER, third)
    works = ORDER.model_copy(update={"store_url": "memory://works"})
    ready = WorkerRecord(worker="w", lease=ORDER.lease_id, ready_at=1.0, written_at=1.0)
    Mailbox(open_store(works.store_url), works.experiment).write("workers/w.json", ready)
    failures.refuse_hopeless(works, third)  # another node works, so the image is right


CHAIN = "DefaultAzureCredential failed to retrieve a token from the included credentials."


@pytest.mark.parametrize(
    "why",
    [
        "(Caused by ProxyError('Unable to connect to proxy'))",
        "(Caused by NameResolutionError('Failed to resolve'))",
        "Connection refused",
        "Remote end closed connection without response",
        "Read timed out.",
        "[SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed",
        "unexpected response '429'",
        "Temporarily throttled",
        "{'code': 'too_many_requests'}",
    ],
)
def test_a_sign_in_that_does_not_answer_is_not_a_refusal(why):
    lines = [CHAIN, f"\tManagedIdentityCredential: {why}"]
    assert login.busy(lines) == lines[1].strip()
    assert login.busy([CHAIN, f"\tAADSTS7000222: The secret is expired. {why}"]) == ""
