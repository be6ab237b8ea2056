"""What an emulated workspace is made of, and how its world behaves."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from drillyard_emulators.http.machines import Machine

OVER = ("Completed", "Failed", "Canceled")
FIXED = ("command", "computeId", "environmentId", "environmentVariables", "codeId")
"""What of a job cannot be another one under the same name."""
_DURATION = re.compile(r"P(?:(\d+)D)?T?(?:(\d+)H)?(?:(\d+)M)?(?:([\d.]+)S)?\Z")


class Physics(BaseModel):
    """How this world behaves; times in emulated seconds.

    Attributes:
        create_s: A cluster is made, or goes.
        node_s: A node comes.
        image_s: An environment's image is built, at its first use.
        prepare_s: A node gets the image.
        notice_s: Between being told and being cut.
        broken_builds: So many builds fail.
        stuck: So many jobs stay in "Preparing" for ever.
        low_priority: Nodes of that kind that are to be had; None: any number.
        processes: False: jobs run nothing; somebody else plays them.
    """

    model_config = ConfigDict(extra="forbid")

    create_s: float = 0.3
    node_s: float = 0.3
    image_s: float = 0.2
    prepare_s: float = 0.1
    notice_s: float = 30.0
    broken_builds: int = 0
    stuck: int = 0
    low_priority: int | None = None
    processes: bool = True


@dataclass(frozen=True)
class Site:
    """Where jobs run.

    Attributes:
        folder: For the machines.
        environment: Environment variables of a job's processes.
        keep: Keeps a job's log where clients read it: (job, name, text).
    """

    folder: Path
    environment: Callable[[Job], dict[str, str]]
    keep: Callable[[str, str, bytes], None]


@dataclass
class Compute:
    """A cluster."""

    name: str
    document: dict[str, Any]
    made: float
    state: str = "Creating"

    @property
    def settings(self) -> dict[str, Any]:
        """Of the nodes."""
        found: dict[str, Any] = self.document["properties"]["properties"]
        return found

    @property
    def low_priority(self) -> bool:
        """Whether its nodes can be taken away."""
        return str(self.settings.get("vmPriority", "")).lower() == "lowpriority"

    @property
    def most(self) -> int:
        """Nodes at the most."""
        return int(self.settings.get("scaleSettings", {}).get("maxNodeCount", 1))


@dataclass
class Job:
    """A command job."""

    name: str
    properties: dict[str, Any]
    made: float
    status: str = "Queued"
    error: dict[str, str] | None = None
    machines: list[Machine] = field(default_factory=list)
    nodes: list[dict[str, Any]] = field(default_factory=list)
    times: int = 0
    ending: str = ""
    """What its nodes are being ended for: ``cancel``, ``timeout``, ``preempt``; empty: nothing."""
    log: list[Path] = field(default_factory=list)
    shipped: int = -1

    @property
    def compute(self) -> str:
        """Name of its cluster."""
        return str(self.properties.get("computeId", "")).rpartition("/")[2]

    @property
    def environment(self) -> str:
        """Id of its environment's version, without the workspace."""
        return str(self.properties.get("environmentId", "")).partition("/environments/")[2]

    @property
    def width(self) -> int:
        """Nodes that it runs on."""
        return int((self.properties.get("resources") or {}).get("instanceCount") or 1)

    @property
    def tags(self) -> dict[str, str]:
        """Its tags."""
        return dict(self.properties.get("tags") or {})

    @property
    def limit_s(self) -> float | None:
        """How long it may take."""
        text = str((self.properties.get("limits") or {}).get("timeout") or "")
        return seconds(text)


def seconds(text: str) -> float | None:
    """An ISO 8601 duration; None for none."""
    match = _DURATION.match(text)
    if match is None or not any(match.groups()):
        return None
    days, hours, minutes, rest = (float(g or 0) for g in match.groups())
    return ((days * 24 + hours) * 60 + minutes) * 60 + rest
