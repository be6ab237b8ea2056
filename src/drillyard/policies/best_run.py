"""Chooses the best of several runs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from drillyard.documents.json_types import as_number
from drillyard.errors import NotFound
from drillyard.mailbox import Mailbox
from drillyard.mailbox.records import Phase
from drillyard.mailbox.summaries import policy_scores


@dataclass(frozen=True)
class Choice:
    """A run that was chosen.

    Attributes:
        run: Its id.
        of: How many evaluated runs there were to choose from; 1: a person named it.
    """

    run: str
    of: int = 1

    @property
    def words(self) -> str:
        """A sentence for users; empty if no number chose the run."""
        return f"the best of {self.of} evaluated runs" if self.of > 1 else ""


def choose(mailbox: Mailbox, runs: Sequence[str]) -> Choice:
    """The run of the best trial whose agent has the highest mean return.

    The best trial is the one with the highest mean over its seeds, of those with the most seeds:
    one lucky seed makes no trial the best, and a winner that was confirmed on fresh seeds comes
    before what was tried once.

    Raises:
        NotFound: None was evaluated.
    """
    if len(runs) == 1:
        return Choice(runs[0])
    trials: dict[int, list[tuple[float, str]]] = {}
    for run in runs:
        evaluated = mailbox.accepted(run, Phase.EVALUATE)
        mean_return = as_number(policy_scores(evaluated).get("agent", {}).get("mean_return"))
        if mean_return is not None:
            scores = trials.setdefault(mailbox.run(run).trial, [])
            scores.append((mean_return, run))
    if not trials:
        raise NotFound(
            f"no run of {mailbox.experiment} was evaluated yet",
            hint="see `drillyard status`, or name a run",
        )
    most = max(len(scores) for scores in trials.values())
    best = max(
        (scores for scores in trials.values() if len(scores) == most),
        key=lambda scores: math.fsum(value for value, _ in scores),
    )
    return Choice(max(best, key=lambda one: one[0])[1], sum(map(len, trials.values())))
