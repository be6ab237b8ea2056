"""Signs of life of a flow run, for servers whose automations look for zombies.

Prefect sends them from a thread that sleeps a whole second at a time and is joined at the end of
the flow, which costs half a second on average and serves nobody. This one sends the same event at
the same interval and ends at once.
"""

from __future__ import annotations

import contextvars
import logging
import threading
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from prefect import Flow
    from prefect.client.schemas.objects import FlowRun, State

EVENT = "prefect.flow-run.heartbeat"
log = logging.getLogger(__name__)


class Heartbeats:
    """Sends heartbeats from the moment a flow run begins until ``end``.

    Args:
        interval_s: Seconds between two; Prefect's setting ``flows.heartbeat_frequency``.
    """

    def __init__(self, interval_s: float) -> None:
        self._interval_s = interval_s
        self._over = threading.Event()
        self._thread: threading.Thread | None = None

    def begin(self, flow: Flow[..., Any], flow_run: FlowRun, state: State[Any]) -> None:
        """Begin; a hook for ``on_running``."""
        resource = {
            "prefect.resource.id": f"prefect.flow-run.{flow_run.id}",
            "prefect.resource.name": flow_run.name,
        }
        related = [
            {
                "prefect.resource.id": f"prefect.flow.{flow_run.flow_id}",
                "prefect.resource.role": "flow",
                "prefect.resource.name": flow.name,
            },
        ]
        # Prefect's settings live in the context: without it, events go to another server.
        run = contextvars.copy_context().run
        self._thread = threading.Thread(
            target=run, args=(self._beat, resource, related), name="heartbeats", daemon=True
        )
        self._thread.start()

    def end(self) -> None:
        """Send no more; safe to call again."""
        self._over.set()
        if self._thread is not None:
            self._thread.join(1.0)  # it may be sending

    def _beat(self, resource: dict[str, str], related: list[dict[str, str]]) -> None:
        from prefect.events import emit_event

        while True:
            try:
                emit_event(EVENT, resource=resource, related=related)
            except Exception as error:  # a page that shows no life must not end the work
                log.debug("no heartbeat was sent: %s", error)
            if self._over.wait(self._interval_s):
                return
