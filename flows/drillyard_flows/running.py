"""The commands as plain functions; failures are raised as ``DrillyardError``."""

from __future__ import annotations

import contextlib
import getpass
import json
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

import typer

from drillyard.checks.numbers import checkpoints
from drillyard.driver.going_on import going_on
from drillyard.errors import ConfigError, ControlPlaneError
from drillyard.mailbox.command_hints import command
from drillyard.mailbox.records import STREAMS
from drillyard.mailbox.ticket_states import ticket_states
from drillyard.runs.locate import open_mailbox
from drillyard.spec.stages import is_staged
from drillyard.system import closed_output
from drillyard_flows import settings
from drillyard_flows.live import served
from drillyard_flows.progress import Display, Lines, Silent, drawn
from drillyard_flows.request import Request, checked, opened

if TYPE_CHECKING:
    from drillyard.authoring.short import Short
    from drillyard.driver.driver import Driver
    from drillyard.driver.outcome import Outcome
    from drillyard.mailbox import Mailbox
    from drillyard.spec.load import Loaded

API_PATIENCE_S = 5.0
CHECK = "the check of the experiment, which also tries its code"
DRIVER_PATIENCE_S = 60.0


def run_file(request: Request, *, as_json: bool) -> None:
    """``drillyard run FILE``.

    Args:
        request: The request.
        as_json: Print one JSON document.

    Raises:
        DrillyardError: The experiment failed.
    """
    _run(lambda began: checked(request, began), request, as_json=as_json)


def run_short(request: Request, short: Short, *, as_json: bool) -> None:
    """``drillyard run -a ALGORITHM -s SIMULATOR``: writes a short file and runs it.

    Args:
        request: The request, which names the file.
        short: What the file says.
        as_json: Print one JSON document.

    Raises:
        DrillyardError: The experiment was refused, and no file is left; or it failed.
    """

    def load(began: Callable[[Loaded], None]) -> Loaded:
        known = short.is_written()
        with short.written() as path:
            loaded = checked(request, began)
        file = path.absolute()
        text = f"runs {file}, which it wrote before" if known else f"wrote {file}, and runs it"
        closed_output.tell(text, err=as_json)
        return loaded

    _run(load, request, as_json=as_json)


def bench_file(request: Request, *, as_json: bool) -> None:
    """``drillyard bench FILE``: a study that compares listed experiments.

    Args:
        request: The request.
        as_json: Print one JSON document.

    Raises:
        ConfigError: The file lists nothing to compare.
        DrillyardError: The experiment failed.
    """

    def load(began: Callable[[Loaded], None]) -> Loaded:
        def listed(loaded: Loaded) -> None:
            if loaded.spec.study is None or loaded.spec.study.chooser != "list":
                raise ConfigError(
                    "the file lists nothing to compare",
                    file=loaded.file.name,
                    field="bench",
                    allowed="`bench:` with algorithms and simulators, or a study of the chooser "
                    "`list`",
                    hint="add `bench: {algorithms: [ppo, a2c], simulators: [CartPole-v1]}`; or "
                    "use `run`",
                )
            began(loaded)

        return checked(request, listed)

    _run(load, request, as_json=as_json)


def resume_name(request: Request, *, as_json: bool) -> None:
    """``drillyard resume NAME``: continues with the experiment and the code from the store.

    Args:
        request: The request, with the experiment's name.
        as_json: Print one JSON document.

    Raises:
        DrillyardError: The experiment does not exist, or failed.
    """
    from drillyard.runs.code_archive import install
    from drillyard.spec.load import load_resolved
    from drillyard.system.scratch import own_folder

    mailbox = open_mailbox(request.name, request.store)
    request = replace(request, name=mailbox.experiment, store=mailbox.store.url)
    record = mailbox.experiment_record()
    with own_folder("resume") as scratch:
        # The files that the first command packed, so that the identity is the same.
        paths = install(mailbox, record.code, [], scratch)
        empty = scratch / "empty"
        empty.mkdir()
        loaded = load_resolved(
            record.spec, folder=paths[0] if paths else empty, provenance=record.provenance
        )
        loaded = replace(loaded, whole=bool(paths))
        _run(lambda began: loaded, request, as_json=as_json)


def cancel_name(name: str, store: str | None, *, drain: bool, as_json: bool) -> None:
    """``drillyard cancel NAME``.

    Args:
        name: The experiment.
        store: URL of the store.
        drain: Let running tickets finish.
        as_json: Print one JSON document.

    Raises:
        NotFound: The experiment does not exist.
        TeardownUnconfirmed: A provider still lists a machine.
    """
    from drillyard_flows import stopping

    mailbox = open_mailbox(name, store)
    name = mailbox.experiment
    open_tickets = stopping.undecided(mailbox)
    if open_tickets:
        stopping.order_stop(mailbox, reason="drillyard cancel", by=getpass.getuser(), drain=drain)
    gone: list[str] = []
    if not drain:
        # A live driver tears down by itself. If it does not, this command does.
        stopping.wait_until(lambda: not stopping.driven(mailbox), DRIVER_PATIENCE_S)
        gone = stopping.end_leases(mailbox)
    if as_json:
        typer.echo(json.dumps({"experiment": name, "stopped": open_tickets, "leases_gone": gone}))
        return
    if not open_tickets:
        typer.echo(f"{name}: no tickets were open")
    elif drain:
        typer.echo(f"{name}: running tickets will finish; no new ones will start")
    else:
        typer.echo(f"{name}: stopped {len(open_tickets)} tickets")
    for lease in gone:
        typer.echo(f"lease {lease} was torn down")
    if open_tickets:
        if not drain:
            for line in going_on(mailbox, ticket_states(mailbox)):
                typer.echo(line)
        typer.echo(f"to continue from the last checkpoints: {command('resume', mailbox)}")


def _run(
    load: Callable[[Callable[[Loaded], None]], Loaded], request: Request, *, as_json: bool
) -> None:
    from drillyard.report.stages import built
    from drillyard_flows import summary

    started = time.monotonic()
    display = _display(quiet=as_json)
    outcome: Outcome | None = None
    try:
        # A file that cannot be read is refused before anything is waited for.
        loaded = load(lambda _: display.wait(CHECK))
        display.title = loaded.spec.name
        if request.prefect:
            if settings.configured_api() is not None:
                display.wait("Prefect's API")
            _require_api(offline_ok=request.offline_ok)
        staged = is_staged(loaded.spec)
        if staged:
            from drillyard_flows.stages import prepared

            mailbox, drive = prepared(loaded, request, display)
        else:
            mailbox, drive = _prepared(loaded, request, display)
        if drive is None:
            part = "stage" if staged else "run"
            display.say(f"nothing to do: every {part} of {loaded.spec.name} is finished")
        else:
            with contextlib.ExitStack() as stack:
                live = None
                if not as_json:
                    live = stack.enter_context(served(mailbox, display.say))
                outcome = drive(live)
        report = outcome.report if outcome is not None else None
        if report is None:
            report = built(mailbox, display.say)
    finally:
        display.close()
    with closed_output.ignored():
        summary.show(mailbox, report, as_json=as_json, wall_s=time.monotonic() - started)
    if outcome is not None and outcome.error is not None:
        raise outcome.error


def _prepared(
    loaded: Loaded, request: Request, display: Display
) -> tuple[Mailbox, Callable[[str | None], Outcome] | None]:
    """Opens an experiment. Returns its mailbox, and what drives it, unless it is finished."""
    display.wait("the store, which gets the code and the tickets of the runs")
    driver, tickets = opened(loaded, request, on_line=display.say)
    if not tickets:
        return driver.mailbox, None
    text = checkpoints(loaded)
    # An earlier experiment keeps its rule for checkpoints.
    if text and driver.mailbox.experiment_record().streams == STREAMS:
        display.say(f"checkpoints: {text}")
    return driver.mailbox, partial(_drive, driver, request, display)


def _drive(driver: Driver, request: Request, display: Display, live: str | None) -> Outcome:
    """Drives in a thread, so that this one can draw and receive Ctrl-C."""
    from drillyard.driver.in_thread import InThread
    from drillyard.driver.six_phases import drive
    from drillyard_flows.looks import Looks
    from drillyard_flows.prefect_view import PrefectView

    view = PrefectView(request, say=display.say, live=live) if request.prefect else None
    return InThread(
        lambda: drive(driver, view=view, say=display.say),
        driver,
        say=display.say,
        leave=view.leave if view is not None else lambda: None,
    ).run(drawn(display, Looks(driver)))


def _require_api(*, offline_ok: bool) -> None:
    """Checks that the configured Prefect API accepts our credentials, before anything is rented.

    Args:
        offline_ok: Accept an API that does not answer.

    Raises:
        ConfigError: The API is open to the whole network.
        ControlPlaneError: It does not answer, or requires another password.
    """
    from drillyard_flows.prefect_api import guarded, let_in
    from drillyard_flows.server import Server

    configured = settings.configured_api()
    if configured is None:
        return
    guarded(configured)
    if offline_ok:
        return
    try:
        Server(configured, configured, ours=False).wait(API_PATIENCE_S)
        let_in(configured)
    except ControlPlaneError as error:
        raise ControlPlaneError(
            error.message, hint=f"{error.hint}; or run without its pages: --offline-ok"
        ) from error


def _display(*, quiet: bool) -> Display:
    """Returns what fits the output: terminal, file, or (quiet) a program that reads it."""
    if quiet:
        return Silent()
    from rich.console import Console

    console = Console(stderr=True)
    if not console.is_terminal:
        return Lines()
    from drillyard_flows.bars import Bars

    return Bars(console)
