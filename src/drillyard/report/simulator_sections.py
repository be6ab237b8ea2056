"""What the sections about training and evaluation show, once a simulator."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from drillyard.report.data import World
from drillyard.report.picture_style import Picture
from drillyard.report.templates import safe
from drillyard.results import ExperimentResults, formatting, policies_grid
from drillyard.results.model import PolicyScore
from drillyard.results.policies import AGENT
from drillyard.system.tables import Grid, Table

if TYPE_CHECKING:
    from markupsafe import Markup


@dataclass(frozen=True, slots=True)
class Shown:
    """A picture as the page shows it."""

    title: str
    svg: Markup
    narrow: Markup
    alt: str
    caption: str
    files: tuple[str, ...]


def of(world: World, pictures: dict[str, Picture]) -> dict[str, Any]:
    """What the sections about training and evaluation show of one simulator."""
    results = world.results
    return {
        "simulator": world.simulator,
        "learning": _learning(world, pictures),
        "evaluation": _evaluation(world, pictures),
        "policies": policies_grid(results),
        "options": _options(results),
        "measures": _measures(results),
        "episode": _episode(world, pictures),
    }


def _learning(world: World, pictures: dict[str, Picture]) -> Shown | None:
    results, curves, name = world.results, world.curves, world.file("learning_curve")
    if name not in pictures:
        return None
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
    return shown("Learning curves", pictures[name], alt, caption, name)


def _evaluation(world: World, pictures: dict[str, Picture]) -> Shown | None:
    results, name = world.results, world.file("evaluation")
    if name not in pictures:
        return None
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
    return shown("Final evaluation", pictures[name], f"Mean return: {each}.", caption, name)


def _episode(world: World, pictures: dict[str, Picture]) -> Shown | None:
    results, found, file = world.results, world.episode, world.file("episode")
    if found is None or file not in pictures:
        return None
    caption = "The first evaluation episode of the first seed's agent"
    others = [name for name in found.policies if name != AGENT]
    caption += f" and of {others[0]}, the best baseline." if others else "."
    meta = found.meta.get(AGENT, {})
    options = meta.get("options")
    if isinstance(options, dict) and options:
        caption += " Started with " + ", ".join(f"{k} {v}" for k, v in options.items()) + "."
    returns = [
        f"{name} {formatting.number(m['return'])}"
        for name, m in found.meta.items()
        if isinstance(m.get("return"), int | float)
    ]
    if returns:
        caption += f" Return: {', '.join(returns)}."
    quantities = ", ".join(p.title for p in found.panels)
    alt = f"An evaluation episode of {results.name} over time: {quantities}."
    return shown("One evaluation episode", pictures[file], alt, caption, file)


def shown(title: str, picture: Picture, alt: str, caption: str, name: str) -> Shown:
    """A picture with what is said of it.

    Args:
        title: Above it.
        picture: As it was drawn.
        alt: Read aloud in its place.
        caption: Below it.
        name: Name of its files, without the suffix.
    """
    names = tuple(f"{name}.{suffix}" for suffix in ("svg", "png", "csv"))
    inline, narrow = safe(picture.inline), safe(picture.narrow)
    return Shown(title, inline, narrow, alt, caption, names)


def _options(results: ExperimentResults) -> list[Grid]:
    return [
        _option(option, [p for p in results.policies if option in p.by_option])
        for option in dict.fromkeys(option for p in results.policies for option in p.by_option)
    ]


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
