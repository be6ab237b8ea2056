"""What a comparison of experiments consists of, as plain data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from drillyard.documents.json_types import JsonObject
from drillyard.mailbox import Mailbox
from drillyard.report.comparison.pairs import Pair, Places
from drillyard.results.model import ExperimentResults, PolicyScore
from drillyard.statistics import Paired
from drillyard.system.tables import Grid

EpisodeKey = tuple[int, str]
"""Seed of an evaluation episode, and its reset options as JSON."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """One of the compared: the runs of one trial of an experiment.

    Attributes:
        label: Its name on the page, different from all others.
        place: Where it is: ``STORE/EXPERIMENT`` or ``STORE/EXPERIMENT/TRIAL``.
        mailbox: The experiment.
        results: The experiment's results, with the runs of this trial alone.
        settings: The resolved settings of its first run.
        chosen: Why its score is too good, in words; empty where it is not.
        measures: Measure -> training seed -> value. A measure without values was not evaluated.
        episodes: Evaluation episode -> mean return over its runs; those that all runs played.
        warnings: What cannot be read.
    """

    label: str
    place: str
    mailbox: Mailbox
    results: ExperimentResults
    settings: JsonObject
    chosen: str
    measures: Mapping[str, Mapping[int, float]]
    episodes: Mapping[EpisodeKey, float]
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class EpisodePair:
    """Two candidates, compared on the evaluation episodes that both played.

    Attributes:
        one: Label of the first.
        other: Label of the second.
        found: The differences; the intervals of all pairs of the page hold at once.
        word: ``better``, ``worse`` or ``undecided``: these policies, not another training.
    """

    one: str
    other: str
    found: Paired
    word: str


@dataclass(frozen=True, slots=True)
class Setting:
    """A setting that is not the same for all.

    Attributes:
        path: Dotted path in the experiment file.
        values: One for each candidate; None where it does not have the setting.
    """

    path: str
    values: tuple[str | None, ...]


@dataclass(frozen=True, slots=True, repr=False)
class Comparison:
    """Several experiments or trials side by side.

    Attributes:
        candidates: In the order in which they were named.
        measure: What is compared: ``return on cstr``, or the name of a metric.
        scores: One for each candidate; None where it has no final evaluation.
        pairs: The candidates with three runs or more, each with each.
        untested: Label -> why it is in no pair.
        episode_pairs: Comparisons on common evaluation episodes.
        places: Label -> (best, last) place that the decided pairs allow.
        settings: Settings that differ.
        notes: What the reader has to know about the comparison, in sentences.
        mlflow: Address of the same comparison in MLflow; None where there is none.
        warnings: What could not be read.
        scores_table: One line for each candidate, best first.
        verdict: The answer in one or two sentences.
    """

    candidates: tuple[Candidate, ...]
    measure: str
    scores: tuple[PolicyScore | None, ...]
    pairs: tuple[Pair, ...]
    untested: Mapping[str, str]
    episode_pairs: tuple[EpisodePair, ...]
    places: Places
    settings: tuple[Setting, ...]
    notes: tuple[str, ...]
    mlflow: str | None
    warnings: tuple[str, ...] = ()
    scores_table: Grid = field(default_factory=lambda: Grid(""))
    verdict: str = ""

    def __repr__(self) -> str:
        return "\n\n".join((self.scores_table.plain(), self.verdict, *self.notes))

    @property
    def labels(self) -> tuple[str, ...]:
        """The names of the compared."""
        return tuple(c.label for c in self.candidates)
