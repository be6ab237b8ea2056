"""A study as an Optuna study in memory, with the values of the file, for plots."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from drillyard.spec.study import ObjectiveSpec
from drillyard.studies.optuna_space import result
from drillyard.studies.views import TrialView

if TYPE_CHECKING:
    import optuna
    from optuna.distributions import BaseDistribution

    from drillyard.spec.tunables import Space, Tunable


def in_memory(
    views: Sequence[TrialView], objectives: Sequence[ObjectiveSpec], space: Space
) -> optuna.Study:
    """The trials of the search that have ended, for Optuna's plots and importances.

    Args:
        views: The result of ``views.trials``.
        objectives: The objectives.
        space: The tunables (``drillyard.spec.binding.space(spec)``); special values and bins are
            plain numbers here.
    """
    import optuna
    from optuna.trial import create_trial

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    up, down = optuna.study.StudyDirection.MAXIMIZE, optuna.study.StudyDirection.MINIMIZE
    directions = [up if o.direction == "max" else down for o in objectives]
    study = optuna.create_study(directions=directions)
    shapes = {name: _shape(tunable) for name, tunable in space.tunables.items()}
    for view in views:
        if not view.record.search or view.outcome is None:
            continue
        state, values = result(view.status, view.values, objectives)
        trial = create_trial(
            state=state,
            values=values,
            params={n: view.assignment[n] for n in shapes if n in view.assignment},
            distributions={n: s for n, s in shapes.items() if n in view.assignment},
            user_attrs={"trial": view.number},
        )
        if view.outcome.started_at is not None:
            trial.datetime_start = _when(view.outcome.started_at)
        if view.outcome.ended_at is not None:
            trial.datetime_complete = _when(view.outcome.ended_at)
        study.add_trial(trial)
    return study


def _when(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC).replace(tzinfo=None)


def _shape(tunable: Tunable) -> BaseDistribution:
    from optuna.distributions import (
        CategoricalDistribution,
        FloatDistribution,
        IntDistribution,
    )

    if tunable.values is not None:
        return CategoricalDistribution(tunable.values)
    assert tunable.range is not None
    known = [*tunable.range, *tunable.special]
    low, high = min(known), max(known)
    log = tunable.log and low > 0
    if tunable.type == "int":
        return IntDistribution(int(low), int(high), log=log)
    return FloatDistribution(float(low), float(high), log=log)
