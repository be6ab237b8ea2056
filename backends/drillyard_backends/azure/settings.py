"""Settings of the backend ``azure``; in the environment ``DRILLYARD_AZURE_<NAME>``."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, ClassVar

from pydantic import Field, field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from drillyard.backend.settings.model import configured
from drillyard.documents.json_types import Json
from drillyard.runs.wheel_resolution import Target
from drillyard_backends.azure.workspace import found_here

_GUID = re.compile(r"[0-9a-fA-F]{8}-(?:[0-9a-fA-F]{4}-){3}[0-9a-fA-F]{12}\Z")
_GROUP = re.compile(r"[\w.()-]{1,89}[\w()-]\Z|[\w()-]\Z")
_WORKSPACE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{2,32}\Z")
_COMPUTE = re.compile(r"[A-Za-z](?:[A-Za-z0-9-]{0,30}[A-Za-z0-9])\Z")
_SIZE = re.compile(r"(?:Standard|Basic)_[A-Za-z0-9_-]+\Z", re.I)
_ENVIRONMENT = re.compile(r"[A-Za-z0-9][\w.-]{0,254}:[\w.-]{1,30}\Z")
_ACCOUNT = re.compile(r"[a-z0-9]{3,24}\Z")
_CONTAINER = re.compile(r"[a-z0-9](?:[a-z0-9]|-(?=[a-z0-9])){2,62}\Z")
_FOLDER = re.compile(r"[A-Za-z0-9_=-][A-Za-z0-9._=-]*(?:/[A-Za-z0-9_=-][A-Za-z0-9._=-]*)*\Z")
_REGION = re.compile(r"[a-z]+[a-z0-9]*\Z")
_IDENTITY = re.compile(
    r"/subscriptions/[^/]+/resource[gG]roups/[^/]+/providers/Microsoft\.ManagedIdentity/"
    r"userAssignedIdentities/[^/]+\Z"
)
_PYTHON = re.compile(r"3\.\d\d\Z")
_TAG = re.compile(r"[^<>%&\\?/\x00-\x1f]{1,100}\Z")
LONGEST_TAG = 256
"""Longest value of a resource's tag in Resource Manager; tags of jobs may be longer."""
MOST_TAGS = 42
"""Number of the user's own tags: Azure allows 50, and drillyard has eight on a job."""
_FORMS = {
    "subscription_id": (_GUID, "an id such as 01234567-89ab-cdef-0123-456789abcdef"),
    "resource_group": (_GROUP, "a name of at most 90 letters, digits, . _ - ( )"),
    "workspace": (_WORKSPACE, "a name of 3 to 33 of A-Z a-z 0-9 - _"),
    "account": (_ACCOUNT, "a name of 3 to 24 of a-z 0-9"),
    "container": (_CONTAINER, "a name of 3 to 63 of a-z 0-9 -"),
    "prefix": (_FOLDER, "folders of A-Z a-z 0-9 . _ - between /"),
    "compute": (_COMPUTE, "2 to 32 of A-Z a-z 0-9 -, a letter first"),
    "location": (_REGION, "a region such as westeurope"),
    "vm_size": (_SIZE, "a size such as Standard_F4s_v2"),
    "endpoint_size": (_SIZE, "a size such as Standard_DS3_v2"),
    "environment": (_ENVIRONMENT, "NAME:VERSION"),
    "python": (_PYTHON, "a version such as '3.12', in quotes"),
    "identity": (_IDENTITY, "the resource id of a user-assigned identity"),
}
"""Name -> form of its text; its user checks an empty one."""


class AzureConfig(BaseSettings):
    """Settings of the backend ``azure``."""

    model_config = SettingsConfigDict(
        env_prefix="DRILLYARD_AZURE_", extra="forbid", frozen=True, allow_inf_nan=False
    )

    groups: ClassVar[Mapping[str, str]] = {
        "subscription_id": "Workspace and store",
        "compute": "Cluster",
        "environment": "Image",
        "identity": "Details",
    }
    """Title of each group of fields in forms, at its first field."""

    subscription_id: str = Field(description="Id of the subscription that pays.")
    resource_group: str = Field(description="Resource group of the workspace.")
    workspace: str = Field(description="Name of the Azure ML workspace.")
    account: str | None = Field(
        None, description="Storage account of the mailbox; default: the workspace's own."
    )
    container: str | None = Field(
        None, description="Container of the mailbox; default: the workspace's own."
    )
    prefix: str = Field("drillyard", description="Folder of the container.")
    compute: str | None = Field(
        "drillyard",
        description="Name of the compute cluster; created if it does not exist, and kept. "
        "null: a cluster for each lease, deleted with it.",
    )
    vm_size: str = Field("Standard_F4s_v2", description="Size of the cluster's nodes.")
    vm_sizes: list[str] = Field(
        default_factory=list,
        description="Sizes instead of `vm_size`, each with a cluster of its own: the cheapest "
        "first, the next one when there is no quota or no node.",
    )
    location: str | None = Field(
        None, description="Region of a new cluster; default: the workspace's."
    )
    locations: list[str] = Field(
        default_factory=list,
        description="Regions instead of `location`, tried like `vm_sizes`. Reading the mailbox "
        "from another region than its account's costs egress.",
    )
    capacity_s: Annotated[float, Field(ge=1, le=604_800)] | None = Field(
        None,
        description="Seconds for which jobs may wait for a first node before the next size, "
        "region or backend is tried; default: 900 if there is another one, else for ever.",
    )
    price_per_hour: Annotated[float, Field(gt=0)] | None = Field(
        None, description="Price of a node, for a size that the price list does not know."
    )
    max_nodes: Annotated[int, Field(ge=1, le=1000)] | None = Field(
        None,
        description="Largest number of nodes of a new cluster; default: `resources.workers`, and "
        "at least 20 if the cluster is kept.",
    )
    instance_count: Annotated[int, Field(ge=1, le=100)] = Field(
        1,
        description="Number of nodes of one job. Each does runs of the experiment in parallel; "
        "with RLlib's learners, all do one run together.",
    )
    runs_per_machine: Annotated[int, Field(ge=1, le=256)] = Field(
        1,
        description="Number of parallel runs on one node; they are one job. Not with RLlib's "
        "learners on several nodes.",
    )
    runs_per_gpu: Annotated[int, Field(ge=1, le=64)] = Field(
        1, description="Number of parallel runs that share a GPU."
    )
    low_priority: bool = Field(True, description="Cheaper nodes that can be preempted.")
    node_idle_s: Annotated[int, Field(ge=30, le=86_400)] = Field(
        120, description="Seconds after which an idle node of a new cluster is released."
    )
    environment: str | None = Field(
        None,
        description="An environment of the workspace with drillyard's dependencies: "
        "`NAME:VERSION`.",
    )
    image: str | None = Field(None, description="Docker image of a new environment.")
    conda: str | None = Field(None, description="Conda file to install on the image.")
    build: str | None = Field(None, description="Folder with the Dockerfile of a new environment.")
    python: str | None = Field(
        "3.12",
        description="Version of the nodes' Python, for the wheels of `requirements:`; null: "
        "nodes ask the package index, by a public address or a NAT.",
    )
    recreate: bool = Field(
        False, description="Create the environment again even if its content is known."
    )
    identity: str | None = Field(
        None,
        description="Resource id of the user-assigned identity of a new cluster; "
        "default: the cluster's own. It needs Storage Blob Data Contributor on the account.",
    )
    stop_grace_s: Annotated[float, Field(ge=1, le=25)] = Field(
        20.0, description="Seconds that a run gets to flush when its node is preempted."
    )
    preparing_s: Annotated[float, Field(ge=1, le=86_400)] = Field(
        1800.0,
        description="Seconds for which a node may prepare a job; then another is tried.",
    )
    build_s: Annotated[float, Field(ge=0, le=86_400)] = Field(
        3600.0,
        description="Further seconds while no job of a lease has run: the image may "
        "be being built.",
    )
    listing_lag_s: Annotated[float, Field(ge=0, le=300)] = Field(
        15.0, description="Seconds by which Azure's listings may lag."
    )
    endpoint_size: str = Field(
        "Standard_DS3_v2", description="Size of the machine that `drillyard deploy-policy` rents."
    )
    tags: dict[str, str] = Field(
        default_factory=dict, description="Tags of your own on every job and cluster."
    )

    @property
    def target(self) -> Target | None:
        """The nodes, for the wheels of ``requirements:``."""
        extras = ("rl", "mirror", "blob")
        return Target("azure", self.python, extras) if self.python is not None else None

    @classmethod
    def found_here(cls) -> dict[str, dict[str, str]]:
        """Returns the workspace in the settings of Azure's own tools: origin -> values by name."""
        return found_here()

    @field_validator("tags")
    @classmethod
    def _are_tags(cls, value: dict[str, str]) -> dict[str, str]:
        if len(value) > MOST_TAGS:
            raise ValueError(f"{len(value)} tags: Azure allows {MOST_TAGS} beside drillyard's own")
        for key, text in value.items():
            if not _TAG.match(key) or len(text) > LONGEST_TAG:
                raise ValueError(f"{key}={text!r} is not a tag: no <>%&\\?/ in a name, 256 long")
            if key.startswith(("drillyard", "dy-")):
                raise ValueError(f"{key} is a name of drillyard's own")
        return value

    @model_validator(mode="after")
    def _texts_have_their_form(self) -> AzureConfig:
        for name, (pattern, allowed) in _FORMS.items():
            value = getattr(self, name, None)
            if value and not pattern.match(value):
                raise ValueError(f"{name}: {value!r} is not {allowed}")
        if not all(hasattr(self, name) for name in type(self).model_fields):
            return self  # `drillyard configure` looks at one alone
        self._check_lists()
        if (self.account is None) != (self.container is None):
            raise ValueError("container: give `account` and `container`, or neither")
        self._check_environment()
        return self

    def _check_lists(self) -> None:
        for plural, name in (("vm_sizes", "vm_size"), ("locations", "location")):
            listed: list[str] = getattr(self, plural)
            pattern, allowed = _FORMS[name]
            wrong = [value for value in listed if not pattern.match(value)]
            if wrong:
                raise ValueError(f"{plural}: {wrong[0]!r} is not {allowed}")
            if len({value.lower() for value in listed}) < len(listed):
                raise ValueError(f"{plural}: one of {', '.join(listed)} is there twice")
            if listed and name in self.model_fields_set and getattr(self, name) is not None:
                raise ValueError(f"{plural}: give `{name}` or `{plural}`, not both")

    def _check_environment(self) -> None:
        sources = [n for n in ("environment", "image", "build") if getattr(self, n)]
        if len(sources) > 1:
            raise ValueError(f"environment: {' and '.join(sources)} are given: only one can be")
        if self.conda is not None and self.image is None:
            raise ValueError("conda: is installed on an `image`")
        for name, there in (("conda", Path.is_file), ("build", Path.is_dir)):
            path = getattr(self, name)
            if path is not None and not there(Path(path).expanduser()):
                raise ValueError(f"{name}: there is no {path}")
        if self.build is not None and not (Path(self.build).expanduser() / "Dockerfile").is_file():
            raise ValueError(f"build: there is no Dockerfile in {self.build}")


def read_settings(given: Mapping[str, Json]) -> AzureConfig:
    """The settings.

    Raises:
        ConfigError: One fault.
        ConfigErrors: Several.
    """
    return configured("azure", AzureConfig, given)
