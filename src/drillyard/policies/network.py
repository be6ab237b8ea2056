"""A trained network as one function of tensors: normalisation and the action's scale are in it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
import torch
from gymnasium import spaces
from stable_baselines3.common import distributions as d
from stable_baselines3.common.policies import ActorCriticPolicy, BasePolicy

from drillyard.agents.playing import takes_masks
from drillyard.documents.space_text import space_text
from drillyard.errors import UserError
from drillyard.simulators.types import Observation

Noise = Literal["normal", "gumbel", "logistic"]
Seen: TypeAlias = torch.Tensor | dict[str, torch.Tensor]
"""Observations; by key where the space is a Dict."""


@dataclass(frozen=True)
class Signature:
    """The inputs besides observations, and the outputs besides actions."""

    noise: Noise | None
    """Distribution of the input ``noise``, ``(batch, noise_size)``; zeros: deterministic. None:
    the policy has no randomness."""
    noise_size: int
    memory: tuple[int, int] | None
    """(layers, width) of the inputs and outputs ``hidden`` and ``cell``, ``(layers, batch,
    width)``; zeros where an episode begins. None: it remembers nothing."""
    masks: int | None
    """Width of the input ``masks``, ``(batch, n)``, 1 where an action is possible; None: no."""


class Plain(torch.nn.Module):
    """From raw observations to actions as the simulator takes them.

    Args:
        policy: The network, with its weights.
        statistics: ``normalisation.npz``, None where there is none.

    Raises:
        UserError: It cannot be written as one function; says why.
    """

    def __init__(self, policy: BasePolicy, statistics: Mapping[str, np.ndarray] | None) -> None:
        super().__init__()
        self.policy = policy
        self.keys = (
            list(policy.observation_space.spaces)
            if isinstance(policy.observation_space, spaces.Dict)
            else None
        )
        self._statistics = _folded(policy.observation_space, statistics or {})
        self.signature = _signature(policy)

    def forward(self, *inputs: torch.Tensor) -> torch.Tensor | tuple[torch.Tensor, ...]:
        """Observations (in the order of ``keys``), then noise, hidden, cell, masks."""
        rest = list(inputs)
        if self.keys is None:
            seen: Seen = self._normalised("", rest.pop(0))
        else:
            seen = {key: self._normalised(f".{key}", rest.pop(0)) for key in self.keys}
        noise = rest.pop(0) if self.signature.noise is not None else None
        if self.signature.memory is not None:
            hidden, cell = rest
            latent, memory = self._remember(seen, hidden, cell)
            distribution = self.policy._get_action_dist_from_latent(latent)
            return (self._scaled(_sample(distribution, noise, None)), *memory)
        if isinstance(self.policy, ActorCriticPolicy) or takes_masks(self.policy):
            masks = rest.pop(0) if self.signature.masks is not None else None
            return self._scaled(_sample(self.policy.get_distribution(seen), noise, masks))
        if noise is not None:
            return self._scaled(self._squashed(seen, noise))
        return self._scaled(self.policy._predict(seen, deterministic=True))

    def _normalised(self, suffix: str, seen: torch.Tensor) -> torch.Tensor:
        if suffix not in self._statistics:
            return seen
        mean, scale, clip = self._statistics[suffix]
        # As VecNormalize does, in double precision.
        return torch.clamp((seen.double() - mean) / scale, -clip, clip).float()

    def _remember(
        self, seen: Seen, hidden: torch.Tensor, cell: torch.Tensor
    ) -> tuple[torch.Tensor, tuple[torch.Tensor, torch.Tensor]]:
        features = self.policy.extract_features(seen)
        if isinstance(features, tuple):
            features = features[0]
        latent, memory = self.policy.lstm_actor(features.unsqueeze(0), (hidden, cell))
        return self.policy.mlp_extractor.forward_actor(latent.squeeze(0)), memory

    def _squashed(self, seen: Seen, noise: torch.Tensor) -> torch.Tensor:
        """Soft actors: a Gaussian through a hyperbolic tangent."""
        actor = self.policy.actor
        mean, log_std, more = actor.get_action_dist_params(seen)
        if more:
            distribution = actor.action_dist.proba_distribution(mean, log_std, **more)
            return torch.tanh(mean + distribution.distribution.stddev * noise)
        return torch.tanh(mean + log_std.exp() * noise)

    def _scaled(self, action: torch.Tensor) -> torch.Tensor:
        space = self.policy.action_space
        if not isinstance(space, spaces.Box):
            return action
        low, high = torch.as_tensor(space.low), torch.as_tensor(space.high)
        if self.policy.squash_output:
            return low + 0.5 * (action + 1.0) * (high - low)
        return torch.minimum(torch.maximum(action, low), high)


def _sample(
    found: d.Distribution, noise: torch.Tensor | None, masks: torch.Tensor | None
) -> torch.Tensor:
    """The mode of a distribution where the noise is zero, and a sample where it is drawn."""
    if isinstance(found, d.DiagGaussianDistribution | d.StateDependentNoiseDistribution):
        return found.distribution.mean + found.distribution.stddev * noise  # type: ignore[no-any-return]
    if isinstance(found, d.BernoulliDistribution):
        return (found.distribution.logits + noise > 0).to(torch.int64)  # type: ignore[no-any-return]
    if isinstance(found.distribution, list):
        assert noise is not None
        parts, start = [], 0
        for each in found.distribution:
            n = each.logits.shape[-1]
            parts.append((each.logits + noise[:, start : start + n]).argmax(dim=1))
            start += n
        return torch.stack(parts, dim=1)
    logits = found.distribution.logits + noise
    if masks is not None:
        logits = torch.where(masks > 0, logits, torch.full_like(logits, -1e8))
    return logits.argmax(dim=1)  # type: ignore[no-any-return]


def _signature(policy: BasePolicy) -> Signature:
    space = policy.action_space
    lstm = getattr(policy, "lstm_actor", None)
    memory = None if lstm is None else (int(lstm.num_layers), int(lstm.hidden_size))
    masked = takes_masks(policy)
    if masked and not isinstance(space, spaces.Discrete):
        raise UserError(
            f"a policy with masks over {space_text(space)} cannot be exported to ONNX: the masks "
            "are not one row of actions",
            hint="use --format safetensors",
        )
    masks = int(space.n) if masked else None
    random = (
        isinstance(policy, ActorCriticPolicy)
        or masked
        or hasattr(getattr(policy, "actor", None), "get_action_dist_params")
    )
    if not random:
        return Signature(None, 0, memory, masks)
    if isinstance(space, spaces.Box):
        return Signature("normal", int(np.prod(space.shape)), memory, masks)
    if isinstance(space, spaces.MultiBinary):
        return Signature("logistic", int(np.prod(space.shape)), memory, masks)
    size = int(space.nvec.sum()) if isinstance(space, spaces.MultiDiscrete) else int(space.n)
    return Signature("gumbel", size, memory, masks)


def _folded(
    observation: spaces.Space[Observation], statistics: Mapping[str, np.ndarray]
) -> dict[str, tuple[torch.Tensor, torch.Tensor, float]]:
    """Suffix of an input -> (mean, scale, clip)."""
    parts = observation.spaces if isinstance(observation, spaces.Dict) else {"": observation}
    folded = {}
    for key, space in parts.items():
        suffix = f".{key}" if isinstance(observation, spaces.Dict) else ""
        mean = statistics.get(f"obs_mean{suffix}")
        if mean is None:
            continue
        if mean.shape != space.shape:
            raise UserError(
                f"the normalisation is of observations {mean.shape}, and the policy sees "
                f"{space.shape}: frames were stacked after it, and a missing frame is a zero of "
                "the normalised observation",
                hint="train with `frame_stack` before `normalize`, or use --format safetensors",
            )
        scale = np.sqrt(statistics[f"obs_var{suffix}"] + float(statistics["epsilon"][0]))
        clip = float(statistics["clip_obs"][0])
        folded[suffix] = (torch.as_tensor(mean), torch.as_tensor(scale), clip)
    return folded
