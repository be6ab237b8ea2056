"""The wrappers of Stable-Baselines3 that act on all copies of a simulator: frames and scales."""

from __future__ import annotations

import inspect
from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING

from gymnasium import spaces

from drillyard.documents.json_types import Json
from drillyard.documents.space_text import space_text
from drillyard.errors import ConfigError
from drillyard.spec.learning import Wrapper

if TYPE_CHECKING:
    from stable_baselines3.common.vec_env import VecEnv


def vec_wrapped(venv: VecEnv, wrapper: Wrapper, training: bool, gamma: float | None) -> VecEnv:
    """Wrap all copies of a simulator at once.

    Args:
        venv: The copies.
        wrapper: ``frame_stack`` or ``normalize``.
        training: Whether statistics are updated and rewards are scaled.
        gamma: The learner's discount, for the scale of rewards; None: the wrapper's default.

    Raises:
        ConfigError: The wrapper does not take these arguments or observations.
    """
    from stable_baselines3.common.vec_env import VecFrameStack, VecNormalize

    field, args = f"simulator.wrappers.{wrapper.name}", dict(wrapper.args)
    try:
        if wrapper.name == "frame_stack":
            refuse_names(args, ("n", "channels_order"), f"{field}.args")
            n = args.pop("n", 4)
            if isinstance(n, bool) or not isinstance(n, int) or n < 2:
                raise ConfigError("needs at least 2 frames", field=f"{field}.args.n", value=n)
            return VecFrameStack(venv, n_stack=n, **args)
        known = inspect.signature(VecNormalize).parameters
        settable = [name for name in known if name not in ("venv", "training")]
        refuse_names(args, settable, f"{field}.args")
        if gamma is not None:
            args.setdefault("gamma", gamma)
        if not training:
            args["norm_reward"] = False
        observation = venv.observation_space
        if args.get("norm_obs", True) and not isinstance(observation, spaces.Box | spaces.Dict):
            raise ConfigError(
                "cannot scale these observations",
                field=field,
                value=space_text(observation),
                allowed="observations of Box, or a Dict of them",
                hint="write `{name: normalize, args: {norm_obs: false}}` to scale rewards alone",
            )
        return VecNormalize(venv, training=training, **args)
    except (TypeError, ValueError, AssertionError) as error:
        raise ConfigError(str(error), field=field, value=wrapper.args) from error


def refuse_names(args: Mapping[str, Json], known: Collection[str], field: str) -> None:
    """Refuse arguments that do not exist.

    Args:
        args: Arguments by name.
        known: The names that exist.
        field: Where the file has them.

    Raises:
        ConfigError: With the nearest name.
    """
    for name, value in args.items():
        if name not in known:
            raise ConfigError("no such argument", field=f"{field}.{name}", value=value, keys=known)
