"""The tables of the pages of the first hour: the provider's own words, and what we make of them.

The words are read from the pages, so a page shows nothing that was not sent to the code.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from types import SimpleNamespace

import pytest
from azure.core.exceptions import ClientAuthenticationError, HttpResponseError
from google.api_core import exceptions as api
from google.auth.exceptions import DefaultCredentialsError, RefreshError
from requests import Request, Response

from drillyard.errors import DrillyardError
from drillyard_backends.azure import errors as azure
from drillyard_backends.azure import storage_errors as blobs
from drillyard_backends.azure.job_failures import _BUILD_FIXES, _PREEMPTED, _QUOTA
from drillyard_backends.gcp import errors as google
from drillyard_backends.gcp import storage_errors as bucket

PAGES = Path(__file__).parents[3] / "docs" / "how-to"
ROW = re.compile(
    r"^\| `(?P<words>.+?)`(?P<more>[^|]*) \| .+ \| .+ \| .*\]\(https://github\.com/\S+\) \|$"
)


def rows(page: str) -> list[str]:
    """The words of the provider, a row each; every row has a source."""
    text = (PAGES / page).read_text("utf-8").partition("says, and what to do")[2]
    lines = [line for line in text.splitlines() if line.startswith("| `")]
    matches = [ROW.match(line) for line in lines]
    assert all(matches), [line for line, match in zip(lines, matches, strict=True) if not match]
    return [match["words"].replace("…", "x") for match in matches if match]


def of_page(page: str, begin: str) -> str:
    """The row that has these words."""
    (words,) = [row for row in rows(page) if begin in row]
    return words


@pytest.mark.parametrize("page", ["google-cloud-first-hour.md", "azure-first-hour.md"])
def test_each_page_explains_fifteen_errors_with_their_sources(page):
    words = rows(page)
    assert len(words) == len(set(words)) >= 15


# -- Google ---------------------------------------------------------------------------------------


def answer(status: int, text: str, reason: str) -> api.GoogleAPICallError:
    response = Response()
    response.status_code = status
    response.request = Request("GET", "https://compute.googleapis.com/compute/v1").prepare()
    each = {"message": text, "domain": "global", "reason": reason}
    error = {"code": status, "message": text, "errors": [each]}
    response._content = json.dumps({"error": error}).encode()
    made: api.GoogleAPICallError = api.from_http_response(response)
    return made


def call(status: int, reason: str = "forbidden"):
    return lambda text: google.translate(answer(status, text, reason), "insert", "p")


def operation(text: str):
    code, _, message = text.rpartition(": ") if text.startswith("ZONE") else ("", "", text)
    error = SimpleNamespace(code=code.partition(":")[0] or "QUOTA_EXCEEDED", message=message)
    return google.of_operation([error], "insert", "p")


def of_bucket(text: str):
    with pytest.raises(DrillyardError) as raised, bucket.seam("gs://b", "k"):
        raise answer(403, text, "forbidden")
    return raised.value


GOOGLE = [
    ("This API method requires billing", call(403), "billing", "linkedaccount"),
    ("disabled in state absent", of_bucket, "billing account", "linkedaccount"),
    ("has not been used in project", call(403), "before or it is disabled", "services enable"),
    (
        "default credentials were not found",
        lambda text: google.translate(DefaultCredentialsError(text), "insert", "p"),
        "no Google credentials",
        "gcloud auth application-default login",
    ),
    (
        "invalid_rapt",
        lambda text: google.translate(RefreshError(text), "insert", "p"),
        "did not accept the credentials",
        "gcloud auth application-default login",
    ),
    ("GPUS_ALL_REGIONS", operation, "Limit: 0.0", "metric=GPUS_ALL_REGIONS"),
    ("CPUS_ALL_REGIONS", call(403, "quotaExceeded"), "quota", "a higher quota"),
    ("ZONE_RESOURCE_POOL", operation, "enough resources", "more zones"),
    ("vmExternalIpAccess", call(412), "a policy of the organization", "exception"),
    ("requireShieldedVm", call(412), "a policy of the organization", "exception"),
    ("serviceAccounts.actAs", call(403), "no permission", "serviceAccountUser"),
    ("storage.objects.list", of_bucket, "no permission", "roles/storage.objectAdmin"),
]


@pytest.mark.parametrize(("begin", "sent", "says", "fix"), GOOGLE)
def test_googles_words_get_a_sentence_and_a_fix(begin, sent, says, fix):
    error = sent(of_page("google-cloud-first-hour.md", begin))
    assert says in str(error)
    assert fix in error.hint


def test_a_name_that_google_repeats_is_no_reason():
    text = "Required 'compute.instances.create' permission for 'projects/ml-billing/zones/z'"
    assert "linkedaccount" not in call(403)(text).hint
    for words in ("Project p has billing disabled", "requires billing to be enabled"):
        assert "linkedaccount" in call(403)(words).hint


# -- Azure ----------------------------------------------------------------------------------------


def manager(status: int):
    """An answer of Azure's Resource Manager: the code is in brackets, or first."""

    def sent(text: str):
        match = re.match(r"\((\w+)\) (.*)", text) or re.match(r"(\w+)[:,] (.*)", text)
        code, message = match.groups() if match else ("BadRequest", text)
        error = HttpResponseError(message)
        error.status_code, error.error = status, SimpleNamespace(code=code, message=message)
        return azure.translated(error, "create")

    return sent


def sign_in(text: str):
    return azure.translated(ClientAuthenticationError(message=text), "create")


def of_blob(text: str):
    code, _, message = text.removeprefix("(").partition(") ")
    error = HttpResponseError(message)
    error.status_code, error.error_code = 403, code
    with pytest.raises(DrillyardError) as raised, blobs.seam("az://a/c", "k"):
        raise error
    return raised.value


AZURE = [
    ("MissingSubscriptionRegistration", manager(409), "not registered", "az provider register"),
    ("RequestDisallowedByAzure", manager(403), "best available regions", "some regions"),
    ("ReadOnlyDisabledSubscription", manager(409), "marked as read only", "upgrade"),
    ("az login' to set up", sign_in, "did not accept the sign-in", "az login"),
    ("AADSTS700082", sign_in, "expired due to inactivity", "az login"),
    ("AADSTS70043", sign_in, "conditional access", "az login"),
    ("does not have authorization", manager(403), "no permission", "`drillyard plan` lists"),
    ("AuthorizationPermissionMismatch", of_blob, "no permission", "Storage Blob Data Contributor"),
    ("(AuthorizationFailure)", of_blob, "no permission", "network rules"),
    ("total vCPU quota of 0", manager(400), "quota of 0", "a higher quota"),
    ("ClusterMinNodesExceedCoreQuota", manager(400), "quota of 6", "a higher quota"),
    ("LowPriorityCores", manager(409), "LowPriorityCores quota", "a higher quota"),
]


@pytest.mark.parametrize(("begin", "sent", "says", "fix"), AZURE)
def test_azures_words_get_a_sentence_and_a_fix(begin, sent, says, fix):
    error = sent(of_page("azure-first-hour.md", begin))
    assert says in str(error)
    assert fix in error.hint


def test_what_a_failed_job_says_is_known():
    page = "azure-first-hour.md"
    for key in ("TasksOperationsNotAllowed", "toomanyrequests"):
        assert key in of_page(page, key) and key in _BUILD_FIXES
    assert _QUOTA.search(of_page(page, "JobNodeCountExceedsCoreQuota"))
    assert _PREEMPTED.search(of_page(page, "PreemptionError"))
    assert "image build" in of_page(page, "Build log").lower()
