"""The ``study:`` section: how trials are chosen, judged, cut short and stopped."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from drillyard.errors import BadValue
from drillyard.spec.strict import (
    NotBool,
    PositiveFloat,
    PositiveInt,
    Seed,
    StepCount,
    Strict,
    later,
)

POPULATION = "pbt"
"""The chooser that trains a population."""
FIXED = ("list", "manual", "one-shot", "grid")
"""Choosers that know all their trials beforehand."""
SMAC = "smac"
"""A model too, of a package of its own."""
MODELS = ("tpe", "cma-es", "gp", "nsga2")
"""Choosers that learn from the trials before."""
CHOOSERS = (*FIXED, "random", *MODELS, SMAC, POPULATION)
"""Those of drillyard itself; a plug-in's join by the entry-point group ``drillyard.choosers``."""
STARTUP = 10
"""So many trials of a model are drawn by chance before it is asked."""
GENERATION = 20
"""Trials of a generation of ``nsga2``."""
BY_CHANCE = {
    "tpe": STARTUP,
    "gp": STARTUP,
    SMAC: STARTUP,
    "cma-es": STARTUP + 6,
    "nsga2": STARTUP + GENERATION,
}
"""Chooser -> trials that no earlier result changes: the first generation is drawn by chance, too.

That of ``cma-es`` has six trials for two parameters, and more for more of them.
"""
MAX_TRIALS = 1_000_000
_BELONGS = {
    "list": ("experiments", "only"),
    "manual": ("cycles",),
    "grid": ("grid",),
    POPULATION: ("population",),
}
"""Chooser -> the fields that only it has."""
_NEEDS = {
    "list": (
        "a list under `experiments:`",
        "add `experiments: [{learner: {algorithm: ppo}}, …]`",
    ),
    "manual": ("a list under `cycles:`", "add `cycles: [{lr: 0.001}, {lr: 0.0001}]`"),
    POPULATION: (
        "population: {members: …, generations: …}",
        "add `population: {members: 8, generations: 10}`",
    ),
}
"""Chooser that needs its first field -> what is allowed, and a hint."""


class ObjectiveSpec(Strict):
    """What makes one trial better than another."""

    metric: str = Field(
        description="`evaluate/return` (the agent's mean return), `evaluate/<metric>` of the "
        "final evaluation, or a curve such as `eval/mean_reward` or `rollout/ep_rew_mean`."
    )
    direction: Literal["min", "max"] = Field("max", description="Whether less or more is better.")
    reducer: Literal["last", "min", "max", "mean-of-last", "auc"] = Field(
        "last", description="A curve as one number; `auc`: its mean over the steps."
    )
    k: PositiveInt = Field(5, description="Points of `mean-of-last`.")
    over: Literal["mean", "median", "min", "max", "iqm"] = Field(
        "mean", description="The seeds of a trial as one number."
    )

    @property
    def name(self) -> str:
        """What it is called in records: its metric."""
        return self.metric

    @property
    def sign(self) -> float:
        """1 where more is better, -1 where less is."""
        return 1.0 if self.direction == "max" else -1.0


class PrunerSpec(Strict):
    """When a bad trial is stopped early."""

    type: Literal["median", "halving", "wilcoxon"] = Field(
        description="`median`: worse than half of the trials at the same step; `halving`: not "
        "among the best of its rung; `wilcoxon`: worse than the best trial, seed against seed."
    )
    metric: str | None = Field(
        None,
        description="The curve that is compared; default: `eval/mean_reward` of an rl "
        "experiment, else the metric of the objective.",
    )
    startup_trials: Annotated[int, Field(ge=0), NotBool] = Field(
        4, description="median: number of first trials that are never ended early."
    )
    warmup_steps: Annotated[int, Field(ge=0), NotBool, StepCount] = Field(
        0, description="median: no trial is ended before this step."
    )
    min_steps: Annotated[PositiveInt, StepCount] | None = Field(
        None, description="halving: the first rung; default: the first point of the first trial."
    )
    reduction: Annotated[int, Field(ge=2), NotBool] = Field(
        3, description="halving: one of this many trials continues to the next rung."
    )
    p: Annotated[float, Field(gt=0, lt=1), NotBool] = Field(
        0.1,
        description="wilcoxon: end a trial if the probability that it is as good is below this.",
    )


class Plateau(Strict):
    """Stops a study without progress."""

    trials: PositiveInt = Field(description="Number of consecutive trials...")
    min_delta: Annotated[float, Field(ge=0), NotBool] = Field(
        0.0, description="...that were not better than the best one by more than this."
    )


class StudyBudget(Strict):
    """Limits that end a study early; the first one that is reached ends it."""

    steps: Annotated[PositiveInt, StepCount] | None = Field(
        None, description="Environment steps of all trials."
    )
    hours: PositiveFloat | None = Field(None, description="Time of all drivers together.")
    cost: PositiveFloat | None = Field(None, description="What machines have cost so far.")
    plateau: Plateau | None = Field(None, description="Ends the study when it makes no progress.")


class MoreSeedsSpec(Strict):
    """``seeds: auto``: seeds are added until the comparison is decided."""

    start: Annotated[int, Field(ge=3), NotBool] = Field(
        3, description="Number of seeds at the start."
    )
    most: Annotated[int, Field(ge=3, le=1000), NotBool] = Field(
        10, description="Maximum number of seeds."
    )
    p: Annotated[float, Field(gt=0, lt=1), NotBool] = Field(
        0.05, description="Probability of finding a difference that does not exist."
    )


class PopulationSpec(Strict):
    """``pbt``: members train in parallel; bad ones continue from good ones with other values.

    M. Jaderberg et al. (2017), Population Based Training of Neural Networks, arXiv:1711.09846.
    """

    members: Annotated[int, Field(ge=2, le=1000), NotBool] = Field(
        description="Number of members that train in parallel; each is one trial per generation."
    )
    generations: Annotated[int, Field(ge=2, le=1000), NotBool] = Field(
        description="Number of equal parts into which `train.steps` is divided; after each of "
        "them the members are compared."
    )
    quantile: Annotated[float, Field(gt=0, le=0.5), NotBool] = Field(
        0.25,
        description="Share of the worst members that continue from one of as many best ones; at "
        "least one does.",
    )
    resample: Annotated[float, Field(ge=0, le=1), NotBool] = Field(
        0.25, description="Probability that a value of such a member is drawn again."
    )
    factors: list[PositiveFloat] = Field(
        default_factory=lambda: [0.8, 1.2],
        min_length=1,
        description="Otherwise it is multiplied "
        "by one of these; a category becomes one of its neighbours in `values`.",
    )

    @property
    def trials(self) -> int:
        """All members of all generations."""
        return self.members * self.generations


class StudySpec(Strict):
    """How trials are chosen. An experiment without it has one trial."""

    chooser: str = Field(
        "tpe",
        description="Search algorithm: list, manual and grid run what you list; random draws; "
        "the others use a model of earlier trials.",
        json_schema_extra={"enum": list(CHOOSERS)},
    )
    trials: Annotated[int, Field(ge=1, le=MAX_TRIALS), NotBool] | None = Field(
        None,
        description="Total number of trials, also after a resume. Default of `list`, `manual` "
        "and `grid`: all of them; `pbt` has members x generations.",
    )
    objectives: list[ObjectiveSpec] = Field(
        default_factory=list,
        description="Metrics to optimise; several give a Pareto front. Default of an rl "
        "experiment: evaluate/return, max.",
    )
    defaults_first: bool = Field(
        True, description="The first trial of random, pbt and the models has the defaults."
    )
    constraints: list[str] = Field(
        default_factory=list,
        description="Conditions that an assignment must fulfil: `n_steps % batch == 0`.",
    )
    experiments: list[dict[str, Any]] = Field(
        default_factory=list,
        description="list: experiments, each a part that overrides values of the file, and a "
        "`label`.",
    )
    only: list[str | PositiveInt] = Field(
        default_factory=list,
        description="list: start only these experiments, by label or by number from 1; "
        "default: all.",
    )
    cycles: list[dict[str, Any]] = Field(
        default_factory=list, description="manual: values of tunables, used in turn."
    )
    grid: dict[str, list[Any] | PositiveInt] = Field(
        default_factory=dict,
        description="grid: values of a tunable, or their number; default: 5 of a number, all "
        "of a categorical.",
    )
    population: PopulationSpec | None = later(
        description="pbt: number of members, and how often they are compared."
    )
    pruner: PrunerSpec | None = Field(None, description="Stops bad trials early.")
    budget: StudyBudget = Field(
        default_factory=lambda: StudyBudget(), description="Ends the study early."
    )
    max_failures: PositiveInt | None = Field(
        None,
        description="Number of failed trials that stops the study; default: a quarter of "
        "`trials`, at least 3.",
    )
    confirm: Annotated[int, Field(ge=0, le=1000), NotBool] | None = Field(
        None,
        description="Number of new seeds on which the winner is run again; 0: none. Default: "
        "as many as `seeds`; none for list, manual and one-shot.",
    )
    auto: MoreSeedsSpec | None = Field(
        None, description="Adds seeds until the comparison is decided; `seeds: auto` is the same."
    )
    storage: str | None = Field(
        None,
        description="Optuna's storage: `postgresql://host/database`, or "
        "`sqlite:///file.db`; null: a file beside the results.",
    )
    seed: Seed = Field(0, description="Seed of the chooser.")

    @field_validator("storage")
    @classmethod
    def _a_database(cls, value: str | None) -> str | None:
        if value is not None and not value.startswith(("sqlite:///", "postgresql://")):
            raise BadValue(
                "is not a database for a study",
                value=value,
                allowed="postgresql://host:port/database, sqlite:///file.db, or null",
                hint="null stores it beside the results",
            )
        return value

    @field_validator("constraints")
    @classmethod
    def _well_formed(cls, value: list[str]) -> list[str]:
        from drillyard.spec.constraints import parse

        for text in value:
            parse(text)
        return value

    @model_validator(mode="after")
    def _fits_together(self) -> StudySpec:
        for problem in (*self._of_chooser(), *self._of_population(), *self._of_objectives()):
            raise problem
        return self

    def _of_chooser(self) -> Iterator[BadValue]:
        """What a chooser needs, and what is there for another one."""
        for chooser, keys in _BELONGS.items():
            for key in keys:
                if getattr(self, key) and self.chooser != chooser:
                    yield BadValue(
                        f"`{key}:` belongs to the chooser {chooser}",
                        key=key,
                        allowed=f"chooser: {chooser}",
                        hint=f"write `chooser: {chooser}`, or delete it",
                    )
        if self.chooser in _NEEDS and not getattr(self, _BELONGS[self.chooser][0]):
            allowed, hint = _NEEDS[self.chooser]
            yield BadValue(
                f"the chooser {self.chooser} needs `{_BELONGS[self.chooser][0]}:`",
                key="chooser",
                allowed=allowed,
                hint=hint,
            )
        if self.trials is None and self.chooser not in (*FIXED, POPULATION):
            yield BadValue(
                f"the chooser {self.chooser} never ends by itself: say how many `trials`",
                key="chooser" if "chooser" in self.model_fields_set else "trials",
                allowed="trials: a number",
                hint="add `trials: 40`",
            )
        if self.storage is not None and self.chooser not in MODELS:
            yield BadValue(
                f"the chooser {self.chooser} has nothing to store",
                key="storage",
                allowed="with tpe, gp, nsga2 and cma-es",
                hint="delete `storage:`",
            )
        if self.auto is not None and self.auto.start > self.auto.most:
            yield BadValue(
                "begins with more seeds than its cap",
                key="auto",
                allowed="start <= most",
                hint="raise `most`",
            )

    def _of_objectives(self) -> Iterator[BadValue]:
        names = [o.name for o in self.objectives]
        wrong = partial(BadValue, key="objectives")
        if len(set(names)) != len(names):
            yield wrong(
                "an objective is listed twice",
                allowed="each metric once",
                hint="delete one of them",
            )
        if len(names) > 1 and self.chooser in ("cma-es", SMAC):
            yield wrong(
                f"{self.chooser} has one objective only",
                allowed="one objective, or the chooser nsga2, tpe or gp",
                hint="write `chooser: nsga2`",
            )
        if len(names) > 1 and self.chooser == POPULATION:
            yield wrong(
                "the chooser pbt compares by one objective",
                allowed="one objective",
                hint="keep one of them, or write `chooser: nsga2`",
            )
        if len(names) > 1 and self.pruner is not None:
            yield BadValue(
                "a pruner compares by one objective",
                key="pruner",
                allowed="one objective",
                hint="delete `pruner:`, or keep one objective",
            )

    def _of_population(self) -> Iterator[BadValue]:
        """What contradicts a population."""
        without = {
            "trials": "always has members x generations trials",
            "pruner": "cannot have a pruner: bad members continue from good ones",
            "auto": "compares its members on their first seeds",
            "confirm": "has a policy as its winner, whose values changed during its training; it "
            "plays fresh episodes, and cannot be trained again on other seeds",
        }
        for key, why in without.items() if self.chooser == POPULATION else ():
            if getattr(self, key):
                yield BadValue(
                    f"the chooser pbt {why}",
                    key=key,
                    value=getattr(self, key),
                    allowed=f"pbt without `{key}`",
                    hint=f"delete `{key}:`",
                )

    @property
    def planned(self) -> int | None:
        """How many trials the file asks for; None: as many as its chooser has."""
        return self.population.trials if self.population is not None else self.trials

    @property
    def by_chance(self) -> int:
        """So many trials, or more, are drawn by chance before the chooser chooses.

        0 for a chooser that does not learn.
        """
        return BY_CHANCE.get(self.chooser, 0)

    def confirmations(self, seeds: int) -> int:
        """On how many seeds the winner is run again; 0: it is not.

        Args:
            seeds: Number of seeds of the file, used if the study does not give one.
        """
        if self.confirm is not None:
            return self.confirm
        search = self.chooser not in ("list", "manual", "one-shot")
        return seeds if search and len(self.objectives) < 2 else 0

    @property
    def failures_allowed(self) -> int:
        """So many failed trials stop the study."""
        return self.max_failures or max(3, (self.planned or 12) // 4)
