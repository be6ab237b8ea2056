"""Makes drivers, and the stages of a composite: the same ones for every caller."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

from drillyard.driver.driver import Driver
from drillyard.driver.outcome import Outcome
from drillyard.driver.six_phases import drive
from drillyard.driver.stages import Stages, Watch
from drillyard.driver.view import View
from drillyard.leases.places import Places
from drillyard.mailbox import Mailbox, open_store
from drillyard.spec.load import Loaded

log = logging.getLogger(__name__)
Say = Callable[[str], None]
MakeView = Callable[[Loaded, Say], View]
"""(experiment, what gets sentences for the user) -> what shows a session."""


def driver_of(
    loaded: Loaded,
    store: str,
    *,
    say: Say | None = None,
    allow_change: bool = False,
    by_request: bool = False,
) -> Driver:
    """A driver, not yet open: nothing is written.

    Args:
        loaded: The checked experiment.
        store: URL of the store.
        say: Gets sentences for the user; default: the log.
        allow_change: Continue under the same name although results will differ.
        by_request: Do only what ``Driver.request`` names.

    Raises:
        UserError: The backend's settings are wrong.
    """
    places = Places.of_spec(loaded.spec)
    mailbox = Mailbox(open_store(store), loaded.spec.name)
    return Driver(
        loaded, mailbox, places, on_line=say, allow_change=allow_change, by_request=by_request
    )


def stages_of(
    loaded: Loaded,
    store: str,
    *,
    say: Say = log.info,
    view: MakeView | None = None,
    allow_change: bool = False,
    report: bool = True,
    hurry: threading.Event | None = None,
    on_change: Watch = lambda states: None,
) -> Stages:
    """The stages of a composite, not yet open; each is driven and shown as an experiment.

    Args:
        loaded: The checked composite.
        store: URL of the store.
        say: Gets sentences for the user, with the name of the stage.
        view: Makes what shows a stage; None: it is not shown.
        allow_change: Continue under the same name although results will differ.
        report: Build the report of each stage.
        hurry: Set when this process must end soon.
        on_change: Gets the states whenever one has changed.
    """

    def named(name: str) -> Say:
        return lambda text: say(f"{name}: {text}")

    def open_driver(stage: Loaded) -> Driver:
        stage_of = stage.spec.stage_of
        say_named = named(stage_of.name if stage_of is not None else stage.spec.name)
        return driver_of(stage, store, say=say_named, allow_change=allow_change)

    def drive_stage(driver: Driver, name: str) -> Outcome:
        stage_view = view(driver.loaded, named(name)) if view is not None else None
        return drive(driver, view=stage_view, say=named(name), hurry=hurry, report=report)

    mailbox = Mailbox(open_store(store), loaded.spec.name)
    return Stages(
        loaded,
        mailbox,
        open_driver,
        drive_stage,
        say=say,
        allow_change=allow_change,
        on_change=on_change,
    )
