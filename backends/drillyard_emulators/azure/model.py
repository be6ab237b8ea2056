"""The resources of an emulated workspace, and how it behaves."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypedDict

from pydantic import BaseModel, ConfigDict

from drillyard_emulators.http.fields import Document, Fields, member, number, text, text_fields
from drillyard_emulators.http.machines import Machine

OVER = ("Completed", "Failed", "Canceled")
ENDING = ("Finalizing", "CancelRequested")
MUTABLE = ("description", "tags", "displayName", "properties", "isArchived")
"""What of a job that is there may be changed; a PUT with anything else is refused."""
_DURATION = re.compile(r"P(?:(\d+)D)?T?(?:(\d+)H)?(?:(\d+)M)?(?:([\d.]+)S)?\Z")


class Physics(BaseModel):
    """How the workspace behaves; times in emulated seconds.

    Attributes:
        create_s: A cluster is made, or goes.
        node_s: A node comes.
        image_s: An environment's image is built, at its first use.
        prepare_s: A node gets the image.
        notice_s: Between being told and being cut.
        broken_builds: So many builds fail.
        build_error: What their log says.
        stuck: So many jobs stay in "Preparing" for ever.
        low_priority: Nodes of that kind that are to be had; None: any number.
        full: Sizes and regions, in lower case, that have no node: jobs stay in the queue.
        cores: Cores that clusters get in all, whatever the listing of quotas says; one that gets
            no node says so in its errors. None: any number.
        cancel_s: A cancelled job that runs ends so much later, as on a frozen node.
        processes: False if jobs run nothing because a test plays them.
        finalize_s: What a job wrote is collected, after its program ended.
        visible_s: A new cluster is answered as missing.
        listing_lag_s: Listings of jobs and clusters show the world of so long ago.
        page: Elements on a page of a listing.
        cancel_status: With which status a cancel is refused for a job that is over or about to be.
        repeats: Whether a second PUT of the very same job is taken for a repeat. The service's
            own clients have met both.
        preparing_first: Images are built before a job is queued, not when it has its node.
        unready: So many nodes never get ready: their job stays in the queue.
        tag_filter: Whether a listing of jobs honours the tag that it is asked for.
        empty_tags: Whether tags with an empty value are kept.
        cluster_tags: Whether clusters tell their tags.
        conditions: Whether ``If-None-Match`` is honoured for clusters.
        resizing_conflicts: Whether a change of a cluster is refused while a node of it
            comes or goes.
        conflicts: Whether a change of a cluster or an endpoint is refused while another goes on.
        forget_s: The name of a deleted endpoint is answered as missing, also when it is made.
    """

    model_config = ConfigDict(extra="forbid")

    create_s: float = 0.3
    node_s: float = 0.3
    image_s: float = 0.2
    prepare_s: float = 0.1
    notice_s: float = 30.0
    broken_builds: int = 0
    build_error: str = "ERROR: Could not find a version that satisfies the requirement"
    stuck: int = 0
    low_priority: int | None = None
    full: list[str] = []
    cores: int | None = None
    cancel_s: float = 0.0
    processes: bool = True
    finalize_s: float = 0.2
    visible_s: float = 0.0
    listing_lag_s: float = 0.0
    page: int = 2
    cancel_status: int = 400
    repeats: bool = False
    preparing_first: bool = False
    unready: int = 0
    tag_filter: bool = True
    empty_tags: bool = False
    cluster_tags: bool = True
    conditions: bool = False
    resizing_conflicts: bool = False
    conflicts: bool = True
    forget_s: float = 0.0


@dataclass(frozen=True)
class Site:
    """Where jobs run.

    Attributes:
        folder: For the machines.
        environment: Environment variables of a job's processes.
        keep: Keeps a job's log where clients read it: (job, name, text).
        boot: Starts a node's container: see ``Machine``.
    """

    folder: Path
    environment: Callable[[Job], dict[str, str]]
    keep: Callable[[str, str, bytes], None]
    boot: Callable[[str, str, Path, Path, Mapping[str, str], str], Machine] = Machine


@dataclass
class Compute:
    """A cluster."""

    name: str
    document: Document
    created: float
    state: str = "Creating"
    errors: list[dict[str, str]] = field(default_factory=list)
    gone: float | None = None

    @property
    def identity(self) -> tuple[str, list[str]]:
        """Its type in lower case, and resource ids of user-assigned ones."""
        given = member(self.document, "identity")
        kind = text(given, "type", "None").lower().replace("_", "")
        return kind, list(member(given, "userAssignedIdentities"))

    @property
    def settings(self) -> Fields:
        """Settings of the nodes."""
        return member(member(self.document, "properties"), "properties")

    @property
    def region(self) -> str:
        """Where its nodes are."""
        return text(self.document, "location")

    @property
    def low_priority(self) -> bool:
        """Whether its nodes can be taken away."""
        return str(self.settings.get("vmPriority", "")).lower() == "lowpriority"

    @property
    def most(self) -> int:
        """Nodes at the most."""
        return int(number(member(self.settings, "scaleSettings"), "maxNodeCount", 1))


class Node(TypedDict):
    """A node that runs, or once ran, a job."""

    name: str
    job: str
    compute: str
    size: str
    low_priority: bool
    born: float
    gone: float | None
    ended_by: str
    ready: bool


@dataclass
class Job:
    """A command job."""

    name: str
    properties: Document
    created: float
    status: str = "Queued"
    error: dict[str, str] | None = None
    machines: list[Machine] = field(default_factory=list)
    nodes: list[Node] = field(default_factory=list)
    times: int = 0
    ending: str = ""
    """Why its nodes are being ended: ``cancel``, ``timeout``, ``preempt``; empty: nothing."""
    log: list[Path] = field(default_factory=list)
    shipped: int = -1
    silent: bool = False
    """The service receives no heartbeats from it at the moment."""
    archived: bool = False
    now: Callable[[], float] = time.time
    past: list[tuple[float, str]] = field(default_factory=list)
    """When it reported which state, for delayed listings."""

    def __setattr__(self, name: str, value: object) -> None:
        """Records when it reported which state."""
        object.__setattr__(self, name, value)
        if name in ("status", "silent") and hasattr(self, "past"):
            self.past.append((self.now(), self.shown))

    @property
    def over(self) -> bool:
        """Whether nothing of it will run again."""
        return self.status in OVER

    @property
    def shown(self) -> str:
        """The state that the service reports."""
        return "NotResponding" if self.silent and not self.over else self.status

    def shown_at(self, when: float) -> str | None:
        """The state that a listing of that time shows; None: it was not there."""
        before = [status for moment, status in self.past if moment <= when]
        return before[-1] if before else None

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
        return int(number(member(self.properties, "resources"), "instanceCount") or 1)

    @property
    def tags(self) -> dict[str, str]:
        """Its tags."""
        return text_fields(self.properties, "tags")

    @property
    def limit_s(self) -> float | None:
        """How long it may take."""
        return seconds(text(member(self.properties, "limits"), "timeout"))


def seconds(text: str) -> float | None:
    """An ISO 8601 duration; None for none."""
    match = _DURATION.match(text)
    if match is None or not any(match.groups()):
        return None
    days, hours, minutes, rest = (float(g or 0) for g in match.groups())
    return ((days * 24 + hours) * 60 + minutes) * 60 + rest
