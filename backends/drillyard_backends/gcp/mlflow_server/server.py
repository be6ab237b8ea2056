"""The whole server: made, shown and taken away part by part; each step may be done again."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from drillyard.errors import ControlPlaneError, DrillyardError, InfrastructureError
from drillyard_backends.gcp.mlflow_server import identity
from drillyard_backends.gcp.mlflow_server.bucket import ArtifactBucket
from drillyard_backends.gcp.mlflow_server.database import Instance
from drillyard_backends.gcp.mlflow_server.google import Exists, Google
from drillyard_backends.gcp.mlflow_server.image import Image, Repository
from drillyard_backends.gcp.mlflow_server.names import Choices
from drillyard_backends.gcp.mlflow_server.part import Part, State
from drillyard_backends.gcp.mlflow_server.secret import AddressSecret
from drillyard_backends.gcp.mlflow_server.service import Service
from drillyard_backends.gcp.mlflow_server.tokens import TOKENS

_TIMEOUT_S = 60.0
Say = Callable[[str, str], None]


@contextmanager
def _explained(part: Part) -> Iterator[None]:
    """Google answers 409 also where something is being changed, or is not empty yet."""
    try:
        yield
    except Exists as error:
        raise ControlPlaneError(
            f"{part.title}: {error}", hint="nothing is lost: run the same command again"
        ) from error


@dataclass(frozen=True)
class Serving:
    """What the address answers.

    Attributes:
        closed: Who shows no token is turned away.
        serving: The server answers with a token; None where we have none.
        words: For people.
    """

    closed: bool
    serving: bool | None
    words: str


class MlflowServer:
    """An MLflow server on Google Cloud.

    Args:
        choices: What and where.
        google: The door; tests bring a clock with it.
    """

    def __init__(self, choices: Choices, google: Google | None = None) -> None:
        self.choices = choices
        self._google = google or Google(choices.project)
        self._number: str | None = None

    @property
    def url(self) -> str:
        """Its address: the same for ever.

        Raises:
            UserError: There is no such project.
        """
        if self._number is None:
            self._number = identity.project_number(self._google, self.choices.project)
        return self.choices.url(self._number)

    def parts(self) -> list[Part]:
        """What it consists of, in the order in which it is made."""
        google, choices = self._google, self.choices
        secret, repository = AddressSecret(google, choices), Repository(google, choices)
        parts: list[Part] = [
            identity.Services(google, choices),
            identity.Account(google, choices, choices.account, "server", "roles/cloudsql.client"),
            ArtifactBucket(google, choices),
            secret,
            Instance(google, choices, secret),
        ]
        if choices.image is None:
            parts += [
                identity.Account(
                    google, choices, choices.builder, "builder", "roles/logging.logWriter"
                ),
                repository,
                Image(google, choices, repository),
            ]
        return [*parts, Service(google, choices, self.url, secret)]

    def look(self) -> list[tuple[str, State]]:
        """Every part, and what is there of it; changes nothing."""
        return [(part.title, part.look()) for part in self.parts()]

    def up(self, say: Say) -> None:
        """Creates missing parts, repairs changed ones, leaves the rest.

        Args:
            say: Told (part, what was done) as it goes.

        Raises:
            UserError: A right is missing, or a name is taken.
            InfrastructureError: Google fails; the same call goes on.
        """
        parts = self.parts()
        self._google.patient = True
        for part in parts:
            with _explained(part):
                say(part.title, part.ensure())

    def down(self, say: Say, delete_data: bool = False) -> None:
        """Take the server away; with ``delete_data`` everything else, too.

        Args:
            say: Told (part, what was done) as it goes.
            delete_data: Also what was tracked: database, files, secret, image, accounts.
        """
        for part in reversed(self.parts()):
            if part.keeps_data and not delete_data:
                continue
            with _explained(part):
                say(part.title, "deleted" if part.delete() else "not there")

    def ask(self) -> Serving:
        """Ask the address itself, as a stranger and as ourselves."""
        try:
            stranger = self._get(None)
        except InfrastructureError as error:
            return Serving(True, False, str(error))
        if stranger not in (401, 403):
            return Serving(False, None, f"a stranger gets {stranger}, not 403")
        try:
            ours = self._get(TOKENS.token(self.url))
        except DrillyardError as error:
            return Serving(True, None, str(error))
        words = "answers" if ours == 200 else f"answers {ours} to us: name yourself with --member"
        return Serving(True, ours == 200, words)

    def _get(self, token: str | None) -> int:
        """Status of ``/health``."""
        import requests

        headers = {"Authorization": f"Bearer {token}"} if token else {}
        try:
            answer = requests.get(f"{self.url}/health", headers=headers, timeout=_TIMEOUT_S)
        except requests.RequestException as error:
            raise ControlPlaneError(
                f"{self.url} does not answer: {error}", hint="drillyard mlflow gcp status"
            ) from error
        return int(answer.status_code)
