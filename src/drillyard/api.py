"""drillyard from Python: ``load``, ``run``, and points of the curves during a run.

    import drillyard

    experiment = drillyard.load("cstr.yaml", train__steps=20_000)
    results = drillyard.run(experiment, callbacks=[lambda point: point.value > -50])

``run`` does the same as ``drillyard run``: the same mailbox, backends and workers, and the same
Prefect tasks if Prefect is installed (``flow=False``: without). Each resumes what the other began.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, ParamSpec, TypeVar

from drillyard.errors import DrillyardError, InfrastructureError
from drillyard.metrics.follow import STREAMS, Callback, Feed, Point, StopRun
from drillyard.spec.from_python import as_sets, as_text
from drillyard.system.optional_packages import install
from drillyard.system.proxies import spare_loopback

if TYPE_CHECKING:
    from drillyard.driver.driver import Driver
    from drillyard.driver.outcome import Outcome
    from drillyard.driver.view import View
    from drillyard.mailbox import Mailbox
    from drillyard.report.comparison.model import Comparison
    from drillyard.report.interactive import Results
    from drillyard.report.notebook import ProgressLine
    from drillyard.spec.experiment import ExperimentSpec
    from drillyard.spec.load import Loaded

POLL_S = 0.25
MakeView = Callable[["Loaded"], "View"]
"""Type of an entry point of the group ``drillyard.flows``."""
__all__ = ["Callback", "Feed", "Point", "StopRun", "compare", "load", "results_of", "run"]
P = ParamSpec("P")
T = TypeVar("T")


def _with_fixes(function: Callable[P, T]) -> Callable[P, T]:
    """Errors that leave a function contain the fix in their text: no command prints it."""

    @functools.wraps(function)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return function(*args, **kwargs)
        except DrillyardError as error:
            shown_error = error.but(shows_fix=True)
            raise shown_error from shown_error.__cause__

    return wrapped


@_with_fixes
def load(
    file: str | Path,
    *,
    globals: Sequence[str] = (),
    tunables: Mapping[str, object] | None = None,
    **overrides: object,
) -> Loaded:
    """Load and check an experiment file. Creates nothing.

    Args:
        file: YAML, or JSON with comments.
        globals: Files or inline JSON, as for ``--globals``; a later one wins.
        tunables: Values of active tunables, as for ``--tunable name=value``.
        **overrides: As on the command line. A field of the file, with ``__`` for a dot
            (``train__steps=5000``, ``learner__args={"gamma": 0.9}``), or a parameter that the file
            declares (``lr=1e-3``). Name a class by a text; workers must be able to import it.

    Returns:
        The experiment: ``.spec``, ``.provenance``, ``.findings``.

    Raises:
        ConfigError: A mistake, with file, line, field and a fix.
        ConfigErrors: Several mistakes.
    """
    from drillyard.spec.experiment import ExperimentSpec
    from drillyard.spec.load import load as load_file

    fields = {info.alias or name for name, info in ExperimentSpec.model_fields.items()}
    sets: list[str] = []
    values: dict[str, str] = {}
    for key, value in overrides.items():
        path = key.split("__")
        if path[0] in fields:
            sets += as_sets(path, value)
        else:
            values[key] = as_text(value, key)
    assigned = [f"{name}={as_text(value, name)}" for name, value in (tunables or {}).items()]
    return load_file(
        file,
        sets=sets,
        globals_=list(globals),
        values=values,
        tunables=assigned,
        command=["drillyard.load", str(file)],
    )


@_with_fixes
def run(
    what: Loaded | ExperimentSpec | str | Path,
    *,
    store: str | Path | None = None,
    folder: str | Path | None = None,
    callbacks: Callback | Sequence[Callback] = (),
    streams: Sequence[str] = STREAMS,
    allow_change: bool = False,
    report: bool = True,
    flow: bool | None = None,
    say: Callable[[str], None] | None = None,
) -> Results:
    """Run an experiment to its end, or continue it: finished work is not repeated.

    Args:
        what: The result of ``load``, a specification (``experiment.spec.model_copy(update=…)``),
            or a file.
        store: Where results are kept; default DRILLYARD_STORE or ``./drillyard-runs``.
        folder: Folder of the user's modules; default: the folder of the file, else the working
            folder.
        callbacks: Get each ``Point`` once, in a study those of all trials. If one returns False or
            raises ``StopRun``, the experiment stops, and the results have the status CANCELLED.
            Any other exception also stops it, and is raised.
        streams: Which curves the callbacks get.
        allow_change: Continue under the same name although results will differ.
        report: Build the report at the end.
        flow: Run through Prefect, as the six tasks of the flow `experiment`; starts a server if
            none runs. None: if Prefect is installed. False: without Prefect, which saves seconds
            and changes no result.
        say: Gets sentences about each step; default: the log ``drillyard``, in a notebook a line
            that updates itself.

    Returns:
        The results: ``.status``, ``.runs``, ``.policies``, ``.to_dict()``.

    Raises:
        UserError: The experiment cannot work, or Prefect is not installed and ``flow=True``;
            nothing was created.
        ExperimentFailed: A run failed; the others have their results in the store.
        Stopped: Another command stopped it.
        InfrastructureError: The infrastructure failed; the same call continues.
    """
    from drillyard.checks.experiment import check
    from drillyard.checks.refusal import refuse
    from drillyard.driver.compose import driver_of
    from drillyard.runs.locate import store_of
    from drillyard.spec.stages import is_staged

    spare_loopback()
    make_view = _view_of(flow)
    loaded = _loaded(what, folder)
    spec = loaded.spec
    url = store_of(loaded, None if store is None else str(store))
    refuse(check(loaded, store=url, offline_ok=True))
    if is_staged(spec):
        return _run_stages(
            loaded, url, make_view, callbacks, allow_change, report=report, say=say or _log
        )
    driver = driver_of(loaded, url, say=say, allow_change=allow_change)
    mailbox = driver.mailbox
    listeners = [callbacks] if callable(callbacks) else list(callbacks)
    feed = Feed(mailbox, driver.states, listeners, streams)
    line = _progress_line(mailbox, driver) if say is None else None
    if line is not None:
        say = line.say
    view = make_view(loaded) if make_view is not None else None
    todo = driver.open()
    if todo:
        _drive(driver, feed, view, say or _log, report=report, line=line)
    else:
        feed.poll()
    return _results(mailbox, report and not todo, say)


@_with_fixes
def results_of(name: str | None = None, *, store: str | Path | None = None) -> Results:
    """The results of an experiment, at any stage of its life.

    Args:
        name: Its name or its location (``gs://bucket/name``); None: the newest one.
        store: Where it is; default DRILLYARD_STORE or ``./drillyard-runs``.

    Returns:
        The results: ``.runs``, ``.policies``, ``.to_pandas(…)``, ``.plot()``.

    Raises:
        NotFound: There is no such experiment.
        StoreUnavailable: The store cannot be read.
    """
    from drillyard.report.interactive import Results
    from drillyard.results import collect
    from drillyard.runs.locate import open_mailbox

    mailbox = open_mailbox(name, None if store is None else str(store))
    return Results.of(collect(mailbox))


@_with_fixes
def compare(
    *places: str, store: str | Path | None = None, measure: str | None = None
) -> Comparison:
    """Compare experiments, trials and runs, as ``drillyard compare`` does.

    Args:
        *places: Names, or locations in other stores.
        store: Store of plain names; default DRILLYARD_STORE or ``./drillyard-runs``.
        measure: ``return``, or the name of a metric.

    Returns:
        The comparison; ``drillyard.report.comparison.page.build`` writes its page.

    Raises:
        UserError: One of them does not exist, or they have no measure in common.
        StoreUnavailable: A store cannot be read.
    """
    from drillyard.report.comparison.side_by_side import compare

    return compare(places, None if store is None else str(store), measure)


def _view_of(flow: bool | None) -> MakeView | None:
    """The view that shows a session; None: it is not shown.

    Raises:
        PluginError: Prefect is requested and not installed, or does not import.
    """
    from importlib.util import find_spec

    from drillyard.errors import PluginError
    from drillyard.registry import load, names

    known = names("flows")
    installed = bool(known) and find_spec("prefect") is not None
    if flow and not installed:
        raise PluginError(
            "Prefect is not installed here",
            hint=f"{install('control')}, or flow=False to run without it",
        )
    if not installed or flow is False:
        return None
    make: MakeView = load("flows", known[0])
    return make


def _loaded(what: Loaded | ExperimentSpec | str | Path, folder: str | Path | None) -> Loaded:
    from drillyard.spec.experiment import ExperimentSpec
    from drillyard.spec.load import Loaded, load_resolved

    if isinstance(what, ExperimentSpec):
        where = Path(folder or Path.cwd()).resolve()
        dumped = what.model_dump(mode="json", by_alias=True, warnings=False)
        return load_resolved(dumped, folder=where, command=["drillyard.run", what.name])
    loaded = what if isinstance(what, Loaded) else load(what)
    if folder is not None:
        loaded.folder = Path(folder).resolve()
    return loaded


def _results(mailbox: Mailbox, report: bool, say: Callable[[str], None] | None) -> Results:
    from drillyard.report.interactive import Results
    from drillyard.report.stages import built
    from drillyard.results import collect

    if report:
        built(mailbox, say or _log)
    return Results.of(collect(mailbox))


def _run_stages(
    loaded: Loaded,
    url: str,
    make_view: MakeView | None,
    callbacks: Callback | Sequence[Callback],
    allow_change: bool,
    *,
    report: bool,
    say: Callable[[str], None],
) -> Results:
    """A composite that is done in stages; each is shown as an experiment of its own."""
    from drillyard.driver.compose import stages_of
    from drillyard.driver.in_thread import InThread
    from drillyard.errors import ConfigError

    if callable(callbacks) or callbacks:
        raise ConfigError(
            "callbacks follow one experiment, and this one has stages",
            file="drillyard.run",
            field="callbacks",
            allowed="no callbacks",
            hint="leave them out; `drillyard.results_of` reads each stage while it runs",
        )
    stages = stages_of(
        loaded,
        url,
        say=say,
        view=None if make_view is None else lambda stage, say: make_view(stage),
        allow_change=allow_change,
        report=report,
    )
    error: DrillyardError | None = None
    if stages.open():
        error = InThread(stages.run, stages, say=say).run().error
    if report:
        from drillyard.report.stages import built

        built(stages.mailbox, say)
    if error is not None:
        raise error
    return _results(stages.mailbox, False, say)


def _progress_line(mailbox: Mailbox, driver: Driver) -> ProgressLine | None:
    """What a notebook shows meanwhile; None elsewhere."""
    from drillyard.report.notebook import ProgressLine, in_notebook

    return ProgressLine(mailbox, driver.states) if in_notebook() else None


def _log(text: str) -> None:
    import logging

    logging.getLogger("drillyard").info("%s", text)


def _drive(
    driver: Driver,
    feed: Feed,
    view: View | None,
    say: Callable[[str], None],
    *,
    report: bool,
    line: ProgressLine | None = None,
) -> None:
    """Drive in a thread, so that callbacks are called in this one.

    Raises:
        DrillyardError: It failed, or was stopped by something other than a callback.
    """
    from drillyard.driver.in_thread import Ended, InThread
    from drillyard.driver.outcome import Kind
    from drillyard.driver.six_phases import drive

    at_work = True

    def follow(ended: Ended) -> None:
        nonlocal at_work
        while not ended(POLL_S):
            if line is not None:
                line.update()
            if at_work and not _polled(feed):
                at_work = False
                driver.stop("a callback requested it")
        if at_work:
            _polled(feed, everything=True)  # points between the last poll and the end
        if line is not None:
            line.update(now=True)

    def work() -> Outcome:
        return drive(driver, view=view, say=say, report=report)

    outcome = InThread(work, driver, say=say).run(follow)
    if outcome.error is not None and (at_work or outcome.kind is not Kind.STOPPED):
        raise outcome.error


def _polled(feed: Feed, *, everything: bool = False) -> bool:
    """Give callbacks new points; False once one of them asked to stop.

    An unreachable store does not stop the experiment: the session waits for it.
    """
    try:
        return feed.poll(everything=everything)
    except InfrastructureError as error:
        _log(f"curves cannot be read now: {error}")
        return True
