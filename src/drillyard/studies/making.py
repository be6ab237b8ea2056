"""From the ``study:`` section to a chooser; what cannot work is refused here."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from drillyard.errors import ConfigError
from drillyard.mailbox import Mailbox
from drillyard.parameters import space as space_of
from drillyard.spec.listed import OF_THE_TRIAL
from drillyard.spec.study import FIXED, MODELS
from drillyard.studies.choosers import (
    Chance,
    Choice,
    Chooser,
    Fixed,
    allowed,
    cells,
    drawn,
    manual,
)
from drillyard.studies.constraints import Constraint, parse_all
from drillyard.studies.objectives import objectives_of

if TYPE_CHECKING:
    from drillyard.spec import ExperimentSpec
    from drillyard.tunables import Space


def make_chooser(spec: ExperimentSpec, mailbox: Mailbox) -> Chooser:
    """The chooser of a study.

    Args:
        spec: With a ``study``.
        mailbox: Names the default storage of a model's memory; nothing is created but that.

    Raises:
        ConfigError: The study cannot work.
        InfrastructureError: Its storage cannot be reached.
    """
    study = spec.study
    assert study is not None
    space, constraints = checked(spec)
    if study.chooser in FIXED:
        choices = fixed_choices(spec, space, constraints)
        return Fixed(choices, circle=study.chooser == "manual" and study.trials is not None)
    if study.chooser not in MODELS:
        return Chance(space, constraints, study.seed, defaults_first=study.defaults_first)
    from drillyard.studies.model import ModelChooser

    return ModelChooser(
        study.chooser, space, objectives_of(spec), constraints,
        url=study.storage or default_storage(mailbox), name=memory_name(mailbox),
        seed=study.seed, defaults_first=study.defaults_first,
    )  # fmt: skip


def checked(spec: ExperimentSpec) -> tuple[Space, list[Constraint]]:
    """The tunables and the constraints of a study, verified against each other.

    Raises:
        ConfigError: Nothing varies, a constraint names something else, or nothing fulfils them.
    """
    study = spec.study
    assert study is not None
    space = space_of(spec)
    if not space.tunables and study.chooser not in ("list", "one-shot"):
        raise ConfigError(
            f"the chooser {study.chooser} has nothing to choose: no tunable is active",
            field="parameters.tunable_params", value=list(spec.parameters.tunable_params),
            allowed="names of groups under parameters.tunables",
            hint="declare a group of tunables and name it under parameters.tunable_params",
        )  # fmt: skip
    objectives_of(spec)
    constraints = parse_all(study.constraints, list(space.tunables))
    if study.chooser in FIXED:
        if not fixed_choices(spec, space, constraints):
            raise ConfigError(
                "no trial is left by the constraints", field="study.constraints",
                value=study.constraints, allowed="constraints that something fulfils",
                hint="loosen one of them",
            )  # fmt: skip
    elif constraints and drawn(space, constraints, "check", ()) is None:
        raise ConfigError(
            "no assignment of 2,000 drawn fulfils the constraints", field="study.constraints",
            value=study.constraints, allowed="constraints that are not that rare",
            hint="loosen one of them, or narrow the ranges so that they are fulfilled more often",
        )  # fmt: skip
    return space, constraints


def fixed_choices(
    spec: ExperimentSpec, space: Space, constraints: list[Constraint]
) -> list[Choice]:
    """The trials of a chooser that knows them beforehand."""
    study = spec.study
    assert study is not None
    own = space.assign(spec.parameters.tunable_values)
    if study.chooser == "list":
        return [_listed(number, item, space, own)
                for number, item in enumerate(study.experiments)]  # fmt: skip
    if study.chooser == "one-shot":
        return [Choice(own, "one-shot")]
    if study.chooser == "manual":
        found = manual(study, space)
        for number, choice in enumerate(found):
            for constraint in constraints:
                if not allowed(choice.assignment, [constraint]):
                    raise ConfigError(
                        f"does not fulfil {constraint.text!r}", field=f"study.cycles[{number}]",
                        value=study.cycles[number], allowed=constraint.text,
                        hint="change its values, or the constraint",
                    )  # fmt: skip
        return found
    return [Choice(cell, "grid") for cell in cells(space, study.grid, constraints)]


def _listed(number: int, item: Mapping[str, Any], space: Space, own: dict[str, Any]) -> Choice:
    try:
        assignment = space.assign(item.get("values") or {}, own)
    except ConfigError as error:
        error.field = f"study.experiments[{number}].values.{error.field}"
        raise
    seeds = item.get("seeds")
    return Choice(
        assignment, "list",
        parts={k: v for k, v in item.items() if k not in OF_THE_TRIAL},
        label=str(item.get("label") or ""), seeds=tuple(seeds) if seeds else None,
    )  # fmt: skip


def memory_name(mailbox: Mailbox) -> str:
    """Name of the study in a database that several stores may share."""
    place = hashlib.sha256(f"{mailbox.store.url}\n{mailbox.experiment}".encode()).hexdigest()[:8]
    return f"{mailbox.experiment}-{place}"


def default_storage(mailbox: Mailbox) -> str:
    """A file beside the results; of a store that is no folder: in drillyard's own folder here."""
    url = mailbox.store.url
    if "://" not in url:
        folder = Path(url) / mailbox.experiment
    else:
        from drillyard.ledger import local_home

        folder = local_home() / "studies" / memory_name(mailbox)
    folder.mkdir(parents=True, exist_ok=True)
    return f"sqlite:///{folder / 'memory.db'}"
