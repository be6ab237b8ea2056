"""Networks for images that are too small for the one of Mnih et al. (2015), ``nature_cnn``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from gymnasium import spaces
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor, CombinedExtractor
from torch import nn

from drillyard.spec.algorithms.networks import has_small_image, takes_small_network


class SmallCnn(BaseFeaturesExtractor):  # type: ignore[misc]
    """Three convolutions of 3x3 with padding, so that an image of any size fits.

    The second and the third one halve rows and columns.

    Args:
        observation_space: The image, channels first.
        features_dim: Width of the output.
        normalized_image: Pixels are already scaled; see Stable-Baselines3's ``NatureCNN``.
    """

    def __init__(
        self,
        observation_space: spaces.Box,
        features_dim: int = 256,
        normalized_image: bool = False,
    ) -> None:
        super().__init__(observation_space, features_dim)
        del normalized_image
        channels = observation_space.shape[0]
        self.cnn = nn.Sequential(
            nn.Conv2d(channels, 32, 3, stride=1, padding=1),
            nn.ReLU(),
            nn.Conv2d(32, 64, 3, stride=2, padding=1),
            nn.ReLU(),
            nn.Conv2d(64, 64, 3, stride=2, padding=1),
            nn.ReLU(),
            nn.Flatten(),
        )
        with torch.no_grad():
            width = self.cnn(torch.zeros(1, *observation_space.shape)).shape[1]
        self.linear = nn.Sequential(nn.Linear(width, features_dim), nn.ReLU())

    def forward(self, observations: torch.Tensor) -> torch.Tensor:
        """Returns the features of a batch of images."""
        features: torch.Tensor = self.linear(self.cnn(observations))
        return features


class SmallCombined(CombinedExtractor):  # type: ignore[misc]
    """Stable-Baselines3's for mappings, with ``SmallCnn`` for the images that are small.

    Args:
        observation_space: The mapping.
        cnn_output_dim: Width of the output for each image.
        normalized_image: See ``SmallCnn``.
    """

    def __init__(
        self,
        observation_space: spaces.Dict,
        cnn_output_dim: int = 256,
        normalized_image: bool = False,
    ) -> None:
        large = {
            key: spaces.Box(-1.0, 1.0, (1,)) if has_small_image(part) else part
            for key, part in observation_space.spaces.items()
        }
        super().__init__(spaces.Dict(large), cnn_output_dim, normalized_image)
        self._observation_space = observation_space
        for key, part in observation_space.spaces.items():
            if isinstance(part, spaces.Box) and has_small_image(part):
                self.extractors[key] = SmallCnn(part, cnn_output_dim, normalized_image)
                self._features_dim += cnn_output_dim - 1


def fitted(policy: str, args: Mapping[str, Any], observation: spaces.Space[Any]) -> dict[str, Any]:
    """Returns the ``policy_kwargs`` that small images need, {} if there are none.

    Args:
        policy: Name of the policy.
        args: ``learner.args``.
        observation: The observation space, channels first or last.
    """
    if not takes_small_network(policy, args, observation):
        return {}
    mapping = isinstance(observation, spaces.Dict)
    return {"features_extractor_class": SmallCombined if mapping else SmallCnn}
