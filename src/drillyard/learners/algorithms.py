"""The classes of the built-in algorithms by name, and two of them that are extended here."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import sb3_contrib
import stable_baselines3 as sb3
import torch

from drillyard.learners import rainbow

if TYPE_CHECKING:
    from sb3_contrib.common.vec_env import AsyncEval
    from stable_baselines3.common.base_class import BaseAlgorithm
    from stable_baselines3.common.callbacks import BaseCallback
    from stable_baselines3.dqn.policies import QNetwork


class DoubleDQN(sb3.DQN):  # type: ignore[misc]
    """DQN whose online network chooses the next action and whose target network rates it.

    Source: van Hasselt, Guez, Silver, "Deep Reinforcement Learning with Double Q-learning"
    (2016), equation 4.
    """

    q_net_target: QNetwork

    def train(self, gradient_steps: int, batch_size: int = 100) -> None:
        """As DQN, but the only action in the maximum is the one that the online network chose."""
        target = self.q_net_target

        def chosen_online(observations: torch.Tensor) -> torch.Tensor:
            chosen = self.q_net(observations).argmax(dim=1, keepdim=True)
            return torch.as_tensor(target(observations).gather(1, chosen))

        self.q_net_target = chosen_online
        try:
            super().train(gradient_steps, batch_size)
        finally:
            self.q_net_target = target


class _Candidates:
    """A callback without the start of a rollout, which was before the candidates were drawn."""

    def __init__(self, callback: BaseCallback) -> None:
        self._callback = callback

    def __getattr__(self, name: str) -> Any:
        return getattr(self._callback, name)

    def on_rollout_start(self) -> None:
        """Does nothing: the callback has already received this event."""


class ARS(sb3_contrib.ARS):  # type: ignore[misc]
    """Augmented random search that can be resumed, and that counts the simulator's steps.

    sb3-contrib draws the candidates of an update before it announces the rollout, measures
    progress against the remaining steps after a resume, and counts ``n_envs`` steps for each step
    of one copy.
    """

    def _do_one_update(self, callback: BaseCallback, async_eval: AsyncEval | None) -> None:
        callback.on_rollout_start()
        super()._do_one_update(_Candidates(callback), async_eval)

    def _update_current_progress_remaining(self, num_timesteps: int, total_timesteps: int) -> None:
        super()._update_current_progress_remaining(num_timesteps, self._total_timesteps)

    def _trigger_callback(
        self,
        _locals: dict[str, Any],
        _globals: dict[str, Any],
        callback: BaseCallback,
        n_envs: int,
    ) -> None:
        """Called for each copy whose step counts, with the variables of the evaluation."""
        copy, dones = _locals["i"], np.zeros(n_envs, dtype=bool)
        dones[copy] = _locals["dones"][copy]
        self.num_timesteps += 1
        callback.update_locals(
            {
                "rewards": _locals["rewards"],
                "new_obs": _locals["new_observations"],
                "dones": dones,
                "infos": _locals["infos"],
            }
        )
        callback.on_step()

    def _get_torch_save_params(self) -> tuple[list[str], list[str]]:
        return ["policy"], ["weights"]


CLASSES: dict[str, type[BaseAlgorithm]] = {
    "ppo": sb3.PPO,
    "a2c": sb3.A2C,
    "dqn": sb3.DQN,
    "ddpg": sb3.DDPG,
    "td3": sb3.TD3,
    "sac": sb3.SAC,
    "double-dqn": DoubleDQN,
    "dueling-dqn": rainbow.DuelingDQN,
    "prioritized-dqn": rainbow.PrioritizedDQN,
    "rainbow": rainbow.Rainbow,
    "trpo": sb3_contrib.TRPO,
    "ars": ARS,
    "tqc": sb3_contrib.TQC,
    "qr-dqn": sb3_contrib.QRDQN,
    "crossq": sb3_contrib.CrossQ,
    "recurrent-ppo": sb3_contrib.RecurrentPPO,
    "maskable-ppo": sb3_contrib.MaskablePPO,
}
"""Name -> class."""
