"""The types of what goes into a simulator and comes out of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, SupportsFloat, TypeAlias

import gymnasium as gym
import numpy as np

from drillyard.documents.json_types import Json

Observation: TypeAlias = (
    "np.ndarray | np.generic | float | Mapping[str, Observation] | tuple[Observation, ...]"
)
"""An element of an observation space: Box, Discrete, Dict or Tuple."""
Action: TypeAlias = Observation
"""An element of an action space."""
Info: TypeAlias = dict[str, Any]
"""What accompanies an observation. Gymnasium leaves the type of the values to each simulator."""
Batch: TypeAlias = np.ndarray | dict[str, np.ndarray]
"""Observations of several copies: (n, *shape), or a mapping of such."""
States: TypeAlias = Mapping[str, float]
"""The states of a plain simulator by name."""
Options: TypeAlias = dict[str, Json]
"""Reset keys and their values."""

Env: TypeAlias = gym.Env[Observation, Action]
Layer: TypeAlias = gym.Wrapper[Observation, Action, Observation, Action]
"""A wrapper around one copy of a simulator."""
ResetResult: TypeAlias = tuple[Observation, Info]
StepResult: TypeAlias = tuple[Observation, SupportsFloat, bool, bool, Info]
"""Observation, reward, terminated, truncated, info."""
