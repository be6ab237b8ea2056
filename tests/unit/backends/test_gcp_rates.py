"""Too many requests a minute: Google answers 403, as for a missing right."""

from __future__ import annotations

import json
from http.client import IncompleteRead

import pytest
import requests
import urllib3
from google.api_core import exceptions as api
from google.auth import exceptions as auth
from requests import Request, Response

from drillyard.errors import AccessDenied, ControlPlaneError, StoreUnavailable
from drillyard.testing.clock import FakeClock
from drillyard_backends.gcp.errors import NoRoom, retryable, translate
from drillyard_backends.gcp.read_only_client import Answer, Question, Reader
from drillyard_backends.gcp.storage_errors import seam
from drillyard_backends.gcp.store import _retry

QUERIES = (
    "Quota exceeded for quota metric 'Queries' and limit 'Queries per minute' of service "
    "'compute.googleapis.com' for consumer 'project_number:1'."
)
RATES = [
    ("rateLimitExceeded", "Rate Limit Exceeded"),
    ("userRateLimitExceeded", "User Rate Limit Exceeded"),
    ("dailyLimitExceeded", "Daily Limit Exceeded"),
    ("rateLimitExceeded", QUERIES),
    ("quotaExceeded", QUERIES),
    ("quotaExceeded", "Quota exceeded for limit 'ReadRequestsPerMinutePerProject'"),
    ("RATE_LIMIT_EXCEEDED", QUERIES),
]
CPUS = "Quota 'N2_CPUS' exceeded.  Limit: 8.0 in region europe-west1."
RIGHT = "Required 'compute.instances.list' permission for 'projects/p'"


def answer(reason: str, text: str) -> Response:
    found = Response()
    found.status_code = 403
    found.request = Request("GET", "https://compute.googleapis.com/compute/v1").prepare()
    each = {"domain": "usageLimits", "reason": reason, "message": text}
    found._content = json.dumps(
        {"error": {"code": 403, "message": text, "errors": [each]}}
    ).encode()
    return found


def error(reason: str, text: str) -> api.GoogleAPICallError:
    made: api.GoogleAPICallError = api.from_http_response(answer(reason, text))
    return made


@pytest.mark.parametrize(("reason", "text"), RATES)
def test_a_rate_is_not_a_right_and_not_a_lack_of_room(reason, text):
    """Three healthy machines were deleted, because a command had "no permission"."""
    refusal = error(reason, text)
    assert retryable(refusal)
    found = translate(refusal, "list machines", "p")
    assert type(found) is ControlPlaneError and found.retryable
    with pytest.raises(StoreUnavailable) as raised, seam("gs://lab", "k"):
        raise refusal
    assert "permission" not in str(raised.value) and "objectAdmin" not in (raised.value.hint or "")
    with pytest.raises(StoreUnavailable, match="too many requests") as late, seam("gs://lab", "k"):
        raise api.RetryError("Timeout of 45.0s exceeded", cause=refusal)
    assert text.split("'")[0] in str(late.value)


def test_a_right_and_a_quota_of_machines_stay_what_they_are():
    for reason, text, kind in (
        ("forbidden", RIGHT, AccessDenied),
        ("quotaExceeded", CPUS, NoRoom),
    ):
        refusal = error(reason, text)
        assert not retryable(refusal)
        assert type(translate(refusal, "insert", "p")) is kind
    with pytest.raises(StoreUnavailable, match="no permission"), seam("gs://lab", "k"):
        raise error("forbidden", RIGHT)


def test_plan_asks_again_instead_of_missing_a_right():
    class Limited:
        identity = ""
        asked = 0

        def send(self, question: Question) -> Answer:
            self.asked += 1
            if self.asked <= 2:
                return Answer(403, answer("rateLimitExceeded", QUERIES).json())
            return Answer(200, {"name": "z"})

    line = Limited()
    reader = Reader("p", line, FakeClock())
    assert reader.compute("zones/z").good and line.asked == 3


def test_the_store_repeats_what_may_pass_and_nothing_else():
    """As Google's own retry does, and rates too."""
    passing: list[Exception] = [
        *(api.from_http_status(status, "x") for status in (408, 429, 500, 502, 503, 504)),
        ConnectionResetError("x"),
        requests.ConnectTimeout("x"),
        requests.exceptions.ChunkedEncodingError("x"),
        urllib3.exceptions.ProtocolError("x"),
        urllib3.exceptions.ReadTimeoutError(urllib3.HTTPSConnectionPool("h"), "/", "x"),
        IncompleteRead(b""),
        auth.TransportError(requests.ConnectionError("x")),
        error("rateLimitExceeded", "Rate Limit Exceeded"),
    ]
    for each in passing:
        tries: list[Exception] = []

        def once(each: Exception = each, tries: list[Exception] = tries) -> str:
            tries.append(each)
            if len(tries) == 1:
                raise each
            return "passed"

        assert _retry(45.0).with_delay(initial=0.001, maximum=0.001)(once)() == "passed"
    for final in (api.NotFound("x"), api.PreconditionFailed("x"), error("forbidden", RIGHT)):

        def refused(final: Exception = final) -> None:
            raise final

        with pytest.raises(type(final)):
            _retry(45.0)(refused)()
