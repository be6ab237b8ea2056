"""Everything about ``learner:`` and ``train:`` that can be verified without torch."""

from __future__ import annotations

import inspect
from typing import Any

from drillyard.errors import ConfigError
from drillyard.findings import Finding, Severity
from drillyard.registry import importable
from drillyard.spec import ExperimentSpec
from drillyard.spec.algorithms.arguments import Sizes, validate_arguments
from drillyard.spec.algorithms.engines import check_engine, validate_engine
from drillyard.spec.algorithms.networks import check_memory, check_spaces, classes
from drillyard.spec.algorithms.signatures import ARGUMENTS, ON_POLICY

_BASES = {
    "policy": "BasePolicy",
    "activation_fn": "Module",
    "optimizer_class": "Optimizer",
    "features_extractor_class": "BaseFeaturesExtractor",
}
"""What a class from elsewhere must descend from, by the last part of its field."""


def _must_be(found: Any, field: str, path: str) -> None:
    """Refuse what is no class (or, for a schedule, no function) of its kind, unexecuted.

    By name of the base class, so that torch need not be imported here.
    """
    base = _BASES.get(field.rpartition(".")[2])
    if base is None:
        if not (inspect.isfunction(found) or inspect.isclass(found)):
            raise ConfigError(
                "is no function written in Python",
                field=field,
                value=path,
                allowed="module:function of your own",
            )
    elif not inspect.isclass(found) or base not in {c.__name__ for c in found.__mro__}:
        raise ConfigError(
            f"is {'another class' if inspect.isclass(found) else 'a ' + type(found).__name__}, "
            f"not one of the kind {base}",
            field=field,
            value=path,
            allowed=f"module:Class, a subclass of {base}",
            hint=f"name a class that descends from {base}, or leave it out",
        )


def check_learner(
    spec: ExperimentSpec, observation: Any, action: Any, total_steps: int | None = None
) -> list[Finding]:
    """Check a built-in learner against a world.

    Args:
        spec: The experiment.
        observation: Observation space of the wrapped simulator.
        action: Its action space.
        total_steps: Budget in steps, where it was worked out already.

    Returns:
        What was looked at; warnings among them.

    Raises:
        UserError: It cannot work.
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
    findings = [
        Finding(Severity.OK, "learner", f"{learner.algorithm} fits {observation} -> {action}")
    ]
    if learner.algorithm in ON_POLICY and total is not None:
        steps = learner.args.get("n_steps", ARGUMENTS[learner.algorithm]["n_steps"])
        rollout = int(steps) * train.n_envs
        if total % rollout:
            ends = -(-total // rollout) * rollout
            findings.append(
                Finding(
                    Severity.WARNING,
                    "train.steps",
                    f"training goes on to step {ends}, the end of a rollout of n_steps x n_envs = "
                    f"{rollout}",
                    f"set train.steps to {ends}, or n_steps to a divisor",
                )
            )
    return findings
