"""drillyard from Python: ``load``, ``run``, and points of the curves while a run is under way.

    import drillyard

    experiment = drillyard.load("cstr.yaml", train__steps=20_000)
    results = drillyard.run(experiment, callbacks=[lambda point: point.value > -50])

``run`` is ``drillyard run``: the same mailbox, backends and workers, and the same six Prefect
tasks where Prefect is installed (``flow=False``: without). What one began, the other one resumes.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from drillyard.errors import DrillyardError, ExperimentFailed, Stopped, WorkerLost
from drillyard.metrics.follow import STREAMS, Callback, Feed, Point, StopRun
from drillyard.spec.from_python import as_sets, as_text
from drillyard.system.optional_packages import install

if TYPE_CHECKING:
    from drillyard.driver.driver import Driver
    from drillyard.mailbox import Mailbox
    from drillyard.mailbox.records import TicketRecord
    from drillyard.results import ExperimentResults
    from drillyard.spec.experiment import ExperimentSpec
    from drillyard.spec.load import Loaded

POLL_S = 0.25
Through = Callable[["Driver", "Loaded"], bool]
"""Drives an open driver to its end; False: could not, go on without it."""
__all__ = ["Callback", "Feed", "Point", "StopRun", "load", "run"]


def load(
    file: str | Path,
    *,
    globals: Sequence[str] = (),
    tunables: Mapping[str, Any] | None = None,
    **overrides: Any,
) -> Loaded:
    """Load and check an experiment file. Creates nothing.

    Args:
        file: YAML, or JSON with comments.
        globals: Files or inline JSON, as of ``--globals``; later wins.
        tunables: Values of active tunables, as of ``--tunable name=value``.
        **overrides: As of the command line. A field of the file, with ``__`` for a dot
            (``train__steps=5000``, ``learner__args={"gamma": 0.9}``), or a parameter that the file
            declares (``lr=1e-3``). Classes are taken by name and must be importable by a worker.

    Returns:
        The experiment: ``.spec``, ``.provenance``, ``.findings``.

    Raises:
        ConfigError: What is wrong, with file, line, field and a fix.
        ConfigErrors: Several of them.
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
        file, sets=sets, globals_=list(globals), values=values, tunables=assigned,
        command=["drillyard.load", str(file)],
    )  # fmt: skip


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
) -> ExperimentResults:
    """Run an experiment to its end, or go on with it: what is finished is not done again.

    Args:
        what: Of ``load``, a specification (``experiment.spec.model_copy(update=…)``), or a file.
        store: Where results are kept; default DRILLYARD_STORE or ``./drillyard-runs``.
        folder: The user's modules; default: where the file lies, else the working folder.
        callbacks: Get each ``Point`` once. Returning False, or raising ``StopRun``, stops the
            experiment; the results then say CANCELLED. Any other exception stops it too, and is
            raised.
        streams: Which curves callbacks get.
        allow_change: Go on under the same name although results will differ.
        report: Build the report at the end.
        flow: Through Prefect, as the six tasks of the flow `experiment`, with its server started
            where none runs. None: where Prefect is installed. False: without, which saves seconds
            a call and changes no result.
        say: Gets sentences about what is done; default: the log ``drillyard``.

    Returns:
        What was reached: ``.status``, ``.runs``, ``.policies``, ``.to_dict()``.

    Raises:
        UserError: The experiment cannot work, or Prefect is not installed and ``flow=True``;
            nothing was created.
        ExperimentFailed: A run failed; the others have their results in the store.
        Stopped: Someone else stopped it.
        InfrastructureError: The machinery failed; the same call goes on.
    """
    from drillyard.backend import open_backend
    from drillyard.checks.experiment import check
    from drillyard.checks.refusal import refuse
    from drillyard.driver.driver import Driver
    from drillyard.mailbox import Mailbox, open_store
    from drillyard.runs.locate import store_url

    through = _through(flow)
    loaded = _loaded(what, folder)
    spec = loaded.spec
    url = store_url(None if store is None else str(store), spec)
    refuse(check(loaded, store=url, offline_ok=True))
    backend = open_backend(spec.backend, spec.backends.get(spec.backend.partition("/")[0]))
    mailbox = Mailbox(open_store(url), spec.name)
    driver = Driver(loaded, mailbox, backend, on_line=say, allow_change=allow_change)
    listeners = [callbacks] if callable(callbacks) else list(callbacks)
    feed = Feed(mailbox, listeners, streams)
    todo = driver.open()
    if todo:
        _drive(driver, todo, feed, through)
    else:
        feed.poll()
    return _results(mailbox, report, say)


def _through(flow: bool | None) -> Through | None:
    """Who drives besides this module; None: nobody.

    Raises:
        PluginError: Prefect is wanted and not installed, or does not import.
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
    return cast(Through, load("flows", known[0])) if installed and flow is not False else None


def _loaded(what: Any, folder: str | Path | None) -> Loaded:
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


def _results(
    mailbox: Mailbox, report: bool, say: Callable[[str], None] | None
) -> ExperimentResults:  # fmt: skip
    from drillyard.results import collect

    if report:
        try:
            from drillyard.report import build

            build(mailbox)
        except Exception as error:  # as for the command line: it fails nothing
            (say or _log)(f"the report could not be built: {error}")
    return collect(mailbox)


def _log(text: str) -> None:
    import logging

    logging.getLogger("drillyard").info("%s", text)


class _Waiter(threading.Thread):
    """Waits for every ticket; the first error is the experiment's."""

    def __init__(
        self, driver: Driver, todo: Sequence[TicketRecord], through: Through | None
    ) -> None:
        super().__init__(name="drillyard-wait", daemon=True)
        self._driver, self._todo, self._through = driver, todo, through
        self.error: BaseException | None = None

    def run(self) -> None:
        try:
            driven = self._through is not None and self._through(self._driver, self._driver.loaded)
        except BaseException as error:
            # How single tickets ended stands in the mailbox, and is told below.
            self.error = error
            driven = True
        if driven and not self._driver.over:
            return
        self.error = None
        try:
            if not driven:
                self._driver.provision()
                self._driver.setup()
        except BaseException as error:
            self.error = error
            return
        if self._driver.study is not None:
            while not self._driver.over:
                time.sleep(POLL_S)
            self.error = self._driver.study.verdict()
            return
        for ticket in self._todo:
            try:
                self._driver.wait(ticket.ticket)
            except DrillyardError as error:
                # What stands behind a failed ticket is stopped by it: the first error says why.
                self.error = self.error or error
                if not self._driver.states()[ticket.ticket].status.ended:
                    return
            except BaseException as error:
                self.error = error
                return


def _drive(
    driver: Driver, todo: Sequence[TicketRecord], feed: Feed, through: Through | None
) -> None:
    from drillyard.tracking import Mirror, resolve_uri

    uri = resolve_uri(driver.spec.tracking.mlflow, driver.mailbox.store.url)
    mirror = Mirror(driver.mailbox, uri, on_warning=_log)
    waiter = _Waiter(driver, todo, through)
    outcome, wanted = "undecided", True
    try:
        mirror.start()
        waiter.start()
        while waiter.is_alive():
            waiter.join(POLL_S)
            if wanted and not feed.poll():
                wanted = False
                driver.stop("a callback asked for it")
        # What was written between the last look and the end.
        if wanted:
            feed.poll()
        outcome = _verdict(_told_whole(driver, waiter.error), wanted)
    except BaseException as error:
        outcome = type(error).__name__
        driver.stop(f"the program that drives it ended: {outcome}")
        waiter.join(60.0)
        raise
    finally:
        try:
            driver.teardown()
        finally:
            driver.close(outcome)
            if told := mirror.finish(20.0).registered:
                _log(told)


def _told_whole(driver: Driver, error: BaseException | None) -> BaseException | None:
    """A failure with every failed run in it, the first ticket that failed and why."""
    if not isinstance(error, ExperimentFailed | WorkerLost) or driver.study is not None:
        return error
    from drillyard.driver.outcome import failures

    return failures(driver.mailbox, driver.states()) or error


def _verdict(error: BaseException | None, wanted: bool) -> str:
    if error is None:
        return "succeeded"
    if isinstance(error, Stopped) and not wanted:
        return "cancelled"
    raise error
