"""The port to managed endpoints: a cloud's machines that serve a policy."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Protocol

from drillyard.documents.json_types import Json, JsonObject
from drillyard.errors import ConfigError, UserError
from drillyard.policies import bundles
from drillyard.policies.bundles import Index
from drillyard.registry import load, names
from drillyard.system.optional_packages import must_have


@dataclass(frozen=True, slots=True)
class Deployed:
    """A deployed policy.

    Attributes:
        name: Name of the endpoint.
        url: Address for requests.
        version: Hash of the bundle and of how it is deployed.
        made: False: it was there already, and nothing was changed.
        per_hour: What it costs until it is undeployed; None: the price list does not know.
        currency: Currency of the price.
        key_command: How the user sees the key; it is never printed.
    """

    name: str
    url: str
    version: str
    made: bool
    per_hour: float | None
    currency: str
    key_command: str

    def to_json(self) -> JsonObject:
        """As a mapping."""
        return asdict(self)


class Endpoints(Protocol):
    """What a provider offers under ``drillyard.endpoints``; made of its backend's settings."""

    def deploy(self, folder: Path, name: str, say: Callable[[str], None]) -> Deployed:
        """Deploys a bundle to an endpoint; a repeated call changes nothing.

        Whatever fails half-way is taken back: what answered before goes on.

        Args:
            folder: A bundle that ``serveable`` took.
            name: Name of the endpoint; an endpoint of ours receives the new policy.
            say: Told of each step, for people.

        Raises:
            UserError: It cannot work; nothing was made.
            InfrastructureError: It did not work; what was made is gone again.
        """

    def undeploy(self, name: str) -> bool:
        """Deletes an endpoint, and confirms it; False if there was none.

        Raises:
            UserError: It is not one of ours.
            TeardownUnconfirmed: It is still there.
        """

    def deployed(self) -> list[str]:
        """Names of our endpoints."""


def endpoints_of(kind: str, settings: Mapping[str, Json]) -> Endpoints:
    """The endpoints of a provider.

    Args:
        kind: ``azure``.
        settings: Over those that its backend has from environment, files and so on.

    Raises:
        ConfigError: It has none, or settings are missing.
        PluginError: Packages are not installed.
    """
    from drillyard.backend.settings.resolve import open_settings

    name = kind.partition("/")[0]
    if name not in names("endpoints"):
        raise ConfigError(
            "has no managed endpoints",
            file="command line",
            field="--on",
            value=kind,
            allowed=", ".join(names("endpoints")),
            hint="`drillyard serve` answers on a machine of your own",
        )
    must_have(name, f"backend {name}")
    must_have("export", "a policy at an endpoint")
    endpoints: Endpoints = load("endpoints", name)(**open_settings(kind, settings))
    return endpoints


def serveable(folder: Path) -> Index:
    """Returns the index of a bundle that an endpoint can serve.

    Raises:
        NotFound, CorruptObject: See ``bundles.read``.
        UserError: It is one that needs more than a question and an answer.
    """
    index, files = bundles.read(folder)
    bundles.must_act(folder, index)
    spaces = json.loads(files["spaces.json"])
    if not spaces["channels"]["observation"]:
        raise UserError(
            f"the policy in {folder} sees images, and an endpoint takes named numbers",
            hint="use act.py of the bundle",
        )
    if spaces["memory"]:
        raise UserError(
            f"the policy in {folder} remembers, and a managed endpoint keeps nothing between two "
            "questions",
            hint="`drillyard serve` has sessions",
        )
    return index
