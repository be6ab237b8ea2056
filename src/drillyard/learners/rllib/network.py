"""The acting part of RLlib's default network, from its tensors alone: no Ray to play or serve.

Read against ray 2.60: ``DefaultPPOTorchRLModule`` (which IMPALA and APPO have too), its
``TorchDiagGaussian``, and ``unsquash_action``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from gymnasium import spaces

_ENCODERS = ("encoder.encoder", "encoder.actor_encoder")
"""Shared with the value's, or its own."""
_ACTIVATIONS = {
    "tanh": torch.tanh,
    "relu": torch.relu,
    "silu": torch.nn.functional.silu,
    "swish": torch.nn.functional.silu,
    "linear": lambda x: x,
}


class Network:
    """Stands where a policy of Stable-Baselines3 does.

    Args:
        observation: A Box of one dimension.
        action: Discrete, or a Box of one dimension with finite bounds.
        tensors: Of the whole module, by RLlib's names.
        activation: ``fcnet_activation``.

    Raises:
        KeyError, ValueError: The tensors are those of another network.
    """

    def __init__(
        self,
        observation: Any,
        action: Any,
        tensors: Mapping[str, torch.Tensor],
        activation: str,
    ) -> None:
        self.observation_space, self.action_space = observation, action
        self._activation: Any = _ACTIVATIONS[activation]
        self.load_state_dict(tensors)

    def load_state_dict(self, tensors: Mapping[str, torch.Tensor]) -> None:
        """Other weights."""
        self._tensors = dict(tensors)
        encoder = next(e for e in _ENCODERS if f"{e}.net.mlp.0.weight" in tensors)
        self._hidden, self._head = (_layers(tensors, p) for p in (encoder, "pi"))
        self._log_std_clip = float(tensors["pi.log_std_clip_param_const"])
        wide = (
            2 * len(self.action_space.low)
            if isinstance(self.action_space, spaces.Box)
            else (int(self.action_space.n))
        )
        seen = self._hidden[0][0].shape[1], self._head[-1][0].shape[0]
        if seen != (self.observation_space.shape[0], wide):
            raise ValueError(f"{seen[0]} inputs and {seen[1]} outputs")

    def state_dict(self) -> dict[str, torch.Tensor]:
        """All tensors, those of the value too."""
        return dict(self._tensors)

    def predict(
        self,
        observation: Any,
        state: Any = None,
        episode_start: Any = None,
        deterministic: bool = False,
    ) -> tuple[np.ndarray, None]:
        """Actions in the space's own units.

        Args:
            observation: One, or a batch of them.
            state: It remembers nothing.
            episode_start: The same.
            deterministic: Without exploration noise.
        """
        one = np.ndim(observation) == 1
        x = torch.as_tensor(np.asarray(observation, dtype=np.float32))
        with torch.no_grad():
            actions = self._actions(self.logits(x.reshape(-1, x.shape[-1])), deterministic)
        return (actions[0] if one else actions), None

    def logits(self, x: torch.Tensor) -> torch.Tensor:
        """Inputs of the distribution of actions, ``(batch, n)``."""
        for weight, bias in self._hidden:
            x = self._activation(torch.nn.functional.linear(x, weight, bias))
        for weight, bias in self._head:
            x = torch.nn.functional.linear(x, weight, bias)
        return x

    def _actions(self, logits: torch.Tensor, deterministic: bool) -> np.ndarray:
        space = self.action_space
        if isinstance(space, spaces.Discrete):
            chosen = (
                logits.argmax(-1)
                if deterministic
                else torch.multinomial(logits.softmax(-1), 1).squeeze(-1)
            )
            return chosen.numpy() + int(space.start)
        mean, log_std = logits.chunk(2, -1)
        if not deterministic:
            spread = log_std.clamp(-self._log_std_clip, self._log_std_clip).exp()
            mean = torch.normal(mean, spread)
        scaled = space.low + (mean.numpy() + 1.0) * (space.high - space.low) / 2.0
        return np.asarray(np.clip(scaled, space.low, space.high), dtype=space.dtype)


def _layers(
    tensors: Mapping[str, torch.Tensor], part: str
) -> list[tuple[torch.Tensor, torch.Tensor]]:
    pattern = re.compile(rf"{re.escape(part)}\.net\.mlp\.(\d+)\.weight\Z")
    numbers = sorted(int(m[1]) for name in tensors if (m := pattern.match(name)))
    if not numbers:
        raise KeyError(part)
    return [
        (tensors[f"{part}.net.mlp.{n}.weight"], tensors[f"{part}.net.mlp.{n}.bias"])
        for n in numbers
    ]
