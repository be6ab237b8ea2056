"""Checks that one training can continue another one with other values; without torch."""

from __future__ import annotations

import math

from drillyard.agents.base import Inherits
from drillyard.errors import ConfigError
from drillyard.registry import load
from drillyard.spec import ExperimentSpec
from drillyard.spec.algorithms.argument_table import ARGUMENTS, TABLE
from drillyard.spec.algorithms.signatures import ON_POLICY
from drillyard.spec.binding import space
from drillyard.spec.references import names_of


def check_lineage(spec: ExperimentSpec) -> None:
    """See ``HandsRunsOn``.

    Args:
        spec: An ``rl`` study with a population.

    Raises:
        ConfigError: The learner, the budget or a tunable prevents it.
    """
    learner, train, study = spec.learner, spec.train, spec.study
    assert learner is not None and train is not None
    assert study is not None and study.population is not None
    if learner.algorithm not in ARGUMENTS and not _inherits(learner.algorithm):
        raise ConfigError(
            "cannot continue from the weights of another training, which a population needs",
            field="learner.algorithm",
            value=learner.algorithm,
            allowed=", ".join(ARGUMENTS),
            hint="choose one of them, or another `study.chooser`; `drillyard new learner "
            "NAME` writes one to complete, with `inherits`",
        )
    if train.steps is None or train.max_time_s is not None:
        given = "episodes" if train.steps is None else "max_time_s"
        raise ConfigError(
            "does not set a step at which a generation ends",
            field=f"train.{given}",
            value=getattr(train, given),
            allowed="train.steps alone",
            hint="write `train: {steps: …}`: the steps of a member over all generations",
        )
    _refuse_kept(spec, learner.algorithm)
    if learner.algorithm in ON_POLICY:
        steps = int(learner.args.get("n_steps", ARGUMENTS[learner.algorithm]["n_steps"]))
        rollout, generations = steps * train.n_envs, study.population.generations
        if train.steps < rollout * generations:
            raise ConfigError(
                f"{generations} generations of {math.ceil(train.steps / generations):,} steps "
                f"are shorter than a rollout of n_steps x n_envs = {rollout:,}",
                field="study.population.generations",
                value=generations,
                allowed=f"at most {train.steps // rollout} of {train.steps:,} steps",
                hint="fewer generations, a larger train.steps, or a smaller n_steps",
            )


def _inherits(algorithm: str) -> bool:
    learner = load("learners", algorithm)
    return isinstance(learner, Inherits) and learner.inherits


def _refuse_kept(spec: ExperimentSpec, algorithm: str) -> None:
    """Refuse a tunable that changes what is learned, and not how."""
    tunables = set(space(spec).tunables)
    for late in spec.parameters.per_run or ():
        names = sorted(tunables.intersection(names_of(late.text)))
        at = [str(part) for part in late.at]
        row = TABLE.get(at[2]) if len(at) > 2 else None
        kept = row.kept if row is not None else ()
        keeps = algorithm in kept or (kept and algorithm not in ARGUMENTS)
        how = at[:2] == ["learner", "args"] and len(at) > 2 and not keeps
        if names and not how:
            raise ConfigError(
                f"the tunable {names[0]!r} changes what is trained, so that no member could "
                "continue another one",
                field=".".join(at),
                value=late.text,
                allowed="tunables in learner.args that do not change the network and the buffer: "
                "learning_rate, gamma, ent_coef, batch_size …",
                hint=f"write a constant there, and remove {names[0]!r} from "
                "parameters.tunable_params",
            )
