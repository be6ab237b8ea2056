"""Policies at managed online endpoints of an Azure ML workspace.

An endpoint keeps answering while it gets another policy: the new one is deployed beside the old
one, asked a question whose answer is known, and only then given the traffic. What fails is taken
back. Names are computed from the content, so that the same command again finds what is there.
"""

from __future__ import annotations

import contextlib
import json
import math
import re
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from drillyard.documents.json_types import Json, JsonObject, as_number
from drillyard.errors import (
    ConfigError,
    ConfigErrors,
    DrillyardError,
    InfrastructureError,
    TeardownUnconfirmed,
    UserError,
)
from drillyard.findings import Severity
from drillyard.policies import bundles
from drillyard.policies.act import Policy
from drillyard.policies.endpoints import Deployed
from drillyard.system.clock import SYSTEM, Clock
from drillyard.system.safe_names import user_name
from drillyard_backends.azure import naming, plan, prices, score
from drillyard_backends.azure.assets import Assets, conda, hashed
from drillyard_backends.azure.errors import Exists, Missing
from drillyard_backends.azure.rest import section
from drillyard_backends.azure.service import Service
from drillyard_backends.azure.settings import AzureConfig, read_settings
from drillyard_backends.azure.store import BlobStore
from drillyard_backends.azure.unfinished import MARK, unmarked

PATIENCE_S = 2400.0
"""An image is built at the first deployment: a quarter of an hour is usual."""
UNTIL_S = 2 * PATIENCE_S
"""Seconds after its last change in which no other process may end an unfinished endpoint."""
LOOK_S = 5.0
BLIND_S = 120.0
"""How long what is being made may not be seen."""
TAKEN_S = 60.0
"""After this time an endpoint that is in the way, and is not here, is another workspace's."""
TOLERANCE = 1e-4
_NAME = re.compile(r"[a-z](?:[a-z0-9]|-(?=[a-z0-9])){2,31}\Z")


class AzureEndpoints:
    """Managed online endpoints; see ``drillyard.policies.endpoints.Endpoints``.

    Args:
        clock: Clock for waiting.
        **settings: See ``AzureConfig``.
    """

    def __init__(self, clock: Clock = SYSTEM, **settings: Any) -> None:
        self.config: AzureConfig = read_settings(settings)
        self._clock = clock
        self._service = Service(self.config)

    def deploy(self, folder: Path, name: str, say: Callable[[str], None]) -> Deployed:
        """Let an endpoint answer for a bundle."""
        index, files = bundles.read(folder)
        files = {**files, bundles.INDEX: (folder / bundles.INDEX).read_bytes()}
        script = {"score.py": Path(score.__file__).read_bytes()}
        self._check(name)
        before = self._look(name)
        location = str(self._service.workspace()["location"])
        size = self.config.endpoint_size
        content = {**files, **script, "conda": conda().encode(), "size": size.encode()}
        version = f"p-{hashed(content)}"
        path = self._path(name)
        if before is not None and self._answers(before, version):
            if naming.UNTIL_TAG in section(before, "tags"):
                self._finish(name, version, before)
            return self._deployed(name, version, made=False)
        account, container = self._service.datastore()
        prefix = f"/{self.config.prefix}".rstrip("/")
        assets = Assets(self._service, BlobStore(f"az://{account}/{container}{prefix}"))
        tags = {
            **self.config.tags,
            naming.MARK: MARK,
            naming.OWNER_TAG: user_name(),
            naming.EXPERIMENT_TAG: str(index["experiment"]),
            "drillyard-run": str(index["run"]),
        }
        say("register model, script and environment")
        properties = {
            "endpointComputeType": "Managed",
            "instanceType": size,
            "properties": {},
            "model": assets.model(_model_name(index), files, tags),
            "codeConfiguration": {
                "codeId": assets.code("drillyard-score", script),
                "scoringScript": "score.py",
            },
            "environmentId": assets.environment("drillyard-policy"),
            "environmentVariables": {},
            "scaleSettings": {"scaleType": "Default"},
        }

        def endpoint(traffic: JsonObject) -> JsonObject:
            # A mark that is found later shows an abandoned endpoint: see ``unfinished``.
            until = str(int(self._clock.now() + UNTIL_S))
            marked: JsonObject = {**tags, naming.UNTIL_TAG: until}
            return {
                "location": location,
                "tags": marked,
                "identity": {"type": "SystemAssigned"},
                "properties": {"authMode": "Key", "properties": {}, "traffic": dict(traffic)},
            }

        new, traffic = f"{path}/deployments/{version}", _traffic(before)
        try:
            if before is None:
                say(f"make endpoint {name}")
            self._put(name, path, endpoint(traffic))
            self._wait(path)
            say(f"deploy {index['experiment']}/{index['run']} on a {size}; this takes minutes")
            self._put(
                name,
                new,
                {
                    "location": location,
                    "tags": tags,
                    "properties": properties,
                    "sku": {"name": "Default", "capacity": 1},
                },
            )
            self._wait(new)
            say("ask it a question whose answer is known")
            self._ask(name, version, folder)
            self._put(name, path, endpoint({version: 100}))
            self._wait(path)
        except BaseException as error:
            self._take_back(name, new, None if before is None else endpoint(traffic), error)
            raise
        self._finish(name, version, endpoint({version: 100}))
        return self._deployed(name, version, made=True)

    def undeploy(self, name: str) -> bool:
        """Delete an endpoint, and see that it is gone."""
        if self._look(name) is None:
            return False
        self._end(self._path(name))
        return True

    def deployed(self) -> list[str]:
        """Names of our endpoints."""
        endpoints = self._service.pages(f"{self._service.root}/onlineEndpoints")
        return sorted(
            str(e["name"]) for e in endpoints if section(e, "tags").get(naming.MARK) == MARK
        )

    # -- before anything is made --------------------------------------------------------------

    def _check(self, name: str) -> None:
        if not _NAME.match(name):
            raise ConfigError(
                "is not a valid name of an endpoint",
                file="command line",
                field="--name",
                value=name,
                allowed="3 to 32 of a-z 0-9 -, a letter first",
                hint=f"--name {_proposal(name)}",
            )
        findings = [
            f
            for f in plan.examine_endpoint(self._service, self.config)
            if f.severity is Severity.ERROR
        ]
        if not findings:
            return
        if any(f.infrastructure for f in findings):
            raise InfrastructureError(findings[0].message, hint=findings[0].fix)
        problems = [ConfigError(f.message, field=f.subject, hint=f.fix) for f in findings]
        raise problems[0] if len(problems) == 1 else ConfigErrors(problems)

    def _look(self, name: str) -> JsonObject | None:
        """The endpoint of that name, if it is ours."""
        try:
            endpoint = self._service.ask(self._path(name))
        except Missing:
            return None
        if section(endpoint, "tags").get(naming.MARK) != MARK:
            raise UserError(
                f"the endpoint {name} is there, and drillyard did not make it",
                hint="choose another --name",
            )
        return endpoint

    def _answers(self, endpoint: JsonObject, version: str) -> bool:
        return _traffic(endpoint).get(version) == 100

    # -- while it is made ---------------------------------------------------------------------

    def _path(self, name: str) -> str:
        return f"{self._service.root}/onlineEndpoints/{name}"

    def _deployments(self, name: str) -> list[str]:
        deployments = self._service.pages(f"{self._path(name)}/deployments")
        return [str(deployment["name"]) for deployment in deployments]

    def _put(self, name: str, path: str, document: Mapping[str, object]) -> None:
        """Make or change something of an endpoint, as soon as it can be changed.

        Raises:
            UserError: Another workspace of the region has an endpoint of that name.
        """
        began = self._clock.monotonic()
        while True:
            waited_s = self._clock.monotonic() - began
            try:
                self._service.put(path, document)
                return
            except Exists as error:
                # It is being changed, also by our own call whose answer was lost; or it is not
                # ours: what was just made may be answered as missing for a while.
                if self._look(name) is None and waited_s > TAKEN_S:
                    raise UserError(
                        f"the name {name} is taken by an endpoint of another workspace: {error}",
                        hint="choose another --name: names are unique in a region",
                    ) from error
                problem: Exception = error
            except Missing as error:  # the name of one that was deleted a moment ago
                problem = error
            if waited_s > PATIENCE_S:
                what = path.rpartition("/")[2]
                raise InfrastructureError(
                    f"{what} could not be changed within {PATIENCE_S / 60:g} min: {problem}",
                    hint="run the same command again",
                )
            self._clock.wait(threading.Event(), LOOK_S)

    def _state(self, path: str, failing_since: float | None) -> tuple[str, float | None]:
        """What it is in the midst of; a look that fails says nothing for two minutes."""
        try:
            resource = self._service.ask(path)
        except (InfrastructureError, Missing) as error:
            now = self._clock.monotonic()
            since = now if failing_since is None else failing_since
            if now - since > BLIND_S:
                what = path.rpartition("/")[2]
                raise InfrastructureError(f"nothing can be seen of {what}: {error}") from error
            return "", since
        return str(section(resource, "properties").get("provisioningState")), None

    def _wait(self, path: str) -> None:
        """Until it is made, or has failed."""
        deadline = self._clock.monotonic() + PATIENCE_S
        failing_since: float | None = None
        while True:
            state, failing_since = self._state(path, failing_since)
            if state == "Succeeded":
                return
            what = path.rpartition("/")[2]
            if state in ("Failed", "Canceled"):
                raise InfrastructureError(
                    f"Azure could not make {what}: {self._words(path)}",
                    hint="correct that, then run the same command again",
                )
            if self._clock.monotonic() > deadline:
                raise InfrastructureError(f"{what} was not ready within {PATIENCE_S / 60:g} min")
            self._clock.wait(threading.Event(), LOOK_S)

    def _words(self, path: str) -> str:
        """The last that a deployment said."""
        if "/deployments/" not in path:
            return "it does not say why"
        with contextlib.suppress(DrillyardError, Missing):
            asked = {"containerType": "InferenceServer", "tail": 20}
            text = str(self._service.post(f"{path}/getLogs", asked).get("content") or "")
            lines = [line.strip() for line in text.splitlines() if line.strip()]
            if lines:
                return lines[-1][:500]
        return "it does not say why"

    def _ask(self, name: str, version: str, folder: Path) -> None:
        """Ask the new deployment, before it gets the traffic, what the bundle answers here."""
        policy = Policy(folder)
        states = {c["name"]: _middle(c) for c in policy.spaces["channels"]["observation"]}
        known = policy.act_named(states)
        url = str(section(self._service.ask(self._path(name)), "properties")["scoringUri"])
        key = str(self._service.post(f"{self._path(name)}/listKeys", {})["primaryKey"])
        answer = self._service.score(url, key, version, {"states": states})
        acted = answer.get("actions")
        if not isinstance(acted, dict) or not _same(acted, known):
            raise InfrastructureError(
                f"the endpoint answers {json.dumps(answer)[:300]}, and the policy {known}",
                hint="is the environment's onnxruntime the one that it was exported with?",
            )

    # -- the end ------------------------------------------------------------------------------

    def _finish(self, name: str, version: str, there: JsonObject) -> None:
        """Delete what answered before, and take away the mark of an endpoint that is made."""
        path = self._path(name)
        for old in self._deployments(name):
            if old != version:
                self._end(f"{path}/deployments/{old}")
        self._put(name, path, unmarked(there))
        self._wait(path)

    def _take_back(
        self, name: str, new: str, before: JsonObject | None, why: BaseException
    ) -> None:
        """End what was begun: the whole endpoint, or the new deployment of one that was there."""
        path = self._path(name)
        try:
            if before is None:
                self._end(path)
                return
            # Azure deletes no deployment that has traffic: what answered before gets it back.
            self._put(name, path, before)
            self._wait(path)
            self._end(new)
            self._put(name, path, unmarked(before))
            self._wait(path)
        except (DrillyardError, Missing) as error:
            raise TeardownUnconfirmed(
                f"{why}; and {new.rpartition('/')[2]} could not be taken back: {error}",
                hint=f"drillyard undeploy-policy {name} --on azure",
            ) from why

    def _end(self, path: str) -> None:
        """Deletes a resource until it is gone."""
        deadline = self._clock.monotonic() + PATIENCE_S
        while True:
            try:
                # Again and again: what is still being made cannot be deleted, and says so.
                with contextlib.suppress(Exists, InfrastructureError):
                    self._service.delete(path)
                with contextlib.suppress(InfrastructureError):
                    self._service.ask(path)
            except Missing:
                return
            if self._clock.monotonic() > deadline:
                raise TeardownUnconfirmed(f"{path.rpartition('/')[2]} is still there")
            self._clock.wait(threading.Event(), LOOK_S)

    def _deployed(self, name: str, version: str, *, made: bool) -> Deployed:
        c = self.config
        url = str(section(self._service.ask(self._path(name)), "properties")["scoringUri"])
        where = f"--workspace-name {c.workspace} --resource-group {c.resource_group}"
        return Deployed(
            name=name,
            url=url,
            version=version,
            made=made,
            per_hour=prices.price(c.endpoint_size, low_priority=False),
            currency=prices.currency(),
            key_command=f"az ml online-endpoint get-credentials --name {name} {where}",
        )


def _traffic(endpoint: JsonObject | None) -> JsonObject:
    return dict(section(section(endpoint or {}, "properties"), "traffic"))


def _model_name(index: Mapping[str, object]) -> str:
    return re.sub(r"[^A-Za-z0-9_-]", "-", f"drillyard-{index['experiment']}")[:100]


def _proposal(name: str) -> str:
    text = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:32].strip("-")
    return text if _NAME.match(text) else f"policy-{text}"[:32].strip("-")


def _middle(channel: JsonObject) -> float:
    low, high = as_number(channel["low"]), as_number(channel["high"])
    if low is None:
        return 0.0
    return low if high is None else (low + high) / 2


def _same(said: JsonObject, known: JsonObject) -> bool:
    if said.keys() != known.keys():
        return False
    return all(
        _close(said[n], v) if isinstance(v, float) else said[n] == v for n, v in known.items()
    )


def _close(value: Json, known: float) -> bool:
    number = as_number(value)
    return number is not None and math.isclose(number, known, rel_tol=TOLERANCE, abs_tol=TOLERANCE)
