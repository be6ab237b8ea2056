"""Prunes bad trials: Optuna's pruners on a study in this process.

`median` and `halving` compare curves while trials run: a trial reports the mean over those of its
seeds that have begun, at every step that all of them have reached. `wilcoxon` compares seed by
seed with the best trial, as soon as a seed is evaluated. The comparisons are made again from the
metric streams after a resume; pruned trials are recorded in ``control/reopened.json``.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from drillyard.mailbox import Mailbox
from drillyard.mailbox.mailbox import run_id
from drillyard.mailbox.records import Phase, TrialOutcome, TrialRecord
from drillyard.mailbox.status import Status
from drillyard.spec.study import ObjectiveSpec, PrunerSpec
from drillyard.studies.objectives import Curve, CurveReader, of_run

if TYPE_CHECKING:
    import optuna
    from optuna.pruners import BasePruner

    from drillyard.spec import ExperimentSpec

MIN_SEEDS = 2
"""Minimum number of differences for wilcoxon."""


@dataclass(frozen=True)
class Given:
    """A trial that is pruned.

    Attributes:
        trial: Its number.
        step: An environment step, or a number of seeds.
        value: Its value at this step.
        reason: The reason for people.
    """

    trial: int
    step: int
    value: float
    reason: str


def metric_of(spec: ExperimentSpec, objective: ObjectiveSpec) -> str:
    """The curve that a pruner compares."""
    study = spec.study
    assert study is not None and study.pruner is not None
    if study.pruner.metric is not None:
        return study.pruner.metric
    if spec.workload == "rl":
        return "eval/mean_reward" if spec.evaluate.every else "rollout/ep_rew_mean"
    return objective.metric.removeprefix("evaluate/")


def optuna_pruner(own: PrunerSpec) -> BasePruner:
    """Optuna's pruner for a ``study.pruner``."""
    import optuna
    from optuna import pruners

    if own.type == "median":
        return pruners.MedianPruner(own.startup_trials, own.warmup_steps)
    if own.type == "halving":
        return pruners.SuccessiveHalvingPruner(
            min_resource=own.min_steps or "auto", reduction_factor=own.reduction
        )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        return pruners.WilcoxonPruner(p_threshold=own.p, n_startup_steps=MIN_SEEDS)


class Judge:
    """Decides which trials are pruned.

    Args:
        spec: An experiment with a ``study.pruner``.
        objective: The objective that is compared.
        mailbox: The mailbox with the curves.
    """

    def __init__(self, spec: ExperimentSpec, objective: ObjectiveSpec, mailbox: Mailbox) -> None:
        import optuna

        assert spec.study is not None and spec.study.pruner is not None
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self._pruner: PrunerSpec = spec.study.pruner
        self._objective = objective
        self._metric = metric_of(spec, objective)
        self._mailbox = mailbox
        self._trials: dict[int, optuna.Trial] = {}
        self._reported: dict[int, set[int]] = {}
        self._curves: dict[str, CurveReader] = {}
        """Run at work -> its curve."""
        self._values: dict[str, float] = {}
        """Evaluated run -> its value."""
        self._last: dict[int, tuple[int, float]] = {}
        ways = optuna.study.StudyDirection
        direction = ways.MAXIMIZE if objective.direction == "max" else ways.MINIMIZE
        self._study = optuna.create_study(direction=direction, pruner=optuna_pruner(self._pruner))

    def ended(self, record: TrialRecord, seeds: Sequence[int], outcome: TrialOutcome) -> None:
        """Add a trial that has ended; its whole curve counts for the others."""
        from optuna.trial import TrialState

        self._report(record.number, seeds)
        for seed in seeds:
            self._curves.pop(run_id(record.number, seed), None)
        trial = self._trials.pop(record.number)
        value = outcome.values.get(self._objective.name)
        if outcome.status is Status.SUCCEEDED and value is not None:
            self._study.tell(trial, value)
        else:
            known = outcome.status is Status.PRUNED and record.number in self._last
            self._study.tell(trial, state=TrialState.PRUNED if known else TrialState.FAIL)

    def look(self, working: Mapping[int, Sequence[int]]) -> list[Given]:
        """Compare the trials that are running.

        Args:
            working: Number -> seeds.

        Returns:
            The trials that are pruned now.
        """
        pruned = []
        for number, seeds in working.items():
            if not self._report(number, seeds):
                continue
            # Optuna warns of seeds that only one of two trials has.
            with warnings.catch_warnings(action="ignore"):
                worse = self._trials[number].should_prune()
            if worse:
                step, value = self._last[number]
                pruned.append(Given(number, step, value, self._reason(step, value)))
        return pruned

    def reached(self, number: int) -> tuple[int, float] | None:
        """The last step that a trial reported, and its value."""
        return self._last.get(number)

    # -- inside -------------------------------------------------------------------------------

    def _report(self, number: int, seeds: Sequence[int]) -> bool:
        """Report the new values of a trial; True if there are any."""
        if number not in self._trials:
            self._trials[number] = self._study.ask()
            self._reported[number] = set()
        runs = [run_id(number, seed) for seed in seeds]
        points = self._by_seed(runs) if self._pruner.type == "wilcoxon" else self._by_step(runs)
        new = [p for p in points if p[0] not in self._reported[number]]
        for step, value in new:
            self._trials[number].report(value, step)
            self._reported[number].add(step)
            self._last[number] = (step, value)
        return bool(new)

    def _by_step(self, runs: Sequence[str]) -> Curve:
        curves = [dict(points) for run in runs if (points := self._curve(run).points())]
        if not curves:
            return []
        common = sorted(set.intersection(*(set(c) for c in curves)))
        return [(step, sum(c[step] for c in curves) / len(curves)) for step in common]

    def _curve(self, run: str) -> CurveReader:
        if run not in self._curves:
            self._curves[run] = CurveReader(self._mailbox, run, self._metric)
        return self._curves[run]

    def _by_seed(self, runs: Sequence[str]) -> Curve:
        for run in runs:
            if run not in self._values and self._mailbox.accepted(run, Phase.EVALUATE) is not None:
                values = of_run(self._mailbox, run, [self._objective])
                self._values[run] = values[self._objective.name]
        return [(n, self._values[run]) for n, run in enumerate(runs) if run in self._values]

    def _reason(self, step: int, value: float) -> str:
        if self._pruner.type == "wilcoxon":
            seeds = step + 1
            return (
                f"below the best trial, seed against seed, over {seeds} seeds "
                f"(pruner wilcoxon, p {self._pruner.p:g})"
            )
        how = (
            "worse than the median of the trials"
            if self._pruner.type == "median"
            else ("not among the best of its rung")
        )
        return f"{self._metric} {value:.6g} at step {step:,} is {how}"
