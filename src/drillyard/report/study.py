"""The study section of a report: its pictures, tables and files."""

from __future__ import annotations

from dataclasses import dataclass, replace

from drillyard.documents.leaves import flatten, value_text
from drillyard.mailbox import Mailbox
from drillyard.report import study_pictures
from drillyard.report.comparison import trials as comparing
from drillyard.report.comparison.pairs import METHOD, pairs_grid
from drillyard.report.drawn import Drawn
from drillyard.report.picture_style import Picture
from drillyard.results import formatting, study_table
from drillyard.results.trials import StudyResults
from drillyard.spec import ExperimentSpec
from drillyard.statistics import remark
from drillyard.studies import importances as told
from drillyard.system.tables import Grid, Table, rows_grid, to_csv

FANOVA_TRIALS = 500
"""Above, importances are computed by PED-ANOVA, which is quick for any number of trials."""
SHOWN = 20


@dataclass(frozen=True, slots=True)
class StudySection:
    """What the page shows about a study."""

    verdict: str
    trials: Grid
    settings: tuple[Grid, ...]
    """Everything that was chosen for each trial of the table."""
    scores: Grid | None
    """The winner: its score in the search, and on fresh seeds."""
    better: Grid | None
    places: Grid | None
    """The places that each of the compared can have."""
    drawn: tuple[Drawn, ...]
    notes: tuple[str, ...]


def section(mailbox: Mailbox, study: StudyResults) -> StudySection:
    """Everything about a study that has begun.

    Args:
        mailbox: The experiment.
        study: Its trials.
    """
    drawn: list[Drawn] = []
    notes: list[str] = []
    ranked, verdict = study.ranked(), study_table.verdict(study)
    if ranked and study.chooser != "list":  # a list is not a search: its order means nothing
        drawn.append(_history(study))
    names = [n for n in study_table.varied(study) if all(n in t.assignment for t in ranked)]
    if len(ranked) > 1 and names:
        drawn += _of_parameters(study, names, notes)
    comparison = comparing.compare(mailbox, study)
    if comparison is not None:
        drawn += _of_comparison(comparison)
        notes += _method(study, comparison)
    elif len(ranked) > 1:
        notes.append(f"Nothing is compared: {comparing.TOO_FEW}.")
    return StudySection(
        verdict=verdict,
        trials=(trials := study_table.trials_grid(study, SHOWN)),
        settings=_settings(study, {row[0] for row in trials.rows}),
        scores=_winner(study),
        better=pairs_grid(comparison.pairs) if comparison else None,
        places=_places(comparison) if comparison else None,
        drawn=tuple(
            replace(d, alt=f"{d.title} of {study.name}: {d.caption} {verdict}") for d in drawn
        ),
        notes=tuple(notes),
    )


def _settings(study: StudyResults, listed: set[str]) -> tuple[Grid, ...]:
    """What was chosen for each trial: its parameters, and the parts of a listed experiment."""
    grids = []
    for trial in study.trials:
        leaves = flatten(trial.assignment) + (flatten(trial.parts) if trial.parts else [])
        rows = [(path, value_text(value)) for path, value in leaves if path]
        if trial.id in listed and rows:
            grids.append(rows_grid(trial.id, ("setting", "is"), rows))
    return tuple(grids)


def _drawn(name: str, title: str, caption: str, picture: Picture, csv: str) -> Drawn:
    """A picture of the section, whose text in place of it is the verdict, once that is known."""
    return Drawn(f"study_{name}", title, "", caption, picture, csv)


def _history(study: StudyResults) -> Drawn:
    name = study.first.name
    rows = [(t.id, t.status, t.values.get(name), t.of) for t in study.trials]
    return _drawn(
        "history",
        "Optimisation history",
        f"{name} of each trial in the order of choice; the line is the best so far.",
        study_pictures.history(study),
        to_csv(("trial", "status", name, "confirms"), rows),
    )


def _of_parameters(study: StudyResults, names: list[str], notes: list[str]) -> list[Drawn]:
    from drillyard.spec.binding import space

    drawn = []
    tunables = space(ExperimentSpec.model_validate(study.spec)).tunables
    weights = importances(study, notes)
    if weights:
        names = [n for n in weights if n in names] + [n for n in names if n not in weights]
        drawn.append(
            _drawn(
                "importances",
                "Parameter importances",
                "How much of the difference between trials each parameter explains, by Optuna.",
                study_pictures.importances(weights),
                to_csv(("parameter", "importance"), list(weights.items())),
            )
        )
    metric = study.first.name
    rows = [(t.id, t.values[metric], *(t.assignment[n] for n in names)) for t in study.ranked()]
    table = to_csv(("trial", metric, *names), rows)
    log = {n for n, t in tunables.items() if t.log}
    choices = {n: [str(v) for v in t.values] for n, t in tunables.items() if t.values}
    drawn.append(
        _drawn(
            "slices",
            "Slices",
            f"{metric} over each parameter; blue: the winner.",
            study_pictures.slices(study, names, log, choices),
            table,
        )
    )
    if len(names) > 1:
        drawn.append(
            _drawn(
                "parallel",
                "Parallel coordinates",
                "A line a trial, from its parameters to its score; blue: the best tenth.",
                study_pictures.parallel(study, names, choices),
                table,
            )
        )
    return drawn


def importances(study: StudyResults, notes: list[str]) -> dict[str, float]:
    """Parameter -> importance by Optuna, most first; {} where it cannot be told yet."""
    ranked = len(study.ranked())
    if ranked < 4:
        return {}
    try:
        return told.importances(study.views, study.objectives, study.spec, ranked > FANOVA_TRIALS)
    except told.Unknown as error:
        notes.append(f"No importances: {error}")
        return {}


def _of_comparison(comparison: comparing.TrialComparison) -> list[Drawn]:
    rows = [
        (who, kind, e.value, e.low, e.high)
        for who in comparison.names
        for kind, e in comparison.estimates[who].items()
    ]
    shares = [
        (who, *point)
        for who in comparison.names
        for p in (comparison.profiles[who],)
        for point in zip(p.thresholds, p.share, p.low, p.high, strict=True)
    ]
    return [
        _drawn(
            "iqm",
            "Interquartile mean",
            _of_iqm(comparison),
            study_pictures.estimates(comparison),
            to_csv(("name", "aggregate", "value", "low", "high"), rows),
        ),
        _drawn(
            "profile",
            "Performance profile",
            "For every score, the share of runs that are above it; higher is better. Band: 95 % "
            "interval at that score.",
            study_pictures.profile(comparison),
            to_csv(("name", "score", "share", "low", "high"), shares),
        ),
    ]


_OF_ONE_TASK = (
    " On one simulator it needs 15 runs if results are skewed or fall into two groups, and it "
    "leaves out the truth in 2 to 4 of 10 cases if three trainings in ten fail. From 5 runs on, "
    "the interval of the mean is surer then."
)
"""What ``python -m tests.benchmarks.coverage aggregates`` measures."""


def _of_iqm(comparison: comparing.TrialComparison) -> str:
    text = "Dot: mean of the middle half of the runs."
    if not comparison.chosen:
        text += " Bar: 95 % interval, all of them at once."
        return text + _OF_ONE_TASK if len(comparison.tasks) == 1 else text
    text += " Circles: chosen by these numbers, so they have no interval."
    return text + (" Last line: the winner once more." if comparison.again is not None else "")


def _winner(study: StudyResults) -> Grid | None:
    best, again = study.best, study.confirmed
    if best is None or not (study.chosen_by_score or again is not None):
        return None
    name = study.first.name
    how = "in the search" if study_table.held(study) else "in the search, optimistic"
    rows = [(f"{how}: best of {len(study.ranked())}", best, formatting.NOTHING)]
    if again is not None:
        rows.append((f"on {study.fresh}", again, formatting.interval(study.interval(again))))
    table = Table("winner", rows)
    table.text("score", lambda row: row[0])
    table.text("trial", lambda row: row[1].id)
    table.number(name, lambda row: formatting.number(row[1].values.get(name)))
    table.text("95 % interval", lambda row: row[2])
    table.text("range of seeds", lambda row: study_table.extent(row[1], name))
    return table.text("seed numbers", lambda row: ", ".join(map(str, row[1].seeds)))


def _places(comparison: comparing.TrialComparison) -> Grid:
    table = Table("places", comparison.places).text("name", str)
    return table.number("place", lambda name: formatting.place(comparison.places[name]))


def _remark(study: StudyResults) -> str:
    """Whether the runs would show a rare failure; they are one for each seed."""
    return remark(min(len(t.seeds) for t in study.ranked()))


def _method(study: StudyResults, comparison: comparing.TrialComparison) -> list[str]:
    text = (
        f"Compared are runs by {study.first.name}. The interquartile mean leaves out the best and "
        "the worst quarter of the runs. The probability of improvement is that of a run of the "
        "one being better than a run of the other, ties one half."
    )
    if comparison.scaled:
        text += (
            f" Scores of {len(comparison.tasks)} simulators are scaled: 0 is the random baseline "
            "(the worst run where there is none), 1 the best run."
        )
    decided = (
        f"Better and worse mean a higher or lower mean score. {METHOD} From three runs each, two "
        f"alone cannot be decided; more runs decide more. {_remark(study)}."
    )
    if any(pair.p is None for pair in comparison.pairs):
        decided += (
            " A baseline is not trained, so it is compared by Welch's test alone. A fifth of the "
            "5 % is for these; below "
            f"{formatting.DECIDES} runs nothing is decided."
        )
    if study.chooser != "list":
        decided += (
            " These are the best of many trials, chosen by the same numbers: their scores are "
            f"too good. The score on {study.fresh} is not."
        )
    return [text, decided]
