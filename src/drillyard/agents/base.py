"""The learner protocol, and how policies are rebuilt from files without pickle."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from typing import Any, Literal, Protocol, cast, runtime_checkable

import numpy as np

from drillyard.errors import CorruptObject
from drillyard.findings import Finding
from drillyard.registry import load
from drillyard.runs.workload import PhaseOutcome, RunContext
from drillyard.spec import ExperimentSpec

Which = Literal["best", "final"]
LEARNER_FILE, SPACES_FILE = "learner.json", "spaces.json"


class Policy(Protocol):
    """A trained policy."""

    normalisation: dict[str, np.ndarray] | None
    """Statistics to load into the evaluation's normalisation, None where there is none."""

    def __call__(self, observation: Any, deterministic: bool = True) -> np.ndarray:
        """The action for one observation, or the actions for a batch of them.

        Args:
            observation: As the (normalised, stacked) simulator gives it, or a batch of them.
            deterministic: Without exploration noise.
        """


@runtime_checkable
class Declares(Protocol):
    """A learner that honours more of an experiment file than a budget in steps and checkpoints.

    The other learners may leave it out.
    """

    honours: Collection[str]
    """Fields such as ``train.n_envs`` and ``evaluate.every.steps``, wrappers around all copies
    (``simulator.wrappers.normalize``), and arguments: ``learner.args.spread`` each, or
    ``learner.args`` for a learner whose ``check`` refuses unknown ones. A file that asks for
    anything else is refused; ``drillyard.learners.honours`` has the names."""


@runtime_checkable
class Inherits(Protocol):
    """A learner that says whether its training can go on from another one's checkpoint."""

    inherits: bool
    """True where ``train`` begins with ``checkpoints.inherited`` and ends at the step
    ``run.lineage.ends_at`` with a checkpoint, so that populations can train with it."""


class Learner(Protocol):
    """An algorithm, registered under ``drillyard.learners``; made without arguments.

    What only some learners can do is ``Declares``, ``Inherits`` and ``runs.workload.SpreadsRuns``.
    """

    name: str
    resume: str
    """How an interrupted training ends: ``exact`` (as one that was left alone), ``statistically
    equal``, or ``restarts``."""

    def check(self, spec: ExperimentSpec, observation: Any, action: Any) -> list[Finding]:
        """Verify arguments and spaces before anything runs.

        Raises:
            UserError: They cannot work.
        """

    def train(self, context: RunContext) -> PhaseOutcome:
        """Train; resumes from the last checkpoint by itself."""

    def rebuild(self, description: dict[str, Any], spaces: dict[str, Any], weights: bytes) -> Any:
        """A callable ``(observation, deterministic=True) -> action`` from the files of a result.

        One that remembers, or asks the simulator, has ``playing(deterministic)`` too, which gives
        a ``BatchPolicy`` for whole episodes.

        Args:
            description: ``learner.json``.
            spaces: ``spaces.json``.
            weights: ``policy_<which>.safetensors``.
        """


class LoadedPolicy:
    """A policy rebuilt from the files of a training."""

    def __init__(self, act: Any, normalisation: dict[str, np.ndarray] | None, name: str) -> None:
        self.act = act
        self.normalisation = normalisation
        self.name = name

    def __call__(self, observation: Any, deterministic: bool = True) -> np.ndarray:
        """See ``Policy``."""
        return cast(np.ndarray, self.act(observation, deterministic))

    def playing(self, deterministic: bool) -> Any:
        """For whole episodes in copies side by side: a ``BatchPolicy``, or a plain callable.

        Args:
            deterministic: Without exploration noise.
        """
        if hasattr(self.act, "playing"):
            return self.act.playing(deterministic)
        return lambda observations: self(observations, deterministic)


def policy_file_names(which: Which) -> tuple[str, ...]:
    """Names in the manifest of ``train`` that ``load_policy`` reads; the last may be missing."""
    return (
        LEARNER_FILE,
        SPACES_FILE,
        f"policy_{which}.safetensors",
        f"normalisation_{which}.npz",
    )


def load_policy(files: Mapping[str, bytes], which: Which = "best") -> LoadedPolicy:
    """Rebuild a policy.

    Args:
        files: Those of ``policy_file_names(which)``, by name.
        which: ``best`` or ``final``.

    Raises:
        CorruptObject: A file is missing or unreadable.
        PluginError: The learner that wrote it is not installed.
    """
    learner_file, spaces_file, weights_file, statistics_file = policy_file_names(which)
    for name in (learner_file, spaces_file, weights_file):
        if name not in files:
            raise CorruptObject(f"{name} is missing from the result of the training")
    try:
        description = json.loads(files[learner_file])
        spaces = json.loads(files[spaces_file])
    except ValueError as error:
        raise CorruptObject(f"{learner_file} or {spaces_file} is not JSON: {error}") from error
    learner: Learner = load("learners", description["algorithm"])()
    statistics = None
    if statistics_file in files:
        from drillyard.agents.packing import npz_arrays

        statistics = npz_arrays(files[statistics_file])
    act = learner.rebuild(description, spaces, files[weights_file])
    return LoadedPolicy(act, statistics, f"{description['algorithm']}:{which}")
