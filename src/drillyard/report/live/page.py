"""The live page as parts of HTML: the browser replaces those that changed."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

from drillyard.mailbox.records import Phase
from drillyard.mailbox.status import Status
from drillyard.report.live.chart import NARROW, Series, chart
from drillyard.report.live.model import STALE_S, Live, LiveRun
from drillyard.report.live.reader import MOST_RUNS
from drillyard.report.templates import rendered, safe
from drillyard.results import formatting, stages, study_table
from drillyard.results.model import RunCurves
from drillyard.results.time_left import worth_showing
from drillyard.system.durations import ago, duration
from drillyard.system.tables import Grid, Table

PARTS = ("summary", "progress", "stages", "curves", "study", "runs", "machines", "log")
"""Ids of the elements that are replaced, in the order of the page."""
BAD = ("FAILED", "TIMED_OUT", "CANCELLED", "failed", "stopped", "still listed")
TRIALS = 10


def shell(experiment: str, store: str) -> str:
    """The page before its first parts.

    Args:
        experiment: Its name.
        store: URL of the store.
    """
    return rendered("live.html.j2", name=experiment, store=store, parts=PARTS)


def parts(live: Live) -> dict[str, str]:
    """The parts of the page as HTML, everything in them escaped; an empty one is hidden."""
    values: dict[str, dict[str, object]] = {
        "summary": {
            "learner": formatting.learner_of(live.record.spec),
            "verdict": verdict(live),
            "warnings": live.warnings,
            "cancelled": live.cancelled,
        },
        "progress": {
            "percent": round(100 * share_done(live), 1),
            "facts": _facts(live),
            "report": live.report,
        },
        "stages": {
            "stages": stages.grid(live.stages) if live.stages else None,
            "experiments": [s.experiment for s in live.stages.stages] if live.stages else [],
        },
        "curves": {"charts": _charts(live)},
        "study": {"study": _study(live)},
        "runs": {"runs": _runs(live), "notes": _notes(live.runs), "own": not live.stages},
        "machines": {
            "workers": _workers(live),
            "leases": _leases(live),
            "driver": _driver(live),
            "own": not live.stages,
        },
        "log": {"log": live.log},
    }
    return {
        name: rendered("live_part.html.j2", part=name, bad=BAD, **values[name]).strip()
        for name in PARTS
    }


def share_done(live: Live) -> float:
    """How much of all runs is done, from 0 to 1, those to come included."""
    if live.stages is not None:
        stages = live.stages.stages
        return sum(s.ended for s in stages) / len(stages) if stages else 0.0
    total = len(live.runs) + live.to_come
    return sum(map(_share, live.runs)) / total if total else 0.0


def _share(run: LiveRun) -> float:
    if run.status.ended:
        return 1.0
    board = run.board
    if board is None or run.beat_age_s is None or not board.total:
        return 0.0
    # What follows the training is short beside it.
    return min(1.0, board.step / board.total) if board.phase is Phase.TRAIN else 1.0


def verdict(live: Live) -> str:
    """One sentence on where the experiment is; without anything that changes each second."""
    if live.stages is not None:
        stages = live.stages.stages
        done, working = sum(s.ended for s in stages), sum(s.status == "running" for s in stages)
        return f"{done} of {formatting.plural(len(stages), 'stage')} ended, {working} running."
    total = len(live.runs) + live.to_come
    ended = sum(r.status.ended for r in live.runs)
    runs = formatting.plural(total, "run")
    if live.over:
        if live.study is not None:
            return study_table.verdict(live.study)
        good = sum(r.status in (Status.SUCCEEDED, Status.PRUNED) for r in live.runs)
        return f"{live.status.value}: {good} of {runs} finished."
    if not live.runs:
        return "No run has been posted yet."
    running = sum(r.status is Status.RUNNING for r in live.runs)
    if not running and not live.workers:
        return f"{ended} of {runs} ended; no machine is at work."
    return f"{ended} of {runs} ended, {running} running."


def _facts(live: Live) -> list[str]:
    facts = []
    if worth_showing(live.left_s):
        facts.append(f"about {duration(live.left_s)} left")
    spent = live.spending
    if spent is not None:
        if any(i.per_hour for i in spent.intervals):
            limit = f" of {spent.max_cost:,.2f}" if spent.max_cost is not None else ""
            per_hour = sum(i.per_hour for i in spent.intervals if i.ended_at is None)
            rate = f", {per_hour:,.2f} an hour now" if per_hour else ""
            facts.append(f"{spent.total:,.2f}{limit} {spent.currency}{rate}")
        elif spent.intervals:
            facts.append("free: your own machines")
    facts.append(f"started {formatting.moment(live.record.created_at)}")
    read_at = datetime.fromtimestamp(live.read_at, UTC)
    return [*facts, f"read at {read_at:%H:%M:%S} UTC"]


def _charts(live: Live) -> list[dict[str, object]]:
    named = len({c.seed for c in live.curves}) == len(live.curves) and live.study is None
    charts: list[dict[str, object]] = []
    for kind, title in (
        ("training", "Return while training"),
        ("evaluation", "Evaluation while training"),
    ):
        series = [
            Series(f"seed {c.seed}" if named else c.run, points)
            for c in live.curves
            if (points := _points(c, kind))
        ]
        if series:
            ends = [
                f"{s.name}: {formatting.number(s.points[-1][1])} at step {s.points[-1][0]:,}"
                for s in series
            ]
            charts.append(
                {
                    "title": title,
                    "alt": f"{title} over environment steps. {'; '.join(ends)}.",
                    # Made by ``chart``, which escapes each text.
                    "wide": safe(chart(series, "return")),
                    "narrow": safe(chart(series, "return", NARROW)),
                }
            )
    return charts


def _points(curves: RunCurves, kind: str) -> tuple[tuple[int, float], ...]:
    return curves.training if kind == "training" else curves.evaluation


def _study(live: Live) -> dict[str, object] | None:
    study, state = live.study, live.state
    if study is None:
        return None
    budgets = [
        f"{name} {budget['used']:.4g} of {budget['limit']:g}"
        for name, budget in (state.budgets if state else {}).items()
    ]
    return {
        "counts": study_table.counts(study),
        "trials": study_table.trials_grid(study, TRIALS),
        "budgets": ", ".join(budgets),
        "stopped": state.stopped if state else None,
    }


def _runs(live: Live) -> Grid:
    first = [r for r in live.runs if r.status in (Status.RUNNING, Status.FAILED, Status.TIMED_OUT)]
    rest = [r for r in reversed(live.runs) if r not in first]
    chosen = {r.run for r in (first + rest)[:MOST_RUNS]}
    runs = [r for r in live.runs if r.run in chosen]
    left = len(live.runs) - len(runs)
    table = Table("One line a run" + (f"; {left:,} more are not shown" if left else ""), runs)
    table.text("run", lambda r: r.run)
    table.text("status", lambda r: r.status.value)
    table.text("phase", lambda r: r.phase.value if r.phase and not r.status.ended else None)
    table.number("steps", _steps)
    table.number("steps/s", lambda r: formatting.count(r.steps_per_s))
    table.number("return", lambda r: formatting.number(_return(r)))
    table.number("time left", lambda r: duration(worth_showing(r.left_s)))
    return table.number("heartbeat", lambda r: ago(r.beat_age_s))


def _steps(run: LiveRun) -> str | None:
    board = run.board
    if run.trained is not None:
        return f"{run.trained:,}"
    if board is None or not (
        board.phase is Phase.TRAIN or (run.beat_age_s is not None and board.total)
    ):
        return None
    return f"{board.step:,}" + (f" of {board.total:,}" if board.total else "")


def _return(run: LiveRun) -> float | None:
    if run.mean_return is None and run.board is not None:
        return run.board.episode_return
    return run.mean_return


def _notes(runs: Sequence[LiveRun]) -> list[tuple[str, str, str | None]]:
    notes = [
        (r.run, r.message, r.hint)
        for r in runs
        if r.message and r.status.ended and r.status is not Status.SUCCEEDED
    ]
    notes += [
        (r.run, f"no heartbeat for {duration(r.beat_age_s)}; its worker may be dead", None)
        for r in runs
        if r.beat_age_s is not None and r.beat_age_s > STALE_S
    ]
    return notes[:MOST_RUNS]


def _workers(live: Live) -> Grid:
    table = Table("workers", live.workers[:MOST_RUNS])
    table.text("worker", lambda w: w.worker)
    table.text("state", lambda w: w.state)
    table.text("host", lambda w: w.host)
    table.text("works on", lambda w: ", ".join(w.runs) or None)
    table.number("heartbeat", lambda w: ago(w.beat_age_s))
    return table.text("message", lambda w: w.message or None)


def _leases(live: Live) -> Grid:
    table = Table("leases", (live.spending.intervals if live.spending else ())[-MOST_RUNS:])
    table.text("lease", lambda i: i.lease)
    table.text("backend", lambda i: i.backend)
    table.number("workers", lambda i: i.machines)
    table.number("life", lambda i: duration(i.seconds))
    table.text("cost", lambda i: formatting.money(i.cost, i.currency))
    return table.text("now", lambda i: _end(i.ended_at is not None, i.confirmed))


def _end(ended: bool, confirmed: bool) -> str:
    if not ended:
        return "rented"
    return "gone" if confirmed else "still listed"


def _driver(live: Live) -> str:
    driver, age = live.driver, live.driver_age_s
    if driver is None:
        return "No command drives it yet."
    if age is None:
        return f"Its last driver ended: {driver.outcome or 'without an outcome'}."
    if age > STALE_S:
        return (
            f"Its driver (process {driver.pid} on {driver.host}) has had no heartbeat for "
            f"{duration(age)}. Runs may go on; drillyard resume {live.record.name} adopts them."
        )
    return f"Driver: process {driver.pid} on {driver.host}."
