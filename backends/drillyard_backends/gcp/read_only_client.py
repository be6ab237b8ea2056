"""Asking Google without changing anything: what ``plan`` and ``doctor`` may do at most.

Only GET, and the POSTs by which Google tells permissions and policies. The credentials are
the ones that renting would use.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import quote

from tenacity import (
    Retrying,
    retry_if_exception_type,
    retry_if_result,
    stop_after_attempt,
    stop_after_delay,
    wait_exponential,
    wait_random,
)

from drillyard.documents.json_types import JsonObject
from drillyard.errors import ControlPlaneError, SignInRefused
from drillyard.system.clock import SYSTEM, Clock
from drillyard_backends.gcp.errors import too_many

if TYPE_CHECKING:
    from google.auth.credentials import Credentials
    from google.auth.transport.requests import AuthorizedSession
    from requests import Response

COMPUTE = "https://compute.googleapis.com/compute/v1"
STORAGE = "https://storage.googleapis.com/storage/v1"
PROJECTS = "https://cloudresourcemanager.googleapis.com/v1/projects"
SERVICES = "https://serviceusage.googleapis.com/v1/projects"
REGISTRY = "https://artifactregistry.googleapis.com/v1/projects"
IAM = "https://iam.googleapis.com/v1/projects"
_OWN = ".iam.gserviceaccount.com"
_SCOPE = "https://www.googleapis.com/auth/cloud-platform"
_TIMEOUT_S = 20.0
_PATIENCE_S = 45.0
"""How long one question is repeated."""
_AGAIN = {500, 502, 503, 504}


@dataclass(frozen=True)
class Answer:
    """Google's answer.

    Attributes:
        status: HTTP status.
        body: The document; empty if there is none.
        date: Time of the answer in epoch seconds by Google's clock; None if unknown.
    """

    status: int
    body: Mapping[str, Any]
    date: float | None = None

    @property
    def good(self) -> bool:
        """True if Google answered the question."""
        return self.status < 300

    @property
    def message(self) -> str:
        """Google's message about an error."""
        error = self.body.get("error")
        text = error.get("message") if isinstance(error, dict) else None
        return str(text or f"HTTP {self.status}")

    @property
    def busy(self) -> bool:
        """True if the same question may be answered a moment later."""
        return self.status in _AGAIN or too_many(self.status, json.dumps(dict(self.body)))

    @property
    def api_off(self) -> bool:
        """True if the API itself is not enabled in the project."""
        return self.status == 403 and (
            "has not been used" in self.message or "is disabled" in self.message
        )


@dataclass(frozen=True)
class Question:
    """A request that changes nothing.

    Attributes:
        method: GET or POST.
        url: Address, without the query.
        params: The query; names may repeat.
        body: JSON, or None.
        signed: True to send our credentials.
    """

    method: str
    url: str
    params: Sequence[tuple[str, str]] = ()
    body: JsonObject | None = None
    signed: bool = True


class Line(Protocol):
    """Sends one question; a test brings its own."""

    def send(self, question: Question) -> Answer:
        """Sends a question once.

        Raises:
            ControlPlaneError: Google does not answer.
            SignInRefused: Google rejects the credentials.
        """

    @property
    def identity(self) -> str:
        """The caller as an IAM member: ``serviceAccount:…``; empty for a person's own login."""


class Reader:
    """Questions about one project.

    Args:
        project: Its id.
        line: Sends them; default: HTTPS with the default credentials.
        clock: This machine's, to compare with Google's.
    """

    def __init__(self, project: str, line: Line | None = None, clock: Clock = SYSTEM) -> None:
        self.project = project
        self._line = line or HttpsLine(project)
        self._clock = clock
        self._never = threading.Event()

    @property
    def member(self) -> str:
        """The caller, in the form for commands that grant a role."""
        return self._line.identity or 'user:"$(gcloud config get account)"'

    def compute(self, path: str, **params: str) -> Answer:
        """GET below ``/compute/v1``; a path that begins with ``projects/`` is taken as it is.

        Raises:
            ControlPlaneError: Google does not answer.
            SignInRefused: The credentials are not accepted.
        """
        whole = path if path.startswith("projects/") else f"projects/{self.project}/{path}"
        return self._ask(Question("GET", f"{COMPUTE}/{whole.rstrip('/')}", list(params.items())))

    def bucket(self, name: str) -> Answer:
        """The bucket's description."""
        return self._ask(Question("GET", f"{STORAGE}/b/{quote(name, safe='')}"))

    def bucket_policy(self, name: str) -> Answer:
        """The IAM policy of a bucket."""
        url = f"{STORAGE}/b/{quote(name, safe='')}/iam"
        return self._ask(Question("GET", url, [("optionsRequestedPolicyVersion", "3")]))

    def bucket_rights(self, name: str, permissions: Iterable[str]) -> Answer:
        """Which of these rights we have on a bucket."""
        url = f"{STORAGE}/b/{quote(name, safe='')}/iam/testPermissions"
        return self._ask(Question("GET", url, [("permissions", each) for each in permissions]))

    def project_rights(self, permissions: Sequence[str]) -> Answer:
        """Which of these rights we have in the project."""
        url = f"{PROJECTS}/{self.project}:testIamPermissions"
        return self._ask(Question("POST", url, body={"permissions": list(permissions)}))

    def project_policy(self) -> Answer:
        """The IAM policy of the project."""
        url = f"{PROJECTS}/{self.project}:getIamPolicy"
        body: JsonObject = {"options": {"requestedPolicyVersion": 3}}
        return self._ask(Question("POST", url, body=body))

    def folder_policy(self, bucket: str, folder: str) -> Answer:
        """The IAM policy of a managed folder of a bucket.

        Args:
            bucket: Name of the bucket.
            folder: Name of the folder, with a slash at its end.
        """
        name = f"{quote(bucket, safe='')}/managedFolders/{quote(folder, safe='')}"
        params = [("optionsRequestedPolicyVersion", "3")]
        return self._ask(Question("GET", f"{STORAGE}/b/{name}/iam", params))

    def account(self, email: str) -> Answer:
        """A service account's description."""
        return self._ask(Question("GET", _account_url(email)))

    def account_rights(self, email: str, permissions: Sequence[str]) -> Answer:
        """Which of these rights we have on a service account."""
        url = f"{_account_url(email)}:testIamPermissions"
        return self._ask(Question("POST", url, body={"permissions": list(permissions)}))

    def repository_policy(self, project: str, location: str, repository: str) -> Answer:
        """The IAM policy of a repository of Artifact Registry."""
        name = f"{quote(project)}/locations/{quote(location)}/repositories/{quote(repository)}"
        params = [("options.requestedPolicyVersion", "3")]
        return self._ask(Question("GET", f"{REGISTRY}/{name}:getIamPolicy", params))

    def services(self, apis: Iterable[str]) -> Answer:
        """Returns the states of APIs in the project."""
        names = [("names", f"projects/{self.project}/services/{name}") for name in apis]
        return self._ask(Question("GET", f"{SERVICES}/{self.project}/services:batchGet", names))

    def skew_s(self, bucket: str) -> float | None:
        """Seconds by which this machine's clock is ahead of Google's; None if unknown.

        Asked without credentials: with a wrong clock none are accepted.

        Raises:
            ControlPlaneError: Google does not answer.
        """
        before = self._clock.now()
        answer = self._ask(Question("GET", f"{STORAGE}/b/{quote(bucket, safe='')}", signed=False))
        after = self._clock.now()
        return None if answer.date is None else (before + after) / 2.0 - answer.date

    def _ask(self, question: Question) -> Answer:
        # A question changes nothing, so it is repeated also where its answer was lost.
        retrying = Retrying(
            stop=stop_after_attempt(4) | stop_after_delay(_PATIENCE_S),
            wait=wait_exponential(0.3, max=3.0) + wait_random(0.0, 0.3),
            retry=retry_if_result(lambda answer: answer.busy)
            | retry_if_exception_type(ControlPlaneError),
            retry_error_callback=lambda state: state.outcome.result() if state.outcome else None,
            sleep=self._sleep,
        )
        answer: Answer = retrying(self._line.send, question)
        if answer.busy:
            raise ControlPlaneError(
                f"{question.url}: {answer.message}",
                hint="try again later; https://status.cloud.google.com shows outages",
            )
        return answer

    def _sleep(self, seconds: float) -> None:
        self._clock.wait(self._never, seconds)


class HttpsLine:
    """HTTPS with the credentials that google.auth finds.

    Args:
        project: Project whose quota a person's login uses. The APIs about projects, identities
            and services refuse such a login without one.
    """

    def __init__(self, project: str = "") -> None:
        self._project = project
        self._session: AuthorizedSession | None = None
        self._credentials: Credentials | None = None

    @property
    def identity(self) -> str:
        """The service account that asks, or empty for a person's login."""
        email = getattr(self._credentials, "service_account_email", None)
        return f"serviceAccount:{email}" if email and email != "default" else ""

    def send(self, question: Question) -> Answer:
        """See ``Line``."""
        import requests
        from google.auth import exceptions

        try:
            session = self._signed() if question.signed else requests
            response = session.request(
                question.method,
                question.url,
                params=list(question.params),
                json=question.body,
                timeout=_TIMEOUT_S,
            )
        except exceptions.DefaultCredentialsError as error:
            raise SignInRefused(
                f"no Google credentials: {_first(error)}",
                hint="gcloud auth application-default login; or set "
                "GOOGLE_APPLICATION_CREDENTIALS to a key file",
            ) from None
        except exceptions.RefreshError as error:
            raise SignInRefused(
                f"Google does not accept the credentials of "
                f"{self.identity or 'your gcloud login'}: {_first(error)}",
                hint="gcloud auth application-default login; and is this machine's clock right?",
            ) from None
        except (exceptions.TransportError, requests.RequestException) as error:
            raise ControlPlaneError(
                f"{question.url.split('/')[2]} cannot be reached: {_first(error)}",
                hint="is this machine online, and HTTPS_PROXY right?",
            ) from error
        date = _date(response.headers.get("Date"))
        return Answer(response.status_code, _document(response), date)

    def _signed(self) -> AuthorizedSession:
        if self._session is None:
            import google.auth
            from google.auth.transport import requests
            from google.oauth2.credentials import Credentials

            self._credentials, _ = google.auth.default(scopes=[_SCOPE])
            person = isinstance(self._credentials, Credentials)
            if person and self._project and not self._credentials.quota_project_id:
                self._credentials = self._credentials.with_quota_project(self._project)
            self._session = requests.AuthorizedSession(self._credentials)
        return self._session


def _account_url(email: str) -> str:
    """By the account's own project: with ``-`` Google answers 403 where there is no account."""
    domain = email.partition("@")[2]
    project = domain.removesuffix(_OWN) if domain.endswith(_OWN) else "-"
    return f"{IAM}/{project}/serviceAccounts/{quote(email, safe='@')}"


def _document(response: Response) -> Mapping[str, Any]:
    try:
        body = response.json()
    except ValueError:
        return {}
    return body if isinstance(body, dict) else {}


def _date(text: str | None) -> float | None:
    try:
        date: datetime | None = parsedate_to_datetime(text) if text else None
    except ValueError:
        return None
    return None if date is None else date.timestamp()


def _first(error: BaseException) -> str:
    return str(error).strip().partition("\n")[0][:300] or type(error).__name__
