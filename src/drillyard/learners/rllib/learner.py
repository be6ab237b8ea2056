"""IMPALA and APPO of RLlib as learners: workers play asynchronously, one learner learns."""

from __future__ import annotations

from importlib.util import find_spec
from typing import TYPE_CHECKING, ClassVar

from drillyard.documents.json_types import JsonObject, as_integer, as_object
from drillyard.documents.space_text import space_text
from drillyard.errors import ConfigError, CorruptObject, SpaceMismatch
from drillyard.findings import Finding, passed
from drillyard.learners.rllib.arguments import ARGUMENTS, validate
from drillyard.runs.workload import PhaseOutcome, RunContext
from drillyard.spec import ExperimentSpec

if TYPE_CHECKING:
    from drillyard.learners.sb3 import Rebuilt
    from drillyard.learners.types import Space


class RllibLearner:
    """One algorithm of RLlib."""

    name: ClassVar[str] = ""
    resume: ClassVar[str] = "statistically equal"
    inherits: ClassVar[bool] = False
    honours: ClassVar[tuple[str, ...]] = (
        "learner.args",
        "train.max_time_s",
        "train.n_envs",
        "train.keep_checkpoints",
        "train.log_interval",
        "evaluate.every.steps",
        "evaluate.keep_best",
    )

    def check(self, spec: ExperimentSpec, observation: Space, action: Space) -> list[Finding]:
        """See ``Learner.check``.

        Raises:
            ConfigErrors: Arguments that cannot work.
            ConfigError: Ray is missing.
            SpaceMismatch: The algorithm cannot act in this simulator.
        """
        assert spec.learner is not None and spec.train is not None
        validate(self.name, spec.learner.args)
        _check_spaces(self.name, observation, action)
        if find_spec("ray") is None and not any(r.startswith("ray") for r in spec.requirements):
            raise missing(self.name)
        return [
            passed(
                "learner", f"{self.name} fits {space_text(observation)} -> {space_text(action)}"
            ),
            passed(
                "learner.args.num_env_runners",
                f"{self.spread(spec)} processes with {spec.train.n_envs} copies each",
            ),
        ]

    def spread(self, spec: ExperimentSpec) -> int:
        """See ``SpreadsRuns``: each worker may play on a machine of its own."""
        assert spec.learner is not None
        args = {**ARGUMENTS[self.name], **spec.learner.args}
        return as_integer(args["num_env_runners"]) or 1

    def train(self, context: RunContext) -> PhaseOutcome:
        """Train a run to the end of its budget, from its last checkpoint if there is one.

        Raises:
            Stopped: A stop was requested; the last checkpoint remains.
            ConfigError: Ray is not installed here.
        """
        if find_spec("ray") is None:
            raise missing(self.name)
        from drillyard.learners.rllib.training import train

        return train(context, self.name)

    def rebuild(self, description: JsonObject, spaces: JsonObject, weights: bytes) -> Rebuilt:
        """See ``Learner.rebuild``; does not need Ray.

        Raises:
            CorruptObject: The weights belong to another network.
        """
        from safetensors.torch import load as load_tensors

        from drillyard.agents.spaces import space_from_json
        from drillyard.learners.rllib.network import Network
        from drillyard.learners.sb3 import Rebuilt

        args = {**ARGUMENTS[self.name], **as_object(description["args"])}
        try:
            return Rebuilt(
                Network(
                    space_from_json(as_object(spaces["observation"])),
                    space_from_json(as_object(spaces["action"])),
                    load_tensors(weights),
                    str(args["fcnet_activation"]),
                )
            )
        except Exception as error:
            raise CorruptObject(f"these are not this policy's weights: {error}") from error


class Impala(RllibLearner):
    """Importance-weighted actor-learner architecture, with several workers."""

    name = "impala"


class Appo(RllibLearner):
    """Asynchronous PPO, with several workers."""

    name = "appo"


def missing(algorithm: str) -> ConfigError:
    """The error that Ray is not installed."""
    return ConfigError(
        f"{algorithm} needs RLlib, which is not installed here",
        field="learner.algorithm",
        value=algorithm,
        allowed="ppo, a2c and the others that do not need RLlib",
        hint="pip install 'drillyard[rllib]' in a separate environment: RLlib needs an older "
        "Gymnasium",
    )


def _check_spaces(algorithm: str, observation: Space, action: Space) -> None:
    """Accept flat observations, and Discrete or bounded Box actions."""
    import numpy as np
    from gymnasium import spaces

    if not isinstance(observation, spaces.Box) or len(observation.shape) != 1:
        raise SpaceMismatch(
            f"{algorithm} supports only flat observations, not {space_text(observation)}",
            field="learner.algorithm",
            value=algorithm,
            allowed="Box of one dimension",
            hint="flatten it (simulator.wrappers: [flatten_observation])",
        )
    bounded = (
        isinstance(action, spaces.Box)
        and len(action.shape) == 1
        and bool(np.isfinite(action.low).all() and np.isfinite(action.high).all())
    )
    if not bounded and not isinstance(action, spaces.Discrete):
        raise SpaceMismatch(
            f"{algorithm} cannot act in this simulator: its action space is {space_text(action)}",
            field="learner.algorithm",
            value=algorithm,
            allowed="Discrete, or Box of one dimension with finite bounds",
            hint="choose ppo",
        )
