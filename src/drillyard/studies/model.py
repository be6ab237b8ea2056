"""Choosers that learn: Optuna's samplers, with a memory that is reconciled with the mailbox.

What was chosen and how it ended stands in the mailbox; the memory only helps to choose. So it may
be lost, or be older or newer than the mailbox (a driver that was killed between two writes):

- a trial in the memory that no record names was asked for by a killed driver: it is closed;
- a record that the memory does not know (the file was deleted, another database) is added;
- a trial that ended while the memory believes it to run is told; nothing is told twice.

CMA-ES keeps pickled state in Optuna's storage, and drillyard writes and reads no pickle: its
memory lives in this process, and a resume starts it warm from the trials before.
"""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from drillyard.errors import InfrastructureError, UserError
from drillyard.mailbox.records import TrialOutcome, TrialRecord
from drillyard.mailbox.status import Status
from drillyard.spec.constraints import Constraint
from drillyard.spec.study import GENERATION, STARTUP, ObjectiveSpec
from drillyard.spec.tunables import Space
from drillyard.studies import optuna_space
from drillyard.studies.choosers import Assignment, Choice, allowed, drawn, key_of
from drillyard.system.optional_packages import install

if TYPE_CHECKING:
    import optuna

TRIES = 20
"""So often a model may suggest what is not allowed or not new; then chance chooses."""
TRIAL = "drillyard.trial"
"""The attribute that ties a trial of the memory to a record."""


class ModelChooser:
    """A sampler of Optuna.

    Args:
        kind: ``tpe``, ``cma-es``, ``gp``, ``nsga2``.
        space: What is chosen.
        objectives: What is best.
        constraints: What an assignment must fulfil.
        url: Of Optuna's storage; None: in this process.
        name: Of the study in the storage.
        seed: The same seed and past choose the same.
        defaults_first: The first one has the defaults.
    """

    adaptive = True
    total: int | None = None

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
        self._kind = kind
        self._space = space
        self._objectives = objectives
        self._constraints = constraints
        self._seed = seed
        self._defaults_first = defaults_first
        self._numbers: dict[int, int] = {}
        self._told: set[int] = set()
        self._past: list[Any] = []
        self._study = self._open(url, name)

    def _open(self, url: str | None, name: str) -> optuna.Study:
        import optuna
        from optuna.storages import InMemoryStorage, RDBStorage

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        up, down = optuna.study.StudyDirection.MAXIMIZE, optuna.study.StudyDirection.MINIMIZE
        directions = [up if o.direction == "max" else down for o in self._objectives]
        try:
            if url is None or self._kind == "cma-es":
                storage: Any = InMemoryStorage()
            else:
                storage = RDBStorage(driver_url(url), engine_kwargs=_engine(url))
            return optuna.create_study(
                storage=storage,
                study_name=name,
                directions=directions,
                load_if_exists=True,
                sampler=self._sampler(1),
            )
        except Exception as error:
            raise foreign(error, url) from error

    def _sampler(self, index: int) -> Any:
        """A sampler that draws at an index what it would have drawn there without a restart."""
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

        with _Seam():
            own = {r.number: r for r in records if r.search}
            by_memory = {r.memory: r.number for r in own.values() if r.memory is not None}
            while any(t.state is TrialState.WAITING for t in self._trials()):
                self._close(self._study.ask().number)
            for trial in self._trials():
                number = trial.user_attrs.get(TRIAL, by_memory.get(trial.number))
                known = own.get(number) if isinstance(number, int) else None
                # Another store may have used this database under the same name before.
                same = known is not None and self._params(known) == trial.params
                if known is not None and same:
                    self._numbers[known.number] = trial.number
                    if trial.state.is_finished():
                        self._told.add(known.number)
                elif trial.state is TrialState.RUNNING:
                    self._close(trial.number)
            for number, record in own.items():
                outcome = outcomes.get(number)
                if outcome is not None and number not in self._told:
                    self.tell(record, outcome)
            self._past = [t for t in self._trials() if t.state is TrialState.COMPLETE]
            if self._kind == "cma-es":
                self._study.sampler = self._sampler(len(own) + 1)

    def ready(self, index: int) -> bool:
        """See ``Chooser``."""
        del index
        return True

    def ask(self, index: int, taken: Iterable[Assignment]) -> Choice | None:
        """See ``Chooser``."""
        before = list(taken)
        with _Seam():
            if index == 1 and self._defaults_first:
                first = self._space.defaults()
                if allowed(first, self._constraints):
                    return self._given(first, "defaults")
            if index > STARTUP:
                if self._kind != "cma-es":
                    self._study.sampler = self._sampler(index)
                keys = {key_of(a) for a in before}
                for _ in range(TRIES):
                    trial = self._study.ask()
                    found = optuna_space.suggest(self._space, trial)
                    if allowed(found, self._constraints) and key_of(found) not in keys:
                        return Choice(found, self._kind, memory=trial.number)
                    self._close(trial.number)
            by_chance = drawn(self._space, self._constraints, f"{self._seed}/{index}", before)
            return None if by_chance is None else self._given(by_chance, "random")

    def kept(self, record: TrialRecord) -> None:
        """See ``Chooser``."""
        if record.memory is not None:
            self._numbers[record.number] = record.memory

    def tell(self, record: TrialRecord, outcome: TrialOutcome) -> None:
        """See ``Chooser``."""
        from optuna.trial import TrialState, create_trial

        state = {
            Status.SUCCEEDED: TrialState.COMPLETE,
            Status.PRUNED: TrialState.PRUNED,
        }.get(outcome.status, TrialState.FAIL)
        values = [outcome.values[o.name] for o in self._objectives if o.name in outcome.values]
        whole = len(values) == len(self._objectives)
        if state is TrialState.COMPLETE and not whole:
            state = TrialState.FAIL
        if record.number in self._told and state is not TrialState.COMPLETE:
            return
        with _Seam():
            number = self._numbers.get(record.number)
            if number is not None and record.number not in self._told:
                if state is TrialState.PRUNED and whole and outcome.pruned_at is not None:
                    self._reach(number, outcome.pruned_at, values[0])
                told = values if state is TrialState.COMPLETE else None
                self._study.tell(number, told, state=state)
            elif record.number not in self._told:
                parameters, shapes = optuna_space.params(self._space, record.assignment)
                self._study.add_trial(
                    create_trial(
                        state=state,
                        params=parameters,
                        distributions=shapes,
                        values=values if state is TrialState.COMPLETE else None,
                        user_attrs={TRIAL: record.number},
                    )
                )
            self._told.add(record.number)

    # -- inside -------------------------------------------------------------------------------

    def _given(self, assignment: Assignment, chooser: str) -> Choice:
        """Note in the memory what somebody else chose."""
        parameters, _ = optuna_space.params(self._space, assignment)
        self._study.enqueue_trial(parameters)
        trial = self._study.ask()
        optuna_space.suggest(self._space, trial)
        return Choice(assignment, chooser, memory=trial.number)

    def _reach(self, number: int, step: int, value: float) -> None:
        """Let the sampler know what a trial had reached that was given up."""
        import optuna

        found = next(t for t in self._trials() if t.number == number)
        optuna.trial.Trial(self._study, found._trial_id).report(value, step)

    def _params(self, record: TrialRecord) -> dict[str, Any]:
        return optuna_space.params(self._space, record.assignment)[0]

    def _close(self, number: int) -> None:
        from optuna.trial import TrialState

        self._study.tell(number, state=TrialState.FAIL)

    def _trials(self) -> list[optuna.trial.FrozenTrial]:
        return self._study.get_trials(deepcopy=False)


# -- storage --------------------------------------------------------------------------------------


def driver_url(url: str) -> str:
    """A URL as SQLAlchemy takes it: ``postgresql://`` is spoken by psycopg."""
    return url.replace("postgresql://", "postgresql+psycopg://", 1)


def _engine(url: str) -> dict[str, Any]:
    if url.startswith("sqlite"):
        return {"connect_args": {"timeout": 30}}
    # A connection that the server closed meanwhile is opened again.
    return {"pool_pre_ping": True, "connect_args": {"connect_timeout": 10}}


def check_storage(url: str) -> None:
    """See that a database answers; creates nothing.

    Raises:
        UserError: Its driver is not installed.
        InfrastructureError: It does not answer.
    """
    if url.startswith("sqlite"):
        folder = Path(url.removeprefix("sqlite:///")).parent
        if not folder.is_dir():
            raise UserError(f"study.storage: there is no folder {folder}", hint="make it first")
        return
    try:
        from sqlalchemy import create_engine

        engine = create_engine(driver_url(url), **_engine(url))
        with engine.connect():
            pass
        engine.dispose()
    except Exception as error:
        raise foreign(error, url) from error


def foreign(error: Exception, url: str | None) -> Exception:
    """An exception of Optuna, SQLAlchemy or a driver as one of ours."""
    from drillyard.errors import DrillyardError
    from drillyard.system.redaction import redact

    if isinstance(error, DrillyardError):
        return error
    if isinstance(error, ImportError):
        package = "psycopg[binary]" if "psycopg" in str(error) else str(error.name)
        return UserError(f"study.storage needs {package}", hint=install("postgres"))
    said = redact(str(error).strip().splitlines()[0] if str(error).strip() else repr(error))
    where = f" ({redact(url)})" if url else ""
    return InfrastructureError(
        f"the memory of the study cannot be used{where}: {said}",
        hint="start the database, or correct study.storage; the same command goes on",
    )


_THEIRS = ("sqlalchemy", "psycopg", "sqlite3", "optuna", "alembic")


class _Seam:
    """Where foreign exceptions become ours; what is our own mistake stays what it is."""

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        theirs = type(error).__module__.partition(".")[0] in _THEIRS
        if isinstance(error, Exception) and (theirs or isinstance(error, ImportError)):
            raise foreign(error, None) from error
