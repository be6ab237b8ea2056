"""The checks of ``learner:`` and ``train:`` that do not need torch."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING

from drillyard.documents.space_text import space_text
from drillyard.errors import ConfigError
from drillyard.findings import Finding, passed, warning
from drillyard.registry import importable
from drillyard.spec import ExperimentSpec
from drillyard.spec.algorithms.argument_table import ARGUMENTS
from drillyard.spec.algorithms.arguments import Sizes, validate_arguments
from drillyard.spec.algorithms.engines import check_engine, could_use_jax, validate_engine
from drillyard.spec.algorithms.networks import check_memory, check_spaces, classes
from drillyard.spec.algorithms.signatures import ON_POLICY

if TYPE_CHECKING:
    from drillyard.learners.types import Space

_BASES = {
    "policy": "BasePolicy",
    "activation_fn": "Module",
    "optimizer_class": "Optimizer",
    "features_extractor_class": "BaseFeaturesExtractor",
}
"""Last part of a field -> base class of a class that the user names there."""
LONG_STEPS = 200_000
"""Steps from which on ``engine: jax`` saves more time than its start takes: importing JAX and
compiling take about ten seconds, in which Stable-Baselines3 makes about 50,000 steps."""


def _must_be(found: object, field: str, path: str) -> None:
    """Refuse an object that is not a class of the right kind (or, for a schedule, a function).

    It is not called. Base classes are compared by name, so that torch is not imported here.
    """
    base = _BASES.get(field.rpartition(".")[2])
    if base is None:
        if not (inspect.isfunction(found) or inspect.isclass(found)):
            raise ConfigError(
                "is not a function written in Python",
                field=field,
                value=path,
                allowed="module:function of your own",
            )
    elif not inspect.isclass(found) or base not in {c.__name__ for c in found.__mro__}:
        raise ConfigError(
            f"is {'another class' if inspect.isclass(found) else 'a ' + type(found).__name__}, "
            f"not a {base}",
            field=field,
            value=path,
            allowed=f"module:Class, a subclass of {base}",
            hint=f"name a subclass of {base}, or leave it out",
        )


def check_learner(
    spec: ExperimentSpec, observation: Space, action: Space, total_steps: int | None = None
) -> list[Finding]:
    """Check a built-in learner against a simulator.

    Args:
        spec: The experiment.
        observation: Observation space of the wrapped simulator.
        action: Its action space.
        total_steps: Budget in steps, if it is already known.

    Returns:
        The results of the checks, warnings among them.

    Raises:
        UserError: The learner cannot work.
    """
    import psutil

    learner, train = spec.learner, spec.train
    if learner is None or train is None:
        raise ConfigError("an `rl` experiment needs `learner:` and `train:`")
    total = total_steps if total_steps is not None else train.steps
    validate_arguments(learner.algorithm, learner.args, Sizes(train.n_envs, total))
    validate_engine(learner)
    for field, path in classes(learner.policy, learner.args):
        _must_be(importable(path, field), field, path)  # a worker imports it from the same folder
    check_spaces(learner.algorithm, learner.policy, learner.args, observation, action)
    check_engine(spec, observation)
    check_memory(
        learner.algorithm, learner.args, observation, action, psutil.virtual_memory().total
    )
    both = " -> ".join(map(space_text, (observation, action)))
    faster = could_use_jax(spec, observation) and (total or 0) >= LONG_STEPS
    findings = [
        passed(
            "learner",
            f"{learner.algorithm} fits {both}",
            "learner.engine: jax may train faster, most of all if the simulator itself is fast; "
            "its results differ in their digits"
            if faster
            else None,
        )
    ]
    if learner.algorithm in ON_POLICY and total is not None:
        steps = learner.args.get("n_steps", ARGUMENTS[learner.algorithm]["n_steps"])
        findings += _cut_rollout(total, int(steps) * train.n_envs)
    return findings


def _cut_rollout(total: int, rollout: int) -> list[Finding]:
    """Warns of a budget that is not a multiple of a rollout."""
    ends = -(-total // rollout) * rollout
    if ends == total:
        return []
    text = f"training goes on to step {ends}, the end of a rollout of n_steps x n_envs = {rollout}"
    return [warning("train.steps", text, f"set train.steps to {ends}, or n_steps to a divisor")]
