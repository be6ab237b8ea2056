"""Keys of ``info`` as metrics of an episode."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from drillyard.errors import RunFailed, nearest
from drillyard.simulators.state import State
from drillyard.simulators.types import Action, Env, Info, Layer, Options, ResetResult, StepResult


class EpisodeMetrics(Layer):
    """Reduces keys of ``info`` over an episode, into ``info["metrics"]`` of its last step.

    Args:
        env: What to wrap.
        reducers: Key -> ``mean``, ``sum``, ``min``, ``max`` or ``last``.
    """

    def __init__(self, env: Env, reducers: Mapping[str, str]) -> None:
        super().__init__(env)
        self._reducers = dict(reducers)
        self._so_far: dict[str, float] = {}
        self._steps = 0

    def reset(self, *, seed: int | None = None, options: Options | None = None) -> ResetResult:
        """Begin an episode."""
        self._so_far, self._steps = {}, 0
        return self.env.reset(seed=seed, options=options)

    def step(self, action: Action) -> StepResult:
        """Step, and reduce.

        Raises:
            RunFailed: ``info`` has no such key, or its value is not a finite number.
        """
        observation, reward, terminated, truncated, info = self.env.step(action)
        self._steps += 1
        for key, how in self._reducers.items():
            self._so_far[key] = self._reduced(key, how, info)
        if terminated or truncated:
            info["metrics"] = {
                key: self._so_far[key] / (self._steps if how == "mean" else 1)
                for key, how in self._reducers.items()
            }
        return observation, reward, terminated, truncated, info

    def _reduced(self, key: str, how: str, info: Info) -> float:
        value = info.get(key)
        number = isinstance(value, int | float | np.number | np.bool_)
        if not number or not math.isfinite(float(value)):  # type: ignore[arg-type]
            named = [str(k) for k in info]
            raise RunFailed(
                f"info[{key!r}] is {value!r} at step {self._steps} of an episode; `simulator."
                f"metrics` needs a finite number; info has {', '.join(named) or 'nothing'}",
                hint=nearest(key, named),
            )
        new, old = float(value), self._so_far.get(key)  # type: ignore[arg-type]
        if old is None or how == "last":
            return new
        return {"min": min, "max": max}[how](old, new) if how in ("min", "max") else old + new

    def state(self) -> State:
        """The values so far."""
        return {"so_far": dict(self._so_far), "steps": self._steps}

    def load_state(self, state: State) -> None:
        """Continues from a state."""
        self._so_far, self._steps = dict(state["so_far"]), int(state["steps"])
