"""Results as a program or a notebook sees them: a screen of text, tables, pandas, pictures."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Literal, TypeAlias

from drillyard.documents.json_types import JsonView, as_object
from drillyard.documents.leaves import flatten
from drillyard.errors import ConfigError, CorruptObject, PluginError
from drillyard.mailbox import Mailbox, open_store
from drillyard.report import data, training_pictures
from drillyard.report.templates import rendered
from drillyard.results import ExperimentResults, formatting
from drillyard.results.collect import played_episodes
from drillyard.results.model import PolicyScore
from drillyard.results.table import policies_grid, runs_grid
from drillyard.results.trials import collect_trials
from drillyard.system.optional_packages import install
from drillyard.system.tables import Grid

if TYPE_CHECKING:
    from pandas import DataFrame

    from drillyard.report.picture_style import Picture

Row: TypeAlias = dict[str, object]
What = Literal["runs", "policies", "curves", "episodes", "trials"]
WHAT: tuple[What, ...] = ("runs", "policies", "curves", "episodes", "trials")
PICTURES = ("curves", "evaluation")
LINES = 8
"""Lines of a table in ``repr``: all of it is one screen."""


@dataclasses.dataclass(frozen=True, slots=True, repr=False)
class Results(ExperimentResults):
    """The results of an experiment; what ``drillyard.results_of`` and ``drillyard.run`` return."""

    @classmethod
    def of(cls, results: ExperimentResults) -> Results:
        """The same results with what programs and notebooks need."""
        return cls(**{f.name: getattr(results, f.name) for f in dataclasses.fields(results)})

    @property
    def created(self) -> datetime:
        """When the experiment was created, in UTC."""
        return datetime.fromtimestamp(self.created_at, UTC)

    @property
    def ended(self) -> datetime | None:
        """When its last run ended, in UTC; None while runs are open."""
        return None if self.ended_at is None else datetime.fromtimestamp(self.ended_at, UTC)

    def __repr__(self) -> str:
        texts = [self._head(), formatting.verdict(self)]
        texts += [grid.first(LINES).plain() for grid in self._grids()]
        if self.warnings:
            texts.append(f"{formatting.plural(len(self.warnings), 'warning')} in .warnings")
        texts.append(
            "more: .to_pandas('runs' | 'policies' | 'curves' | 'episodes' | 'trials'), "
            ".plot(), .to_dict()"
        )
        return "\n\n".join(texts)

    def _repr_html_(self) -> str:
        """What a notebook shows: the same as ``repr``, as tables."""
        return rendered(
            "notebook.html.j2",
            head=self._head(),
            verdict=formatting.verdict(self),
            tables=[grid.first(LINES) for grid in self._grids()],
        )

    def _head(self) -> str:
        done = sum(r.finished for r in self.runs)
        parts = [
            f"{self.name}: {self.status}",
            formatting.learner(self),
            f"{done} of {formatting.plural(len(self.runs), 'run')} finished",
            f"started {formatting.moment(self.created_at)}",
        ]
        return ", ".join(parts)

    def _grids(self) -> list[Grid]:
        grids = [policies_grid(self)] if self.policies or self.metrics else []
        return [*grids, runs_grid(self)]

    def to_pandas(self, what: What = "runs") -> DataFrame:
        """A table as a pandas data frame; times are in UTC.

        Args:
            what: ``runs``: one row for each run. ``policies``: the agent and every baseline.
                ``curves``: one row for each point of a learning curve. ``episodes``: one row for
                each episode of the final evaluation. ``trials``: one row for each trial of a
                study.

        Raises:
            ConfigError: There is no such table.
            PluginError: pandas is not installed.
        """
        if what not in WHAT:
            raise ConfigError(
                "there is no such table",
                field="what",
                value=what,
                allowed=", ".join(WHAT),
                hint="to_pandas('runs')",
            )
        try:
            import pandas
        except ImportError as error:
            raise PluginError(
                "to_pandas needs pandas, which is not installed here",
                hint=f"pip install pandas, or {install('control')}, which brings it",
            ) from error
        return pandas.DataFrame(list(self._rows(what)))

    def plot(self, what: str = "curves") -> Picture:
        """A picture of the report; a notebook shows it, ``.save('curves.png')`` writes it.

        Args:
            what: ``curves``: return over steps. ``evaluation``: agent and baselines.

        Raises:
            ConfigError: There is no such picture, or nothing to draw yet.
            UserError: matplotlib is not installed.
        """
        curves = data.curves(self)
        if what not in PICTURES or not (curves if what == "curves" else self.policies):
            raise ConfigError(
                "there is no such picture" if what not in PICTURES else "nothing to draw yet",
                field="what",
                value=what,
                allowed=", ".join(PICTURES),
                hint="`drillyard status` shows how far the experiment is",
            )
        if what == "curves":
            return training_pictures.learning_curve(curves, self)
        return training_pictures.evaluation(self)

    def _rows(self, what: What) -> Iterator[Row]:
        rows: dict[What, Callable[[], Iterator[Row]]] = {
            "runs": self._runs,
            "policies": lambda: map(_policy, self.policies),
            "curves": self._points,
            "episodes": self._episodes,
            "trials": self._trials,
        }
        return rows[what]()

    def _runs(self) -> Iterator[Row]:
        for r in self.runs:
            row = dataclasses.asdict(r)
            for name in ("best", "parameters", "metrics"):
                row.pop(name)
            yield {**row, **{f"metric.{k}": v for k, v in r.metrics.items()}}

    def _points(self) -> Iterator[Row]:
        trials = {r.run: r.trial for r in self.runs}
        for c in self.curves:
            for curve in data.CURVES:
                for step, value in c.training if curve == "training" else c.evaluation:
                    yield {
                        "run": c.run,
                        "trial": trials.get(c.run),
                        "seed": c.seed,
                        "curve": curve,
                        "step": step,
                        "value": value,
                    }

    def _episodes(self) -> Iterator[Row]:
        mailbox = Mailbox(open_store(self.store), self.name)
        for r in self.runs:
            try:
                episodes = played_episodes(mailbox, r.run)
            except CorruptObject:
                continue  # .warnings names it
            for episode in episodes:
                options = as_object(episode.pop("options", None))
                metrics = as_object(episode.pop("metrics", None))
                # Both have a seed: that of the training, and that of the episode.
                episode["episode_seed"] = episode.pop("seed", None)
                yield {
                    "run": r.run,
                    "trial": r.trial,
                    "seed": r.seed,
                    **episode,
                    **{f"option.{k}": v for k, v in options.items()},
                    **{f"metric.{k}": v for k, v in metrics.items()},
                }

    def _trials(self) -> Iterator[Row]:
        if not self.spec.get("study"):
            raise ConfigError(
                f"{self.name!r} is not a study, so it has no trials",
                field="what",
                value="trials",
                allowed=", ".join(w for w in WHAT if w != "trials"),
                hint="to_pandas('runs')",
            )
        for t in collect_trials(Mailbox(open_store(self.store), self.name)).trials:
            yield {
                "trial": t.number,
                "label": t.label,
                "status": t.status,
                **{f"parameter.{k}": v for k, v in _leaves(t.assignment)},
                **t.values,
                "seeds": len(t.seeds),
                "steps": t.steps,
                "confirms": t.of,
                "started": _moment(t.started_at),
                "ended": _moment(t.ended_at),
            }


def _leaves(assignment: Mapping[str, JsonView]) -> list[tuple[str, JsonView]]:
    return flatten(dict(assignment)) if assignment else []


def _moment(epoch_s: float | None) -> datetime | None:
    return None if epoch_s is None else datetime.fromtimestamp(epoch_s, UTC)


def _policy(p: PolicyScore) -> Row:
    return {
        "policy": p.policy,
        "baseline": p.baseline,
        "trial": p.trial,
        "simulator": p.simulator,
        "mean_return": p.mean_return,
        "low": p.interval.low if p.interval else None,
        "high": p.interval.high if p.interval else None,
        "interval_over": p.interval.over if p.interval else None,
        "seeds": len(p.seeds),
        "episodes": p.n_episodes,
        **{f"metric.{k}": v for k, v in p.metrics.items()},
    }
