"""What Azure says while something is waited for, and refusals that are none."""

from __future__ import annotations

import time
from contextlib import closing

import pytest

pytest.importorskip("azure.ai.ml")

from azure.core.exceptions import ClientAuthenticationError

from drillyard.errors import ControlPlaneError, SignInRefused
from drillyard.leases.release import release_confirmed
from drillyard_backends.azure import capacity, jobs, known_clusters, rest, start
from drillyard_backends.azure.backend import AzureBackend
from drillyard_backends.azure.errors import translated
from drillyard_backends.azure.login import credential
from drillyard_emulators.azure.rehearsal import KINDS, AzureRehearsal
from drillyard_emulators.faults import parse_faults
from tests.helpers.azure_lab import gone, needs_azurite, order_of, rented, statuses
from tests.helpers.patience import until

BODILESS = True

pytestmark = needs_azurite()
TICKET = "t0001-s1.train"
PROXY = """DefaultAzureCredential failed to retrieve a token from the included credentials.
Attempted credentials:
\tEnvironmentCredential: HTTPSConnectionPool(host='login.microsoftonline.com', port=443): Max \
retries exceeded with url: /t/oauth2 (Caused by ProxyError('Unable to connect to proxy'))
To mitigate this issue, please refer to the troubleshooting guidelines."""


@pytest.fixture
def played(tmp_path, monkeypatch):
    """Starts the emulated cloud of a rehearsal with some faults; returns a backend on it."""
    with pytest.MonkeyPatch.context() as patch:
        made: list[closing[AzureRehearsal]] = []

        def begin(*faults: str) -> tuple[AzureRehearsal, AzureBackend]:
            rehearsal = AzureRehearsal("azure", {}, parse_faults([*faults], KINDS), tmp_path)
            made.append(closing(rehearsal))
            for name, value in rehearsal.env().items():
                patch.setenv(name, value)
            credential.cache_clear()
            return rehearsal, AzureBackend()

        yield begin
        for one in made:
            one.__exit__(None, None, None)
    credential.cache_clear()


def test_a_cluster_without_a_node_says_azure_s_own_reason(played, monkeypatch):
    """`--fault cores=0`: the list of quotas has room, and no node comes."""
    monkeypatch.setattr(known_clusters, "FRESH_S", 0.1)
    rehearsal, backend = played("cores=0")
    lease = rented(backend, order_of(backend))
    assert backend.reasons(lease) == [], "nothing waits for a node yet"
    backend.launch(lease, TICKET)
    until(lambda: backend.reasons(lease), what="the reason")
    (said,) = backend.reasons(lease)
    assert "has 0 of at most 20 nodes: ClusterCoreQuotaReached" in said
    assert "Maximum allowed: 0" in said and "until budget.max_hours" in said
    rehearsal._cloud.physics(cores=None)
    until(lambda: not backend.reasons(lease), what="a node")
    assert next(iter(rehearsal._cloud.state()["nodes"]))
    release_confirmed(backend, lease, timeout_s=60.0)


def test_a_cluster_without_a_node_and_without_a_reason_is_said_after_a_while(
    azure, backend, monkeypatch
):
    azure.physics(full=["westeurope"])
    lease = rented(backend, order_of(backend))
    backend.launch(lease, TICKET)
    assert backend.reasons(lease) == []
    monkeypatch.setattr(capacity, "SAID_S", 0.0)
    assert "Azure gives no reason" in backend.reasons(lease)[0]
    azure.physics(full=[])
    gone(azure, backend, lease)


def test_a_job_that_is_given_up_is_said(azure, backend):
    """`--fault stuck=1`."""
    azure.physics(stuck=1)
    settings = {**backend.config.model_dump(), "preparing_s": 1, "build_s": 0}
    backend = AzureBackend(**settings)
    lease = rented(backend, order_of(backend))
    name = str(backend.launch(lease, TICKET)["job"])
    until(lambda: backend.reasons(lease), what="the news")
    (said,) = backend.reasons(lease)
    assert said.startswith(f"the job of {TICKET} was Preparing for more than 1 s: {name}")
    assert "another one follows now" in said
    gone(azure, backend, lease)


def test_a_cancelled_job_that_does_not_end_is_said_and_not_cancelled_all_the_time(
    played, monkeypatch
):
    """`--fault unending=SECONDS`."""
    monkeypatch.setattr(jobs, "SLOW_S", 1.0)
    rehearsal, backend = played("unending=600")
    cloud = rehearsal._cloud
    cloud.physics(processes=False)
    lease = rented(backend, order_of(backend))
    name = str(backend.launch(lease, TICKET)["job"])
    until(lambda: statuses(cloud, lease)[name] == "Running", what="the job")

    def told() -> bool:
        backend.teardown(lease)
        return bool(backend.reasons(lease))

    until(told, what="what does not end")
    (said,) = backend.reasons(lease)
    assert f"job {name} of {TICKET} was cancelled" in said and "CancelRequested" in said
    assert len(cloud.log(f"POST .*jobs/{name}/cancel")) == 1
    cloud.physics(cancel_s=0.0)
    cloud.advance(601.0)
    release_confirmed(backend, lease, timeout_s=60.0)


def test_throttling_is_said_with_azure_s_own_wait(played, monkeypatch):
    """`--fault throttle=SECONDS`: no wait is begun that would outlast the call."""
    monkeypatch.setattr(rest, "LONGEST_CALL_S", 3.0)
    rehearsal, backend = played("throttle=60")
    began = time.monotonic()
    with pytest.raises(ControlPlaneError, match=r"\(429\) and asks to wait for 60 s"):
        for _ in range(40):
            backend._service.workspace()
    assert time.monotonic() - began < 30.0
    assert rehearsal.account(0.0).faults == [("throttle=60", 1)]


@pytest.mark.parametrize("how", ["unreachable", "busy"])
def test_a_sign_in_that_does_not_answer_is_not_a_refused_one(played, how):
    """`--fault sign-in=…`."""
    rehearsal, backend = played(f"sign-in={how}")
    with pytest.raises(ControlPlaneError, match="the sign-in did not answer") as error:
        backend._service.workspace()
    assert "HTTPS_PROXY" in str(error.value.hint)
    assert rehearsal.account(0.0).faults[0][1] > 0


def test_the_cause_of_a_failed_sign_in_is_kept():
    found = translated(ClientAuthenticationError(message=PROXY), "ask for it")
    assert isinstance(found, ControlPlaneError)
    assert "Caused by ProxyError('Unable to connect to proxy')" in found.message
    refused = "\tEnvironmentCredential: AADSTS7000222: The provided client secret is expired."
    found = translated(ClientAuthenticationError(message=refused), "ask for it")
    assert isinstance(found, SignInRefused) and "AADSTS7000222" in found.message


def test_a_busy_sign_in_of_a_node_is_not_a_missing_role():
    """`--fault sign-in=node-busy`: a traceback quotes the library's source before the error."""
    log = [
        "    raise ClientAuthenticationError(message=message)",
        "azure.core.exceptions.ClientAuthenticationError: DefaultAzureCredential failed to get",
        "\tManagedIdentityCredential: (429) Temporarily throttled, too many requests",
    ]
    assert start.not_let_in(log) == log[1]
    from drillyard_backends.azure.login import busy

    assert busy(log) == log[2].strip()
    assert busy(log[:2]) == ""
