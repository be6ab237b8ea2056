"""Presents a simulator's spaces in the form that learners take.

Stable-Baselines3 takes Box, Discrete, MultiDiscrete and MultiBinary with one axis that count from
0, and a Dict of these. A simulator may have nested mappings and tuples, several axes, and counts
that start elsewhere. Each such space has one flat form, and nothing is lost.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from gymnasium import spaces

from drillyard.errors import SpaceMismatch
from drillyard.simulators.observation_wrappers import ObservationLayer
from drillyard.simulators.state import Stateless
from drillyard.simulators.types import Action, Env, Observation, StepResult

Space = spaces.Space[Any]
Convert = Callable[[Any], Any]
SEPARATOR = "/"
"""Between the keys of a nested observation. PyTorch allows no dot in the name of a part."""
_LEAVES = "Box, Discrete, MultiDiscrete, MultiBinary, and any nesting of Dict and Tuple of these"


class FlattenSpaces(Stateless, ObservationLayer):
    """Flattens the observations of a simulator, and gives it actions in its own form.

    Args:
        env: What to wrap; ``needs_flattening(env)`` says whether that changes anything.

    Raises:
        SpaceMismatch: An observation that no learner takes, such as Text; names the part.
    """

    def __init__(self, env: Env) -> None:
        super().__init__(env)
        self.observation_space, self._seen = _observation(env.observation_space)
        self.action_space, _, self._done = _flat(env.action_space)

    def _see(self, observation: Observation) -> Any:
        return self._seen(observation)

    def step(self, action: Action) -> StepResult:
        """Steps once."""
        return super().step(self._done(action))


def flattened(env: Env) -> Env:
    """Returns the environment itself if its spaces are flat, else inside ``FlattenSpaces``.

    Raises:
        SpaceMismatch: See ``FlattenSpaces``.
    """
    return FlattenSpaces(env) if needs_flattening(env) else env


def needs_flattening(env: Env) -> bool:
    """Returns whether ``FlattenSpaces`` would change anything.

    Raises:
        SpaceMismatch: See ``FlattenSpaces``.
    """
    observation, _ = _observation(env.observation_space)
    action = _flat(env.action_space).space
    return observation is not env.observation_space or action is not env.action_space


def _observation(space: Space) -> tuple[Space, Convert]:
    """The flat form of an observation space, and the function that converts to it."""
    if not isinstance(space, spaces.Dict | spaces.Tuple):
        return _leaf(space, "the observation")[:2]
    parts = _parts(space)
    if not parts:
        raise _refused("the observation", f"an empty {type(space).__name__}", "")
    flat: dict[str, Space] = {}
    ways: dict[str, tuple[Convert, Convert]] = {}
    good = [key for key, part, _ in parts if isinstance(part, _KINDS)]
    for key, part, take in parts:
        if key in flat:
            raise SpaceMismatch(
                f"two parts of the observation are both called {key!r} when they are flattened",
                field="simulator.id",
                allowed="keys without a slash",
                hint="rename one of the keys in the simulator",
            )
        if not isinstance(part, _KINDS):
            raise _refused(f"the part {key!r}", f"a {type(part).__name__}", _filter(space, good))
        flat[key], convert, _ = _leaf(part, f"the part {key!r}")
        ways[key] = (take, convert)
    plain = isinstance(space, spaces.Dict) and all(
        space.spaces.get(key) is part for key, part in flat.items()
    )
    if plain:
        return space, _same

    def converted(observation: Any) -> dict[str, Any]:
        return {key: convert(take(observation)) for key, (take, convert) in ways.items()}

    return spaces.Dict(flat), converted


_KINDS = (spaces.Box, spaces.Discrete, spaces.MultiDiscrete, spaces.MultiBinary)


def _parts(space: Space, above: str = "") -> list[tuple[str, Space, Convert]]:
    """(key, space, function from the whole observation to the part) of each leaf."""
    if isinstance(space, spaces.Dict):
        inner: list[tuple[Any, Space]] = list(space.spaces.items())
    elif isinstance(space, spaces.Tuple):
        inner = list(enumerate(space.spaces))
    else:
        return [(above, space, _same)]
    leaves = []
    for key, part in inner:
        name = str(key).replace(".", SEPARATOR)
        path = f"{above}{SEPARATOR}{name}" if above else name
        for leaf, leaf_space, take in _parts(part, path):
            leaves.append((leaf, leaf_space, _taking(key, take)))
    return leaves


def _taking(key: Any, then: Convert) -> Convert:
    return lambda observation: then(observation[key])


def _same(value: Any) -> Any:
    return value


class _Form(NamedTuple):
    """The flat form of a space, and the functions to it and back."""

    space: Space
    seen: Convert = _same
    done: Convert = _same


def _leaf(space: Space, what: str) -> _Form:
    """The flat form of a space without parts."""
    if not isinstance(space, _KINDS):
        raise _refused(what, f"a {type(space).__name__}", "")
    if math.prod(space.shape or ()) == 0:
        raise _refused(what, f"an empty {type(space).__name__} {space.shape}", "")
    return _flat(space)


def _flat(space: Space) -> _Form:
    """The form that learners have; a space of another kind stays as it is."""
    if isinstance(space, spaces.Discrete) and space.start != 0:
        first = int(space.start)
        counted = spaces.Discrete(int(space.n))
        return _Form(counted, lambda v: int(v) - first, lambda action: np.int64(action) + first)
    if isinstance(space, spaces.MultiDiscrete):
        start, shape = np.asarray(space.start), space.shape
        if start.any() or start.ndim > 1:
            return _Form(
                spaces.MultiDiscrete(np.asarray(space.nvec).ravel(), dtype=_type(space)),
                lambda value: (np.asarray(value) - start).ravel().astype(space.dtype),
                lambda action: (np.reshape(action, shape) + start).astype(space.dtype),
            )
    if isinstance(space, spaces.MultiBinary) and len(space.shape) > 1:
        return _Form(
            spaces.MultiBinary(math.prod(space.shape)),
            lambda value: np.asarray(value).ravel(),
            lambda action: np.reshape(action, space.shape).astype(space.dtype),
        )
    if isinstance(space, spaces.Box) and space.shape == ():
        return _Form(
            spaces.Box(space.low.reshape(1), space.high.reshape(1), (1,), _type(space)),
            lambda value: np.reshape(value, 1),
            lambda action: np.reshape(action, ()).astype(space.dtype),
        )
    return _Form(space)


def _type(space: Space) -> Any:
    assert space.dtype is not None
    return space.dtype.type


def _filter(space: Space, good: list[str]) -> str:
    """The wrapper that leaves the other parts, where there is one."""
    if not isinstance(space, spaces.Dict) or not good:
        return ""
    kept = ", ".join(dict.fromkeys(key.partition(SEPARATOR)[0] for key in good))
    return (
        "leave it out: simulator.wrappers: [{name: gymnasium.wrappers:FilterObservation, "
        f"args: {{filter_keys: [{kept}]}}}}]"
    )


def _refused(what: str, kind: str, fix: str) -> SpaceMismatch:
    return SpaceMismatch(
        f"{what} is {kind}, and no learner takes that",
        field="simulator.id",
        allowed=_LEAVES,
        hint=fix
        or "give numbers instead: change the simulator, or wrap it "
        "(simulator.wrappers: [my_module:MyObservationWrapper])",
    )
