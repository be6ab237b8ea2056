"""The secret: the database's address with its password. It is created here and never shown."""

from __future__ import annotations

import base64
import contextlib
import secrets
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from drillyard.system.redaction import register_secret
from drillyard_backends.gcp.mlflow_server.google import Exists, Google
from drillyard_backends.gcp.mlflow_server.names import DATABASE, LABELS, USER, Choices
from drillyard_backends.gcp.mlflow_server.part import Part

if TYPE_CHECKING:
    from googleapiclient.discovery import Resource

_GUESTS = "drillyard-guests"
"""Annotation of versions that never removed it: who had access before the last ``down``."""
_WAITING = "drillyard-waiting-guests"
"""Annotation: who must get access again; removed once they have it."""


class AddressSecret(Part):
    """One secret in Secret Manager; only the server reads it."""

    title = "secret with the database's password"
    role = "roles/secretmanager.secretAccessor"

    def __init__(self, google: Google, choices: Choices) -> None:
        super().__init__(google, choices)
        self._version = "latest"

    @property
    def called(self) -> str:
        """See ``Part``."""
        return f"the secret {self._choices.secret}"

    def ensure(self) -> str:
        """Creates it with a random password, and lets the server read it."""
        resource, done = self.current(), "kept"
        if resource is None:
            replica = {"location": self._choices.region}
            body = {"labels": LABELS, "replication": {"userManaged": {"replicas": [replica]}}}
            with contextlib.suppress(Exists):  # the first answer was lost
                parent, key = f"projects/{self._choices.project}", self._choices.secret
                self._google.call(self.collection.create(parent=parent, secretId=key, body=body))
            resource, done = self.current() or {}, "made"
        self.must_be_ours(resource)
        if self._address() is None:
            password = secrets.token_urlsafe(32)
            register_secret(password)
            data = base64.b64encode(self._written(password).encode()).decode()
            version = self._google.call(
                self.collection.addVersion(parent=self.name, body={"payload": {"data": data}})
            )
            # Only reading by number is consistent at once: "latest" may lag.
            self._version = str(version["name"]).rpartition("/")[2]
            done = done if done == "made" else "filled"
        changed = self.grant()
        return "opened for the server" if changed and done == "kept" else done

    def password(self) -> str:
        """What the database's user logs in with.

        Raises:
            UserError: We may not read it.
        """
        address = self._address()
        assert address is not None, "ensure comes first"
        password = urlsplit(address).password or ""
        register_secret(password)
        return password

    def remember(self, guests: list[str]) -> None:
        """Keep who may use the server while there is none: its own list goes with it.

        Args:
            guests: Empty once they have access again: from then on its own list counts.
        """
        resource = self.current()
        if resource is None:
            return
        before = resource.get("annotations", {})
        notes = {k: v for k, v in before.items() if k not in (_GUESTS, _WAITING)}
        if guests:
            notes[_WAITING] = ",".join(sorted(guests))
        if notes != before:
            body = {"annotations": notes}
            request = self.collection.patch(name=self.name, updateMask="annotations", body=body)
            self._google.call(request)

    def remembered(self, server_is_there: bool) -> list[str]:
        """Who might use the server that was there before, and has no access yet.

        Args:
            server_is_there: An ``up`` may have ended before it gave them access.
        """
        notes = (self.current() or {}).get("annotations", {})
        text = notes.get(_WAITING) or ("" if server_is_there else notes.get(_GUESTS, ""))
        return text.split(",") if text else []

    # -- inside -------------------------------------------------------------------------------

    def _written(self, password: str) -> str:
        host = f"/cloudsql/{self._choices.connection}"
        # The driver is named: a bare postgresql:// means another one in each SQLAlchemy.
        return f"postgresql+psycopg://{USER}:{password}@/{DATABASE}?host={host}"

    def _address(self) -> str | None:
        """The newest version; None where there is none, or it is of another instance."""
        resource = self._google.find(
            self.collection.versions().access(name=f"{self.name}/versions/{self._version}")
        )
        if resource is None:
            return None
        text = base64.b64decode(resource["payload"]["data"]).decode()
        return text if text.endswith(f"host=/cloudsql/{self._choices.connection}") else None

    @property
    def collection(self) -> Resource:
        """See ``Part``."""
        return self._google.api("secretmanager", "v1").projects().secrets()

    @property
    def name(self) -> str:
        """See ``Part``."""
        return f"projects/{self._choices.project}/secrets/{self._choices.secret}"
