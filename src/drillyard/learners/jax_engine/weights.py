"""The parameters of a torch policy and the state of its optimiser, as flat vectors in its memory.

The policy stays torch's: evaluation, export, checkpoints and warm starts read and write it as
ever. Its tensors are views of the vectors that the compiled update is given and whose result is
copied back, so that there is one copy of each number on the host.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from drillyard.learners.jax_engine.network import Network

SLOTS: dict[str, tuple[str, ...]] = {
    "Adam": ("exp_avg", "exp_avg_sq"),
    "AdamW": ("exp_avg", "exp_avg_sq"),
    "RMSprop": ("square_avg",),
}
"""Class in ``torch.optim`` -> what it keeps for each parameter, in its shape."""


class Weights:
    """Flat vectors behind a policy and its optimiser.

    Args:
        policy: On the CPU, in float32; its parameters become views.
        network: Of this policy.
    """

    def __init__(self, policy: Any, network: Network) -> None:
        self._policy, self._places = policy, network.places
        self._slots = SLOTS[type(policy.optimizer).__name__]
        self.state = np.zeros((1 + len(self._slots), network.size), np.float32)
        """The parameters, and below them what the optimiser keeps of each, in ``SLOTS``' order."""
        self.values = self.state[0]
        self.steps = np.zeros((), np.float32)
        """Steps that the optimiser has taken."""
        begin = self.values.ctypes.data
        self._addresses = [begin + place.start * self.values.itemsize for place in network.places]
        self.adopt()
        self._bind(policy.optimizer)
        # Loading a checkpoint gives an optimiser tensors of its own.
        policy.optimizer.register_load_state_dict_post_hook(self._bind)

    def adopt(self) -> None:
        """Take in parameters that somebody gave other memory since the last time."""
        parameters = list(self._policy.parameters())
        for place, parameter, address in zip(
            self._places, parameters, self._addresses, strict=True
        ):
            if parameter.data_ptr() != address:
                here = self.values[place.start : place.stop]
                here[:] = parameter.detach().numpy().reshape(-1)
                parameter.data = torch.from_numpy(here).view(place.shape)

    def update(self, state: Any, steps: Any) -> None:
        """Copy in what an update has computed.

        Args:
            state: See ``state``.
            steps: See ``steps``.
        """
        np.copyto(self.state, state)
        self.steps[...] = steps

    def _bind(self, optimiser: Any) -> None:
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
