"""The page of a composite that is done in stages: what waits for what, and how each ended."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from drillyard import report
from drillyard.mailbox import Mailbox
from drillyard.mailbox.stage_records import StageState
from drillyard.report import publish
from drillyard.report.templates import rendered
from drillyard.results import formatting
from drillyard.results.stages import StagesResults, grid, read
from drillyard.spec.stages import staged_tree
from drillyard.system.clock import SYSTEM, Clock

WIDTH, HEIGHT, GAP_X, GAP_Y, EDGE = 180, 56, 70, 24, 12
"""Sizes of the drawing, in pixels."""
BAD = ("failed", "skipped", "stopped", "undecided")


@dataclass(frozen=True, slots=True)
class Box:
    """A stage in the drawing."""

    state: StageState
    x: int
    y: int

    @property
    def bad(self) -> bool:
        """Whether it has no result."""
        return self.state.status in BAD


@dataclass(frozen=True, slots=True)
class Drawing:
    """The stages as boxes, with a line from each to those that wait for it."""

    boxes: tuple[Box, ...]
    lines: tuple[str, ...]
    width: int
    height: int


def build(mailbox: Mailbox, out: Path | None = None, *, clock: Clock = SYSTEM) -> str:
    """Write the page, at any stage of the composite's life, over an older one.

    Args:
        mailbox: The composite; the page goes to its ``report/``.
        out: A local folder that gets the same page; default for a store that is not on this
            machine: one in ``~/.drillyard/reports``.
        clock: For the date on the page.

    Returns:
        Where it is: a path on this machine, else a URL.

    Raises:
        StoreUnavailable: The store cannot be read or written.
    """
    text = page(read(mailbox), made_at=clock.now())
    return publish(mailbox, {"index.html": text.encode()}, out)[0]


def built(mailbox: Mailbox, say: Callable[[str], object]) -> str | None:
    """Builds the page of an experiment, or of the stages of a composite, for other work.

    Args:
        mailbox: The experiment.
        say: Gets a sentence if that fails, which is not raised.

    Returns:
        Where the page is; None if there is none.
    """
    try:
        if staged_tree(mailbox.experiment_record().spec):
            return build(mailbox)
        return report.build(mailbox).index
    except Exception as error:
        say(f"the report could not be built: {error}")
        return None


def page(stages: StagesResults, *, made_at: float) -> str:
    """The page as HTML text.

    Args:
        stages: The stages.
        made_at: Epoch seconds.
    """
    return rendered(
        "stages.html.j2",
        name=stages.name,
        status=stages.status,
        stages=grid(stages),
        drawing=drawn(stages.stages),
        verdicts=[(s, stages.verdicts.get(s.name, "")) for s in stages.stages],
        size=(WIDTH, HEIGHT),
        bad=BAD,
        made=formatting.moment(made_at),
    )


def drawn(stages: tuple[StageState, ...]) -> Drawing:
    """The drawing: each stage right of everything that it waits for."""
    depth: dict[str, int] = {}
    left = list(stages)
    while left:
        ready = [s for s in left if all(name in depth for name in s.after)] or left
        for stage in ready:
            depth[stage.name] = 1 + max((depth.get(n, 0) for n in stage.after), default=-1)
        left = [stage for stage in left if stage not in ready]
    columns: dict[int, int] = {}
    boxes: dict[str, Box] = {}
    for stage in stages:
        column = depth[stage.name]
        row = columns.get(column, 0)
        columns[column] = row + 1
        x, y = EDGE + column * (WIDTH + GAP_X), EDGE + row * (HEIGHT + GAP_Y)
        boxes[stage.name] = Box(stage, x, y)
    lines = []
    for box in boxes.values():
        for name in box.state.after:
            before = boxes[name]
            x1, y1 = before.x + WIDTH, before.y + HEIGHT // 2
            x2, y2 = box.x, box.y + HEIGHT // 2
            middle = (x1 + x2) // 2
            lines.append(f"M{x1} {y1} C{middle} {y1} {middle} {y2} {x2} {y2}")
    rows = max(columns.values(), default=1)
    count = max(columns, default=0) + 1
    return Drawing(
        tuple(boxes.values()),
        tuple(lines),
        2 * EDGE + count * WIDTH + (count - 1) * GAP_X,
        2 * EDGE + rows * HEIGHT + (rows - 1) * GAP_Y,
    )
