"""How the stages of a composite ended together, as one outcome."""

from __future__ import annotations

from collections.abc import Mapping

from drillyard.driver.outcome import Kind, Outcome
from drillyard.errors import (
    CorruptObject,
    DrillyardError,
    ExperimentFailed,
    SearchEnded,
    Stopped,
    Superseded,
    TeardownUnconfirmed,
    UserError,
    WorkerLost,
)
from drillyard.mailbox import Mailbox
from drillyard.mailbox.command_hints import command
from drillyard.mailbox.stage_records import StageState

LINES = 4
"""Lines of the message of each stage."""
_ORDER = (Kind.FAILED, Kind.UNDECIDED, Kind.STOPPED)
"""Which of several endings counts."""


def decided(error: DrillyardError) -> Outcome:
    """The outcome of a stage that an error ended."""
    if isinstance(error, Stopped):
        return Outcome(Kind.STOPPED, error)
    final = (
        ExperimentFailed
        | UserError
        | WorkerLost
        | SearchEnded
        | TeardownUnconfirmed
        | CorruptObject
    )
    return Outcome(Kind.FAILED if isinstance(error, final) else Kind.UNDECIDED, error)


def combined(
    mailbox: Mailbox,
    stages: Mapping[str, tuple[StageState, Outcome | None]],
    error: DrillyardError | None,
) -> Outcome:
    """The outcome of all stages.

    Args:
        mailbox: The composite.
        stages: State and outcome of each; None: it did not begin.
        error: What ended the driving of them all, if anything did.
    """
    if isinstance(error, Superseded):
        return Outcome(Kind.UNDECIDED, error)
    bad = [state for state, _ in stages.values() if state.status != "succeeded"]
    if error is not None:
        return Outcome(Kind.UNDECIDED, error)
    if not bad:
        return Outcome(Kind.SUCCEEDED)
    ended = [o for _, o in stages.values() if o is not None and o.error is not None]
    unconfirmed = [o for o in ended if isinstance(o.error, TeardownUnconfirmed)]
    first = next((o for kind in _ORDER for o in (*unconfirmed, *ended) if o.kind is kind), None)
    lines = [f"{state.name}: {_few(state.message) or state.status}" for state in bad]
    again = f"{command('resume', mailbox)} continues; finished stages are not repeated"
    if first is None or first.error is None:
        text = "\n  ".join([f"{mailbox.experiment} was stopped; its results are kept", *lines])
        return Outcome(Kind.STOPPED, Stopped(text, hint=again))
    text = "\n  ".join(
        [f"{len(bad)} of {len(stages)} stages of {mailbox.experiment} have no result", *lines]
    )
    own_hint = first.error.hint if first.kind is Kind.FAILED else None
    hint = f"{own_hint}; {again}" if own_hint else again
    return Outcome(first.kind, first.error.but(message=text, hint=hint))


def _few(text: str) -> str:
    """The first lines of a message, below the line that names the stage."""
    return "\n  ".join(text.splitlines()[:LINES])
