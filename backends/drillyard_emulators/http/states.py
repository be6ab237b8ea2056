"""What an emulated cloud reports about itself, as JSON over its control port."""

from __future__ import annotations

from typing import TypedDict

from drillyard.documents.json_types import JsonView
from drillyard_emulators.http.fields import Document


class MachineState(TypedDict):
    """A virtual machine of Google Cloud."""

    name: str
    zone: str
    machine_type: str
    spot: bool
    lived_s: float
    ended_by: str
    gone: float | None


class NodeState(TypedDict):
    """A node of a compute cluster of Azure ML."""

    name: str
    compute: str
    size: str
    low_priority: bool
    lived_s: float
    ended_by: str
    gone: float | None


class GroupState(TypedDict):
    """A managed instance group."""

    key: str


class JobState(TypedDict):
    """A job of Azure ML."""

    status: str


class ComputeState(TypedDict):
    """A compute cluster of Azure ML."""

    tags: dict[str, str]


class PlayedState(TypedDict):
    """A fault that was requested, and how often it was applied."""

    what: str
    match: str
    played: int


class CloudState(TypedDict, total=False):
    """Everything that exists in an emulated cloud; each cloud has some of the keys."""

    machines: list[MachineState]
    all_machines: list[MachineState]
    groups: list[GroupState]
    templates: list[str]
    furnished: list[str]
    disks: list[str]
    jobs: dict[str, JobState]
    computes: dict[str, ComputeState]
    nodes: list[NodeState]
    triggers: list[PlayedState]
    faults: list[PlayedState]
    physics: Document
    refused_hosts: list[str]


class ExchangeState(TypedDict):
    """One recorded request, see ``drillyard_emulators.http.recording.Exchange``."""

    host: str
    method: str
    path: str
    query: str
    status: int
    asked: JsonView
    answered: JsonView
