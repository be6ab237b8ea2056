"""``drillyard run`` of a composite that is done in stages."""

from __future__ import annotations

import contextlib
import json
import threading
import time
from dataclasses import replace
from typing import TYPE_CHECKING

import typer

from drillyard.driver.compose import stages_of
from drillyard.driver.in_thread import InThread
from drillyard.driver.outcome import Outcome
from drillyard.driver.stages import Stages
from drillyard.mailbox import Mailbox
from drillyard.system import closed_output
from drillyard.system.durations import duration
from drillyard_flows.live import served
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


def run_stages(
    loaded: Loaded, request: Request, display: Display, *, as_json: bool, started: float
) -> None:
    """Runs every stage, or continues: finished stages are not repeated.

    Args:
        loaded: The checked composite.
        request: The request.
        display: Shows the progress.
        as_json: Print one JSON document.
        started: When the command began (monotonic).

    Raises:
        DrillyardError: A stage failed, or was refused before anything was created.
    """
    outcome: Outcome | None = None
    try:
        graph, server = Graph(), OneServer()
        stages = stages_of_request(loaded, request, server, display.say, graph)
        left = stages.open()
        if left:
            with contextlib.ExitStack() as stack:
                if not as_json:
                    stack.enter_context(served(stages.mailbox, display.say))
                outcome = _drive(stages, request, graph, server, display)
        else:
            display.say(f"nothing to do: every stage of {loaded.spec.name} is finished")
        report = build_report(stages.mailbox, display.say)
    finally:
        display.close()
    with closed_output.ignored():
        show(stages.mailbox, report, as_json=as_json, wall_s=time.monotonic() - started)
    if outcome is not None and outcome.error is not None:
        raise outcome.error


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

    def view(stage: Loaded, told: Callable[[str], None]) -> View:
        from drillyard_flows.prefect_view import PrefectView

        return PrefectView(of_stage, acquire=server.get, release=_keep, say=told)

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

    shown = None
    if request.prefect:
        shown = PrefectView(request, acquire=server.get, release=server.release, say=display.say)
        shown.begin_graph(stages, graph)
    work = InThread(
        lambda: driven(stages, graph),
        stages,
        say=display.say,
        leave=shown.leave if shown is not None else lambda: None,
    )
    outcome = work.run(drawn(display, StageLooks(stages)))
    if shown is not None:
        shown.end(outcome)
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


def build_report(mailbox: Mailbox, say: Callable[[str], object]) -> str | None:
    """Builds the page of the stages. A failure is reported and not raised."""
    try:
        from drillyard.report.stages import build

        return build(mailbox)
    except Exception as error:
        say(f"the report could not be built: {error}")
        return None


def show(mailbox: Mailbox, report: str | None, *, as_json: bool, wall_s: float) -> None:
    """Prints a table of the stages.

    Args:
        mailbox: The composite.
        report: Location of its page.
        as_json: Print one JSON document instead.
        wall_s: Duration of the command in seconds.
    """
    from drillyard.results.stages import as_dict, grid, read
    from drillyard.system.terminal import print_grid

    found = read(mailbox)
    if as_json:
        document = {**as_dict(found), "report": report, "wall_s": round(wall_s, 3)}
        typer.echo(json.dumps(document, ensure_ascii=False))
        return
    print_grid(grid(found))
    typer.echo("")
    typer.echo(f"wall time: {duration(wall_s)}")
    if report:
        typer.echo(f"report:    {report}")
