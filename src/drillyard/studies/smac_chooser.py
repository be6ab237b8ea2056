"""SMAC as a chooser: a random forest of the past, expected improvement, local search.

M. Lindauer et al. (2022), SMAC3: A Versatile Bayesian Optimization Package for Hyperparameter
Optimization, JMLR 23(54). Each choice gives it the whole past, so that the same past and seed
choose the same, and no state has to be stored between two drivers.
"""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from drillyard.mailbox.records import TrialOutcome, TrialRecord
from drillyard.mailbox.status import Status
from drillyard.spec.constraints import Constraint
from drillyard.spec.study import STARTUP, ObjectiveSpec
from drillyard.spec.tunables import Space
from drillyard.studies import optuna_space
from drillyard.studies.choosers import Assignment, Chance, Choice, allowed, is_taken
from drillyard.studies.optuna_chooser import TRIES


class SmacChooser(Chance):
    """SMAC's hyperparameter optimisation, after some random trials.

    Args:
        space: The tunables.
        constraints: Conditions that an assignment must fulfil.
        objective: The objective.
        seed: The same seed and past choose the same.
        defaults_first: The first trial has the defaults.
    """

    adaptive = True

    def __init__(
        self,
        space: Space,
        constraints: Sequence[Constraint],
        objective: ObjectiveSpec,
        *,
        seed: int,
        defaults_first: bool,
    ) -> None:
        super().__init__(space, constraints, seed, defaults_first=defaults_first)
        self._objective = objective
        self._past: dict[int, tuple[Assignment, float]] = {}
        """Trial -> (assignment, cost: less is better)."""

    def reconcile(
        self, records: Sequence[TrialRecord], outcomes: Mapping[int, TrialOutcome]
    ) -> None:
        """See ``Chooser``."""
        for record in records:
            if record.search and record.number in outcomes:
                self.tell(record, outcomes[record.number])

    def ask(self, index: int, taken: Iterable[Assignment]) -> Choice | None:
        """See ``Chooser``."""
        before = list(taken)
        if index > STARTUP and self._past:
            for assignment in self._suggested(index):
                if allowed(assignment, self._constraints) and not is_taken(assignment, before):
                    return Choice(assignment, "smac")
        return super().ask(index, before)

    def tell(self, record: TrialRecord, outcome: TrialOutcome) -> None:
        """See ``Chooser``."""
        value = outcome.values.get(self._objective.name)
        if outcome.status is Status.SUCCEEDED and value is not None:
            self._past[record.number] = record.assignment, -self._objective.sign * value

    def _suggested(self, index: int) -> Iterator[Assignment]:
        """The suggestions of SMAC, best first."""
        logging.getLogger("smac").setLevel(logging.ERROR)
        from smac import HyperparameterOptimizationFacade as Smac
        from smac import Scenario
        from smac.runhistory.dataclasses import TrialInfo, TrialValue

        known = optuna_space.configurations(self._space)
        with tempfile.TemporaryDirectory(prefix="drillyard-smac-") as folder:  # SMAC needs one
            scenario = Scenario(
                known,
                deterministic=True,
                n_trials=2**31,
                output_directory=folder,
                seed=(self._seed * 1_000_003 + index) % 2**31,
            )
            smac = Smac(
                scenario,
                lambda config, seed=0: 0.0,
                overwrite=True,
                logging_level=False,
                initial_design=Smac.get_initial_design(scenario, n_configs=0),
                intensifier=Smac.get_intensifier(scenario, max_config_calls=1),
                config_selector=Smac.get_config_selector(scenario, retrain_after=1),
                acquisition_maximizer=_in_one_order(Smac.get_acquisition_maximizer(scenario)),
            )
            for _, (assignment, cost) in sorted(self._past.items()):
                past = optuna_space.configured(self._space, known, assignment)
                smac.tell(TrialInfo(past, seed=0), TrialValue(cost=cost), save=False)
            for _ in range(TRIES):
                suggested = dict(smac.ask().config)
                yield optuna_space.suggest(self._space, optuna_space.Given(suggested))


def _in_one_order(maximizer: Any) -> Any:
    """Sorts the points where local searches start.

    SMAC takes them from a set of texts, whose order differs from process to process, so that a
    resumed study would choose otherwise. Their order decides only which random numbers each gets.
    """
    search = maximizer._local_search
    points = search._get_init_points_from_previous_configs

    def in_order(*args: Any, **options: Any) -> list[Any]:
        return sorted(points(*args, **options), key=repr)

    search._get_init_points_from_previous_configs = in_order
    return maximizer
