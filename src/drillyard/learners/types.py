"""The types that the learners share: observations, results of steps, states in checkpoints."""

from __future__ import annotations

from collections.abc import Sequence
from typing import (
    TYPE_CHECKING,
    Any,
    Literal,
    NotRequired,
    Protocol,
    TypeAlias,
    TypedDict,
    runtime_checkable,
)

import gymnasium as gym
import numpy as np

from drillyard.documents.json_types import JsonObject
from drillyard.simulators.state import State

if TYPE_CHECKING:
    import torch
    from stable_baselines3.common.callbacks import BaseCallback

Space: TypeAlias = gym.Space[Any]
Env: TypeAlias = gym.Env[Any, Any]
Layer: TypeAlias = gym.Wrapper[Any, Any, Any, Any]
"""A wrapper around one copy of a simulator."""
Arrays: TypeAlias = dict[str, np.ndarray]
Tensors: TypeAlias = "dict[str, torch.Tensor]"
Observation: TypeAlias = np.ndarray | dict[str, np.ndarray]
"""An observation of one copy, or of several copies with a leading axis of copies."""
Info: TypeAlias = dict[str, Any]
"""What accompanies an observation. Gymnasium leaves the type of the values to each simulator."""
Infos: TypeAlias = Sequence[Info]
"""One for each copy."""
Metrics: TypeAlias = dict[str, float | int | str]
"""Name of a metric -> its value, as a stream stores it."""


@runtime_checkable
class TakesPoints(Protocol):
    """A callback that is called for each point of the training curve."""

    def on_point(self, step: int, metrics: Metrics) -> None:
        """Receives the metrics of one point.

        Args:
            step: Environment steps so far, summed over copies.
            metrics: Name -> value.
        """


UserCallback: TypeAlias = "BaseCallback | TakesPoints"


class LoggerState(TypedDict):
    """Values that were recorded and not yet written, and how many each is the mean of."""

    values: Metrics
    counts: dict[str, int]


class LastObservations(TypedDict):
    """What the next action depends on."""

    last: Observation | None
    starts: np.ndarray
    """Which copies begin an episode."""
    original: Observation | None
    """``last`` before the normalisation."""


class LearnerState(TypedDict):
    """The state of a Stable-Baselines3 algorithm in a checkpoint."""

    counters: dict[str, int | float]
    modules: dict[str, State]
    tensors: Tensors
    episodes: list[dict[str, float]]
    successes: list[float]
    noise: list[np.ndarray]
    observations: LastObservations
    memory: NotRequired[list[torch.Tensor]]
    """Older checkpoints do not have it."""
    logger: LoggerState


class PriorityHead(TypedDict):
    """The priorities of a prioritised replay buffer."""

    priorities: np.ndarray
    largest: float


class TrainingState(TypedDict):
    """Everything in a checkpoint except the replay buffer's rows and the best policies' weights.

    Older checkpoints do not have the keys that are not required.
    """

    marks: State
    model: LearnerState
    simulators: State | None
    normalisation: Arrays | None
    best: JsonObject | None
    top: NotRequired[list[JsonObject]]
    stopping: NotRequired[State | None]
    cloned: NotRequired[JsonObject | None]
    ends: NotRequired[State]
    replay_head: PriorityHead | np.ndarray | None
    users: list[State | None]
    platform: dict[str, str | int]
    settings: NotRequired[str | None]
    randomness: NotRequired[State]
    """Only in a stop checkpoint; see ``randomness``."""
    logged: NotRequired[dict[str, str]]
    """Only in a stop checkpoint; see ``sb3_state.capture_kinds``."""


SpaceKind: TypeAlias = Literal["observation", "action"]


class PolicyNetwork(Protocol):
    """A network whose tensors can be read."""

    def state_dict(self) -> Tensors:
        """Its tensors by name."""


class HasPolicy(Protocol):
    """A model whose policy can be evaluated and stored."""

    @property
    def policy(self) -> PolicyNetwork:
        """The network that acts."""
