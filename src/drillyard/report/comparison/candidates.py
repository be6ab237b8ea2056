"""Finds what a comparison names: experiments, trials and runs, also of other stores."""

from __future__ import annotations

import dataclasses
import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence

from drillyard.documents.json_types import (
    JsonObject,
    JsonView,
    as_integer,
    as_number,
    as_numbers,
    as_object,
)
from drillyard.errors import CorruptObject, NotFound, UserError, misused
from drillyard.mailbox import Mailbox
from drillyard.mailbox.mailbox import trial_id
from drillyard.mailbox.records import Phase
from drillyard.mailbox.store import ObjectMissing
from drillyard.mailbox.summaries import policy_scores
from drillyard.report.comparison.model import Candidate, EpisodeKey
from drillyard.results import ExperimentResults, RunResult, collect, run_curves
from drillyard.results.collect import played_episodes
from drillyard.results.policies import AGENT
from drillyard.results.trials import collect_trials
from drillyard.runs.locate import open_mailbox
from drillyard.spec.binding import bound_tree

PART = re.compile(r"(?P<experiment>.+)/(?P<trial>t\d{4,})(?P<seed>-s\d+)?\Z")
"""``NAME/t0003`` or ``NAME/t0003-s2``."""
MOST = 20
"""More lines cannot be told apart in one picture."""


def find(places: Sequence[str], store: str | None = None) -> list[Candidate]:
    """Read everything that a comparison names.

    Args:
        places: Experiments, trials (``NAME/t0003``) and runs (``NAME/t0003-s2``): names, or URLs
            and folders of other stores.
        store: Store of those that are plain names.

    Raises:
        UserError: Fewer than two, one of them twice, or unknown ones: all of them are named.
        StoreUnavailable: A store cannot be read.
    """
    if len(places) < 2:
        raise misused(
            "a comparison needs two experiments or trials",
            value=places[0] if places else None,
            hint="drillyard compare A B; trials of one study: drillyard compare A/t0001 A/t0002",
        )
    if len(places) > MOST:
        message = f"{len(places)} are too many for one page"
        raise misused(message, allowed=f"2 to {MOST}", hint="name the best of them")
    candidates: list[Candidate] = []
    mistakes: list[UserError] = []
    for place in places:
        try:
            candidate = _read(place, store)
        except UserError as error:
            mistakes.append(error)
            continue
        twice = any(other.place == candidate.place for other in candidates)
        if twice:
            hint = "name each experiment or trial once"
            mistakes.append(misused("is named twice", value=place, hint=hint))
        candidates.append(candidate)
    if len(mistakes) == 1:
        raise mistakes[0]
    if mistakes:
        hints = dict.fromkeys(e.hint for e in mistakes if e.hint)
        raise NotFound("\n".join(dict.fromkeys(map(str, mistakes))), hint="; ".join(hints) or None)
    return _with_own_labels(candidates)


def _read(place: str, store: str | None) -> Candidate:
    match = PART.fullmatch(place.rstrip("/"))
    mailbox = open_mailbox(match["experiment"] if match else place, store)
    results = collect(mailbox, curves=False)
    chosen = ""
    if match:
        part = f"{match['trial']}{match['seed'] or ''}"
        runs = _runs(results, part)
    else:
        trial, chosen = _trial(mailbox, results)
        part = "" if trial is None else trial_id(trial)
        runs = [r for r in results.runs if trial is None or r.trial == trial]
    label = f"{results.name}/{part}" if part else results.name
    warnings = list(results.warnings)
    names = {r.run for r in runs}
    shown_trial = runs[0].trial if runs else 1
    narrowed = dataclasses.replace(
        results,
        runs=tuple(runs),
        policies=tuple(p for p in results.policies if p.baseline or p.trial == shown_trial),
        curves=tuple(run_curves(mailbox, runs, warnings)),
    )
    return Candidate(
        label=label,
        place="/".join((mailbox.store.url.rstrip("/"), label)),
        mailbox=mailbox,
        results=narrowed,
        settings=_settings(mailbox, results, names),
        chosen=chosen,
        measures=_measures(mailbox, narrowed, warnings),
        episodes=_episodes(mailbox, runs, warnings),
        warnings=tuple(warnings),
    )


def _runs(results: ExperimentResults, part: str) -> list[RunResult]:
    runs = [r for r in results.runs if r.run == part or r.run.startswith(f"{part}-")]
    if not runs:
        known = list(dict.fromkeys(trial_id(r.trial) for r in results.runs))
        few = ", ".join(known[:8]) + (f" to {known[-1]}" if len(known) > 8 else "")
        raise NotFound(
            f"{results.name!r} has no runs of {part}", hint=f"trials: {few or 'none yet'}"
        )
    return runs


def _trial(mailbox: Mailbox, results: ExperimentResults) -> tuple[int | None, str]:
    """The trial that stands for an experiment, and why its score is too good.

    Raises:
        ConfigError: The trials cannot be ranked.
    """
    if not results.spec.get("study"):
        return None, ""
    study = collect_trials(mailbox)
    if len(study.simulators) > 1:
        raise misused(
            f"{study.name} has trials on {len(study.simulators)} simulators, which have no common "
            "scale",
            value=study.name,
            hint=f"name a trial: {study.name}/t0001",
        )
    if study.confirmed is not None:
        return study.confirmed.number, ""
    if study.best is None:
        return min((r.trial for r in results.runs), default=None), ""
    n = len(study.ranked())
    return study.best.number, f"the best of {n} trials, chosen by its score" if n > 1 else ""


def _settings(mailbox: Mailbox, results: ExperimentResults, runs: set[str]) -> JsonObject:
    first = next((r for r in mailbox.runs() if r.run in runs), None)
    return dict(results.spec) if first is None else bound_tree(results.spec, first)


def _measures(
    mailbox: Mailbox, results: ExperimentResults, warnings: list[str]
) -> dict[str, dict[int, float]]:
    """Measure -> seed -> value; the return of a policy that was not evaluated has no values."""
    measures: dict[str, dict[int, float]] = {}
    for run in results.runs:
        values: Mapping[str, JsonView] = run.metrics
        if results.learns:
            simulator = run.simulator or "its simulator"
            measures.setdefault(f"return on {simulator}", {})
            if run.mean_return is not None:
                measures[f"return on {simulator}"][run.seed] = run.mean_return
            try:
                evaluated = mailbox.accepted(run.run, Phase.EVALUATE)
            except CorruptObject:
                evaluated = None  # the results name it
            agent = policy_scores(evaluated).get(AGENT, {})
            values = {**values, **as_object(agent.get("metrics"))}
        for name, number in as_numbers(values).items():
            measures.setdefault(name, {})[run.seed] = number
    for name, seeds in measures.items():
        for seed in [s for s, v in seeds.items() if not math.isfinite(v)]:
            warnings.append(f"{name} of seed {seed} is not finite and is left out")
            del seeds[seed]
    return measures


def _episodes(
    mailbox: Mailbox, runs: Iterable[RunResult], warnings: list[str]
) -> dict[EpisodeKey, float]:
    """Mean return over runs of each evaluation episode that all of them played."""
    played: list[dict[EpisodeKey, float]] = []
    for run in runs:
        if run.mean_return is None:
            continue
        try:
            if episodes := played_episodes(mailbox, run.run):
                played.append(_returns(episodes))
        except (CorruptObject, ObjectMissing, ValueError) as error:
            warnings.append(f"{run.run}: its evaluation episodes cannot be read: {error}")
    if not played:
        return {}
    common = [key for key in played[0] if all(key in other for other in played)]
    return {key: math.fsum(p[key] for p in played) / len(played) for key in common}


def _returns(episodes: Iterable[JsonObject]) -> dict[EpisodeKey, float]:
    returns: dict[EpisodeKey, float] = {}
    for episode in episodes:
        seed, value = as_integer(episode.get("seed")), as_number(episode.get("return"))
        if episode.get("policy") != AGENT or seed is None or value is None:
            continue
        if math.isfinite(value):
            options = json.dumps(episode.get("options"), sort_keys=True)
            returns[seed, options] = value
    return returns


def _with_own_labels(group: list[Candidate]) -> list[Candidate]:
    """Those of equal names in different stores are called by their stores, too."""
    labels = [c.label for c in group]
    return [
        dataclasses.replace(c, label=c.place) if labels.count(c.label) > 1 else c for c in group
    ]
