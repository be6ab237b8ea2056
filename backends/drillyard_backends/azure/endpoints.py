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
from drillyard_backends.azure.service import Service
from drillyard_backends.azure.settings import AzureConfig, read_settings
from drillyard_backends.azure.store import BlobStore

MARK = "endpoint"
PATIENCE_S = 2400.0
"""An image is built at the first deployment: a quarter of an hour is usual."""
LOOK_S = 5.0
TOLERANCE = 1e-4
_NAME = re.compile(r"[a-z](?:[a-z0-9]|-(?=[a-z0-9])){2,31}\Z")


class AzureEndpoints:
    """Managed online endpoints; see ``drillyard.policies.endpoints.Endpoints``.

    Args:
        clock: For waiting.
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
            return self._deployed(name, version, made=False)
        account, container = self._service.datastore()
        prefix = f"/{self.config.prefix}".rstrip("/")
        assets = Assets(self._service, BlobStore(f"az://{account}/{container}{prefix}"))
        tags = {
            **self.config.tags, naming.MARK: MARK, naming.OWNER_TAG: user_name(),
            naming.EXPERIMENT_TAG: str(index["experiment"]), "drillyard-run": str(index["run"]),
        }  # fmt: skip
        say("register model, script and environment")
        properties = {
            "endpointComputeType": "Managed", "instanceType": size, "properties": {},
            "model": assets.model(_model_name(index), files, tags),
            "codeConfiguration": {
                "codeId": assets.code("drillyard-score", script), "scoringScript": "score.py",
            },
            "environmentId": assets.environment("drillyard-policy"),
            "environmentVariables": {}, "scaleSettings": {"scaleType": "Default"},
        }  # fmt: skip

        def endpoint(traffic: Mapping[str, int]) -> dict[str, Any]:
            return {
                "location": location, "tags": tags, "identity": {"type": "SystemAssigned"},
                "properties": {"authMode": "Key", "properties": {}, "traffic": dict(traffic)},
            }  # fmt: skip

        new = f"{path}/deployments/{version}"
        try:
            if before is None:
                say(f"make endpoint {name}")
                self._service.put(path, endpoint({}))
                self._wait(path)
            say(f"deploy {index['experiment']}/{index['run']} on a {size}; this takes minutes")
            self._service.put(new, {
                "location": location, "tags": tags, "properties": properties,
                "sku": {"name": "Default", "capacity": 1},
            })  # fmt: skip
            self._wait(new)
            say("ask it a question whose answer is known")
            self._ask(name, version, folder)
            self._service.put(path, endpoint({version: 100}))
            self._wait(path)
        except BaseException as error:
            self._take_back(
                path if before is None else f"{path}/deployments/{version}", name, error
            )
            raise
        for old in self._deployments(name):
            if old != version:
                self._end(f"{path}/deployments/{old}")
        return self._deployed(name, version, made=True)

    def undeploy(self, name: str) -> bool:
        """Delete an endpoint, and see that it is gone."""
        if self._look(name) is None:
            return False
        self._end(self._path(name))
        return True

    def deployed(self) -> list[str]:
        """Names of our endpoints."""
        found = self._service.ask(f"{self._service.root}/onlineEndpoints").get("value", [])
        return sorted(
            str(one["name"]) for one in found if (one.get("tags") or {}).get(naming.MARK) == MARK
        )

    # -- before anything is made --------------------------------------------------------------

    def _check(self, name: str) -> None:
        if not _NAME.match(name):
            raise ConfigError(
                "is no name of an endpoint", file="command line", field="--name", value=name,
                allowed="3 to 32 of a-z 0-9 -, a letter first",
                hint=f"--name {_proposal(name)}",
            )  # fmt: skip
        found = [f for f in plan.examine_endpoint(self._service, self.config)
                 if f.severity is Severity.ERROR]  # fmt: skip
        if not found:
            return
        if any(f.infrastructure for f in found):
            raise InfrastructureError(found[0].message, hint=found[0].fix)
        problems = [ConfigError(f.message, field=f.subject, hint=f.fix) for f in found]
        raise problems[0] if len(problems) == 1 else ConfigErrors(problems)

    def _look(self, name: str) -> dict[str, Any] | None:
        """The endpoint of that name, if it is ours."""
        try:
            found = self._service.ask(self._path(name))
        except Missing:
            return None
        if (found.get("tags") or {}).get(naming.MARK) != MARK:
            raise UserError(
                f"the endpoint {name} is there, and drillyard did not make it",
                hint="choose another --name",
            )
        return found

    def _answers(self, endpoint: Mapping[str, Any], version: str) -> bool:
        return _traffic(endpoint).get(version) == 100

    # -- while it is made ---------------------------------------------------------------------

    def _path(self, name: str) -> str:
        return f"{self._service.root}/onlineEndpoints/{name}"

    def _deployments(self, name: str) -> list[str]:
        found = self._service.ask(f"{self._path(name)}/deployments").get("value", [])
        return [str(one["name"]) for one in found]

    def _wait(self, path: str) -> None:
        """Until it is made, or has failed."""
        deadline = self._clock.monotonic() + PATIENCE_S
        while True:
            state = str(self._service.ask(path)["properties"].get("provisioningState"))
            if state == "Succeeded":
                return
            what = path.rpartition("/")[2]
            if state in ("Failed", "Canceled"):
                raise InfrastructureError(
                    f"Azure could not make {what}: {self._words(path)}",
                    hint="mend what it says, then run the same command again",
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
        url = str(self._service.ask(self._path(name))["properties"]["scoringUri"])
        key = str(self._service.post(f"{self._path(name)}/listKeys", {})["primaryKey"])
        answer = self._service.score(url, key, version, {"states": states})
        said = answer.get("actions")
        if not isinstance(said, dict) or not _same(said, known):
            raise InfrastructureError(
                f"the endpoint answers {json.dumps(answer)[:300]}, and the policy {known}",
                hint="is the environment's onnxruntime the one that it was exported with?",
            )

    # -- the end ------------------------------------------------------------------------------

    def _take_back(self, path: str, name: str, why: BaseException) -> None:
        try:
            self._end(path)
        except DrillyardError as error:
            raise TeardownUnconfirmed(
                f"{why}; and {path.rpartition('/')[2]} could not be taken back: {error}",
                hint=f"drillyard undeploy-policy {name} --on azure",
            ) from why

    def _end(self, path: str) -> None:
        """Delete something until it is not there any more."""
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
        url = str(self._service.ask(self._path(name))["properties"]["scoringUri"])
        where = f"--workspace-name {c.workspace} --resource-group {c.resource_group}"
        return Deployed(
            name=name, url=url, version=version, made=made,
            per_hour=prices.price(c.endpoint_size, low_priority=False),
            currency=prices.currency(),
            key_command=f"az ml online-endpoint get-credentials --name {name} {where}",
        )  # fmt: skip


def _traffic(endpoint: Mapping[str, Any] | None) -> dict[str, int]:
    return dict((endpoint or {}).get("properties", {}).get("traffic") or {})


def _model_name(index: Mapping[str, Any]) -> str:
    return re.sub(r"[^A-Za-z0-9_-]", "-", f"drillyard-{index['experiment']}")[:100]


def _proposal(name: str) -> str:
    text = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:32].strip("-")
    return text if _NAME.match(text) else f"policy-{text}"[:32].strip("-")


def _middle(channel: Mapping[str, Any]) -> float:
    low, high = channel["low"], channel["high"]
    return 0.0 if low is None else (float(low) + float(high)) / 2


def _same(said: Mapping[str, Any], known: Mapping[str, Any]) -> bool:
    if said.keys() != known.keys():
        return False
    return all(
        math.isclose(said[n], v, rel_tol=TOLERANCE, abs_tol=TOLERANCE)
        if isinstance(v, float) else said[n] == v for n, v in known.items()
    )  # fmt: skip
