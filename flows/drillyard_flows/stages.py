"""``drillyard run`` of a composite that is done in stages."""

from __future__ import annotations

import threading
from dataclasses import replace
from typing import TYPE_CHECKING

from drillyard.driver.compose import stages_of
from drillyard.driver.in_thread import InThread
from drillyard.driver.outcome import Outcome
from drillyard.driver.stages import Stages
from drillyard.mailbox import Mailbox
from drillyard_flows.looks import Look, Looks
from drillyard_flows.progress import Display, drawn
from drillyard_flows.request import Request
from drillyard_flows.server import Server, acquire
from drillyard_flows.stage_graph import Graph

if TYPE_CHECKING:
    from collections.abc import Callable

    from drillyard.driver.view import View
    from drillyard.spec.load import Loaded


class OneServer:
    """The server of Prefect that all stages of a command use."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._server: Server | None = None

    def get(self) -> Server:
        """Returns it; the first call starts it.

        Raises:
            ControlPlaneError: It cannot be started.
        """
        with self._lock:
            if self._server is None:
                self._server = acquire()
            return self._server

    def release(self, server: Server) -> None:
        """Releases it, once all stages have ended."""
        with self._lock:
            self._server = None
        server.release()


def _keep(server: Server) -> None:
    """A stage that ends leaves the server to the others."""


def prepared(
    loaded: Loaded, request: Request, display: Display
) -> tuple[Mailbox, Callable[[str | None], Outcome] | None]:
    """Makes the stages of a composite, without opening them.

    Args:
        loaded: The checked composite.
        request: The request.
        display: Shows the progress.

    Returns:
        Its mailbox, and what drives the stages; None if all of them are finished.

    Raises:
        DrillyardError: A stage was refused before anything was created.
    """
    graph, server = Graph(), OneServer()
    stages = stages_of_request(loaded, request, server, display.say, graph)
    if not stages.open():
        return stages.mailbox, None
    return stages.mailbox, lambda live: _drive(stages, request, graph, server, display)


def stages_of_request(
    loaded: Loaded,
    request: Request,
    server: OneServer,
    say: Callable[[str], None],
    graph: Graph,
    hurry: threading.Event | None = None,
) -> Stages:
    """Returns the stages of a request, each of which is shown in Prefect as an experiment.

    Args:
        loaded: The checked composite.
        request: The request.
        server: Prefect's, for all stages.
        say: Receives messages for the user.
        graph: Shows the stages.
        hurry: Set when this process must end soon.
    """
    store = request.store_url(loaded)
    of_stage = replace(request, store=store, name=None, backend=None)

    def view(stage: Loaded, say: Callable[[str], None]) -> View:
        from drillyard_flows.prefect_view import PrefectView

        return PrefectView(of_stage, acquire=server.get, release=_keep, say=say)

    return stages_of(
        loaded,
        store,
        say=say,
        view=view if request.prefect else None,
        allow_change=request.allow_change,
        hurry=hurry,
        on_change=graph.update,
    )


def _drive(
    stages: Stages, request: Request, graph: Graph, server: OneServer, display: Display
) -> Outcome:
    """Drives in a thread, so that this one can draw and receive Ctrl-C."""
    from drillyard_flows.prefect_view import PrefectView

    view = None
    if request.prefect:
        view = PrefectView(request, acquire=server.get, release=server.release, say=display.say)
        view.begin_graph(stages, graph)
    work = InThread(
        lambda: driven(stages, graph),
        stages,
        say=display.say,
        leave=view.leave if view is not None else lambda: None,
    )
    outcome = work.run(drawn(display, StageLooks(stages)))
    if view is not None:
        view.end(outcome)
    return outcome


def driven(stages: Stages, graph: Graph) -> Outcome:
    """Drives the stages to their end, which also ends the list of what is shown."""
    try:
        return stages.run()
    finally:
        graph.close()


class StageLooks:
    """Looks at the runs of all stages at work, each with the name of its stage.

    Args:
        stages: What is driven.
    """

    def __init__(self, stages: Stages) -> None:
        self._stages = stages
        self._looks: dict[str, Looks] = {}

    def __call__(self) -> Look:
        """What there is to show now."""
        runs, waiting = [], []
        for stage in list(self._stages.stages.values()):
            if stage.driver is None or stage.state.ended:
                continue
            look = self._looks.setdefault(stage.name, Looks(stage.driver))()
            runs += [replace(run, run=f"{stage.name}/{run.run}") for run in look.runs]
            waiting += [f"{stage.name}: {look.waiting}"] if look.waiting else []
        return Look(runs, waiting="; ".join(waiting))
