"""What the pictures of a report show, computed once: curves over seeds, scores, one episode.

The CSV files beside the pictures hold exactly these numbers.
"""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from drillyard.documents.json_types import JsonView, as_list, as_object
from drillyard.errors import CorruptObject
from drillyard.mailbox import Mailbox
from drillyard.mailbox.records import Phase
from drillyard.results import ExperimentResults, accepted_file
from drillyard.results.csv_tables import POLICY
from drillyard.results.model import Point, Role
from drillyard.results.policies import AGENT
from drillyard.simulators import gymnasium_names
from drillyard.statistics.intervals import ends, together
from drillyard.system.safe_names import file_name
from drillyard.system.tables import csv_of_rows, to_csv

CURVES = {"training": "return while training", "evaluation": "evaluation while training"}


@dataclass(frozen=True, slots=True)
class MeanCurve:
    """A learning curve over seeds, on a common grid of steps.

    Attributes:
        kind: ``training`` or ``evaluation``.
        seeds: Training seed -> its own points.
        steps: The grid: steps that all seeds have reached.
        mean: Mean over seeds at each of them.
        low: Lower end of the band; NaN where there is none.
        high: Upper end.
        band: What the band is, in words; empty where there is none.
    """

    kind: str
    seeds: dict[str, tuple[Point, ...]]
    steps: tuple[int, ...]
    mean: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]
    band: str


@dataclass(frozen=True, slots=True)
class Panel:
    """One quantity of an episode over time, with what it should have been."""

    column: str
    title: str
    unit: str
    reference: str | None
    kind: str
    """``state``, ``action`` or ``reward``."""


@dataclass(frozen=True, slots=True)
class Episode:
    """One evaluation episode of the agent, and the same one under the best baseline."""

    policies: dict[str, dict[str, list[float]]]
    """Policy -> column -> one value a step; the agent, or whoever stands for it, first."""
    panels: tuple[Panel, ...]
    time_unit: str
    meta: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Policy -> ``options`` and ``return`` of the episode."""


@dataclass(frozen=True, slots=True)
class World:
    """What is shown of one simulator; scores of different ones have no common scale.

    Attributes:
        simulator: Its id; empty where there is only one.
        results: Results of the runs in it.
        curves: Learning curves over seeds.
        episode: One episode, where one was recorded.
    """

    simulator: str
    results: ExperimentResults
    curves: list[MeanCurve]
    episode: Episode | None

    def file(self, name: str) -> str:
        """Name of a picture and its data, without the ending."""
        return f"{name}_{file_name(self.simulator)}" if self.simulator else name


def worlds(mailbox: Mailbox, results: ExperimentResults, warnings: list[str]) -> list[World]:
    """Curves and episodes of each simulator.

    Args:
        mailbox: Where the episodes are.
        results: What was collected, with curves.
        warnings: What cannot be read is said here.
    """
    return [
        World(name, part, curves(part), episode(mailbox, part, warnings))
        for name, part in results.by_simulator()
    ]


def curves(results: ExperimentResults) -> list[MeanCurve]:
    """The learning curves over seeds: training, then evaluations while training, where there are.

    Only the runs of the best trial take part, so that one picture never mixes two settings.
    """
    trial = _trial(results)
    ranked = sum(a.role != "confirms" for a in results.agents)
    role = results.agents[0].role if results.agents else ""
    runs = {r.run: r.seed for r in results.runs if r.trial == trial}
    curves = []
    for kind in CURVES:
        seeds = {
            str(c.seed): points
            for c in results.curves
            if c.run in runs and (points := getattr(c, kind))
        }
        if seeds:
            curve = _mean_curve(kind, seeds, role, ranked)
            curves.append(_within(curve, results.ranges.get(_simulator(results, trial))))
    return curves


def _simulator(results: ExperimentResults, trial: int) -> str:
    return next((r.simulator for r in results.runs if r.trial == trial), "")


def _within(curve: MeanCurve, known: tuple[float, float] | None) -> MeanCurve:
    """The curve, its band cut to the possible returns; as it is where its mean leaves them."""
    if known is None or not all(known[0] <= v <= known[1] for v in curve.mean):
        return curve
    low, high = (
        tuple(min(max(v, known[0]), known[1]) for v in e) for e in (curve.low, curve.high)
    )
    return replace(curve, low=low, high=high)


def _trial(results: ExperimentResults) -> int:
    if results.agents:
        return results.agents[0].trial
    return min((r.trial for r in results.runs), default=1)


def _mean_curve(
    kind: str, seeds: dict[str, tuple[Point, ...]], role: Role, ranked: int
) -> MeanCurve:
    import numpy as np

    # Where one seed stops, the mean of the others is another quantity: the grid ends there.
    start = max(points[0][0] for points in seeds.values())
    end = min(points[-1][0] for points in seeds.values())
    grid = sorted({s for points in seeds.values() for s, _ in points if start <= s <= end})
    if len(grid) > 400:
        grid = [int(s) for s in np.linspace(grid[0], grid[-1], 400).round()]
    columns = np.array(
        [
            np.interp(grid, [s for s, _ in points], [v for _, v in points])
            for points in seeds.values()
        ]
    )
    low, high, band = _band(columns, role, ranked)
    mean, low, high = (tuple(map(float, line)) for line in (columns.mean(axis=0), low, high))
    return MeanCurve(kind, seeds, tuple(grid), mean, low, high, band)


def _band(columns: Any, role: Role, ranked: int) -> tuple[Any, Any, str]:
    """Lower end, upper end and name of the band around the mean."""
    n = len(columns)
    if n == 1:
        return columns[0], columns[0], ""
    if n == 2 or (role == "searched" and ranked > 1):
        return columns.min(axis=0), columns.max(axis=0), f"range of the {n} seeds"
    at_once = ranked if role == "listed" else 1
    low, high = ends([columns.T], confidence=together(at_once))
    several = f" (all {at_once} trials at once)" if at_once > 1 else ""
    return low, high, f"95 % interval over {n} seeds{several}"


def episode(mailbox: Mailbox, results: ExperimentResults, warnings: list[str]) -> Episode | None:
    """The first evaluation episode of the agent of the first seed, beside the best baseline.

    Args:
        mailbox: Where its file is.
        results: To know the runs and the best baseline.
        warnings: What cannot be read is said here.

    Returns:
        None where no run was evaluated yet.
    """
    trial = _trial(results)
    for run in (r for r in results.runs if r.trial == trial):
        try:
            meta = json.loads(_file(mailbox, run.run, "trajectories/meta.json") or b"{}")
            policies = {}
            if (steps := _steps_of(mailbox, run.run, AGENT)) is not None:
                policies[AGENT] = steps
            for baseline in results.baselines[:1]:
                _beside(mailbox, results, run.run, baseline.policy, policies, meta)
        except (CorruptObject, ValueError) as error:
            warnings.append(f"{run.run}: its evaluation episode cannot be read: {error}")
            continue
        if AGENT in policies and isinstance(meta, dict):
            simulator = as_object(results.spec.get("simulator"))
            world = "" if simulator.get("wrappers") else run.simulator or str(simulator.get("id"))
            return episode_of(
                policies, meta, _own_units(results), _own_names(results), simulator=world
            )
    return None


def _steps_of(mailbox: Mailbox, run: str, policy: str) -> dict[str, list[float]] | None:
    data = _file(mailbox, run, f"trajectories/{_file_name(policy)}.csv")
    return None if data is None else _columns(data)


def _beside(
    mailbox: Mailbox,
    results: ExperimentResults,
    run: str,
    baseline: str,
    policies: dict[str, dict[str, list[float]]],
    meta: dict[str, Any],
) -> None:
    """Adds the same episode under a baseline.

    Baselines are evaluated once, in the first run of an experiment: in a study, another trial's.
    """
    for other in dict.fromkeys([run, *(r.run for r in results.runs)]):
        steps = _steps_of(mailbox, other, baseline)
        if steps is None:
            continue
        if other != run:
            stored = json.loads(_file(mailbox, other, "trajectories/meta.json") or b"{}")
            its = stored.get(_file_name(baseline), {})
            if its.get("options") != meta.get(AGENT, {}).get("options"):
                continue  # another episode
            meta[_file_name(baseline)] = its
        policies[baseline] = steps
        return


def _file_name(policy: str) -> str:
    """As ``workloads.evaluate_phase`` names it: keys have no colon, ``module:Class`` has."""
    return policy.replace(":", ".")


def _file(mailbox: Mailbox, run: str, name: str) -> bytes | None:
    return accepted_file(mailbox, run, Phase.EVALUATE, name)


def _columns(data: bytes) -> dict[str, list[float]]:
    rows = list(csv.reader(io.StringIO(data.decode("utf-8"))))
    if not rows:
        raise ValueError("an empty file")
    header, values = rows[0], [row for row in rows[1:] if row]
    return {
        name: [_float(row[i]) if i < len(row) else math.nan for row in values]
        for i, name in enumerate(header)
    }


def _float(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan


def _own_units(results: ExperimentResults) -> dict[str, str]:
    """``report.units`` of the experiment file, by column; ``Tr`` means ``state_Tr`` there."""
    given = _texts(as_object(results.spec.get("report")).get("units"))
    return {f"state_{name}": unit for name, unit in given.items()} | given


def _own_names(results: ExperimentResults) -> list[str]:
    """``report.observations`` of the experiment file."""
    given = as_object(results.spec.get("report")).get("observations")
    return [str(name) for name in as_list(given)]


def episode_of(
    policies: dict[str, dict[str, list[float]]],
    meta: dict[str, Any],
    own_units: dict[str, str],
    names: Sequence[str] = (),
    *,
    simulator: str = "",
) -> Episode:
    """What is shown of an episode.

    Args:
        policies: Name -> column -> one value a step; the first is the one that matters.
        meta: ``units``, ``reference``, and of each policy ``options`` and ``return``.
        own_units: Column -> unit, over those of ``meta``.
        names: Names for the values of the observation, where its columns are numbered.
        simulator: Its id, where nothing stands between it and the policy: Gymnasium documents the
            values of its own ones.
    """
    first = next(iter(policies.values()))
    numbered = [c for c in first if c.removeprefix("state_").isdecimal() and c[:6] == "state_"]
    known = gymnasium_names.named(simulator, len(numbered))
    called = dict(zip(numbered, (name for name, _ in known), strict=False))
    if len(numbered) == 1:
        called.setdefault(numbered[0], "observation")
    called |= {f"state_{i}": name for i, name in enumerate(names)}
    units = {c: unit for c, (_, unit) in zip(numbered, known, strict=False) if unit}
    units |= _texts(meta.get("units")) | own_units
    references = _texts(meta.get("reference"))

    def panel(column: str) -> Panel | None:
        kind, _, name = column.partition("_")
        if not any(map(math.isfinite, first[column])):
            return None
        if column == "reward":
            return Panel(column, column, units.get(column, ""), None, column)
        if kind not in ("state", "action") or not name:
            return None
        title = name if kind == "state" else "action" if name == "0" else f"action {name}"
        title = called.get(column, title)
        unit = units.get(column) or units.get(f"state_{title}", "")
        return Panel(column, title, unit, references.get(column), kind)

    # A reference is drawn with its state.
    states = (column for column in first if column not in references.values())
    return Episode(
        policies,
        tuple(filter(None, map(panel, states))),
        units.get("t", "step"),
        {p: m for p in policies if isinstance(m := meta.get(_file_name(p)), dict)},
    )


def _texts(value: JsonView) -> dict[str, str]:
    return {str(k): str(v) for k, v in value.items()} if isinstance(value, dict) else {}


def learning_curve_csv(curves: Sequence[MeanCurve]) -> str:
    """Long form: every seed's own points, then mean and band of each curve."""
    rows: list[tuple[object, ...]] = []
    for curve in curves:
        for seed, points in curve.seeds.items():
            rows += [(curve.kind, f"seed {seed}", s, v, None, None) for s, v in points]
        rows += [
            (curve.kind, "mean over seeds", s, m, _finite(lo), _finite(hi))
            for s, m, lo, hi in zip(curve.steps, curve.mean, curve.low, curve.high, strict=True)
        ]
    return to_csv(("curve", "of", "step", "return", "band_low", "band_high"), rows)


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def evaluation_csv(results: ExperimentResults) -> str:
    """One line a policy, then one a policy and value of a reset key."""
    rows: list[dict[str, object]] = []
    for p in results.policies:
        row = {"experiment": results.name, **{name: cell(p) for name, cell in POLICY.items()}}
        rows.append({**row, "option": None, "option_value": None})
        head = {name: row[name] for name in ("experiment", "policy", "baseline", "trial")}
        rows += [
            {**head, "mean_return": mean, "option": option, "option_value": value}
            for option, values in p.by_option.items()
            for value, mean in values.items()
        ]
    return csv_of_rows(rows)


def episode_csv(episode: Episode) -> str:
    """One line a policy and step."""
    columns = list(next(iter(episode.policies.values())))
    rows: list[tuple[object, ...]] = []
    for policy, values in episode.policies.items():
        length = max((len(v) for v in values.values()), default=0)
        rows += [(policy, *(_at(values.get(c), i) for c in columns)) for i in range(length)]
    return to_csv(("policy", *columns), rows)


def _at(values: list[float] | None, index: int) -> float | None:
    return None if values is None or index >= len(values) else _finite(values[index])
