"""Numbers as people read them; the same in tables, report and plain lines."""

from __future__ import annotations

import math
from collections.abc import Iterable

from drillyard.results.model import ExperimentResults, Interval, MetricScore, PolicyScore

NOTHING = "-"
"""What a table shows where there is nothing; ASCII, as all words here: any terminal prints it."""


def number(value: float | None, digits: int = 4) -> str:
    """A number with so many significant digits and no needless exponent: ``74.31``, ``-1,204``."""
    if value is None or not math.isfinite(value):
        return NOTHING
    if value == 0:
        return "0"
    magnitude = math.floor(math.log10(abs(value)))
    if magnitude >= 15 or magnitude < -4:
        return f"{value:.{digits - 1}e}"
    decimals = max(0, digits - 1 - magnitude)
    return f"{value:,.{min(decimals, digits)}f}"


def shared_decimals(values: Iterable[float | None], digits: int = 4) -> int:
    """Decimals that give the largest of some numbers so many digits: columns then line up."""
    largest = max((abs(v) for v in values if v is not None and math.isfinite(v)), default=0.0)
    if largest == 0:
        return 1
    return min(digits, max(0, digits - 1 - math.floor(math.log10(largest))))


def fixed(value: float | None, decimals: int) -> str:
    """A number with so many decimals: ``74.31``, ``-1,204``."""
    if value is None or not math.isfinite(value):
        return NOTHING
    text = f"{value:,.{decimals}f}"
    return text if text.strip("-0.,") else text.lstrip("-")


def score_decimals(scores: Iterable[PolicyScore]) -> int:
    """The decimals in which a table of policies is written."""
    return shared_decimals(
        v
        for p in scores
        for v in (p.mean_return, *((p.interval.low, p.interval.high) if p.interval else ()))
    )


def interval(found: Interval | None, decimals: int | None = None) -> str:
    """``71.9 to 76.8``."""
    if found is None:
        return NOTHING
    if decimals is None:
        decimals = shared_decimals((found.low, found.high))
    return f"{fixed(found.low, decimals)} to {fixed(found.high, decimals)}"


def over(score: PolicyScore, decimals: int) -> str:
    """What an interval is over.

    ``5 seeds (bootstrap)``; below three seeds ``80 episodes of 2 seeds (71.80, 72.70)``, because
    such an interval says nothing about another training and the single values do.
    """
    episodes = plural(score.n_episodes, "episode")
    if score.baseline:
        return episodes
    seeds = plural(len(score.seeds), "seed")
    if score.interval is not None and score.interval.over == "seeds":
        return f"{seeds} ({score.interval.method})"
    if len(score.seeds) == 1:
        return f"{episodes} of one seed"
    values = ", ".join(fixed(v, decimals) for v in score.seeds.values())
    return f"{episodes} of {seeds} ({values})"


def over_seeds(score: MetricScore) -> str:
    """``5 seeds (bootstrap)``; below three seeds their values, which say more."""
    seeds = plural(len(score.seeds), "seed")
    if score.interval is not None:
        return f"{seeds} ({score.interval.method})"
    if len(score.seeds) == 1:
        return "one seed"
    return f"{seeds} ({', '.join(number(v) for v in score.seeds.values())})"


def plural(n: int, noun: str) -> str:
    """``1 seed``, ``2 seeds``."""
    return f"{n:,} {noun}" + ("" if n == 1 else "s")


def duration(seconds: float | None) -> str:
    """``0.8 s``, ``47 s``, ``3 min 07 s``, ``2 h 05 min``, ``3 d 04 h``."""
    if seconds is None or not math.isfinite(seconds):
        return NOTHING
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    minutes = whole // 60
    if minutes < 24 * 60:
        return f"{minutes // 60} h {minutes % 60:02d} min"
    return f"{minutes // 1440} d {minutes % 1440 // 60:02d} h"


def count(value: float | None) -> str:
    """A whole number with thousands separated."""
    return NOTHING if value is None or not math.isfinite(value) else f"{value:,.0f}"


def money(value: float, currency: str) -> str:
    """``0.42 USD``; nothing spent is ``free``."""
    return "free" if value == 0 else f"{value:,.2f} {currency}"


def moment(epoch_s: float | None) -> str:
    """``2026-03-01 14:05 UTC``."""
    if epoch_s is None:
        return NOTHING
    from datetime import UTC, datetime

    return datetime.fromtimestamp(epoch_s, UTC).strftime("%Y-%m-%d %H:%M UTC")


def learner(results: ExperimentResults) -> str:
    """``PPO on cstr``, or the workload where nothing learns."""
    algorithm = (results.spec.get("learner") or {}).get("algorithm")
    simulator = (results.spec.get("simulator") or {}).get("id")
    if not algorithm:
        children = results.spec.get("children") or []
        of = f" of {plural(len(children), 'child').replace('childs', 'children')}"
        return str(results.spec.get("workload", "rl")) + (of if children else "")
    name = str(algorithm).upper() if ":" not in str(algorithm) else str(algorithm)
    return f"{name} on {simulator}" if simulator else name


def verdict(results: ExperimentResults) -> str:
    """One sentence: what the agent reaches, and what that is worth beside the best baseline.

    Where nothing is trained: what was measured.
    """
    if not results.learns:
        return _measured(results)
    runs = results.runs
    finished = sum(r.status == "SUCCEEDED" for r in runs)
    agents, baselines = results.agents, results.baselines
    if not agents:
        return _no_agent(results, finished)
    agent = agents[0]
    decimals = score_decimals([agent, *baselines[:1]])
    sentence = f"The agent reaches a mean return of {fixed(agent.mean_return, decimals)}"
    if agent.interval is not None:
        sentence += (
            f" (95 % interval over {agent.interval.over}: {interval(agent.interval, decimals)})"
        )
    if baselines:
        sentence += _beside(agent, baselines[0], decimals)
    else:
        sentence += "; no baseline was evaluated, so the score has no scale"
    if finished < len(runs):
        sentence += f". {finished} of {len(runs)} runs have finished"
    return sentence + "."


def _measured(results: ExperimentResults) -> str:
    runs, metrics = results.runs, results.metrics
    finished = sum(r.status == "SUCCEEDED" for r in runs)
    if not runs:
        return "Nothing has run yet."
    failed = [r for r in runs if r.status in ("FAILED", "TIMED_OUT")]
    if failed and not metrics:
        why = f": {failed[0].message.splitlines()[0]}" if failed[0].message else ""
        return f"{len(failed)} of {plural(len(runs), 'run')} failed{why}"
    sentence = f"{finished} of {plural(len(runs), 'run')} finished"
    shown = [f"{m.metric} {number(m.mean)}" for m in metrics[:_SHOWN_METRICS]]
    if shown:
        sentence += (
            f"; mean over {plural(max(len(m.seeds) for m in metrics), 'seed')}: "
            + ", ".join(shown)
        )
    if len(metrics) > _SHOWN_METRICS:
        sentence += f" and {len(metrics) - _SHOWN_METRICS} more"
    return sentence + "."


_SHOWN_METRICS = 3


def _no_agent(results: ExperimentResults, finished: int) -> str:
    runs = results.runs
    if not runs:
        return "Nothing has run yet."
    failed = [r for r in runs if r.status in ("FAILED", "TIMED_OUT")]
    if failed and all(r.status != "RUNNING" for r in runs):
        why = f": {failed[0].message}" if failed[0].message else ""
        return f"{len(failed)} of {len(runs)} runs failed, and no agent was evaluated{why}"
    return f"No agent was evaluated yet; {finished} of {len(runs)} runs have finished."


def _beside(agent: PolicyScore, best: PolicyScore, decimals: int) -> str:
    gap = agent.mean_return - best.mean_return
    if not math.isfinite(gap):
        return ""
    side = "above" if gap > 0 else "below"
    text = (
        f", {fixed(abs(gap), decimals)} {side} the best baseline, "
        f"{best.policy} ({fixed(best.mean_return, decimals)})"
    )
    if not _apart(agent.interval, best.interval):
        text += "; their intervals overlap, so this is no clear difference"
    return text


def _apart(one: Interval | None, other: Interval | None) -> bool:
    if one is None or other is None:
        return False
    return one.low > other.high or one.high < other.low
