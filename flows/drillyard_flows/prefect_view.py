"""Shows the session of a command or a program as a flow run in Prefect.

The flow runs in a separate thread, from the start of the server to the last artifact. If Prefect's
API becomes unavailable, the session continues: nothing here affects its outcome.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from drillyard.driver.bodies import Bodies
from drillyard.driver.driver import Driver
from drillyard.driver.outcome import Outcome
from drillyard.errors import Bug, ControlPlaneError
from drillyard.registry import load_object
from drillyard_flows import server as prefect_server
from drillyard_flows import settings
from drillyard_flows.request import Request, assignments

if TYPE_CHECKING:
    from prefect import Flow
    from prefect.settings.legacy import Setting

    from drillyard.driver.stages import Stages
    from drillyard_flows.stage_graph import Graph
    from drillyard_tasks.common import FlowResult

END_S = 60.0
"""Seconds for the flow's last tasks and artifacts after the end of the session."""
SILENT_S = 5.0
"""Seconds at the end after which Prefect's API is checked."""
ANSWER_S = 10.0
"""Seconds for an answer of the embedded server, whose process can be checked directly."""
FOREIGN_ANSWER_S = 3.0
_LOOK_S = 0.05


def still_answers(server: prefect_server.Server) -> bool:
    """Returns whether the API answers. A dead embedded server is found at once.

    Args:
        server: A server that has answered before.
    """
    try:
        server.wait(ANSWER_S if server.ours else FOREIGN_ANSWER_S)
    except ControlPlaneError:
        return False
    return True


class PrefectView:
    """Shows one session as a flow run.

    Args:
        request: The request, for the flow run's parameters.
        acquire: Returns the server; raises ControlPlaneError if there is none.
        release: Releases the server.
        say: Receives messages for the user.
        live: Address of the live page, if the command serves one.
    """

    def __init__(
        self,
        request: Request,
        *,
        acquire: Callable[[], prefect_server.Server] = prefect_server.acquire,
        release: Callable[[prefect_server.Server], None] = prefect_server.Server.release,
        say: Callable[[str], None],
        live: str | None = None,
    ) -> None:
        self._request = request
        self._acquire = acquire
        self._release = release
        self._say = say
        self._live = live
        self._server: prefect_server.Server | None = None
        self._answered = threading.Event()
        self._graph: Graph | None = None
        self._error: BaseException | None = None
        self._thread: threading.Thread | None = None

    def begin(self, driver: Driver | Stages, bodies: Bodies) -> None:
        """Starts the server and the flow beside the session."""
        try:
            self._server = self._acquire()
        except ControlPlaneError as error:
            self._without(error)
            return
        self._say(f"Prefect: {self._server.ui_url}")
        folder = self._server.home if self._server.ours else None
        settings.use_api(self._server.api_url, folder=folder)
        self._thread = threading.Thread(
            target=self._run, args=(driver, bodies), name="prefect-flow", daemon=True
        )
        self._thread.start()

    def begin_graph(self, stages: Stages, graph: Graph) -> None:
        """Starts the flow that shows the stages of a composite.

        Args:
            stages: What is driven.
            graph: Its stages as bodies.
        """
        self._graph = graph
        self.begin(stages, graph.bodies)

    def showing(self) -> bool:
        """Returns True while the flow runs, or may still begin."""
        return self._thread is not None and self._thread.is_alive()

    @contextmanager
    def slots(self, driver: Driver) -> Iterator[None]:
        """Holds the slots of ``resources.limit``; see ``limits.slots``."""
        name = driver.spec.resources.limit
        if name is None:
            yield
            return
        while self.showing() and not self._answered.wait(_LOOK_S):
            driver.stopping.check()
        if not self._answered.is_set():
            raise ControlPlaneError(
                f"Prefect, which counts the limit {name!r}, does not answer: {_text(self._error)}",
                hint="run the command again once it answers, or remove resources.limit",
            )
        from drillyard_flows import limits

        with limits.slots(driver):
            yield

    def end(self, outcome: Outcome | BaseException) -> None:
        """Waits for the flow's last states and artifacts while its API answers."""
        try:
            began, checked = time.monotonic(), False
            while self.showing():
                waited = time.monotonic() - began
                if waited > END_S:
                    break
                if waited > SILENT_S and not checked:
                    checked = True
                    # A server that has not answered yet may still start: on a busy machine a
                    # short experiment can end before, and still gets its pages.
                    if self._answered.is_set() and not still_answers(self._known_server):
                        break
                time.sleep(_LOOK_S)
            if self.showing():
                # If the flow thread continues, Prefect's log handler fails while the interpreter
                # exits, and logging prints a traceback.
                logging.raiseExceptions = False
                self._without(ControlPlaneError("Prefect's API does not answer"))
        finally:
            self.leave()

    def leave(self) -> None:
        """Releases the server; safe to call again."""
        server, self._server = self._server, None
        if server is not None:
            self._release(server)

    # -- inside -------------------------------------------------------------------------------

    @property
    def _known_server(self) -> prefect_server.Server:
        assert self._server is not None
        return self._server

    def _without(self, error: BaseException) -> None:
        """Reports once that the session continues without Prefect."""
        if self._error is None:
            self._error = error
            self._say(
                f"continuing without Prefect's pages; results are not affected ({_text(error)})"
            )

    def _run(self, driver: Driver | Stages, bodies: Bodies) -> None:
        """Runs the flow. An error of the session is not an error of Prefect."""
        try:
            self._flow(driver, bodies)
        except BaseException as error:
            ended = bodies.outcome.result() if bodies.outcome.done() else None
            if ended is None or str(ended.error) != str(error):
                self._without(error)

    def _flow(self, driver: Driver | Stages, bodies: Bodies) -> None:
        import prefect.settings as prefect_settings
        from prefect import tags
        from prefect.client.schemas.objects import State

        from drillyard_flows.heartbeats import TAG, Heartbeats
        from drillyard_flows.live import LIVE
        from drillyard_flows.present import ATTACHED, GRAPH, tags_of

        server = self._known_server
        server.wait()
        self._answered.set()
        frequency = prefect_settings.PREFECT_FLOWS_HEARTBEAT_FREQUENCY
        beating = not server.ours and frequency.value() is not None
        changed: dict[str | Setting, Any] = {frequency: None}  # its thread is joined at the end
        if server.ours:
            # A program that imported Prefect before has already read its settings.
            changed[prefect_settings.PREFECT_API_URL] = server.api_url
        with contextlib.ExitStack() as stack:
            flow = chosen = _flow_of(driver)
            if beating:
                # Only automations of a permanent server use heartbeats.
                beats = Heartbeats()
                stack.callback(beats.end)
                flow = chosen.with_options(on_running=[beats.begin])
            stack.enter_context(prefect_settings.temporary_settings(changed))
            stack.enter_context(tags(*tags_of(driver), *([TAG] if beating else [])))
            if self._graph is not None:
                graph_token = GRAPH.set(self._graph)
                stack.callback(GRAPH.reset, graph_token)
            elif isinstance(driver, Driver):
                token = ATTACHED.set((driver, bodies))
                stack.callback(ATTACHED.reset, token)
            stack.callback(LIVE.reset, LIVE.set(self._live))
            state = flow(
                file=str(driver.loaded.file),
                store=driver.mailbox.store.url,
                name=driver.mailbox.experiment,
                sets=list(self._request.sets),
                globals_files=[str(g) for g in self._request.globals_],
                backend=self._request.backend or "",
                parameters=assignments(self._request.values),
                tunables=list(self._request.tunables),
                return_state=True,
            )
        if not isinstance(state, State):  # ``return_state`` always gives one
            raise Bug(f"a flow run ended with {type(state).__name__}")
        result = state.result(raise_on_failure=False)
        if isinstance(result, BaseException) and not state.is_cancelled():
            raise result


def _text(error: BaseException | None) -> str:
    text = str(error).splitlines()[0] if error is not None and str(error) else ""
    return (text or type(error).__name__)[:300]


def _flow_of(driver: Driver | Stages) -> Flow[..., FlowResult]:
    # By name, as Prefect's workers find it: the flows themselves show stages with this module.
    kind = "study" if driver.loaded.spec.study is not None else "experiment"
    flow: Flow[..., FlowResult] = load_object(f"drillyard_flows.{kind}:{kind}")
    return flow
