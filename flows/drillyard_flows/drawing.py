"""Runs a driver beside the display."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from drillyard_flows.interrupts import Interrupts, Stoppable

if TYPE_CHECKING:
    from collections.abc import Callable

    from drillyard.driver.outcome import Outcome
    from drillyard_flows.looks import Look
    from drillyard_flows.progress import Display

DRAW_EVERY_S = 0.25


def in_thread(
    run: Callable[[], Outcome],
    driver: Stoppable,
    display: Display,
    look: Callable[[], Look],
    leave: Callable[[], None],
) -> Outcome | BaseException:
    """Runs a driver in a thread, so that this one can draw and receive Ctrl-C.

    Args:
        run: What the thread does.
        driver: Who stops at the first signal.
        display: Where to draw.
        look: What there is to draw now.
        leave: Called before the exit that a second signal asks for.

    Returns:
        How it ended, or what it raised.
    """
    ended: list[Outcome | BaseException] = []

    def driving() -> None:
        try:
            ended.append(run())
        except BaseException as error:
            ended.append(error)

    with Interrupts(driver, display.say, leave):
        thread = threading.Thread(target=driving, name="drillyard-session", daemon=True)
        thread.start()
        while thread.is_alive():
            display.update(look())
            thread.join(DRAW_EVERY_S)
        display.update(look())
    (outcome,) = ended
    return outcome
