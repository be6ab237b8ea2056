"""Heartbeats of a flow run, for servers whose automations look for crashed flow runs.

Prefect's own thread sleeps a whole second at a time and is joined at the end of the flow, which
costs half a second on average. This one sends the same event and stops at once.

The tag tells the automation `dead-run` how often to expect a heartbeat: Prefect's own default is
180 s, and other flow runs of a server may use it.
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
EVERY_S = 30
"""Seconds between two heartbeats; the smallest value that Prefect accepts."""
TAG = f"heartbeat:{EVERY_S}s"
"""Tag of flow runs that send heartbeats at this interval."""
log = logging.getLogger(__name__)


class Heartbeats:
    """Sends heartbeats from the start of a flow run until ``end``."""

    def __init__(self) -> None:
        self._over = threading.Event()
        self._thread: threading.Thread | None = None

    def begin(self, flow: Flow[..., Any], flow_run: FlowRun, state: State[Any]) -> None:
        """Starts; a hook for ``on_running``."""
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
            *(
                {"prefect.resource.id": f"prefect.tag.{tag}", "prefect.resource.role": "tag"}
                for tag in flow_run.tags
            ),
        ]
        # Prefect's settings are in the context; without it, events go to another server.
        run = contextvars.copy_context().run
        self._thread = threading.Thread(
            target=run, args=(self._beat, resource, related), name="heartbeats", daemon=True
        )
        self._thread.start()

    def end(self) -> None:
        """Stops; safe to call again."""
        self._over.set()
        if self._thread is not None:
            self._thread.join(1.0)  # it may be sending one

    def _beat(self, resource: dict[str, str], related: list[dict[str, str]]) -> None:
        from prefect.events import emit_event

        while True:
            try:
                emit_event(EVENT, resource=resource, related=related)
            except Exception as error:  # a missing heartbeat must not end the work
                log.debug("the heartbeat was not sent: %s", error)
            if self._over.wait(EVERY_S):
                return
