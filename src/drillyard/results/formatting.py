"""Numbers as people read them; the same in tables, report and plain lines."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from drillyard.documents.json_types import as_list, as_object
from drillyard.results.model import ExperimentResults, Interval, MetricScore, PolicyScore
from drillyard.system.durations import NOTHING as NOTHING
from drillyard.system.durations import duration as duration
from drillyard.system.lists import few

DECIDES = 5
"""Fewer seeds decide nothing beside a baseline: two groups of results would look like one."""


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


def interval(interval: Interval | None, decimals: int | None = None) -> str:
    """``71.9 to 76.8``."""
    return NOTHING if interval is None else ends(interval.low, interval.high, decimals)


def ends(low: float | None, high: float | None, decimals: int | None = None) -> str:
    """``71.9 to 76.8``; nothing if an end is not known."""
    if low is None or high is None:
        return NOTHING
    if decimals is None:
        decimals = shared_decimals((low, high))
    return f"{fixed(low, decimals)} to {fixed(high, decimals)}"


def place(places: tuple[int, int]) -> str:
    """``2``, or ``2 to 4``."""
    best, last = places
    return str(best) if best == last else f"{best} to {last}"


def over(score: PolicyScore, decimals: int) -> str:
    """What an interval is over; where there is none over several seeds, their range.

    ``5 seeds``; ``range of 2 seeds: 71.80 to 72.70``; ``80 episodes of one seed``.
    """
    episodes = plural(score.n_episodes, "episode")
    if score.baseline:
        return episodes
    if len(score.seeds) == 1:
        return f"{episodes} of one seed"
    if score.interval is not None:
        return _seeds(len(score.seeds), score.interval)
    return spread(score.seeds.values(), decimals)


def spread(values: Iterable[float], decimals: int | None = None) -> str:
    """``range of 2 seeds: 71.80 to 72.70``."""
    known = list(values)
    return f"range of {plural(len(known), 'seed')}: {ends(min(known), max(known), decimals)}"


def _seeds(n: int, interval: Interval) -> str:
    """``5 seeds``, and how many lines hold at once where there are several."""
    at_once = f"; all {interval.among} lines at once" if interval.among > 1 else ""
    return plural(n, "seed") + at_once


def over_seeds(score: MetricScore) -> str:
    """``5 seeds``; where there is no interval the range of the seeds, which says more."""
    if score.interval is not None:
        return _seeds(len(score.seeds), score.interval)
    return "one seed" if len(score.seeds) == 1 else spread(score.seeds.values())


def plural(n: int, noun: str) -> str:
    """``1 seed``, ``2 seeds``."""
    return f"{n:,} {noun}" + ("" if n == 1 else "s")


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
    return learner_of(results.spec)


def learner_of(spec: Mapping[str, Any]) -> str:
    """``learner`` of a resolved experiment, as JSON."""
    if not as_object(spec.get("learner")).get("algorithm"):
        children = spec.get("children") or []
        of = f" of {plural(len(children), 'child').replace('childs', 'children')}"
        return str(spec.get("workload", "rl")) + (of if children else "")
    listed = as_list(as_object(spec.get("study")).get("experiments"))
    parts: list[Mapping[str, Any]] = [spec, *map(as_object, listed)]
    algorithms, simulators = (
        list(dict.fromkeys(str(v) for p in parts if (v := as_object(p.get(kind)).get(name))))
        for kind, name in (("learner", "algorithm"), ("simulator", "id"))
    )
    learners = _few([a if ":" in a else a.upper() for a in algorithms], "algorithm")
    simulator = as_object(spec.get("simulator")).get("id")
    return f"{learners} on {_few(simulators, 'simulator')}" if simulator else learners


def _few(names: Sequence[str], noun: str) -> str:
    """``PPO, A2C``; from five on their number."""
    return ", ".join(names) if len(names) < 5 else plural(len(names), noun)


def verdict(results: ExperimentResults) -> str:
    """One sentence: what the agent reaches, and what that is worth beside the best baseline.

    Where nothing is trained: what was measured.
    """
    return _verdict(results) + _removed(results)


def _removed(results: ExperimentResults) -> str:
    """What is shown, but counts in nothing."""
    runs = results.removed
    if not runs:
        return ""
    names = few([r.run for r in runs], 4, ", …")
    if len(runs) == 1:
        return f" The seed of {names} was removed. Its run is shown and counts in nothing."
    return f" The seeds of {names} were removed. Their runs are shown and count in nothing."


def _verdict(results: ExperimentResults) -> str:
    if not results.learns:
        return _measured(results)
    runs = results.runs
    finished = sum(r.finished for r in runs)
    agents, baselines = results.agents, results.baselines
    if not agents:
        return _no_agent(results, finished)
    if len(agents) > 1:
        return _of_trials(results)
    agent = agents[0]
    decimals = score_decimals([agent, *baselines[:1]])
    sentence = f"The agent reaches a mean return of {_sure(agent, decimals)}"
    if {r.policy_used for r in runs if r.policy_used} == {"best"}:
        sentence += " with the best policy of each run"
    if baselines:
        sentence += beside(agent, baselines[0], decimals)
    else:
        sentence += "; no baseline was evaluated, so the score has no scale"
    if finished < len(runs):
        sentence += f". {finished} of {len(runs)} runs have finished"
    return sentence + "."


def _measured(results: ExperimentResults) -> str:
    runs, metrics = results.runs, results.metrics
    finished = sum(r.finished for r in runs)
    if not runs:
        return "Nothing has run yet."
    failed = [r for r in runs if r.status in ("FAILED", "TIMED_OUT")]
    if failed and not metrics:
        why = f": {failed[0].message.splitlines()[0]}" if failed[0].message else ""
        return f"{len(failed)} of {plural(len(runs), 'run')} failed{why}"
    sentence = f"{finished} of {plural(len(runs), 'run')} finished"
    if metrics:
        texts = [f"{m.metric} {number(m.mean)}" for m in metrics]
        seeds = plural(max(len(m.seeds) for m in metrics), "seed")
        sentence += f"; mean over {seeds}: {few(texts, _SHOWN_METRICS)}"
    return sentence + "."


_SHOWN_METRICS = 3


def _of_trials(results: ExperimentResults) -> str:
    """The best of several trials, what its being the best is worth, and its run on fresh seeds."""
    ranked = [a for a in results.agents if a.role != "confirms"]
    again = [a for a in results.agents if a.role == "confirms"]
    worlds = len({a.simulator for a in ranked})
    if worlds > 1:
        return (
            f"{plural(len(ranked), 'trial')} on {worlds} simulators, which have no common scale: "
            "the report compares them."
        )
    best = (ranked or again)[0]
    decimals = score_decimals([best, *again[:1], *results.baselines[:1]])
    sentence = f"Of {plural(len(ranked), 'trial')}, {best.policy} has the highest mean return, "
    sentence += _sure(best, decimals)
    held = bool(again) and again[0].mean_return >= best.mean_return
    if best.role == "searched":
        sentence += (
            ", by which it was chosen"
            if held
            else ", which is optimistic because it was chosen by this number"
        )
    if again:
        sentence += f"; run again it reaches {_sure(again[0], decimals)}"
        sentence += ", which is not worse" if held else ""
    if results.baselines and (again or best.role != "searched"):
        sentence += beside((again or [best])[0], results.baselines[0], decimals)
    return sentence + "."


def _sure(score: PolicyScore, decimals: int) -> str:
    """A mean return and how sure it is: ``72.25 (range of 2 seeds: 71.80 to 72.70)``."""
    text = fixed(score.mean_return, decimals)
    limits = score.interval
    if limits is not None:
        at_once = f", all {limits.among} at once" if limits.among > 1 else ""
        return f"{text} (95 % interval over {limits.over}: {interval(limits, decimals)}{at_once})"
    return f"{text} ({spread(score.seeds.values(), decimals)})" if len(score.seeds) > 1 else text


def _no_agent(results: ExperimentResults, finished: int) -> str:
    runs = results.runs
    if not runs:
        return "Nothing has run yet."
    failed = [r for r in runs if r.status in ("FAILED", "TIMED_OUT")]
    if failed and all(r.status != "RUNNING" for r in runs):
        why = f": {failed[0].message}" if failed[0].message else ""
        return f"{len(failed)} of {len(runs)} runs failed, and no agent was evaluated{why}"
    return f"No agent was evaluated yet; {finished} of {len(runs)} runs have finished."


def beside(agent: PolicyScore, best: PolicyScore, decimals: int) -> str:
    """What the agent's score is worth beside the best baseline: the end of a sentence.

    Args:
        agent: The agent.
        best: The baseline.
        decimals: Decimals of the numbers.
    """
    gap = agent.mean_return - best.mean_return
    if not math.isfinite(gap):
        return ""
    side = "above" if gap > 0 else "below"
    text = (
        f", {fixed(abs(gap), decimals)} {side} the best baseline, "
        f"{best.policy} ({fixed(best.mean_return, decimals)})"
    )
    n = len(agent.seeds) if len(agent.seeds) != 1 or agent.interval is None else DECIDES
    if n < DECIDES:
        return text + f"; from {plural(n, 'seed')} it is open whether that is more than chance"
    from drillyard.statistics import ERROR, Fixed, against, apart, remark, together

    still = [
        Fixed.of(p.mean_return, (p.interval.low, p.interval.high) if p.interval else None, m)
        for p, m in ((best, best.n_episodes), (agent, agent.n_episodes))
    ]
    trained = len(agent.seeds) > 1
    p = against([list(agent.seeds.values())], still[:1]) if trained else apart(*still)
    among = agent.interval.among if agent.interval else 1
    if p > 1 - together(among, 1 - ERROR):
        return text + f"; the difference is not clear (p = {p:.3f})"
    if gap > 0 and trained:
        text += f"; {remark(n)}"
    return text
