"""The parts of Google Cloud that an MLflow server needs, small and strict.

Every request is held against Google's own documents, every answer too. With ``real`` the
database is a PostgreSQL of this machine, an image is built by the script that Cloud Build would
run, and the service is the image's own program. Rights are checked where the server needs them.
"""

from __future__ import annotations

import base64
import contextlib
import json
import re
import time
from pathlib import Path
from typing import Any

from drillyard_emulators.gcp.gcs.objects import Storage
from drillyard_emulators.gcp.gcs.service import StorageService
from drillyard_emulators.gcp.project import Project, claims, key_file
from drillyard_emulators.gcp.rights import rights_services, token_endpoint
from drillyard_emulators.http.clock import EmulatedClock
from drillyard_emulators.http.faults import FaultRule, Faults
from drillyard_emulators.http.proxy import Proxy
from drillyard_emulators.http.tls import Authority
from drillyard_emulators.http.wire import App, Listener, Refusal, Request, Response
from tests.helpers.discovery import Discovery, Method, discovery
from tests.helpers.mlflow_machines import Machine, Postgres
from tests.helpers.mlflow_services import Services

APIS = (
    "run.v2",
    "sqladmin.v1",
    "secretmanager.v1",
    "artifactregistry.v1",
    "cloudbuild.v1",
    "serviceusage.v1",
    "iam.v1",
    "cloudresourcemanager.v1",
)
MUTATING = re.compile(r"insert|create|patch|update|delete|set|add|Enable", re.IGNORECASE)


class World(Services):
    """A project, and what is in it.

    Args:
        folder: Of its own.
        real: With a real database and a real server.
    """

    def __init__(self, folder: Path, real: bool = False) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder, self.real = folder, real
        self.project = Project("emulated-project")
        self.enabled: set[str] = {"serviceusage.googleapis.com"}
        self.things: dict[str, dict[str, Any]] = {}
        self.policies: dict[str, dict[str, Any]] = {"project": {"bindings": [], "etag": "e0"}}
        self.operations: dict[str, dict[str, Any]] = {}
        self.versions: dict[str, list[bytes]] = {}
        self.secret_lag = 0
        """So often the newest version of a secret is not "latest" yet."""
        self.calls: list[str] = []
        self.problems: list[str] = []
        self.polls = 0
        self.undecided = 0
        """So many next looks at a server find no condition yet."""
        """How often an operation says that it is not done."""
        self.denied: set[str] = set()
        """Method ids that are refused."""
        self.machine: Machine | None = None
        self.postgres: Postgres | None = None
        self.images: dict[str, Path] = {}
        clock = EmulatedClock(1.0)
        self.storage = Storage(clock)
        self.faults = Faults()
        host = f"drillyard-mlflow-{self.project.number}.europe-west1.run.app"
        apps: dict[str, App] = {discovery(name).host: self._api(name) for name in APIS}
        apps |= {
            "storage.googleapis.com": self._bucket_api(),
            host: self._front,
            "oauth2.googleapis.com": self._tokens(),
        }
        rights = rights_services(self.project)
        apps["iamcredentials.googleapis.com"] = rights["iamcredentials.googleapis.com"]
        authority = Authority()
        served = {name: self.faults.around(app) for name, app in apps.items()}
        self.proxy = Proxy(authority.server(sorted(apps)), served)
        self._plain = Listener.of(StorageService(self.storage))
        bundle = str(authority.write_bundle(folder / "ca.pem"))
        key = folder / "key.json"
        key.write_text(json.dumps(key_file(self.project)))
        self.env = {
            "HTTPS_PROXY": self.proxy.url,
            "https_proxy": self.proxy.url,
            "NO_PROXY": "127.0.0.1,localhost",
            "no_proxy": "127.0.0.1,localhost",
            "REQUESTS_CA_BUNDLE": bundle,
            "HTTPLIB2_CA_CERTS": bundle,
            "SSL_CERT_FILE": bundle,
            "GOOGLE_APPLICATION_CREDENTIALS": str(key),
            "NO_GCE_CHECK": "true",
        }

    def fault(self, match: str, **rule: Any) -> None:
        """Something goes wrong."""
        self.faults.add(FaultRule(match=match, **rule))

    def mutations(self) -> list[str]:
        """Ids of the methods that changed something, or tried to."""
        return [c for c in self.calls if MUTATING.search(c.rpartition(".")[2])]

    def kinds(self) -> set[str]:
        """What kinds of things there are."""
        return {key.partition(" ")[0] for key in self.things} | (
            {"bucket"} if self.storage.buckets else set()
        )

    def close(self) -> None:
        """End all of it."""
        if self.machine is not None:
            self.machine.stop()
        if self.postgres is not None:
            self.postgres.remove()
        self.proxy.close()
        self._plain.close()

    # -- the services -------------------------------------------------------------------------

    def _api(self, name: str) -> App:
        api = discovery(name)

        def serve(request: Request) -> Response:
            try:
                request.caller = self.project.identify(request)
                method = self._understood(api, request)
                if api.host not in self.enabled and name != "cloudresourcemanager.v1":
                    info = {"reason": "SERVICE_DISABLED", "@type": "ErrorInfo"}
                    raise Refusal(403, "forbidden", f"{api.host} is disabled", details=[info])
                if method.method_id in self.denied:
                    raise Refusal(403, "forbidden", f"Permission denied on {method.method_id}")
                given = {**method.parameters(request.path), **request.query}
                body = request.json() if request.body else None
                answer = self._handled(method.method_id, given, body, request.query_text)
                if method.response:
                    self.problems += [
                        f"{method.method_id} answers{problem}"
                        for problem in api.check(answer, {"$ref": method.response})
                    ]
                return Response.of(answer)
            except Refusal as refusal:
                return refusal.response()

        return serve

    def _understood(self, api: Discovery, request: Request) -> Method:
        """The method that a request means, on record.

        Raises:
            Refusal: 404 where there is none, 400 where it does not fit.
        """
        method = api.find(request.method, request.path)
        if method is None:
            raise Refusal(404, "notFound", f"no method {request.method} {request.path}")
        self.calls.append(method.method_id)
        problems = api.problems(
            {
                "method": request.method,
                "path": request.path,
                "query": request.query_text,
                "asked": request.json() if request.body else None,
                "answered": None,
                "status": 0,
            }
        )
        asked = f"{request.query_text} {request.json() if request.body else ''}"
        if method.method_id.endswith("getIamPolicy") and not re.search(
            r"equestedPolicyVersion\W*3", asked
        ):
            # Without it a policy comes without its conditions, and a write drops them.
            problems = [*problems, f"{method.method_id} asks for no version of the policy"]
        self.problems += problems
        if problems:
            raise Refusal(400, "badRequest", "; ".join(problems))
        return method

    def _handled(self, method: str, given: dict[str, str], body: Any, query: str) -> Any:
        if method.endswith(("getIamPolicy", "setIamPolicy")):
            return self._policy(given["resource"], method.rpartition(".")[2], body)
        handler = getattr(self, "_" + method.replace(".", "_"), None)
        if handler is None:
            raise Refusal(501, "notImplemented", f"{method} is not emulated")
        return handler(given, body or {}, query)

    def _policy(self, resource: str, verb: str, body: Any) -> Any:
        key = "project" if resource == self.project.project_id else resource
        policy = self.policies.setdefault(key, {"bindings": [], "etag": "e0"})
        if verb == "setIamPolicy":
            wanted = body["policy"]
            if wanted.get("etag") != policy["etag"]:
                raise Refusal(409, "aborted", "There were concurrent policy changes.")
            for binding in wanted["bindings"]:
                for member in binding["members"]:
                    name = member.removeprefix("serviceAccount:")
                    ours = member.startswith("serviceAccount:")
                    if (
                        ours
                        and f"account {name}" not in self.things
                        and name not in (self.project.accounts)
                    ):
                        raise Refusal(400, "badRequest", f"Service account {name} does not exist.")
            policy.update(bindings=wanted["bindings"], etag=f"e{int(policy['etag'][1:]) + 1}")
        # Like Google: an empty list of bindings is left out.
        return {k: v for k, v in policy.items() if v} | {"version": 1}

    def may(self, resource: str, role: str, member: str) -> bool:
        """Whether a member holds a role."""
        bindings = self.policies.get(resource, {}).get("bindings", [])
        return any(b["role"] == role and member in b["members"] for b in bindings)

    # -- the server's life --------------------------------------------------------------------

    def trouble(self, service: dict[str, Any]) -> str | None:
        """Why a deployment fails: what it may not do, or its program's own end."""
        template = service["template"]
        container, account = template["containers"][0], template["serviceAccount"]
        member = f"serviceAccount:{account}"
        secret = container["env"][0]["valueSource"]["secretKeyRef"]["secret"]
        place = f"projects/{self.project.project_id}/secrets/{secret}"
        for resource, role in (
            (place, "roles/secretmanager.secretAccessor"),
            ("project", "roles/cloudsql.client"),
            (f"b/{self.project.project_id}-drillyard-mlflow", "roles/storage.objectUser"),
        ):
            if not self.may(resource, role, member):
                return f"{account} lacks {role}"
        if container["image"] not in self.images:
            return f"Image '{container['image']}' not found."
        if not self.real:
            return None
        address = self.versions[place][-1].decode()
        env = {e["name"]: e["value"] for e in container["env"] if "value" in e}
        env["MLFLOW_BACKEND_STORE_URI"] = re.sub(
            r"/cloudsql/[^/?&]+", str(self.postgres.sockets), address
        )
        if self.machine is not None:
            self.machine.stop()
        self.machine = Machine(
            self.images[container["image"]],
            self.folder,
            {**env, "STORAGE_EMULATOR_HOST": f"http://{self._plain.address}"},
        )
        return self.machine.wait_healthy(container["startupProbe"]["httpGet"]["path"])

    def _front(self, request: Request) -> Response:
        """What stands before a service: who may not call it does not reach it."""
        key = next((k for k in self.things if k.startswith("service ")), None)
        if key is None:
            return Response(404, b"no service")
        name = key.partition(" ")[2]
        said = claims(request.headers.get("authorization", "").removeprefix("Bearer "))
        invokers = {
            m
            for b in self.policies.get(name, {}).get("bindings", [])
            if b["role"] == "roles/run.invoker"
            for m in b["members"]
        }
        url = f"https://{request.host}"
        known = said.get("aud") == url and said.get("exp", 0) > time.time()
        if "allUsers" not in invokers and not (
            known and f"serviceAccount:{said.get('email')}" in invokers
        ):
            return Response(403, b"Your client does not have permission")
        if self.machine is None:
            return Response(200, b"OK")
        return self.machine.forward(request)

    # -- tokens and the bucket ----------------------------------------------------------------

    def _tokens(self) -> App:
        usual = token_endpoint(self.project)

        def serve(request: Request) -> Response:
            from urllib.parse import parse_qsl

            form = dict(parse_qsl(request.body.decode("latin-1")))
            said = claims(form.get("assertion", ""))
            if "target_audience" not in said:
                return usual(request)
            payload = {
                "aud": said["target_audience"],
                "email": said["iss"],
                "sub": "1",
                "iat": int(time.time()),
                "exp": int(time.time()) + 3600,
            }
            parts = [{"alg": "RS256", "typ": "JWT"}, payload, {"not": "signed"}]
            coded = (base64.urlsafe_b64encode(json.dumps(p).encode()).decode() for p in parts)
            return Response.of({"id_token": ".".join(c.rstrip("=") for c in coded)})

        return serve

    def _bucket_api(self) -> App:
        usual = StorageService(self.storage, self.project.may, self.project.number)
        api = discovery("storage.v1")

        def serve(request: Request) -> Response:
            try:
                request.caller = self.project.identify(request)
                if api.find(request.method, request.path) is None:
                    return usual(request)
                method = self._understood(api, request)
                if method.method_id.endswith("IamPolicy"):
                    bucket = method.parameters(request.path)["bucket"]
                    self.storage.bucket(bucket)
                    wrapped = {"policy": request.json()} if request.body else None
                    verb = method.method_id.rpartition(".")[2]
                    return Response.of(self._policy(f"b/{bucket}", verb, wrapped))
                return usual(request)
            except Refusal as refusal:
                return refusal.response()

        return serve


@contextlib.contextmanager
def world(folder: Path, real: bool = False) -> Any:
    """A world that ends."""
    one = World(folder, real)
    try:
        yield one
    finally:
        one.close()


__all__ = ["World", "world"]
