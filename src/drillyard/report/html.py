"""The page of a report: one file, no script, no network, everything escaped."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from pathlib import PurePath
from typing import TYPE_CHECKING, Any

from drillyard.documents.leaves import flatten, value_text
from drillyard.report.data import MeanCurve
from drillyard.report.drawn import Drawn
from drillyard.report.templates import rendered
from drillyard.results import ExperimentResults, formatting, metrics_grid, runs_grid
from drillyard.results.model import LeaseCost, PolicyScore
from drillyard.results.policies import BEFORE
from drillyard.statistics.measured import measured
from drillyard.system.lists import few
from drillyard.system.tables import Grid, Table, rows_grid

if TYPE_CHECKING:
    from drillyard.report.study import StudySection

SECTIONS = (
    ("learning", "Learning curves"),
    ("evaluation", "Final evaluation"),
    ("episode", "Episode"),
    ("runs", "Runs"),
    ("time", "Time and cost"),
    ("configuration", "Configuration"),
    ("reproduce", "Reproducing it"),
    ("intervals", "Intervals"),
)
BAD = ("FAILED", "TIMED_OUT", "CANCELLED", "still listed")
DEFAULT = "default"


def page(
    results: ExperimentResults,
    *,
    worlds: Sequence[Mapping[str, Any]],
    warnings: Sequence[str],
    made_at: float,
    study: StudySection | None,
    usage: Mapping[str, Any] | None,
    network: Drawn | None,
) -> str:
    """The page as HTML text.

    Args:
        results: What was collected.
        worlds: The sections of each simulator.
        warnings: What could not be read.
        made_at: Epoch seconds.
        study: The trials, comparisons and pictures of a study.
        usage: Use of the machine of each run.
        network: The network of a policy.
    """
    chosen, defaults = configuration(results)
    built_run, built = _built(results)
    verdict = study.verdict if study else formatting.verdict(results)
    return rendered(
        "page.html.j2",
        name=results.name,
        learner=formatting.learner(results),
        verdict=verdict.replace("95 %", "95\u00a0%"),
        meta=_meta(results),
        warnings=list(warnings),
        sections=(("study", "Study"),) * bool(study) + _sections(results),
        study=study,
        study_links={t.title: f"settings-{t.title}" for t in study.settings} if study else {},
        study_pictures=study.drawn if study else (),
        learns=results.learns,
        metrics_csv=bool(results.metrics),
        metrics=metrics_grid(results) if results.metrics or not results.learns else None,
        bad=BAD,
        worlds=worlds,
        runs=runs_grid(results),
        messages=[(r.run, r.message, r.hint) for r in results.runs if r.message],
        run_notes=_run_notes(results),
        phases=_phases(results),
        costs=_costs(results),
        usage=usage,
        chosen=chosen,
        defaults=defaults,
        built=built,
        built_run=built_run,
        command=_command(results.command),
        facts=_facts(results),
        fingerprints=_fingerprints(results),
        method=method(results, [c for world in worlds for c in world["curves"]]),
        made=formatting.moment(made_at),
        network=network,
    )


def _sections(results: ExperimentResults) -> tuple[tuple[str, str], ...]:
    """What the page has: nothing about curves and episodes where no policy is trained."""
    head: tuple[tuple[str, str], ...] = ()
    if results.metrics or not results.learns:
        head = (("metrics", "Metrics"),)
    policy = ("learning", "evaluation", "episode")
    return head + tuple(s for s in SECTIONS if results.learns or s[0] not in policy)


def _command(words_typed: Sequence[str]) -> str:
    """The command as one types it, without the folder that the program lies in."""
    if not words_typed:
        return ""
    return shlex.join([PurePath(words_typed[0]).name, *words_typed[1:]])


def _meta(results: ExperimentResults) -> list[str]:
    runs = results.runs
    done = sum(r.finished for r in runs)
    n = formatting.plural(len(runs), "run")
    items = [results.status if not runs else f"{results.status}: {done} of {n} finished"]
    if results.learns and (steps := sum(r.step for r in runs)):
        items.append(f"{steps:,} environment steps")
    if results.ended_at is not None:
        items.append(f"{formatting.duration(results.worked_s)} in all")
    items.append(f"started {formatting.moment(results.created_at)}")
    return items


def _run_notes(results: ExperimentResults) -> list[str]:
    notes = []
    for run in results.runs:
        if run.resumes:
            cut = (
                f", {formatting.plural(run.episodes_cut, 'episode')} cut"
                if run.episodes_cut
                else ""
            )
            exact = f"; {run.exactness}" if run.exactness else ""
            notes.append(
                f"{run.run} was resumed {formatting.plural(run.resumes, 'time')}{cut}{exact}."
            )
        if run.simulator_restarts:
            lost = formatting.plural(run.simulator_restarts, "time")
            notes.append(
                f"{run.run}: a process of its simulator was lost {lost} while training, "
                "with the episode under way."
            )
    inexact: dict[str, list[str]] = {}
    for run in results.runs:
        if run.exactness and run.exactness != "exact" and not run.resumes:
            inexact.setdefault(run.exactness, []).append(run.run)
    for exactness, names in inexact.items():
        notes.append(f"{few(names, 3)}: {exactness}.")
    used = {r.policy_used for r in results.runs if r.policy_used}
    if "best" in used:
        notes.append(
            "Evaluated is the best policy of each run: the one with the best evaluation while "
            "training."
        )
    elif "final" in used:
        notes.append("Evaluated is the policy at the end of training.")
    return notes


def _phases(results: ExperimentResults) -> Grid:
    table = Table("phases", results.phases).text("phase", lambda p: p.phase)
    table.number("longest", lambda p: formatting.duration(p.longest_s))
    table.number("summed", lambda p: formatting.duration(p.seconds))
    return table.number("times", lambda p: p.count)


def _costs(results: ExperimentResults) -> Grid:
    def cost(c: LeaseCost) -> str:
        return formatting.money(c.total, c.currency) + (f" ({c.note})" if c.note else "")

    table = Table("costs", results.costs)
    table.text("lease", lambda c: c.lease)
    table.text("backend", lambda c: c.backend)
    table.number("workers", lambda c: c.workers)
    table.number("life", lambda c: formatting.duration(c.seconds))
    table.text("cost", cost)
    return table.text("now", lambda c: "gone" if c.gone else "still listed")


def configuration(results: ExperimentResults) -> tuple[Grid, Grid]:
    """(values that were set, values left at their defaults), each with its source."""
    leaves = [
        (path, value_text(value), _source(results.provenance, path))
        for path, value in flatten(results.spec)
    ]
    chosen = [leaf for leaf in leaves if leaf[2] != DEFAULT]
    header = ("value", "is", "from")
    return rows_grid("chosen", header, chosen), rows_grid(
        "default", header, [leaf for leaf in leaves if leaf[2] == DEFAULT]
    )


def _source(provenance: dict[str, str], path: str) -> str:
    """Where a value came from: its own entry, or that of the nearest part that holds it."""
    while path:
        if path in provenance:
            return provenance[path]
        path = path[: max(path.rfind("."), path.rfind("["), 0)]
    return DEFAULT


def _built(results: ExperimentResults) -> tuple[str, Grid]:
    run = next((r for r in results.runs if r.parameters), None)
    leaves = flatten(run.parameters) if run is not None else []
    rows = [(path, value_text(value)) for path, value in leaves]
    name = run.run if run is not None else ""
    return name, rows_grid("built", ("parameter", "is"), rows)


def _facts(results: ExperimentResults) -> list[tuple[str, str]]:
    facts = [("identity", results.identity)]
    if results.code:
        facts.append(("code bundle", results.code))
    if results.git_commit:
        changed = " with uncommitted changes" if results.git_dirty else ""
        facts.append(("git commit", results.git_commit + changed))
    if results.runs:
        seeds = ", ".join(dict.fromkeys(str(r.seed) for r in results.runs))
        facts.append(("seeds", seeds))
        kinds = dict.fromkeys(
            formatting.plural(r.threads, "thread")
            + ("" if r.device == "auto" else f" on {r.device}")
            for r in results.runs
        )
        facts.append(("each run", ", ".join(kinds)))
    if results.versions:
        text = ", ".join(f"{k} {v}" for k, v in sorted(results.versions.items()))
        facts.append(("versions", text))
    return facts


def _fingerprints(results: ExperimentResults) -> Grid:
    rows = [(r.run, r.fingerprint) for r in results.runs if r.fingerprint]
    return rows_grid("fingerprints", ("run", "fingerprint"), rows)


def method(results: ExperimentResults, curves: Sequence[MeanCurve]) -> list[str]:
    """How the numbers of this page were made, in sentences; only what applies to it."""
    agents = results.agents
    which = "All other" if any(a.role == "confirms" for a in agents) else "All"
    band = next((c.band for c in curves if c.band), "")
    intervals = [p.interval for p in results.policies if p.interval is not None]
    seeds = [len(a.seeds) for a in agents if a.interval is not None]
    seeds += [len(m.seeds) for m in results.metrics if m.interval is not None]
    sentences = (
        (results.metrics, _of_metrics(any(m.interval for m in results.metrics))),
        (agents, _of_the_agent(agents[0]) if agents else ""),
        (
            any(a.role == "searched" for a in agents) and len(agents) > 1,
            "The trials of a search have no intervals: they are ranked by these numbers, so that "
            "of many equal trials the luckiest comes first. The winner's second run plays other "
            "episodes than those that chose it.",
        ),
        (
            results.baselines,
            "A baseline is not trained, so its interval is over its evaluation episodes. "
            f"{which} policies are evaluated on the same episode seeds and start values.",
        ),
        (
            any(b.interval is None for b in results.baselines),
            "A baseline has no interval where it returns the same in all episodes that share "
            "the lesson's values, because nothing about its mean is left to chance, and where "
            "it plays fewer than three.",
        ),
        (
            band,
            f"The band of the learning curves is the {band}, at each step; where all seeds "
            "are alike there is none.",
        ),
        (
            any(interval.method == BEFORE for interval in intervals),
            "Intervals over episodes that an earlier version of drillyard evaluated are Student's "
            "t, which is narrower for skewed returns.",
        ),
        (intervals or seeds, measured_words([n for n in seeds if n > 1])),
    )
    texts = [text for applies, text in sentences if applies]
    return texts or ["Nothing was evaluated yet, so there is no interval to explain."]


def _of_metrics(intervals: bool) -> str:
    if intervals:
        return (
            "The interval of a metric is a 95 % interval of its mean over seeds: it says what "
            "running once more would give."
        )
    return (
        "Below three seeds a metric has no interval, nor has one whose seeds are all alike; "
        "the range of the seeds is shown. Use three seeds or more for an interval."
    )


def _of_the_agent(agent: PolicyScore) -> str:
    seeds = formatting.plural(len(agent.seeds), "seed")
    if agent.interval is not None and agent.interval.over == "seeds":
        text = (
            f"The agent's interval is a 95 % interval of the mean over {seeds}: it says what "
            "training once more would give, on the same evaluation episodes."
        )
        if agent.interval.among > 1:
            text += (
                f" The intervals of the {agent.interval.among} trials are so wide that all of "
                "them hold at once, whichever comes first."
            )
        return text
    if len(agent.seeds) == 1:
        return (
            "With 1 seed there is no interval over seeds. The agent's interval is over its "
            "evaluation episodes: it says how well the return of this policy is known, not what "
            "training once more would give. Use three seeds or more for that."
        )
    return (
        f"With {seeds} there is no interval over seeds, only their range. An interval over the "
        "episodes would say how well the return of these policies is known, and could leave out "
        "the seeds themselves. Use three seeds or more for what training once more would give."
        if len(agent.seeds) == 2
        else f"The {seeds} have no interval, only their range: they are all alike, or the trial "
        "was chosen by this number."
    )


def measured_words(seeds: Sequence[int]) -> str:
    """How often intervals such as those of this page hold the truth, as it was measured.

    Args:
        seeds: Numbers of seeds that intervals of the page are over; none: episodes alone.
    """
    text = (
        "An interval is Student's t, longer on the side to which the values are skewed, and cut "
        "at the least and greatest return where they are known. "
    )
    if not seeds:
        return text + "How often such intervals hold the truth is measured: see the documentation."
    n = min(seeds)
    words = measured(n)
    each = ", ".join(f"{share:.0%} where {kind}" for kind, share in words.items())
    return text + f"Over {n} seeds such an interval was measured to hold the truth in {each}."
