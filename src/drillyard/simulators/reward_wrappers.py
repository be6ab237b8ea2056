"""Wrappers that change the reward. They keep nothing between steps."""

from __future__ import annotations

import math
from collections.abc import Mapping

from drillyard.errors import ConfigError
from drillyard.simulators.state import Stateless
from drillyard.simulators.types import Action, Env, Layer, StepResult


class RewardScale(Stateless, Layer):
    """``factor * reward + shift``.

    Args:
        env: What to wrap.
        factor: Not 0.
        shift: Added afterwards.

    Raises:
        ConfigError: Not numbers, or nothing would be left of the reward.
    """

    def __init__(self, env: Env, factor: float = 1.0, shift: float = 0.0) -> None:
        super().__init__(env)
        for name, value in (("factor", factor), ("shift", shift)):
            good = isinstance(value, int | float) and not isinstance(value, bool)
            if not good or not math.isfinite(value) or (name == "factor" and value == 0):
                raise ConfigError(
                    f"{name} is a finite number, and factor not 0",
                    value=value,
                    allowed="a number",
                    hint="write factor: 0.1",
                )
        self._factor, self._shift = float(factor), float(shift)

    def step(self, action: Action) -> StepResult:
        """Step, and scale."""
        observation, reward, terminated, truncated, info = self.env.step(action)
        scaled = self._factor * float(reward) + self._shift
        return observation, scaled, terminated, truncated, info


class RewardTerms(Stateless, Layer):
    """The sum of weighted terms: ``sum(weights[name] * info["reward_<name>"])``.

    Args:
        env: One whose ``info`` has terms as ``reward_<name>``.
        weights: Name -> weight; terms that are not named do not count.

    Raises:
        ConfigError: No weights, or at a step: the simulator has no such term.
    """

    def __init__(self, env: Env, weights: Mapping[str, float]) -> None:
        super().__init__(env)
        if not isinstance(weights, Mapping) or not weights:
            raise ConfigError(
                "needs weights by name",
                value=weights,
                allowed="{name: number}",
                hint="weights: {comfort: 1}",
            )
        self._weights = {name: float(weight) for name, weight in weights.items()}

    def step(self, action: Action) -> StepResult:
        """Step, and sum up."""
        observation, _, terminated, truncated, info = self.env.step(action)
        terms = {key[7:]: value for key, value in info.items() if key.startswith("reward_")}
        for name in self._weights:
            if name not in terms:
                raise ConfigError(
                    "the simulator has no such reward term",
                    field="simulator.wrappers.reward_terms.args.weights",
                    value=name,
                    allowed=", ".join(sorted(terms)) or "none: it has no reward_<name> in info",
                    known=sorted(terms),
                )
        reward = math.fsum(weight * terms[name] for name, weight in self._weights.items())
        return observation, reward, terminated, truncated, info
