"""The parameters of a torch policy and the state of its optimiser, as flat vectors in its memory.

The policy remains a module of torch: evaluation, export, checkpoints and warm starts use it as
usual. Its tensors are views of the vectors that the compiled update receives, and whose result is
copied back, so that there is one copy of each number on the host.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from drillyard.learners.jax_engine.network import Network

if TYPE_CHECKING:
    import jax
    from stable_baselines3.common.policies import ActorCriticPolicy

SLOTS: dict[str, tuple[str, ...]] = {
    "Adam": ("exp_avg", "exp_avg_sq"),
    "AdamW": ("exp_avg", "exp_avg_sq"),
    "RMSprop": ("square_avg",),
}
"""Class in ``torch.optim`` -> state that it keeps for each parameter, in its shape."""


class Weights:
    """The flat vectors of a policy and its optimiser.

    Args:
        policy: A policy on the CPU, in float32; its parameters become views.
        network: The network of this policy.
    """

    def __init__(self, policy: ActorCriticPolicy, network: Network) -> None:
        self._policy, self._places = policy, network.places
        self._slots = SLOTS[type(policy.optimizer).__name__]
        self.state = np.zeros((1 + len(self._slots), network.size), np.float32)
        """The parameters, and below them the optimiser's state for each, in ``SLOTS``' order."""
        self.values = self.state[0]
        self.steps = np.zeros((), np.float32)
        """Number of steps of the optimiser so far."""
        begin = self.values.ctypes.data
        self._addresses = [begin + place.start * self.values.itemsize for place in network.places]
        self.adopt()
        self._bind(policy.optimizer)
        # Loading a checkpoint replaces the tensors of an optimiser.
        policy.optimizer.register_load_state_dict_post_hook(self._bind)

    def adopt(self) -> None:
        """Copy back parameters that were moved to other memory since the last call."""
        parameters = list(self._policy.parameters())
        for place, parameter, address in zip(
            self._places, parameters, self._addresses, strict=True
        ):
            if parameter.data_ptr() != address:
                here = self.values[place.start : place.stop]
                here[:] = parameter.detach().numpy().reshape(-1)
                parameter.data = torch.from_numpy(here).view(place.shape)

    def update(self, state: jax.Array, steps: jax.Array) -> None:
        """Copy the result of an update.

        Args:
            state: See ``state``.
            steps: See ``steps``.
        """
        np.copyto(self.state, state)
        self.steps[...] = steps

    def _bind(self, optimiser: torch.optim.Optimizer) -> None:
        for place, parameter in zip(self._places, self._policy.parameters(), strict=True):
            state = optimiser.state[parameter]
            if "step" in state:
                self.steps[...] = float(state["step"])
            state["step"] = torch.from_numpy(self.steps)
            for name, vector in zip(self._slots, self.state[1:], strict=True):
                here = vector[place.start : place.stop]
                if name in state:
                    here[:] = state[name].detach().numpy().reshape(-1)
                state[name] = torch.from_numpy(here).view(place.shape)
