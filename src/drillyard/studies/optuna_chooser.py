"""Choosers that learn: Optuna's samplers, with a memory that is reconciled with the mailbox.

The mailbox has the choices and outcomes; the memory only helps to choose. So the memory may be
lost, or be older or newer than the mailbox (a driver was killed between two writes):

- a trial in the memory without a record comes from a killed driver: it is closed;
- a record that the memory does not have (a deleted file, another database) is added;
- the outcome of a trial that still runs in the memory is added; no outcome is added twice.

CMA-ES keeps pickled state in Optuna's storage, and drillyard writes and reads no pickle: its
memory is in this process, and a resume makes it again by asking for the earlier choices in their
order. If one of them is another (it was chosen by another version), it starts from the earlier
trials.
"""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from drillyard.documents.json_types import JsonObject
from drillyard.mailbox.records import TrialOutcome, TrialRecord
from drillyard.spec.constraints import Constraint
from drillyard.spec.study import GENERATION, STARTUP, ObjectiveSpec
from drillyard.spec.tunables import Space
from drillyard.studies import optuna_space
from drillyard.studies.choosers import Assignment, Chance, Choice, allowed, is_taken, key_of
from drillyard.studies.generations import ended_before, generations
from drillyard.studies.study_database import driver_url, engine_settings, foreign, translated

if TYPE_CHECKING:
    import optuna
    from optuna.samplers import BaseSampler
    from optuna.storages import BaseStorage

TRIES = 20
"""Maximum number of suggestions that are not allowed or not new; then a random one is drawn."""
TRIAL = "drillyard.trial"
"""The attribute that links a trial of the memory to a record."""


class ModelChooser(Chance):
    """Chooses with a sampler of Optuna.

    Args:
        kind: ``tpe``, ``cma-es``, ``gp``, ``nsga2``.
        space: The tunables.
        objectives: The objectives.
        constraints: Conditions that an assignment must fulfil.
        url: URL of Optuna's storage; None for a memory in this process.
        name: Name of the study in the storage.
        seed: The same seed and past choose the same.
        defaults_first: The first trial has the defaults.
    """

    adaptive = True

    def __init__(
        self,
        kind: str,
        space: Space,
        objectives: Sequence[ObjectiveSpec],
        constraints: Sequence[Constraint],
        *,
        url: str | None,
        name: str,
        seed: int,
        defaults_first: bool,
    ) -> None:
        super().__init__(space, constraints, seed, defaults_first=defaults_first)
        self._kind = kind
        self._objectives = objectives
        self._numbers: dict[int, int] = {}
        self._added: set[int] = set()
        self._past: list[optuna.trial.FrozenTrial] = []
        self._study = self._open(url, name)

    def _open(self, url: str | None, name: str) -> optuna.Study:
        import optuna
        from optuna.storages import InMemoryStorage, RDBStorage

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        up, down = optuna.study.StudyDirection.MAXIMIZE, optuna.study.StudyDirection.MINIMIZE
        directions = [up if o.direction == "max" else down for o in self._objectives]
        try:
            if url is None or self._kind == "cma-es":
                storage: BaseStorage = InMemoryStorage()
            else:
                storage = RDBStorage(driver_url(url), engine_kwargs=engine_settings(url))
            return optuna.create_study(
                storage=storage,
                study_name=name,
                directions=directions,
                load_if_exists=True,
                sampler=self._sampler(1),
            )
        except Exception as error:
            raise foreign(error, url) from error

    def _sampler(self, index: int) -> BaseSampler:
        """A sampler that draws at an index the same as without a restart."""
        import optuna
        from optuna import samplers

        seed = int.from_bytes(hashlib.sha256(f"{self._seed}/{index}".encode()).digest()[:4], "big")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            if self._kind == "tpe":
                return samplers.TPESampler(
                    seed=seed,
                    n_startup_trials=0,
                    multivariate=True,
                    group=True,
                    constant_liar=True,
                )
            if self._kind == "gp":
                return samplers.GPSampler(seed=seed, n_startup_trials=0)
            if self._kind == "nsga2":
                return samplers.NSGAIISampler(seed=seed, population_size=GENERATION)
            source = [t for t in self._past if t.values] if len(self._past) >= STARTUP else None
            return samplers.CmaEsSampler(
                seed=seed,
                n_startup_trials=0,
                warn_independent_sampling=False,
                source_trials=source,
            )

    # -- the contract of a chooser ------------------------------------------------------------

    def reconcile(
        self, records: Sequence[TrialRecord], outcomes: Mapping[int, TrialOutcome]
    ) -> None:
        """See ``Chooser``."""
        from optuna.trial import TrialState

        with translated():
            by_number = {r.number: r for r in records if r.search}
            if self._kind == "cma-es" and by_number and self._repeated(by_number, outcomes):
                return
            self._recognise(by_number)
            for number, record in by_number.items():
                outcome = outcomes.get(number)
                if number not in self._numbers and number not in self._added:
                    self._add(record, by_number, outcomes)
                if outcome is not None and number not in self._added:
                    self.tell(record, outcome)
            self._past = [t for t in self._trials() if t.state is TrialState.COMPLETE]
            if self._kind == "cma-es":
                self._study.sampler = self._sampler(len(by_number) + 1)

    def _recognise(self, by_number: Mapping[int, TrialRecord]) -> None:
        """Finds the trials of the mailbox in the memory, and closes what no driver will end."""
        from optuna.trial import TrialState

        by_memory = {r.memory: r.number for r in by_number.values() if r.memory is not None}
        # Another driver may have counted in a memory of its own.
        by_memory.update({memory: number for number, memory in self._numbers.items()})
        while any(t.state is TrialState.WAITING for t in self._trials()):
            self._close(self._study.ask().number)
        for trial in self._trials():
            number = trial.user_attrs.get(TRIAL, by_memory.get(trial.number))
            known = by_number.get(number) if isinstance(number, int) else None
            # Another store may have used this database under the same name before.
            if known is not None and self._params(known) == trial.params:
                self._numbers[known.number] = trial.number
                if trial.state.is_finished():
                    self._added.add(known.number)
            elif trial.state is TrialState.RUNNING:
                self._close(trial.number)

    def ask(self, index: int, taken: Iterable[Assignment]) -> Choice | None:
        """See ``Chooser``."""
        before = list(taken)
        with translated():
            if index > STARTUP:
                if self._kind != "cma-es":
                    self._study.sampler = self._sampler(index)
                for _ in range(TRIES):
                    trial = self._study.ask()
                    assignment = optuna_space.suggest(self._space, trial)
                    fits = allowed(assignment, self._constraints)
                    if fits and not is_taken(assignment, before):
                        return Choice(assignment, self._kind, memory=trial.number)
                    self._close(trial.number)
            choice = super().ask(index, before)
            return None if choice is None else self._given(choice)

    def kept(self, record: TrialRecord) -> None:
        """See ``Chooser``."""
        if record.memory is not None:
            self._numbers[record.number] = record.memory

    def tell(self, record: TrialRecord, outcome: TrialOutcome) -> None:
        """See ``Chooser``."""
        from optuna.trial import TrialState, create_trial

        state, values = optuna_space.result(outcome.status, outcome.values, self._objectives)
        if record.number in self._added and state is not TrialState.COMPLETE:
            return
        with translated():
            number = self._numbers.get(record.number)
            if number is not None and record.number not in self._added:
                reached = outcome.values.get(self._objectives[0].name)
                at = outcome.pruned_at if state is TrialState.PRUNED else None
                if at is not None and reached is not None:
                    self._reach(number, at, reached)
                self._study.tell(number, values, state=state)
            elif record.number not in self._added:
                parameters, shapes = optuna_space.params(self._space, record.assignment)
                self._study.add_trial(
                    create_trial(
                        state=state,
                        params=parameters,
                        distributions=shapes,
                        values=values,
                        user_attrs={TRIAL: record.number},
                    )
                )
            self._added.add(record.number)

    # -- a memory that was lost ---------------------------------------------------------------

    def _add(
        self,
        record: TrialRecord,
        own: Mapping[int, TrialRecord],
        outcomes: Mapping[int, TrialOutcome],
    ) -> None:
        """Add a choice that the memory does not have, as a trial that still runs."""
        from optuna.samplers import NSGAIISampler
        from optuna.trial import TrialState, create_trial

        parameters, shapes = optuna_space.params(self._space, record.assignment)
        self._study.add_trial(
            create_trial(
                state=TrialState.RUNNING,
                params=parameters,
                distributions=shapes,
                user_attrs={TRIAL: record.number},
            )
        )
        added = self._trials()[-1]
        self._numbers[record.number] = added.number
        if record.chooser == "nsga2":
            # Without it the trial counts for no generation, and the first one is drawn again.
            key = NSGAIISampler._get_generation_key()
            generation = generations(own, outcomes)[record.number]
            self._study._storage.set_trial_system_attr(added._trial_id, key, generation)

    def _repeated(
        self, own: Mapping[int, TrialRecord], outcomes: Mapping[int, TrialOutcome]
    ) -> bool:
        """Make the memory again by asking for the same choices; False where one is another."""
        for in_time in (True, False):
            self._numbers, self._added = {}, set()
            self._study = self._open(None, self._study.study_name)
            taken: list[Assignment] = []
            for number, record in sorted(own.items()):
                for before in sorted(own.keys() & outcomes.keys() - self._added):
                    known = not in_time or ended_before(outcomes[before], record)
                    if before < number and known:
                        self.tell(own[before], outcomes[before])
                choice = self.ask(len(taken) + 1, taken)
                if choice is None or key_of(choice.assignment) != key_of(record.assignment):
                    break
                assert choice.memory is not None
                self._numbers[number] = choice.memory
                taken.append(record.assignment)
            else:
                for number in sorted(own.keys() & outcomes.keys() - self._added):
                    self.tell(own[number], outcomes[number])
                return True
        self._numbers, self._added = {}, set()
        self._study = self._open(None, self._study.study_name)
        return False

    # -- inside -------------------------------------------------------------------------------

    def _given(self, choice: Choice) -> Choice:
        """Add a choice to the memory that the sampler did not make."""
        parameters, _ = optuna_space.params(self._space, choice.assignment)
        self._study.enqueue_trial(parameters)
        trial = self._study.ask()
        optuna_space.suggest(self._space, trial)
        return replace(choice, memory=trial.number)

    def _reach(self, number: int, step: int, value: float) -> None:
        """Report to the sampler the value at which a trial was pruned."""
        import optuna

        frozen = next(t for t in self._trials() if t.number == number)
        optuna.trial.Trial(self._study, frozen._trial_id).report(value, step)

    def _params(self, record: TrialRecord) -> JsonObject:
        return optuna_space.params(self._space, record.assignment)[0]

    def _close(self, number: int) -> None:
        from optuna.trial import TrialState

        self._study.tell(number, state=TrialState.FAIL)

    def _trials(self) -> list[optuna.trial.FrozenTrial]:
        return self._study.get_trials(deepcopy=False)
