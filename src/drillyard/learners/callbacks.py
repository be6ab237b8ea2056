"""The callback of drillyard in a Stable-Baselines3 training.

It works at ``on_rollout_start``, the only moment at which SB3 can be resumed: at ``on_step`` an
on-policy learner is in the middle of a rollout and an off-policy one has not yet stored the
transition. The work of every step takes only a few microseconds.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
from stable_baselines3.common.callbacks import BaseCallback

from drillyard.errors import ConfigError, RunFailed
from drillyard.learners.training import Training
from drillyard.learners.types import UserCallback
from drillyard.registry import load_object
from drillyard.simulators import vec_state
from drillyard.spec.learning import CallbackSpec
from drillyard.spec.references import reveal

TELL_EVERY_S = 0.2
_dot = np.vdot
"""With an array twice: the result shows NaN and infinity, in half the time of a sum."""


class TrainingCallback(BaseCallback):  # type: ignore[misc]
    """Passes the events of SB3 on to a ``Training``.

    Args:
        training: Does the work at rollout boundaries.
        every_rollout: True to call it at each rollout boundary (on-policy: there are few), False
            only when work is due (off-policy: there is one at nearly every step).
    """

    def __init__(self, training: Training, every_rollout: bool) -> None:
        super().__init__()
        self._training = training
        self._every_rollout = every_rollout
        self._stop = training.context.stop
        self._tell_at = 0.0

    def on_training_start(self, locals_: dict[str, Any], globals_: dict[str, Any]) -> None:
        """SB3 has reset the simulators: restore the checkpoint, if there is one."""
        super().on_training_start(locals_, globals_)
        self._training.begin()

    def on_rollout_start(self) -> None:
        """Pass a rollout boundary on, if work is due."""
        training = self._training
        step = self.model.num_timesteps
        if self._every_rollout or training.attention or step >= training.next_event:
            training.boundary(step, self.locals.get("dones"))

    def on_step(self) -> bool:
        """Check what the simulators returned; SB3 continues unless this raises."""
        self.n_calls += 1
        self.num_timesteps = self.model.num_timesteps
        here = self.locals
        if not math.isfinite(_dot(here["rewards"], here["rewards"])):
            self._refuse("reward", here["rewards"])
        observation = here["new_obs"]
        if isinstance(observation, dict):
            for key, part in observation.items():
                if part.dtype.kind == "f" and not math.isfinite(_dot(part, part)):
                    self._refuse(f"observation {key!r}", part)
        elif observation.dtype.kind == "f" and not math.isfinite(_dot(observation, observation)):
            self._refuse("observation", observation)
        if np.count_nonzero(here["dones"]):
            self._training.episodes_ended(self.num_timesteps, here["dones"], here["infos"])
        if self._stop.requested:
            self._training.stop_soon()
        now = time.monotonic()
        if now >= self._tell_at:
            self._tell_at = now + TELL_EVERY_S
            self._training.tell(self.num_timesteps)
        return True

    def _on_step(self) -> bool:
        return True

    def _refuse(self, what: str, values: np.ndarray) -> None:
        bad = np.argwhere(~np.isfinite(values))
        if not len(bad):
            return  # the squares of very large numbers overflowed
        copy, *index = (int(i) for i in bad[0])
        place = f"[{', '.join(map(str, index))}]" if index else ""
        self._training.refused_at = self.num_timesteps
        where = vec_state.failed(self._training.venv, copy)
        raise RunFailed(
            f"the simulator returned {values[tuple(bad[0])]} as {what}{place}, at {where}",
            hint="`drillyard check` steps the simulator and shows where it breaks",
        )


def user_callbacks(specs: Sequence[CallbackSpec]) -> list[UserCallback]:
    """Instances of the user's callbacks.

    Args:
        specs: Class and constructor arguments of each: a subclass of SB3's ``BaseCallback``, or
            any class with ``on_point(step, metrics)``, called for each point of the training
            curve.

    Raises:
        PluginError: There is no such module or class.
        ConfigError: It is neither of the two kinds.
    """
    callbacks: list[UserCallback] = []
    for number, spec in enumerate(specs):
        kind = load_object(spec.id)
        good = isinstance(kind, type) and (
            issubclass(kind, BaseCallback) or callable(getattr(kind, "on_point", None))
        )
        if not good:
            raise ConfigError(
                "is not a callback class",
                field=f"learner.callbacks[{number}]",
                value=spec.id,
                allowed="a subclass of stable_baselines3's BaseCallback, or a class with on_point",
            )
        callbacks.append(kind(**reveal(spec.args)))
    return callbacks
