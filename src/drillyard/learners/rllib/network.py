"""The acting part of RLlib's default network, built from its tensors without Ray.

Read against ray 2.60: ``DefaultPPOTorchRLModule`` (which IMPALA and APPO have too), its
``TorchDiagGaussian``, and ``unsquash_action``.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

import numpy as np
import torch
from gymnasium import spaces

from drillyard.learners.types import Space, Tensors

_ENCODERS = ("encoder.encoder", "encoder.actor_encoder")
"""The encoder that is shared with the value network, or the actor's own."""
_ACTIVATIONS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "tanh": torch.tanh,
    "relu": torch.relu,
    "silu": torch.nn.functional.silu,
    "swish": torch.nn.functional.silu,
    "linear": lambda x: x,
}


class Network:
    """A network with the interface of a policy of Stable-Baselines3.

    Args:
        observation: A Box of one dimension.
        action: Discrete, or a Box of one dimension with finite bounds.
        tensors: The tensors of the whole module, by RLlib's names.
        activation: ``fcnet_activation``.

    Raises:
        KeyError, ValueError: The tensors belong to another network.
    """

    def __init__(
        self,
        observation: Space,
        action: Space,
        tensors: Mapping[str, torch.Tensor],
        activation: str,
    ) -> None:
        assert isinstance(action, spaces.Box | spaces.Discrete)
        self.observation_space, self.action_space = observation, action
        self._activation = _ACTIVATIONS[activation]
        self.load_state_dict(tensors)

    def load_state_dict(self, tensors: Mapping[str, torch.Tensor]) -> None:
        """Load other weights."""
        self._tensors = dict(tensors)
        encoder = next(e for e in _ENCODERS if f"{e}.net.mlp.0.weight" in tensors)
        self._hidden, self._head = (_layers(tensors, p) for p in (encoder, "pi"))
        self._log_std_clip = float(tensors["pi.log_std_clip_param_const"])
        wide = (
            2 * len(self.action_space.low)
            if isinstance(self.action_space, spaces.Box)
            else (int(self.action_space.n))
        )
        sizes = self._hidden[0][0].shape[1], self._head[-1][0].shape[0]
        if sizes != ((self.observation_space.shape or (0,))[0], wide):
            raise ValueError(f"{sizes[0]} inputs and {sizes[1]} outputs")

    def state_dict(self) -> Tensors:
        """All tensors, including those of the value network."""
        return dict(self._tensors)

    def predict(
        self,
        observation: np.ndarray,
        state: None = None,
        episode_start: np.ndarray | None = None,
        deterministic: bool = False,
    ) -> tuple[np.ndarray, None]:
        """Actions in the space's own units.

        Args:
            observation: One observation, or a batch of them.
            state: Not used: the network has no memory.
            episode_start: Not used.
            deterministic: Act without exploration noise.
        """
        single = np.ndim(observation) == 1
        x = torch.as_tensor(np.asarray(observation, dtype=np.float32))
        with torch.no_grad():
            actions = self._actions(self.logits(x.reshape(-1, x.shape[-1])), deterministic)
        return (actions[0] if single else actions), None

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
