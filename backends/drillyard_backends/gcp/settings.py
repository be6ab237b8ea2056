"""Settings of the backend ``gcp``; in the environment ``DRILLYARD_GCP_<NAME>``."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal
from urllib.parse import urlsplit

from pydantic import Field, ValidationInfo, field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from drillyard.backend.settings.model import configured
from drillyard.documents.json_types import Json
from drillyard.runs.wheel_resolution import Target
from drillyard.spec.addresses import is_metadata
from drillyard.system.redaction import has_userinfo

PREFIX = "/opt/drillyard"
"""Where the image recipe puts the virtual environment."""
DEFAULT_IMAGE_FAMILY = "projects/debian-cloud/global/images/family/debian-12"
_ZONE = r"[a-z]+-[a-z]+\d{1,2}-[a-z]"
_REGION = r"[a-z]+-[a-z]+\d{1,2}"
_NAME = r"[a-z](?:[-a-z0-9]{0,61}[a-z0-9])?"
_LABEL_KEY = r"[a-z][a-z0-9_-]{0,62}"
_LABEL_VALUE = r"[a-z0-9_-]{0,63}"
_FOLDER = r"[A-Za-z0-9_=~+@,-][A-Za-z0-9._=~+@,-]*"
_IMAGES = r"(?:https://www\.googleapis\.com/compute/v1/)?projects/[^/\s]+/global/images"
_TYPE = r"[a-z][a-z0-9-]{0,62}"
_FORMS = {
    "project": (
        r"(?:[a-z0-9.-]+:)?[a-z][a-z0-9-]{4,28}[a-z0-9]",
        "the project's id, 6 to 30 of a-z 0-9 -",
    ),
    "bucket": (
        r"[a-z0-9][a-z0-9._-]{1,220}[a-z0-9]",
        "the name alone, 3 to 63 of a-z 0-9 - . _",
    ),
    "service_account": (r"[a-z0-9-]+@[a-z0-9.-]+", "NAME@PROJECT.iam.gserviceaccount.com"),
    "prefix": (rf"(?:{_FOLDER}(?:/{_FOLDER})*)?", "folders of A-Z a-z 0-9 . _ - between /"),
    "image": (rf"{_IMAGES}/[^/\s]+", "projects/P/global/images/NAME"),
    "image_family": (rf"{_IMAGES}/family/[^/\s]+", "projects/P/global/images/family/NAME"),
    "container": (
        r"[A-Za-z0-9._:/-]+@sha256:[0-9a-f]{64}",
        "an image by digest, NAME@sha256:<64 hex>: a tag may change under you",
    ),
    "gpu_type": (_TYPE, "such as nvidia-tesla-t4"),
    "template": (_NAME, "the template's name"),
    "group_prefix": (rf"(?=.{{1,30}}\Z){_NAME}", "a prefix: 1 to 30 of a-z 0-9 -, a letter first"),
    "wheelhouse": (r"gs://[a-z0-9._-]+/\S+", "gs://bucket/folder"),
    "python": (r"3\.\d\d", "a version such as '3.11', in quotes"),
}
"""Name of a setting -> form of its text, and what is said of another one."""
_FORMS_OF_LISTS = {
    "zones": (_ZONE, "a zone; a zone looks like europe-west1-b"),
    "machine_types": (_TYPE, "a machine type; one looks like n2-highcpu-8"),
    "tags": (_NAME, "a network tag: a-z 0-9 -, a letter first"),
}
_LABEL_RULE = "a key of a-z 0-9 _ - (a letter first), a value of a-z 0-9 _ -, each at most 63 long"


class GcpConfig(BaseSettings):
    """Settings of the backend ``gcp``."""

    model_config = SettingsConfigDict(
        env_prefix="DRILLYARD_GCP_", extra="forbid", frozen=True, allow_inf_nan=False
    )

    groups: ClassVar[Mapping[str, str]] = {
        "project": "Project and store",
        "zones": "Machines",
        "image": "Image",
        "spot": "Spot and losses",
        "network": "Network",
        "labels": "Details",
    }
    """Title of each group of fields in forms, at its first field."""

    project: str = Field(description="Id of the project that pays.")
    bucket: str = Field(description="Bucket of the mailbox; created if it does not exist.")
    service_account: str = Field(
        description="E-mail of the machines' service account, with rights on bucket and group."
    )
    prefix: str = Field("", description="Folder of the bucket; default: all of it.")
    location: str | None = Field(
        None, description="Location of a new bucket; default: the region of the first zone."
    )
    zones: list[str] = Field(
        default_factory=lambda: ["europe-west1-b", "europe-west1-c", "europe-west1-d"],
        min_length=1,
        description="Zones; the first one with capacity is used.",
    )
    machine_types: list[str] = Field(
        default_factory=lambda: ["n2-highcpu-8"],
        min_length=1,
        description="Machine types, tried in this order in all zones.",
    )
    cheapest_first: bool = Field(
        False,
        description="Try machine types and zones by their price instead of in the order given; "
        "`resources` sets it where it chooses the types.",
    )
    regional: bool = Field(
        False, description="One group over the zones of a region; Google picks the zone."
    )
    gpu_type: str | None = Field(
        None,
        description="GPU type for N1, such as `nvidia-tesla-t4` (A2, A3, G2 include GPUs).",
    )
    gpu_count: Annotated[int, Field(ge=1, le=16)] | None = Field(
        None, description="Number of GPUs of a machine; default: `resources.gpus`, at least 1."
    )
    price_per_hour: Annotated[float, Field(gt=0)] | None = Field(
        None,
        description="Price of a machine with its GPUs, for a type that the price list does not "
        "know.",
    )
    disk_gb: Annotated[int, Field(ge=10, le=65_536)] = Field(20, description="Size of the disk.")
    disk_type: Literal["pd-standard", "pd-balanced", "pd-ssd", "hyperdisk-balanced"] = Field(
        "pd-balanced", description="Type of the disk."
    )
    image: str | None = Field(None, description="`projects/P/global/images/NAME`.")
    image_family: str | None = Field(
        None, description="`projects/P/global/images/family/NAME`: the newest of a family."
    )
    container: str | None = Field(
        None, description="Image with drillyard, by digest: `europe-docker.pkg.dev/…@sha256:…`."
    )
    wheelhouse: str | None = Field(
        None, description="`gs://bucket/folder` with wheels, for an image without drillyard."
    )
    python: str | None = Field(
        "3.11",
        description="Version of the machines' Python, for the wheels of `requirements:`; null: "
        "machines ask the package index, by a public address or Cloud NAT.",
    )
    spot: bool = Field(True, description="Cheaper machines that can be preempted.")
    on_demand_after: Annotated[int, Field(ge=1, le=100)] | None = Field(
        3,
        description="Losses of a Spot machine after which an on-demand one replaces it; null: "
        "never.",
    )
    on_demand_when_full: bool = Field(
        False, description="Rent on-demand machines if no Spot machine is available."
    )
    replacements: Annotated[int, Field(ge=0, le=1000)] = Field(
        20, description="How often a lost machine of a lease is replaced."
    )
    capacity_s: Annotated[float, Field(ge=1, le=86_400)] = Field(
        900.0, description="Seconds for which zones and machine types are tried."
    )
    stockout_s: Annotated[float, Field(ge=0.05, le=3600)] = Field(
        20.0, description="Seconds to wait for a zone without capacity before the next is tried."
    )
    partial: Literal["start", "all"] = Field(
        "start",
        description="With fewer machines than requested: `start` with them, or need `all`.",
    )
    repair: bool = Field(
        False,
        description="Let the group itself replace a lost machine, also without a driver "
        "(a machine that always fails is replaced until the deadline).",
    )
    network: str = Field("default", description="Name of the VPC network.")
    subnetwork: str | None = Field(None, description="`regions/R/subnetworks/NAME`.")
    public_ip: bool = Field(
        False,
        description="If off, the subnet needs Private Google Access, and no machine is reachable "
        "from outside.",
    )
    tags: list[str] = Field(default_factory=list, description="Network tags, for firewalls.")
    labels: dict[str, str] = Field(
        default_factory=dict, description="Labels of your own on every machine."
    )
    template: str | None = Field(
        None,
        description="Name of an instance template to base machines on; never changed or deleted.",
    )
    group_prefix: str = Field("dy", description="Prefix of groups' names: `<prefix>-<10 hex>`.")
    idle_s: Annotated[float, Field(ge=1, le=86_400)] = Field(
        60.0, description="Seconds after which a machine without work is deleted."
    )
    workers_per_machine: Annotated[int, Field(ge=1, le=256)] = Field(
        1, description="Number of parallel runs on one machine."
    )
    copies_port: Annotated[int, Field(ge=1, le=65535)] | None = Field(
        None,
        description="Port on the machines at which a training listens for hosts of copies "
        "(`simulator.copies_on: workers`); default: a free one. Open it inside the network.",
    )
    runs_per_gpu: Annotated[int, Field(ge=1, le=64)] = Field(
        1, description="Number of parallel runs that share a GPU."
    )
    stop_grace_s: Annotated[float, Field(ge=1, le=25)] = Field(
        20.0,
        description="Seconds that a run gets to flush at a preemption (30 s notice).",
    )
    mlflow: str | None = Field(
        None,
        description="MLflow server as the machines reach it: http(s)://…; they send curves "
        "to it when no driver runs.",
    )
    listing_lag_s: Annotated[float, Field(ge=0, le=300)] = Field(
        15.0, description="Seconds by which Google's listings may lag."
    )

    def gpus_of(self, each: int) -> int:
        """Returns the GPUs that a machine needs for runs with so many each."""
        return -(-each * self.workers_per_machine // self.runs_per_gpu)

    @property
    def target(self) -> Target | None:
        """The machines, for the wheels of ``requirements:``."""
        extras = ("rl", "mirror", "gcs")
        return Target("gcp", self.python, extras) if self.python is not None else None

    @property
    def store_url(self) -> str:
        """URL of this backend's store."""
        return f"gs://{self.bucket}" + (f"/{self.prefix}" if self.prefix else "")

    @property
    def region(self) -> str:
        """Region of the first zone."""
        return self.zones[0].rpartition("-")[0]

    @property
    def bucket_location(self) -> str:
        """Location of a new bucket."""
        return self.location or self.region

    @field_validator("zones")
    @classmethod
    def _are_zones(cls, value: list[str]) -> list[str]:
        for zone in value:
            if re.fullmatch(_REGION, zone):
                raise ValueError(f"{zone!r} is a region: a zone is expected, such as {zone}-b")
        if len(set(value)) < len(value):
            raise ValueError("the same zone twice")
        return value

    @field_validator("labels")
    @classmethod
    def _are_labels(cls, value: dict[str, str]) -> dict[str, str]:
        for key, text in value.items():
            if not re.fullmatch(_LABEL_KEY, key) or not re.fullmatch(_LABEL_VALUE, text):
                raise ValueError(f"{key}={text!r} is not a label; allowed: {_LABEL_RULE}")
            if key.startswith(("drillyard", "goog")):
                raise ValueError(f"{key} is a name of drillyard's or Google's own")
        return value

    @field_validator(*_FORMS_OF_LISTS)
    @classmethod
    def _have_their_form(cls, value: list[str], info: ValidationInfo) -> list[str]:
        pattern, allowed = _FORMS_OF_LISTS[str(info.field_name)]
        for text in value:
            if not re.fullmatch(pattern, text):
                raise ValueError(f"{text!r} is not {allowed}")
        return value

    @model_validator(mode="after")
    def _texts_have_their_form(self) -> GcpConfig:
        for name, (pattern, allowed) in _FORMS.items():
            # `drillyard configure` looks at one setting alone: the others may not be given yet.
            text = getattr(self, name, None)
            if text is not None and not re.fullmatch(pattern, text):
                raise ValueError(f"{name}: {text!r} is not {allowed}")
        problem = outside(self.mlflow)
        if problem:
            raise ValueError(f"mlflow: {problem}")
        if self.image and self.image_family:
            raise ValueError("image: give `image` or `image_family`, not both")
        if self.regional and len({z.rpartition("-")[0] for z in self.zones}) > 4:
            raise ValueError("zones: at most four regions")
        return self


def outside(url: str | None) -> str | None:
    """Why machines should not talk to an address, or None."""
    if url is None:
        return None
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        return "http:// or https:// and a host"
    if has_userinfo(url):
        return "no user name or password in it"
    if is_metadata(url):
        return "an address of machine metadata is not allowed"
    return None


def read_settings(given: Mapping[str, Json]) -> GcpConfig:
    """The settings.

    Raises:
        ConfigError: One fault.
        ConfigErrors: Several.
    """
    return configured("gcp", GcpConfig, given)
