"""The database: a small PostgreSQL of Cloud SQL, protected, backed up, reached by connector only.

No address is let in (``authorizedNetworks`` is empty and connectors are required), so that what
may reach it is decided by IAM alone. Its user's password is in the secret.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

from drillyard.errors import ControlPlaneError
from drillyard_backends.gcp.mlflow_server.google import Exists, Google
from drillyard_backends.gcp.mlflow_server.names import DATABASE, LABELS, SMALLEST, USER, Choices
from drillyard_backends.gcp.mlflow_server.part import Part, State, covers, must_be_ours
from drillyard_backends.gcp.mlflow_server.secret import AddressSecret

if TYPE_CHECKING:
    from googleapiclient.discovery import Resource
    from googleapiclient.http import HttpRequest

VERSION = "POSTGRES_16"
INSTANCE_S = 1800.0
"""Google makes an instance in about ten minutes."""
_SMALL_S = 300.0
_POLL_S = 5.0
GUARDED: dict[str, Any] = {
    "deletionProtectionEnabled": True,
    "connectorEnforcement": "REQUIRED",
    "storageAutoResize": True,
    "backupConfiguration": {"enabled": True, "pointInTimeRecoveryEnabled": True},
    "ipConfiguration": {"ipv4Enabled": True, "sslMode": "ENCRYPTED_ONLY"},
}
"""Settings that `up` restores after a change."""
IAM_LOGIN = {"name": "cloudsql.iam_authentication", "value": "on"}
"""People may be let into the database by their own names; the server has its password."""


class Instance(Part):
    """The database, its instance and its user."""

    title = "database"

    def __init__(self, google: Google, choices: Choices, secret: AddressSecret) -> None:
        super().__init__(google, choices)
        self._secret = secret
        self._sql = google.api("sqladmin", "v1")

    @property
    def collection(self) -> Resource:
        """See ``Part``."""
        return self._sql.instances()

    @property
    def name(self) -> str:
        """See ``Part``."""
        return self._choices.name

    @property
    def address(self) -> dict[str, str]:
        """See ``Part``."""
        return {"project": self._choices.project, "instance": self.name}

    @property
    def called(self) -> str:
        """See ``Part``."""
        return f"the database {self.name}"

    def state(self, resource: dict[str, Any]) -> State:
        """See ``Part``."""
        guarded = not self._mended(resource)
        ready = resource.get("state") == "RUNNABLE" and guarded
        words = f"{resource.get('databaseVersion')}, {resource.get('settings', {}).get('tier')}"
        words += "" if resource.get("state") == "RUNNABLE" else f", {resource.get('state')}"
        return State(True, ready, words if guarded else f"{words}, not guarded as it should be")

    def ensure(self) -> str:
        """Make the instance, the database in it and its user; each is waited for."""
        done = "kept"
        resource = self.current()
        if resource is None:
            settings = {
                "tier": self._choices.tier or SMALLEST,
                "edition": "ENTERPRISE",
                "availabilityType": "ZONAL",
                "dataDiskType": "PD_SSD",
                "userLabels": LABELS,
                "retainBackupsOnDelete": True,
                "databaseFlags": [IAM_LOGIN],
                **GUARDED,
            }
            body = {
                "name": self.name,
                "region": self._choices.region,
                "databaseVersion": VERSION,
                "settings": settings,
            }
            try:
                self._do(self.collection.insert(project=self._choices.project, body=body))
            except Exists as error:
                if self.current() is None:
                    raise ControlPlaneError(
                        f"the name {self.name} is taken by a database that cannot be seen, maybe "
                        f"one that is being deleted: {error}",
                        hint="try again in some minutes, or choose another --name",
                    ) from error
            done = "made"
        resource = self._runnable()
        self.must_be_ours(resource)
        changes = self._mended(resource)
        if self._choices.tier not in (None, resource["settings"].get("tier")):
            changes["tier"] = self._choices.tier
        if changes:
            self._do(self.collection.patch(**self.address, body={"settings": changes}))
            done = done if done == "made" else "changed"
        self._ensure_database()
        self._ensure_user()
        return done

    def must_be_ours(self, resource: dict[str, Any]) -> None:
        """See ``Part``."""
        must_be_ours(self.called, resource.get("settings", {}).get("userLabels"))

    def remove(self) -> None:
        """Removes the instance with its backups."""
        # Its setting keeps backups if it is deleted by mistake.
        body = {"settings": {"deletionProtectionEnabled": False, "retainBackupsOnDelete": False}}
        self._do(self.collection.patch(**self.address, body=body))
        self._do(self.collection.delete(**self.address))
        self.gone(_SMALL_S)

    # -- inside -------------------------------------------------------------------------------

    @staticmethod
    def _mended(resource: dict[str, Any]) -> dict[str, Any]:
        """The settings that must be put back; empty where all is as it should be."""
        settings = resource.get("settings", {})
        flags = settings.get("databaseFlags", [])
        addresses = settings.get("ipConfiguration", {}).get("authorizedNetworks")
        changes: dict[str, Any] = {}
        if not covers(settings, GUARDED) or addresses:
            changes = dict(GUARDED)
            changes["ipConfiguration"] = {**GUARDED["ipConfiguration"], "authorizedNetworks": []}
        if IAM_LOGIN not in flags:
            others = [flag for flag in flags if flag.get("name") != IAM_LOGIN["name"]]
            changes["databaseFlags"] = [*others, IAM_LOGIN]
        return changes

    def _runnable(self) -> dict[str, Any]:
        def look() -> dict[str, Any] | None:
            resource = self.current() or {}
            state = resource.get("state")
            if state in ("FAILED", "SUSPENDED"):
                raise ControlPlaneError(
                    f"the database is {state}", hint="look at it in the console: SQL"
                )
            return resource if state == "RUNNABLE" else None

        return self._google.wait(look, "the database", INSTANCE_S, _POLL_S)

    def _ensure_database(self) -> None:
        databases = self._sql.databases()
        if self._google.find(databases.get(**self.address, database=DATABASE)) is None:
            with contextlib.suppress(Exists):  # the first answer was lost
                self._do(databases.insert(**self.address, body={"name": DATABASE}), _SMALL_S)

    def _ensure_user(self) -> None:
        """The user with the secret's password, whatever it was before."""
        users, body = self._sql.users(), {"name": USER, "password": self._secret.password()}
        listed = self._google.call(users.list(**self.address)).get("items", [])
        if all(user["name"] != USER for user in listed):
            with contextlib.suppress(Exists):
                self._do(users.insert(**self.address, body=body), _SMALL_S)
                return
        self._do(users.update(**self.address, name=USER, body=body), _SMALL_S)

    def _do(self, request: HttpRequest, timeout_s: float = INSTANCE_S) -> None:
        """Do one thing to the instance; it does one at a time, and says 409 meanwhile."""

        def start() -> dict[str, Any] | None:
            try:
                return self._google.call(request)
            except Exists as error:
                if "another operation" in str(error) or "in progress" in str(error):
                    return None
                raise

        operation = self._google.wait(start, "the database", timeout_s, _POLL_S)

        names = {"project": self._choices.project, "operation": operation["name"]}

        def done() -> dict[str, Any] | None:
            resource = self._google.call(self._sql.operations().get(**names))
            return resource if resource.get("status") == "DONE" else None

        ended = self._google.wait(done, "the database", timeout_s, _POLL_S)
        errors = ended.get("error", {}).get("errors", [])
        if errors:
            words = "; ".join(f"{e.get('code')}: {e.get('message', '')}" for e in errors)
            raise ControlPlaneError(
                f"{request.methodId}: {words}",
                hint="correct what the message names, then run the same command again",
            )
