"""The level between a study and its seeds on a tracking server: one run a trial.

A trial's run shows its value over its seeds; the study itself shows how the best value grew.
The mean over all trials, good and bad ones, would say nothing.
"""

from __future__ import annotations

from collections.abc import Sequence

from drillyard.errors import CorruptObject
from drillyard.mailbox import Mailbox
from drillyard.mailbox.mailbox import TrialCache, run_id, sha256_hex, trial_id
from drillyard.mailbox.records import (
    ExperimentRecord,
    MoreSeeds,
    Phase,
    StudyState,
    TrialOutcome,
    TrialRecord,
)
from drillyard.mailbox.status import TABLE
from drillyard.spec.study import ObjectiveSpec
from drillyard.studies.state import progress
from drillyard.studies.views import objectives, whole
from drillyard.system.redaction import redact
from drillyard.tracking import params_and_tags, status_map
from drillyard.tracking.points import Point, changed, safe_name
from drillyard.tracking.remote_runs import RemoteRuns
from drillyard.tracking.server import RemoteRun
from drillyard.tracking.tracker import Standing


class TrialLevel:
    """The trials of one study on one server.

    Args:
        mailbox: The experiment.
        remote: Its runs on the server.
    """

    def __init__(self, mailbox: Mailbox, remote: RemoteRuns) -> None:
        self._mailbox = mailbox
        self._remote = remote
        self._cache: TrialCache = {}
        self._sent: dict[int, str] = {}
        self._objectives: list[ObjectiveSpec] | None = None
        self.records: dict[int, TrialRecord] = {}
        self.outcomes: dict[int, TrialOutcome] = {}
        self._more: dict[int, MoreSeeds] = {}

    def load(self) -> None:
        """Read what has changed in the mailbox."""
        records, self.outcomes, self._more = self._mailbox.trials(self._cache)
        self.records = {r.number: r for r in records}

    def ensure(self, record: ExperimentRecord, number: int, study: RemoteRun) -> RemoteRun:
        """The run on the server that stands for a trial.

        Raises:
            CorruptObject: The mailbox does not know the trial.
        """
        if number not in self.records:
            self.load()
        if number not in self.records:
            raise CorruptObject(
                f"{self._mailbox.experiment} has runs of {trial_id(number)}, and "
                "not what was chosen for it"
            )
        trial, name = self.records[number], trial_id(number)
        tags = {
            **params_and_tags.experiment_tags(record, self._mailbox.store.url, name),
            "drillyard.trial": str(number),
            "drillyard.chooser": trial.chooser,
        }
        if trial.of is not None:
            tags["drillyard.confirms"] = trial_id(trial.of)
        title = f"{name} {redact(trial.label)}" if trial.label else name
        return self._remote.ensure(name, title, tags, trial.chosen_at, study)

    def mirror(self, now: Standing, study: RemoteRun, *, trust: bool) -> int:
        """Send every trial that the server does not have as it is; how many points.

        Args:
            now: How the experiment is doing.
            study: The run above.
            trust: Believe the notes about trials that were done.
        """
        points = 0
        for number, trial in self.records.items():
            seeds = self._seeds(trial)
            outcome = self.outcomes.get(number)
            if outcome is not None and not whole(outcome, seeds):
                outcome = None
            ended = "" if outcome is None else sha256_hex(outcome.to_bytes())
            if ended and trust and self._is_sent(number, ended):
                continue
            words = [now.words[r] for seed in seeds if (r := run_id(number, seed)) in now.words]
            if outcome is not None:
                word = TABLE[outcome.status].mlflow
            elif now.alive and any(w != "SCHEDULED" for w in words):
                word = "RUNNING"
            else:
                word = status_map.parent_word(words)
            points += self._mirror(now.record, trial, outcome, seeds, word, ended, study)
        return points

    def study_points(self) -> list[Point]:
        """The best values so far, over the trials that have ended, and the winner's second score.

        The x-axis is how many trials have ended.
        """
        if self._objectives is None:
            self._objectives = objectives(self._mailbox)
        records = list(self.records.values())
        points = [
            Point(safe_name(f"best/{name}"), value, round(stamp * 1000), ended)
            for ended, stamp, best in progress(records, self.outcomes, self._objectives)
            for name, value in best.items()
        ]
        for trial in records:
            again = self.outcomes.get(trial.number)
            if trial.of is not None and again is not None:
                trials = sum(r.search and r.number < trial.number for r in records)
                stamp = round((again.ended_at or 0.0) * 1000)
                points += [
                    Point(safe_name(f"confirmed/{name}"), value, stamp, trials)
                    for name, value in again.values.items()
                ]
        return points

    def study_tags(self, state: StudyState | None) -> dict[str, str]:
        """Which trial is best, and how many ended in which way."""
        if state is None:
            return {}
        counts = ("chosen", "succeeded", "failed", "pruned", "cancelled")
        tags = {f"drillyard.trials.{word}": str(getattr(state, word)) for word in counts}
        if state.best is not None:
            tags["drillyard.best"] = trial_id(state.best)
        if state.front:
            tags["drillyard.front"] = " ".join(trial_id(n) for n in state.front)
        if state.stopped:
            tags["drillyard.stopped"] = redact(state.stopped)
        return tags

    # -- inside -------------------------------------------------------------------------------

    def _mirror(
        self,
        record: ExperimentRecord,
        trial: TrialRecord,
        outcome: TrialOutcome | None,
        seeds: Sequence[int],
        word: str,
        ended: str,
        study: RemoteRun,
    ) -> int:
        name = trial_id(trial.number)
        mirrored = self._remote.known(name)
        try:
            remote = self.ensure(record, trial.number, study)
            tags = {"drillyard.seeds": ", ".join(map(str, seeds))}
            if outcome is not None:
                tags["drillyard.status"] = outcome.status.value
                if outcome.message:
                    tags["drillyard.message"] = redact(outcome.message)
            self._remote.tell(mirrored, remote, params_and_tags.trial_params(trial), tags)
            sent = 0
            if outcome is not None:
                points = self._points(trial, outcome, seeds)
                sent = self._remote.server.send_points(
                    remote, changed(points, remote.floors, remote.values)
                )
            self._remote.set_status(remote, word, None if outcome is None else outcome.ended_at)
        except Exception:
            mirrored.forget()
            raise
        points_before = mirrored.note.points if mirrored.note is not None else 0
        self._remote.note_down(
            name,
            remote.run_id,
            status=word,
            done=bool(ended),
            outcome=ended,
            points=points_before + sent,
        )
        self._sent[trial.number] = ended
        return sent

    def _points(
        self, trial: TrialRecord, outcome: TrialOutcome, seeds: Sequence[int]
    ) -> list[Point]:
        """Its value, and means over its seeds; x: the number of seeds."""
        accepted = [self._mailbox.accepted(run_id(trial.number, s), Phase.EVALUATE) for s in seeds]
        stamp = round((outcome.ended_at or 0.0) * 1000)
        worth = [
            Point(
                safe_name(f"objective/{name}"),
                value,
                stamp,
                len(outcome.by_seed.get(name, {})) or len(seeds),
            )
            for name, value in outcome.values.items()
        ]
        return worth + params_and_tags.parent_points([a for a in accepted if a is not None])

    def _seeds(self, trial: TrialRecord) -> list[int]:
        more = self._more.get(trial.number)
        return [*trial.seeds, *(more.seeds if more is not None else ())]

    def _is_sent(self, number: int, ended: str) -> bool:
        if number not in self._sent:
            note = self._remote.note(trial_id(number))
            self._sent[number] = "" if note is None else note.outcome
        return self._sent[number] == ended
