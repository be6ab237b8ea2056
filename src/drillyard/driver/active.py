"""The drivers that this process has open: a task is told a store and a name, and finds its own."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from drillyard.errors import AlreadyDriven, NotFound

if TYPE_CHECKING:
    from drillyard.driver.driver import Driver

_open: dict[tuple[str, str], Driver] = {}
_lock = threading.Lock()


def register(driver: Driver) -> None:
    """Note a driver as open; again is no error.

    Raises:
        AlreadyDriven: This process has another one open on the same experiment.
    """
    with _lock:
        if _open.setdefault(_key(driver), driver) is not driver:
            raise AlreadyDriven(f"{driver.mailbox.experiment!r} is driven by this process")


def forget(driver: Driver) -> None:
    """Note that a driver is open no more; again is no error."""
    with _lock:
        if _open.get(_key(driver)) is driver:
            del _open[_key(driver)]


def opened() -> list[Driver]:
    """All of them."""
    with _lock:
        return list(_open.values())


def current(store_url: str, experiment: str) -> Driver:
    """The driver that this process has open on an experiment.

    A Prefect task gets only these two texts.

    Raises:
        NotFound: None is open here.
    """
    found = _open.get((store_url, experiment))
    if found is None:
        raise NotFound(f"this process does not drive {experiment!r} in {store_url}")
    return found


def _key(driver: Driver) -> tuple[str, str]:
    return driver.mailbox.store.url, driver.mailbox.experiment
