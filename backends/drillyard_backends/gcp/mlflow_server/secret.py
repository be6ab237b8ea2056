"""The secret: the database's address with its password. It is created here and never shown."""

from __future__ import annotations

import base64
import contextlib
import secrets
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from drillyard.system.redaction import register_secret
from drillyard_backends.gcp.mlflow_server import policies
from drillyard_backends.gcp.mlflow_server.google import Exists, Google
from drillyard_backends.gcp.mlflow_server.names import DATABASE, LABELS, USER, Choices
from drillyard_backends.gcp.mlflow_server.part import MISSING, State, must_be_ours

if TYPE_CHECKING:
    from googleapiclient.discovery import Resource
    from googleapiclient.http import HttpRequest

ROLE = "roles/secretmanager.secretAccessor"
_GUESTS = "drillyard-guests"
"""Annotation of versions that never removed it: who had access before the last ``down``."""
_WAITING = "drillyard-waiting-guests"
"""Annotation: who must get access again; removed once they have it."""


class AddressSecret:
    """One secret in Secret Manager; only the server reads it."""

    title = "secret with the database's password"
    keeps_data = True

    def __init__(self, google: Google, choices: Choices) -> None:
        self._google, self._choices = google, choices
        self._version = "latest"

    def look(self) -> State:
        """What is there."""
        if self._current() is None:
            return MISSING
        ready = policies.has(self._google.call(self._read()), ROLE, self._member)
        return State(True, ready, self._choices.secret)

    def ensure(self) -> str:
        """Creates it with a random password, and lets the server read it."""
        resource, done = self._current(), "kept"
        if resource is None:
            replica = {"location": self._choices.region}
            body = {"labels": LABELS, "replication": {"userManaged": {"replicas": [replica]}}}
            with contextlib.suppress(Exists):  # the first answer was lost
                self._google.call(
                    self._secrets.create(
                        parent=f"projects/{self._choices.project}",
                        secretId=self._choices.secret,
                        body=body,
                    )
                )
            resource, done = self._current() or {}, "made"
        must_be_ours(f"the secret {self._choices.secret}", resource.get("labels"))
        if self._address() is None:
            password = secrets.token_urlsafe(32)
            register_secret(password)
            data = base64.b64encode(self._written(password).encode()).decode()
            made = self._google.call(
                self._secrets.addVersion(parent=self._name, body={"payload": {"data": data}})
            )
            # Only reading by number is consistent at once: "latest" may lag.
            self._version = str(made["name"]).rpartition("/")[2]
            done = done if done == "made" else "filled"
        changed = policies.ensure(self._google, self._read, self._write, [(ROLE, self._member)])
        return "opened for the server" if changed and done == "kept" else done

    def delete(self) -> bool:
        """Remove it."""
        resource = self._current()
        if resource is None:
            return False
        must_be_ours(f"the secret {self._choices.secret}", resource.get("labels"))
        self._google.find(self._secrets.delete(name=self._name))
        return True

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
        resource = self._current()
        if resource is None:
            return
        before = resource.get("annotations", {})
        notes = {k: v for k, v in before.items() if k not in (_GUESTS, _WAITING)}
        if guests:
            notes[_WAITING] = ",".join(sorted(guests))
        if notes != before:
            self._google.call(
                self._secrets.patch(
                    name=self._name, updateMask="annotations", body={"annotations": notes}
                )
            )

    def remembered(self, server_is_there: bool) -> list[str]:
        """Who might use the server that was there before, and has no access yet.

        Args:
            server_is_there: An ``up`` may have ended before it gave them access.
        """
        notes = (self._current() or {}).get("annotations", {})
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
            self._secrets.versions().access(name=f"{self._name}/versions/{self._version}")
        )
        if resource is None:
            return None
        text = base64.b64decode(resource["payload"]["data"]).decode()
        return text if text.endswith(f"host=/cloudsql/{self._choices.connection}") else None

    @property
    def _secrets(self) -> Resource:
        return self._google.api("secretmanager", "v1").projects().secrets()

    @property
    def _name(self) -> str:
        return f"projects/{self._choices.project}/secrets/{self._choices.secret}"

    @property
    def _member(self) -> str:
        return f"serviceAccount:{self._choices.account}"

    def _current(self) -> dict[str, Any] | None:
        return self._google.find(self._secrets.get(name=self._name))

    def _read(self) -> HttpRequest:
        return self._secrets.getIamPolicy(resource=self._name, options_requestedPolicyVersion=3)

    def _write(self, policy: policies.Policy) -> HttpRequest:
        return self._secrets.setIamPolicy(resource=self._name, body={"policy": policy})
