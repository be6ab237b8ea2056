"""A whole life of a driver."""

from __future__ import annotations

from drillyard.driver.driver import Driver
from tests.helpers.patience import PATIENCE_S

TICKETS = [f"t0001-s{s}.{p}" for s in (1, 2) for p in ("train", "evaluate", "store")]


def life(driver: Driver) -> dict[str, str]:
    """A whole life; the text of each result."""
    todo = driver.open()
    if not todo:
        return {}
    driver.provision()
    driver.setup(timeout_s=PATIENCE_S)
    done = {t.ticket: driver.wait(t.ticket, timeout_s=PATIENCE_S) for t in todo}
    driver.teardown()
    driver.close("done")
    read = driver.mailbox.read_file
    return {t: read(driver.mailbox.manifest(a), "result.txt").decode() for t, a in done.items()}
