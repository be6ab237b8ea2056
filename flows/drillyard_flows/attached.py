"""The driver that this process has for an experiment, if it has one."""

from __future__ import annotations

from drillyard.driver.active import current
from drillyard.driver.driver import Driver
from drillyard.errors import DrillyardError


def find(store: str, experiment: str) -> Driver | None:
    """The open driver of this process, or None.

    Args:
        store: URL of the mailbox's store.
        experiment: The experiment's name.
    """
    if not experiment:
        return None
    try:
        return current(store, experiment)
    except (DrillyardError, LookupError):
        return None
