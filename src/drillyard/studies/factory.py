"""Builds a chooser from the ``study:`` section, and refuses what cannot work."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from drillyard.documents.json_types import Json, JsonObject, as_list, as_object
from drillyard.errors import ConfigError, IdentityChanged
from drillyard.mailbox import Mailbox
from drillyard.mailbox.records import TrialRecord
from drillyard.registry import load
from drillyard.runs.workload import HandsRunsOn
from drillyard.spec.binding import space as space_of
from drillyard.spec.constraints import Constraint, parse_all
from drillyard.spec.listed import OF_THE_TRIAL
from drillyard.spec.study import FIXED, POPULATION, SMAC, StudySpec
from drillyard.spec.work import MockSpec
from drillyard.studies.choosers import (
    Chance,
    Choice,
    Chooser,
    ChooserKind,
    Fixed,
    Listed,
    allowed,
    cells,
    drawn,
    manual,
    matched,
)
from drillyard.studies.objectives import EVALUATION, objectives_of
from drillyard.studies.population import Population
from drillyard.studies.pruning import metric_of
from drillyard.system.optional_packages import install

if TYPE_CHECKING:
    from drillyard.spec import ExperimentSpec
    from drillyard.spec.tunables import Space


class _BuiltIn:
    """What the choosers of drillyard share; registered under ``drillyard.choosers``."""

    def check(self, spec: ExperimentSpec) -> None:
        """See ``ChooserKind``."""
        checked(spec)


class Given(_BuiltIn):
    """``list``, ``manual``, ``one-shot`` and ``grid``: the trials are known beforehand."""

    def make(self, spec: ExperimentSpec, mailbox: Mailbox) -> Chooser:
        """See ``ChooserKind``."""
        del mailbox
        study = study_of(spec)
        choices = fixed_choices(spec, *checked(spec))
        if study.chooser == "list":
            return Listed(choices, only(study, choices))
        return Fixed(choices, circle=study.chooser == "manual" and study.trials is not None)


class AtRandom(_BuiltIn):
    """``random``."""

    def make(self, spec: ExperimentSpec, mailbox: Mailbox) -> Chooser:
        """See ``ChooserKind``."""
        del mailbox
        study = study_of(spec)
        return Chance(*checked(spec), study.seed, defaults_first=study.defaults_first)


class Modelled(_BuiltIn):
    """``tpe``, ``cma-es``, ``gp`` and ``nsga2``: Optuna learns from the trials before."""

    def make(self, spec: ExperimentSpec, mailbox: Mailbox) -> Chooser:
        """See ``ChooserKind``; the default storage of the model's memory is created."""
        from drillyard.studies.optuna_chooser import ModelChooser

        study = study_of(spec)
        space, constraints = checked(spec)
        return ModelChooser(
            study.chooser,
            space,
            objectives_of(spec),
            constraints,
            url=study.storage or default_storage(mailbox),
            name=memory_name(mailbox),
            seed=study.seed,
            defaults_first=study.defaults_first,
        )


class Smac(_BuiltIn):
    """``smac``: a model of a package of its own."""

    def make(self, spec: ExperimentSpec, mailbox: Mailbox) -> Chooser:
        """See ``ChooserKind``."""
        from drillyard.studies.smac_chooser import SmacChooser

        del mailbox
        study = study_of(spec)
        return SmacChooser(
            *checked(spec),
            objectives_of(spec)[0],
            seed=study.seed,
            defaults_first=study.defaults_first,
        )


class Populations(_BuiltIn):
    """``pbt``: members that continue from each other."""

    def make(self, spec: ExperimentSpec, mailbox: Mailbox) -> Chooser:
        """See ``ChooserKind``."""
        del mailbox
        return _population(spec, *checked(spec))


def make_chooser(spec: ExperimentSpec, mailbox: Mailbox) -> Chooser:
    """The chooser of a study.

    Args:
        spec: An experiment with a ``study``.
        mailbox: Names the default storage of a model's memory; nothing else is created.

    Raises:
        ConfigError: The study cannot work.
        PluginError: Its chooser is not installed here, or does not import.
        InfrastructureError: Its storage cannot be reached.
    """
    kind: ChooserKind = load("choosers", study_of(spec).chooser)()
    return kind.make(spec, mailbox)


def study_of(spec: ExperimentSpec) -> StudySpec:
    """The ``study:`` of an experiment that has one."""
    assert spec.study is not None
    return spec.study


def _population(
    spec: ExperimentSpec, space: Space, constraints: Sequence[Constraint]
) -> Population:
    study = spec.study
    assert study is not None and study.population is not None
    return Population(
        study.population,
        space,
        constraints,
        objectives_of(spec)[0],
        steps=spec.train.steps if spec.train is not None else None,
        seed=study.seed,
        defaults_first=study.defaults_first,
    )


def checked(spec: ExperimentSpec) -> tuple[Space, list[Constraint]]:
    """The tunables and the constraints of a study, verified against each other.

    Raises:
        ConfigError: Nothing varies, a constraint names something else, or nothing fulfils them.
    """
    study, space = study_of(spec), space_of(spec)
    if not space.tunables and study.chooser not in ("list", "one-shot"):
        raise ConfigError(
            f"the chooser {study.chooser} has nothing to choose: no tunable is active",
            field="parameters.tunable_params",
            value=list(spec.parameters.tunable_params),
            allowed="names of groups under parameters.tunables",
            hint="declare a group of tunables and name it under parameters.tunable_params",
        )
    if study.chooser == SMAC and find_spec("smac") is None:
        raise ConfigError(
            "the chooser smac is not installed",
            field="study.chooser",
            value=SMAC,
            allowed="tpe, gp, cma-es, nsga2, random",
            hint=f"{install('smac')}, or choose one of them",
        )
    _refuse_unmeasured(spec)
    if study.chooser == POPULATION:
        _refuse_without_state(spec)
    constraints = parse_all(study.constraints, list(space.tunables))
    if study.chooser in FIXED:
        choices = fixed_choices(spec, space, constraints)
        only(study, choices)
        if not choices:
            raise ConfigError(
                "the constraints exclude every trial",
                field="study.constraints",
                value=study.constraints,
                allowed="constraints that at least one trial fulfils",
                hint="loosen one of them",
            )
    elif constraints and drawn(space, constraints, "check", ()) is None:
        raise ConfigError(
            "no assignment of 2,000 drawn fulfils the constraints",
            field="study.constraints",
            value=study.constraints,
            allowed="constraints that are not that rare",
            hint="loosen one of them, or narrow the ranges so that they are fulfilled more often",
        )
    return space, constraints


def _refuse_without_state(spec: ExperimentSpec) -> None:
    """Refuse a population of work that cannot continue another run.

    Raises:
        ConfigError: Why not.
    """
    workload = load("workloads", spec.workload)()
    if not isinstance(workload, HandsRunsOn):
        raise ConfigError(
            f"a {spec.workload!r} has no state that another run could continue",
            field="study.chooser",
            value=POPULATION,
            allowed="pbt with workload: rl or mock",
            hint="choose tpe or random",
        )
    workload.check_lineage(spec)


def _refuse_unmeasured(spec: ExperimentSpec) -> None:
    """Refuse an objective or a pruner without numbers, where they are known beforehand.

    Raises:
        ConfigError: A ``mock`` measures no such metric, or draws no curve.
    """
    study, mock, objectives = study_of(spec), spec.mock or MockSpec(), objectives_of(spec)
    if spec.workload != "mock" or study.experiments:
        return
    ends = [f"{EVALUATION}{name}" for name in mock.metrics]
    curves = list(mock.metrics) if mock.points else []
    for number, objective in enumerate(objectives):
        at_the_end = objective.reducer == "last" and objective.metric in mock.metrics
        if objective.metric not in (*ends, *curves) and not at_the_end:
            raise ConfigError(
                "is not measured by this mock",
                field=f"study.objectives[{number}].metric",
                value=objective.metric,
                allowed=", ".join((*ends, *curves)),
                known=[*ends, *curves],
            )
    if study.pruner is not None and study.pruner.type != "wilcoxon":
        metric = metric_of(spec, objectives[0])
        if metric not in curves:
            raise ConfigError(
                f"compares the curve {metric!r}, which this mock does not draw",
                field="study.pruner",
                value=study.pruner.type,
                allowed=", ".join(curves) or "a mock with `points`",
                hint="name one under study.pruner.metric" if curves else "set `mock.points: 20`",
            )


def fixed_choices(
    spec: ExperimentSpec, space: Space, constraints: list[Constraint]
) -> list[Choice]:
    """The trials of a chooser with a fixed list."""
    study = study_of(spec)
    given = space.assign(spec.parameters.tunable_values)
    if study.chooser == "list":
        return [
            _listed(number, item, space, given) for number, item in enumerate(study.experiments)
        ]
    if study.chooser == "one-shot":
        return [Choice(given, "one-shot")]
    if study.chooser == "manual":
        choices = manual(study, space)
        for number, choice in enumerate(choices):
            for constraint in constraints:
                if not allowed(choice.assignment, [constraint]):
                    raise ConfigError(
                        f"does not fulfil {constraint.expression.text!r}",
                        field=f"study.cycles[{number}]",
                        value=study.cycles[number],
                        allowed=constraint.expression.text,
                        hint="change its values, or the constraint",
                    )
        return choices
    return [Choice(cell, "grid") for cell in cells(space, study.grid, constraints)]


def only(study: StudySpec, choices: Sequence[Choice]) -> list[int]:
    """The positions of the listed experiments that should begin.

    Raises:
        ConfigError: ``only`` names one that does not exist, or one twice.
    """
    labels = [c.label for c in choices]
    positions: list[int] = []
    for number, name in enumerate(study.only):
        if isinstance(name, int):
            matching = [name - 1] if name <= len(choices) else []
        else:
            matching = [p for p, label in enumerate(labels) if label == name]
        if not matching or set(matching) & set(positions):
            known = ", ".join(label or str(p) for p, label in enumerate(labels, start=1))
            raise ConfigError(
                "names an experiment twice" if matching else "is not a listed experiment",
                field=f"study.only[{number}]",
                value=name,
                allowed=f"{known}; or numbers from 1 to {len(choices)}",
                known=[label for label in labels if label],
            )
        positions += matching
    return positions or list(range(len(choices)))


def refuse_changed(spec: ExperimentSpec, experiment: str, search: Sequence[TrialRecord]) -> None:
    """Refuse a file whose listed trials changed since they were frozen.

    Raises:
        IdentityChanged: One of them changed.
    """
    study = study_of(spec)
    if study.chooser == POPULATION:
        other = _population(spec, space_of(spec), []).stranger(search)
        if other is not None:
            raise IdentityChanged(
                f"{experiment!r}: trial {other.number} was begun by another chooser, or with "
                "other train.steps, study.population.members or generations, on which all trials "
                "depend",
                hint="restore them, or choose a new name (--set name=…)",
            )
        return
    if study.chooser not in ("list", "manual"):
        return
    known = fixed_choices(spec, space_of(spec), [])
    if study.chooser == "list":
        lost = [r for r, p in zip(search, matched(known, search), strict=True) if p is None]
        what = "experiments"
    else:
        circle = [known[index % len(known)] for index in range(len(search))]
        lost = [
            r
            for r, c in zip(search, circle, strict=True)
            if (c.assignment, c.parts) != (r.assignment, r.parts)
        ]
        what = "cycles"
    if lost:
        label = f" ({lost[0].label})" if lost[0].label else ""
        raise IdentityChanged(
            f"{experiment!r}: trial {lost[0].number}{label} was begun, but study.{what} no longer "
            "lists it with the same values",
            hint="restore it and add new ones at the end, or choose a new name (--set name=…)",
        )


def listed_seeds(spec: ExperimentSpec, search: Sequence[TrialRecord]) -> dict[int, list[int]]:
    """Number of each frozen trial of a list -> its seeds in the file; {} for other choosers."""
    if spec.study is None or spec.study.chooser != "list" or not search:
        return {}
    known = fixed_choices(spec, space_of(spec), [])
    return {
        record.number: list(known[position].seeds or spec.seeds)
        for record, position in zip(search, matched(known, search), strict=True)
        if position is not None
    }


def _listed(number: int, item: Mapping[str, Json], space: Space, own: JsonObject) -> Choice:
    try:
        assignment = space.assign({**own, **as_object(item.get("values"))})
    except ConfigError as error:
        field = f"study.experiments[{number}].values.{error.field}"
        raise error.but(field=field) from error.__cause__
    seeds = [seed for seed in as_list(item.get("seeds")) if isinstance(seed, int)]
    return Choice(
        assignment,
        "list",
        parts={k: v for k, v in item.items() if k not in OF_THE_TRIAL},
        label=str(item.get("label") or ""),
        seeds=tuple(seeds) if seeds else None,
    )


def memory_name(mailbox: Mailbox) -> str:
    """The name of the study in a database that several stores may share."""
    place = hashlib.sha256(f"{mailbox.store.url}\n{mailbox.experiment}".encode()).hexdigest()[:8]
    return f"{mailbox.experiment}-{place}"


def default_storage(mailbox: Mailbox) -> str:
    """A file beside the results; for a remote store, a file in drillyard's local folder."""
    url = mailbox.store.url
    if "://" not in url:
        folder = Path(url) / mailbox.experiment
    else:
        from drillyard.system.home import local_home

        folder = local_home() / "studies" / memory_name(mailbox)
    folder.mkdir(parents=True, exist_ok=True)
    return f"sqlite:///{folder / 'memory.db'}"
