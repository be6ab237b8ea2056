"""Finds the record that ``drillyard replay`` needs, replays it and says what it showed."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from drillyard.documents.json_types import JsonObject
from drillyard.errors import NotFound, UserError, misused

if TYPE_CHECKING:
    from drillyard.evaluation.replaying import Recording, Replayed, Row
    from drillyard.mailbox import Mailbox
    from drillyard.mailbox.failed_episode import FailedEpisode

SHOWN = 5
"""Steps before the last one that are printed."""


@dataclass(frozen=True)
class Wanted:
    """What the user asked for."""

    episode: int | None
    to: int | None
    debug: bool
    limit_s: float


@dataclass
class Answer:
    """What a replay showed."""

    name: str
    where: str
    """Attempt, copy, episode, step, seeds."""
    facts: JsonObject
    exact: bool
    reproduced: bool | None
    rows: list[str] = field(default_factory=list)
    said: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def exit_code(self) -> int:
        """1 if the failure did not come back, or the rewards differ."""
        return 0 if self.exact and self.reproduced is not False else 1

    def lines(self) -> Iterator[str]:
        """The answer as text."""
        yield f"{self.name}: {self.where}"
        yield from (f"  {row}" for row in self.rows)
        yield from self.said
        yield from (f"note: {note}" for note in self.notes)

    def to_json(self) -> JsonObject:
        """The answer for programs."""
        return {
            **self.facts,
            "exact": self.exact,
            "reproduced": self.reproduced,
            "said": [*self.said],
            "notes": [*self.notes],
        }


def answer(run: str, store: str | None, wanted: Wanted) -> Answer:
    """Replay the failed episode of a run.

    Args:
        run: As the user typed it.
        store: ``--store``.
        wanted: What to replay.

    Raises:
        NotFound: No such run, no record, or no such episode.
        UserError: It cannot be replayed; says why.
    """
    from drillyard.evaluation.replaying import Recording
    from drillyard.mailbox.failed_episode import newest
    from drillyard.runs.travelling import unpacked

    mailbox, name = _one_run(run, store)
    record = newest(mailbox, name)
    if record is None:
        return _without_record(mailbox, name, wanted)
    with unpacked(mailbox, record.code):
        recording = Recording(record)
        episode, to = _checked(recording, wanted)
        if not recording.whole and to > recording.recorded:
            return _by_policy(mailbox, name, wanted, recording)
        return _recorded(mailbox, name, recording, episode, to, wanted)


def _recorded(
    mailbox: Mailbox, name: str, recording: Recording, episode: int, to: int, wanted: Wanted
) -> Answer:
    from drillyard.evaluation.replaying import replay
    from drillyard.evaluation.replaying_in_child import Ended, replay_in_child

    record, seed = recording.record, mailbox.run(name).seed
    full = f"{mailbox.experiment}/{name}"
    fatal = record.step is None and (episode, to) == (recording.last, recording.failed_at)
    outcome: Replayed | Ended
    if fatal and not wanted.debug:
        outcome = replay_in_child(recording, episode, to, wanted.limit_s)
    else:
        outcome = replay(recording, episode, to, wanted.debug)
    facts: JsonObject = {
        "run": full,
        "run_seed": seed,
        "phase": record.phase.value,
        "attempt": record.attempt,
        "copy": recording.copy,
        "copies_together": recording.together,
        "episode": episode,
        "step": to,
        "training_step": record.training_step,
        "actions": "recorded",
        "failure": record.message,
    }
    which = f"all {recording.together} copies" if recording.together else f"copy {recording.copy}"
    where = f"attempt {record.attempt} of {record.phase.value}, {which}"
    where += f", episode {episode} to step {to}, run seed {seed}"
    if record.training_step is not None:
        where += f"; failed at training step {record.training_step:,}"
    if isinstance(outcome, Ended):
        lines = [f"step {to}: the simulator {outcome.how}, as in the run"]
        return Answer(full, where, facts, True, True, [], lines, _notes(mailbox, record))
    result = Answer(
        full,
        where,
        facts,
        not outcome.difference,
        outcome.reproduced,
        [_shown(row) for row in outcome.rows[-SHOWN - 1 :]],
        list(conclusion(recording, outcome)),
        _notes(mailbox, record),
    )
    if outcome.error:
        result.facts |= {"error": outcome.error, "where": outcome.where}
    return result


def conclusion(recording: Recording, replayed: Replayed) -> Iterator[str]:
    """Yields what a replay showed, as sentences.

    Args:
        recording: The record of the episode.
        replayed: The replay of it.
    """
    if replayed.error:
        at = f"step {replayed.at[1]} of episode {replayed.at[0]}" if replayed.at else "the reset"
        place = f" ({replayed.where})" if replayed.where else ""
        yield f"{at}: {replayed.error}{place}"
    if replayed.difference:
        yield (
            f"not exact: {replayed.difference}. The simulator uses another random generator "
            "than self.np_random, or remembers earlier episodes"
        )
    else:
        yield f"exact: {replayed.compared:,} rewards are equal to the recorded ones, bit by bit"
    if replayed.reproduced is False:
        yield f"the failure did not occur again; the run said: {recording.record.message}"
        if not replayed.error and not replayed.difference:
            yield (
                "The failure depends on something that is not part of the episode, such as a "
                "variable that the copies share, a file, the time, or a fault of the machine"
            )


def _shown(row: Row) -> str:
    import numpy as np

    def short(value: object) -> str:
        text = np.array2string(np.asarray(value), precision=5, threshold=8, edgeitems=3)
        return " ".join(text.split())

    if not row.step:
        return f"reset of episode {row.episode}"
    if row.states:
        seen = "states: " + ", ".join(f"{name} {value:.5g}" for name, value in row.states.items())
    elif isinstance(row.observation, dict):
        parts = (f"{key} {short(part)}" for key, part in row.observation.items())
        seen = "observation: " + ", ".join(parts)
    else:
        seen = f"observation {short(row.observation)}"
    return f"step {row.step}: action {short(row.action)}, reward {short(row.reward)}, {seen}"


def _checked(recording: Recording, wanted: Wanted) -> tuple[int, int]:
    """Episode and last step, as they are recorded.

    Raises:
        NotFound: The episode is not recorded.
        UserError: The step is, or the debugger cannot reach it.
    """
    episode = recording.last if wanted.episode is None else wanted.episode
    first, last = recording.first, recording.last
    if not first <= episode <= last:
        known = f"episodes {first} to {last} are" if first < last else f"only episode {last} is"
        raise NotFound(
            f"episode {episode} is not recorded",
            hint=f"{known} recorded; a run keeps only what came right before the failure",
        )
    end = recording.failed_at if episode == last else sys.maxsize
    to = end if wanted.to is None else wanted.to
    if to > end:
        hint = "leave out --to: the replay ends with the step that failed"
        raise misused("is after the step that failed", "--to", to, f"0 to {end}", hint)
    if wanted.debug and recording.spec.id == "external":
        raise UserError(
            "the simulator is a separate program, which Python's debugger cannot stop",
            hint="replay it without --debug, and attach the debugger of its language",
        )
    return episode, to


def _one_run(run: str, store: str | None) -> tuple[Mailbox, str]:
    from drillyard.mailbox.ticket_states import run_status, ticket_states
    from drillyard.runs.locate import find_runs

    mailbox, runs = find_runs(run, store)
    if len(runs) == 1:
        return mailbox, runs[0]
    states = ticket_states(mailbox)
    bad = [r for r in runs if run_status(states, r).ended and not run_status(states, r).good]
    if len(bad) == 1:
        return mailbox, bad[0]
    if not bad:
        raise NotFound(
            f"no run of {mailbox.experiment} failed", hint="see `drillyard status`, or name a run"
        )
    names = ", ".join(f"{mailbox.experiment}/{r}" for r in bad)
    raise UserError(
        f"{len(bad)} runs of {mailbox.experiment} failed", hint=f"name one of them: {names}"
    )


def _without_record(mailbox: Mailbox, name: str, wanted: Wanted) -> Answer:
    from drillyard.mailbox.ticket_states import run_status, ticket_states

    states = ticket_states(mailbox)
    status = run_status(states, name)
    if status.good or not status.ended:
        raise UserError(
            f"{mailbox.experiment}/{name} did not fail: it is {status.value}",
            hint="`drillyard evaluate` plays new episodes with the policy of a run",
        )
    if wanted.episode is not None:
        raise NotFound(
            f"no episode of {mailbox.experiment}/{name} is recorded",
            hint="leave out --episode to play one with the policy of the last checkpoint",
        )
    from drillyard.runs.travelling import unpacked

    with unpacked(mailbox, mailbox.experiment_record().code):
        return _by_policy(mailbox, name, wanted, None)


def _by_policy(mailbox: Mailbox, name: str, wanted: Wanted, recording: Recording | None) -> Answer:
    from drillyard.learners.checkpoint_policy import play
    from drillyard.spec import ExperimentSpec
    from drillyard.spec.binding import bound

    if wanted.debug:
        raise UserError(
            "the actions that led to the failure are not recorded, so the debugger has no step to "
            "stop at",
            hint="leave out --debug",
        )
    run = mailbox.run(name)
    spec = bound(ExperimentSpec.model_validate(mailbox.experiment_record().spec), run)
    copy = recording.copy if recording is not None else 0
    played = play(mailbox, name, spec, copy, wanted.to)
    steps = len(played.rewards)
    why = (
        "no episode was recorded"
        if recording is None
        else f"only {recording.recorded:,} of its {recording.failed_at:,} steps were recorded"
    )
    text = [f"{steps:,} steps, return {sum(played.rewards):g}"]
    if played.error:
        text = [f"step {steps + 1}: {played.error}"]
    text.append(f"not exact: {why}, so this is another episode, played by the checkpoint's policy")
    facts: JsonObject = {
        "run": f"{mailbox.experiment}/{name}",
        "run_seed": run.seed,
        "copy": copy,
        "actions": "policy",
        "checkpoint_step": played.checkpoint,
        "seed": played.seed,
        "steps": steps,
        "error": played.error,
    }
    where = f"policy of the checkpoint of step {played.checkpoint:,}, copy {copy}"
    where += f", reset with seed {played.seed}"
    return Answer(str(facts["run"]), where, facts, False, bool(played.error), [], text)


def _notes(mailbox: Mailbox, record: FailedEpisode) -> list[str]:
    """What differs from when the run failed."""
    from drillyard.system.platform_info import versions

    lines = []
    now = mailbox.experiment_record().code
    if now != record.code:
        lines.append(
            "the code of this experiment was changed since; this replays the code that failed"
        )
    here = versions()
    for name in ("python", "numpy", "gymnasium", "torch", "drillyard"):
        then = record.versions.get(name)
        if then is not None and here.get(name, then) != then:
            lines.append(f"{name} was {then} when it failed, and is {here[name]} here")
    return lines
