"""What Google's methods do in the emulated project, one function a method, named after its id."""

from __future__ import annotations

import base64
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from drillyard_emulators.gcp.project import Project
from drillyard_emulators.http.wire import Refusal
from tests.helpers.mlflow_machines import Machine, Postgres, built


class Services:
    """The methods; a world mixes them in."""

    if TYPE_CHECKING:
        folder: Path
        real: bool
        project: Project
        enabled: set[str]
        things: dict[str, dict[str, Any]]
        policies: dict[str, dict[str, Any]]
        operations: dict[str, dict[str, Any]]
        versions: dict[str, list[bytes]]
        images: dict[str, Path]
        calls: list[str]
        polls: int
        undecided: int
        machine: Machine | None
        postgres: Postgres | None

        def may(self, resource: str, role: str, member: str) -> bool: ...
        def trouble(self, service: dict[str, Any]) -> str | None: ...

    def _one(self, key: str) -> dict[str, Any]:
        if key not in self.things:
            raise Refusal(404, "notFound", f"{key} was not found.")
        return self.things[key]

    def _new(self, key: str, thing: dict[str, Any]) -> dict[str, Any]:
        if key in self.things:
            raise Refusal(409, "alreadyExists", f"{key} already exists.")
        self.things[key] = thing
        return thing

    def _operation(self, name: str, **more: Any) -> dict[str, Any]:
        place = f"projects/{self.project.project_id}/locations/europe-west1"
        name = name if "/" in name else f"{place}/operations/{name}"
        self.operations[name] = {"left": self.polls, **more}
        return {"name": name, "done": False}

    def _polled(self, given: dict[str, str], _: Any, __: str) -> Any:
        operation = self.operations[given["name"]]
        operation["left"] -= 1
        if operation["left"] >= 0:
            return {"name": given["name"], "done": False}
        failed = operation.get("error")
        outcome = {"error": {"code": 9, "message": failed}} if failed else {"response": {}}
        return {"name": given["name"], "done": True, **outcome}

    _serviceusage_operations_get = _polled
    _artifactregistry_projects_locations_operations_get = _polled
    _run_projects_locations_operations_get = _polled

    # serviceusage, accounts, project

    def _serviceusage_services_batchGet(self, given: dict[str, str], _: Any, query: str) -> Any:
        names = [unquote(n) for n in re.findall(r"names=([^&]*)", query)]
        return {
            "services": [
                {
                    "name": n,
                    "state": "ENABLED" if n.rpartition("/")[2] in self.enabled else "DISABLED",
                }
                for n in names
            ]
        }

    def _serviceusage_services_batchEnable(self, given: Any, body: Any, _: str) -> Any:
        self.enabled |= set(body["serviceIds"])
        return self._operation("operations/enable")

    def _iam_projects_serviceAccounts_get(self, given: Any, *_: Any) -> Any:
        return self._one(f"account {given['name'].rpartition('/')[2]}")

    def _iam_projects_serviceAccounts_create(self, given: Any, body: Any, _: str) -> Any:
        email = f"{body['accountId']}@{self.project.project_id}.iam.gserviceaccount.com"
        name = f"{given['name']}/serviceAccounts/{email}"
        return self._new(
            f"account {email}", {"name": name, "email": email, **body["serviceAccount"]}
        )

    def _iam_projects_serviceAccounts_delete(self, given: Any, *_: Any) -> Any:
        email = given["name"].rpartition("/")[2]
        self._one(f"account {email}")
        del self.things[f"account {email}"]
        for policy in self.policies.values():  # "deleted:…" stays in each policy
            for binding in policy["bindings"]:
                binding["members"] = [
                    f"deleted:{m}?uid=1" if m == f"serviceAccount:{email}" else m
                    for m in binding["members"]
                ]
        return {}

    def _cloudresourcemanager_projects_get(self, given: Any, *_: Any) -> Any:
        if given["projectId"] != self.project.project_id:
            raise Refusal(404, "notFound", "no such project")
        return {"projectId": self.project.project_id, "projectNumber": self.project.number}

    # secrets

    def _secretmanager_projects_secrets_get(self, given: Any, *_: Any) -> Any:
        return self._one(f"secret {given['name']}")

    def _secretmanager_projects_secrets_create(self, given: Any, body: Any, _: str) -> Any:
        name = f"{given['parent']}/secrets/{given['secretId']}"
        return self._new(f"secret {name}", {"name": name, **body})

    def _secretmanager_projects_secrets_patch(self, given: Any, body: Any, _: str) -> Any:
        secret = self._one(f"secret {given['name']}")
        for field in given["updateMask"].split(","):
            secret[field] = body[field]
        return secret

    def _secretmanager_projects_secrets_delete(self, given: Any, *_: Any) -> Any:
        self._one(f"secret {given['name']}")
        del self.things[f"secret {given['name']}"]
        self.versions.pop(given["name"], None)
        self.policies.pop(given["name"], None)
        return {}

    def _secretmanager_projects_secrets_addVersion(self, given: Any, body: Any, _: str) -> Any:
        self._one(f"secret {given['parent']}")
        kept = self.versions.setdefault(given["parent"], [])
        kept.append(base64.b64decode(body["payload"]["data"]))
        return {"name": f"{given['parent']}/versions/{len(kept)}", "state": "ENABLED"}

    def _secretmanager_projects_secrets_versions_access(self, given: Any, *_: Any) -> Any:
        secret = given["name"].partition("/versions/")[0]
        kept = self.versions.get(secret)
        if kept and given["name"].endswith("/latest") and self.secret_lag > 0:
            # Only reading by number is consistent at once.
            self.secret_lag -= 1
            kept = kept[:-1]
        if not kept:
            raise Refusal(404, "notFound", f"{given['name']} was not found")
        data = base64.b64encode(kept[-1]).decode()
        return {"name": f"{secret}/versions/{len(kept)}", "payload": {"data": data}}

    # the database

    def _sql(self, kind: str, **more: Any) -> Any:
        name = f"op-{len(self.operations)}"
        self.operations[name] = {"left": self.polls, **more}
        return {"kind": "sql#operation", "name": name, "status": "PENDING", "operationType": kind}

    def _sql_operations_get(self, given: Any, *_: Any) -> Any:
        status = "DONE" if self._sql_goes_on(given["operation"]) else "RUNNING"
        return {"kind": "sql#operation", "name": given["operation"], "status": status}

    def _sql_goes_on(self, name: str) -> bool:
        """Time passes by being asked; True when the operation is done."""
        operation = self.operations[name]
        operation["left"] -= 1
        done = operation["left"] < 0
        if done and (then := operation.pop("then", None)):
            then()
        return done

    def _sql_instances_get(self, given: Any, *_: Any) -> Any:
        for name in [n for n, o in self.operations.items() if "then" in o]:
            self._sql_goes_on(name)
        return self._one(f"instance {given['instance']}")

    def _sql_instances_insert(self, given: Any, body: Any, _: str) -> Any:
        instance = {**body, "state": "PENDING_CREATE", "project": given["project"]}
        self._new(f"instance {body['name']}", instance)

        def ready() -> None:
            if self.real:
                self.postgres = Postgres()
            instance["state"] = "RUNNABLE"

        return self._sql("CREATE", then=ready)

    def _sql_instances_patch(self, given: Any, body: Any, _: str) -> Any:
        self._idle(given)["settings"].update(body["settings"])
        return self._sql("UPDATE")

    def _sql_instances_delete(self, given: Any, *_: Any) -> Any:
        if self._idle(given)["settings"].get("deletionProtectionEnabled"):
            raise Refusal(400, "badRequest", "The instance is protected.")
        key = f"instance {given['instance']}"
        if self._idle(given)["settings"].get("retainBackupsOnDelete"):
            self.things[f"backup {given['instance']}"] = {}  # Google keeps, and bills, them
        if self.postgres is not None:
            self.postgres.remove()
            self.postgres = None
        for other in [k for k in self.things if k.startswith(("database ", "dbuser "))]:
            del self.things[other]
        return self._sql("DELETE", then=lambda: self.things.pop(key, None))

    def _idle(self, given: Any) -> dict[str, Any]:
        instance = self._one(f"instance {given['instance']}")
        if instance["state"] != "RUNNABLE":
            raise Refusal(409, "operationInProgress", "another operation was already in progress")
        return instance

    def _sql_databases_get(self, given: Any, *_: Any) -> Any:
        return self._one(f"database {given['database']}")

    def _sql_databases_insert(self, given: Any, body: Any, _: str) -> Any:
        self._idle(given)
        self._new(f"database {body['name']}", {"name": body["name"]})
        if self.postgres is not None:
            self.postgres.create_database(body["name"])
        return self._sql("CREATE_DATABASE")

    def _sql_users_list(self, given: Any, *_: Any) -> Any:
        users = [v for k, v in self.things.items() if k.startswith("dbuser ")]
        return {"items": users} if users else {}

    def _sql_users_insert(self, given: Any, body: Any, _: str) -> Any:
        self._idle(given)
        self._new(f"dbuser {body['name']}", {"name": body["name"]})
        if self.postgres is not None:
            self.postgres.create_user(body["name"], body["password"])
        return self._sql("CREATE_USER")

    def _sql_users_update(self, given: Any, body: Any, _: str) -> Any:
        self._idle(given)
        self._one(f"dbuser {given['name']}")
        if self.postgres is not None:
            self.postgres.set_password(given["name"], body["password"])
        return self._sql("UPDATE_USER")

    # images

    def _artifactregistry_projects_locations_repositories_get(self, given: Any, *_: Any) -> Any:
        return self._one(f"repository {given['name']}")

    def _artifactregistry_projects_locations_repositories_create(
        self, given: Any, body: Any, _: str
    ) -> Any:
        name = f"{given['parent']}/repositories/{given['repositoryId']}"
        self._new(f"repository {name}", {"name": name, **body})
        return self._operation("repository")

    def _artifactregistry_projects_locations_repositories_delete(self, given: Any, *_: Any) -> Any:
        self._one(f"repository {given['name']}")
        del self.things[f"repository {given['name']}"]
        self.images.clear()
        return self._operation("no-repository")

    def _artifactregistry_projects_locations_repositories_packages_tags_get(
        self, given: Any, *_: Any
    ) -> Any:
        found = re.fullmatch(
            r"projects/([^/]+)/locations/([^/]+)/repositories/([^/]+)/packages/"
            r"([^/]+)/tags/([^/]+)",
            given["name"],
        )
        uri = f"{found[2]}-docker.pkg.dev/{found[1]}/{found[3]}/{found[4]}:{found[5]}"
        if uri not in self.images:
            raise Refusal(404, "notFound", "Requested entity was not found.")
        return {"name": given["name"], "version": "sha256:1"}

    def _cloudbuild_projects_locations_builds_create(self, given: Any, body: Any, _: str) -> Any:
        account = body["serviceAccount"].rpartition("/")[2]
        place = f"{given['parent']}/repositories/drillyard-mlflow"
        if not self.may(place, "roles/artifactregistry.writer", f"serviceAccount:{account}"):
            status = "FAILURE"
        else:
            status = "SUCCESS"
            self.images[body["images"][0]] = built(
                body["steps"][0]["script"], self.folder / "image", body["images"][0]
            )
        number = f"b{len(self.things)}"
        self.things[f"build {number}"] = {"id": number, "status": status, "left": self.polls}
        build = {"id": number, "status": "QUEUED"}
        return {"name": f"operations/{number}", "metadata": {"build": build}}

    def _cloudbuild_projects_locations_builds_get(self, given: Any, *_: Any) -> Any:
        build = self._one(f"build {given['name'].rpartition('/')[2]}")
        build["left"] -= 1
        status = build["status"] if build["left"] < 0 else "WORKING"
        return {"id": build["id"], "status": status, "logUrl": "https://console/build"}

    # the server

    def _run_projects_locations_services_get(self, given: Any, *_: Any) -> Any:
        service = self._one(f"service {given['name']}")
        if self.undecided:
            self.undecided -= 1
            return {k: v for k, v in service.items() if k != "terminalCondition"}
        return service

    def _run_projects_locations_services_create(self, given: Any, body: Any, _: str) -> Any:
        name = f"{given['parent']}/services/{given['serviceId']}"
        self._new(f"service {name}", {"name": name, **body})
        return self._deployed(name)

    def _run_projects_locations_services_patch(self, given: Any, body: Any, _: str) -> Any:
        self._one(f"service {given['name']}").update(body)
        return self._deployed(given["name"])

    def _run_projects_locations_services_delete(self, given: Any, *_: Any) -> Any:
        self._one(f"service {given['name']}")
        del self.things[f"service {given['name']}"]
        self.policies.pop(given["name"], None)
        if self.machine is not None:
            self.machine.stop()
            self.machine = None
        return self._operation("no-service")

    def _deployed(self, name: str) -> Any:
        service = self.things[f"service {name}"]
        # Who gives up waiting for this answer and asks again sees that it goes on.
        service["reconciling"] = True
        trouble = self.trouble(service)
        state = "CONDITION_FAILED" if trouble else "CONDITION_SUCCEEDED"
        service["terminalCondition"] = {"type": "Ready", "state": state, "message": trouble or ""}
        service["reconciling"] = False
        return self._operation(f"service-{len(self.calls)}", error=trouble)
