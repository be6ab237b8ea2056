"""Which of several runs is meant."""

from __future__ import annotations

from collections.abc import Sequence

from drillyard.errors import NotFound
from drillyard.mailbox import Mailbox
from drillyard.mailbox.records import Phase


def best_run(mailbox: Mailbox, runs: Sequence[str]) -> str:
    """The run whose agent has the highest mean return, of those that were evaluated.

    Raises:
        NotFound: None was.
    """
    found: list[tuple[float, str]] = []
    for run in runs:
        evaluated = mailbox.accepted(run, Phase.EVALUATE)
        agent = evaluated.summary.get("policies", {}).get("agent") if evaluated else None
        if agent is not None:
            found.append((float(agent["mean_return"]), run))
    if not found:
        raise NotFound(f"no run of {mailbox.experiment} was evaluated yet",
                       hint="see `drillyard status`, or name a run")  # fmt: skip
    return max(found, key=lambda one: one[0])[1]
