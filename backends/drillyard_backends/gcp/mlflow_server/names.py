"""What the server's parts are called: all of it follows from few choices."""

from __future__ import annotations

import hashlib
import re
from functools import cached_property
from importlib.resources import files
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, ValidationError

from drillyard.errors import ConfigError, ConfigErrors

LABELS = {"managed-by": "drillyard"}
DATABASE = "mlflow"
USER = "mlflow"
SMALLEST = "db-f1-micro"
PORT = 8080


def _form(pattern: str, allowed: str) -> AfterValidator:
    """Returns the check of a text; its error says what is allowed."""

    def check(value: str) -> str:
        if not re.fullmatch(pattern, value):
            raise ValueError(allowed)
        return value

    return AfterValidator(check)


Member = Annotated[
    str,
    _form(
        r"(?:user|group|serviceAccount):[^\s:@]+@[^\s:@]+\.[^\s:@]+|domain:[a-z0-9.-]+",
        "user:, group:, serviceAccount: and an e-mail, or domain:; never everybody",
    ),
]


class Choices(BaseModel):
    """What a user chooses.

    Attributes:
        project: Id of the Google Cloud project.
        region: Where everything is.
        name: Name of the server; the names of all parts are made from it.
        tier: Machine of the database; None keeps what it has, and starts with the smallest.
        members: Who may use the server: ``user:``, ``group:``, ``serviceAccount:``, ``domain:``.
        image: An image of one's own instead of the one that is built.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    project: Annotated[
        str,
        _form(r"[a-z][a-z0-9-]{4,28}[a-z0-9]", "the project's id: 6 to 30 of a-z, 0-9 and -"),
    ]
    region: Annotated[str, _form(r"[a-z]+-[a-z]+[0-9]+", "a region, not a zone: europe-west1")]
    name: Annotated[
        str, _form(r"[a-z][a-z0-9-]{4,22}[a-z0-9]", "6 to 24 of a-z, 0-9 and -, a letter first")
    ] = "drillyard-mlflow"
    tier: (
        Annotated[str, _form(r"db-[a-z0-9-]+", "a Cloud SQL tier: db-f1-micro, db-custom-1-3840")]
        | None
    ) = None
    members: tuple[Member, ...] = ()
    image: str | None = None

    # -- names that follow --------------------------------------------------------------------

    @property
    def account(self) -> str:
        """E-mail of the service account that the server is."""
        return f"{self.name}@{self.project}.iam.gserviceaccount.com"

    @property
    def builder(self) -> str:
        """E-mail of the service account that builds its image."""
        return f"{self.name}-build@{self.project}.iam.gserviceaccount.com"

    @property
    def bucket(self) -> str:
        """Where artifacts are: bucket names are the whole world's, so it starts with ours."""
        return f"{self.project}-{self.name}"

    @property
    def connection(self) -> str:
        """The database instance as Cloud Run names it."""
        return f"{self.project}:{self.region}:{self.name}"

    @property
    def secret(self) -> str:
        """Name of the secret: the database's address with its password."""
        return f"{self.name}-backend-store"

    @property
    def place(self) -> str:
        """``projects/P/locations/R``."""
        return f"projects/{self.project}/locations/{self.region}"

    @cached_property
    def image_tag(self) -> str:
        """Changes when the recipe does."""
        recipe = b"\0".join(read_data(name).encode() for name in sorted(RECIPE))
        return f"r-{hashlib.sha256(recipe).hexdigest()[:12]}"

    @property
    def image_uri(self) -> str:
        """What Cloud Run runs."""
        built = f"{self.region}-docker.pkg.dev/{self.project}/{self.name}/mlflow:{self.image_tag}"
        return self.image or built

    def url(self, project_number: str) -> str:
        """The server's address: it is the same after every ``down`` and ``up``."""
        return f"https://{self.name}-{project_number}.{self.region}.run.app"


RECIPE = ("Dockerfile", "requirements.txt", "entrypoint.py")


def read_data(name: str) -> str:
    """A file of the image's recipe."""
    return files("drillyard_backends.gcp.mlflow_server").joinpath("image", name).read_text()


def choose(**values: Any) -> Choices:
    """The choices, or everything that is wrong with them.

    Raises:
        ConfigError: With what is allowed.
    """
    try:
        return Choices.model_validate(values)
    except ValidationError as error:
        problems = [
            ConfigError(
                "cannot be",
                file="command line",
                field="--" + ("member" if e["loc"][0] == "members" else str(e["loc"][0])),
                value=e["input"],
                allowed=str(e["msg"]).removeprefix("Value error, "),
                hint="drillyard mlflow gcp up --help",
            )
            for e in error.errors()
        ]
        raise (problems[0] if len(problems) == 1 else ConfigErrors(problems)) from None
