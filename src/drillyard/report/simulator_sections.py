"""What the sections about training and evaluation show, once a simulator."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from drillyard.report import data, training_pictures
from drillyard.report.data import Episode, World
from drillyard.report.drawn import Drawn
from drillyard.results import ExperimentResults, formatting, policies_grid
from drillyard.results.model import PolicyScore
from drillyard.results.policies import AGENT
from drillyard.system.tables import Grid, Table


def of(world: World) -> dict[str, Any]:
    """What the sections about training and evaluation show of one simulator."""
    results, episode = world.results, world.episode
    return {
        "simulator": world.simulator,
        "curves": world.curves,
        "learning": _learning(world) if world.curves else None,
        "evaluation": _evaluation(world) if results.policies else None,
        "policies": policies_grid(results),
        "options": _options(results),
        "measures": _measures(results),
        "episode": None if episode is None or not episode.panels else _episode(world, episode),
    }


def _learning(world: World) -> Drawn:
    results, curves, name = world.results, world.curves, world.file("learning_curve")
    seeds = max(len(c.seeds) for c in curves)
    ends = [f"{c.kind} ends at {formatting.number(c.mean[-1])}" for c in curves if c.mean]
    caption = (
        f"Thin: each of the {seeds} seeds. Thick: their mean. " if seeds > 1 else "One seed. "
    )
    if any(c.kind == "training" for c in curves):
        caption += "Training: mean return of the latest training episodes, exploration included. "
    if any(c.kind == "evaluation" for c in curves):
        caption += "Evaluation: separate episodes on a separate simulator. "
    if results.baselines:
        caption += "Dashed: baselines in the final evaluation (those near enough to be drawn)."
    alt = f"Learning curves of {results.name}, return over environment steps: {'; '.join(ends)}."
    picture = training_pictures.learning_curve(curves, results)
    table = data.learning_curve_csv(curves)
    return Drawn(name, "Learning curves", alt, caption, picture, table)


def _evaluation(world: World) -> Drawn:
    results, name = world.results, world.file("evaluation")
    decimals = formatting.score_decimals(results.policies)
    each = "; ".join(
        f"{p.policy} {formatting.fixed(p.mean_return, decimals)}"
        f" ({formatting.interval(p.interval, decimals)})"
        for p in results.policies
    )
    caption = "Dot: mean. Bar: 95 % interval, over what the table says."
    if any(p.interval is None and len(p.seeds) > 1 for p in results.policies):
        caption += " Thin line: range of the seeds, where there is no interval."
    if any(len(p.seeds) > 1 for p in results.policies):
        caption += " Ticks below: each seed."
    picture, table = training_pictures.evaluation(results), data.evaluation_csv(results)
    return Drawn(name, "Final evaluation", f"Mean return: {each}.", caption, picture, table)


def _episode(world: World, episode: Episode) -> Drawn:
    caption = "The first evaluation episode of the first seed's agent"
    others = [name for name in episode.policies if name != AGENT]
    caption += f" and of {others[0]}, the best baseline." if others else "."
    options = episode.meta.get(AGENT, {}).get("options")
    if isinstance(options, dict) and options:
        caption += " Started with " + ", ".join(f"{k} {v}" for k, v in options.items()) + "."
    returns = [
        f"{name} {formatting.number(m['return'])}"
        for name, m in episode.meta.items()
        if isinstance(m.get("return"), int | float)
    ]
    if returns:
        caption += f" Return: {', '.join(returns)}."
    quantities = ", ".join(p.title for p in episode.panels)
    alt = f"An evaluation episode of {world.results.name} over time: {quantities}."
    picture, table = training_pictures.episode(episode), data.episode_csv(episode)
    file = world.file("episode")
    return Drawn(file, "One evaluation episode", alt, caption, picture, table)


def _options(results: ExperimentResults) -> list[Grid]:
    options = dict.fromkeys(option for p in results.policies for option in p.by_option)
    return [_option(o, [p for p in results.policies if o in p.by_option]) for o in options]


def _option(option: str, policies: Sequence[PolicyScore]) -> Grid:
    """Mean return of each policy at each value of a reset key."""
    returns = {p.policy: p.by_option[option] for p in policies}
    decimals = formatting.shared_decimals(v for by in returns.values() for v in by.values())

    def at(value: str) -> Callable[[str], str]:
        return lambda policy: formatting.fixed(returns[policy].get(value), decimals)

    table = Table(option, returns).text("policy", str)
    for value in dict.fromkeys(value for by in returns.values() for value in by):
        table.number(value, at(value))
    return table


def _measures(results: ExperimentResults) -> Grid:
    def measure(name: str) -> Callable[[PolicyScore], str]:
        return lambda p: formatting.number(p.metrics.get(name))

    table = Table("measures", results.policies).text("policy", lambda p: p.policy)
    table.number("steps of an episode", lambda p: formatting.number(p.mean_length))
    for name in dict.fromkeys(name for p in results.policies for name in p.metrics):
        table.number(name, measure(name))
    return table
