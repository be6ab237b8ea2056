"""The result of one synchronisation, as JSON from the mirroring process to its parent."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, fields


@dataclass(frozen=True, slots=True)
class SyncReport:
    """The outcome of a synchronisation.

    Attributes:
        tracker: Registered name of the tracker.
        uri: The tracking server, credentials masked; None when tracking is off.
        runs: Runs that were looked at.
        points: Metric values that were sent (those that the server had already are not counted).
        artifacts: Files that were sent.
        complete: True when the server has everything that the mailbox holds now.
        error: Why not, in one sentence.
        hint: What to do about it.
        registered: The version that the best policy is in MLflow's registry, or why it is none;
            empty if not requested.
        link: Where a browser sees the experiment; None without a web server.
        wall_s: Seconds it took.
    """

    uri: str | None = None
    tracker: str = "mlflow"
    runs: int = 0
    points: int = 0
    artifacts: int = 0
    complete: bool = True
    error: str | None = None
    hint: str | None = None
    registered: str = ""
    link: str | None = None
    wall_s: float = 0.0

    def to_json(self) -> str:
        """The report as one line of JSON."""
        return json.dumps(asdict(self), sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> SyncReport | None:
        """Read a line; None when it is something else (a library's chatter)."""
        try:
            data = json.loads(text)
        except ValueError:
            return None
        if not isinstance(data, dict) or "complete" not in data:
            return None
        known = {f.name for f in fields(cls)}
        return cls(**{k: v for k, v in data.items() if k in known})
