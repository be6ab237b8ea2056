"""Adapts the algorithms of SBX to the interface of Stable-Baselines3.

The classes of SBX are subclasses of Stable-Baselines3's; its networks and optimisers are trees of
JAX arrays. Here they appear as named tensors and plain trees, so that checkpoints, best policies
and the files of a result have the same form as those of the other engine, without a pickle. All
random keys are drawn from PyTorch's generator, which barriers seed and evaluations preserve.

Read against sbx-rl 0.28 and flax 0.12.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import jax
import numpy as np
import sbx
import torch
from flax import serialization

from drillyard.documents.json_types import Json, JsonObject
from drillyard.learners import sb3_build
from drillyard.learners.sb3_state import other_shapes
from drillyard.learners.types import Space, Tensors
from drillyard.simulators.state import State
from drillyard.spec.algorithms import engines

if TYPE_CHECKING:
    from flax.training.train_state import TrainState
    from stable_baselines3.common.base_class import BaseAlgorithm
    from stable_baselines3.common.policies import BasePolicy
    from stable_baselines3.common.vec_env import VecEnv

CLASSES: dict[str, type[BaseAlgorithm]] = {
    "ppo": sbx.PPO,
    "dqn": sbx.DQN,
    "ddpg": sbx.DDPG,
    "td3": sbx.TD3,
    "sac": sbx.SAC,
    "tqc": sbx.TQC,
    "crossq": sbx.CrossQ,
}
_STATES = ("actor_state", "qf_state", "qf1_state", "qf2_state", "vf_state")
"""Attributes of a policy: each a network with its optimiser."""
_OF_NETWORKS = ("params", "target_params", "batch_stats", "target_batch_stats")
_ENTROPY = "ent_coef_state"
Leaf: TypeAlias = "jax.Array | np.ndarray | bool | int | float | None"
Tree: TypeAlias = "Leaf | Mapping[str, Tree]"
"""A leaf, or a mapping of trees, as flax converts a state."""


def build(
    algorithm: str, args: Mapping[str, Json], venv: VecEnv, seed: int | None, device: str
) -> BaseAlgorithm:
    """Build a model.

    Args:
        algorithm: Name of an algorithm of SBX.
        args: ``learner.args``, checked.
        venv: The copies of the simulator.
        seed: The seed of the run; None leaves the random numbers of the process unchanged.
        device: ``cpu`` or ``cuda``.
    """
    if device == "cpu":
        jax.config.update("jax_platforms", "cpu")
    filled = engines.filled(algorithm, args)
    kwargs = _for_jax(filled.pop("policy_kwargs"))
    arguments = sb3_build.arguments(filled, venv.action_space) | {"policy_kwargs": kwargs}
    if arguments.get("ent_coef") is not None and not isinstance(arguments["ent_coef"], str):
        arguments["ent_coef"] = float(arguments["ent_coef"])  # SBX refuses an integer
    kind = type(algorithm, (_Model, CLASSES[algorithm]), {})
    return kind(_policy_class(algorithm), venv, seed=seed, verbose=0, **arguments)


def untrained_policy(
    algorithm: str, args: Mapping[str, Json], observation: Space, action: Space
) -> BasePolicy:
    """Builds the network of an algorithm, to load known weights into.

    Args:
        algorithm: Name of an algorithm of SBX.
        args: ``learner.args``.
        observation: The observation space that it was trained for.
        action: Its action space.
    """
    jax.config.update("jax_platforms", "cpu")
    kwargs = _for_jax(engines.filled(algorithm, args)["policy_kwargs"])
    if algorithm == "ddpg":
        kwargs = {"n_critics": 1, **kwargs}  # as its constructor does
    policy = _policy_class(algorithm)(observation, action, lambda _: 0.0, **kwargs)
    rates = [] if algorithm == "dqn" else [0.0]  # for a second optimiser, or a limit of gradients
    policy.build(jax.random.PRNGKey(0), lambda _: 0.0, *rates)
    return policy


def _for_jax(policy_kwargs: sb3_build.Kwargs) -> sb3_build.Kwargs:
    if "activation_fn" not in policy_kwargs:
        return dict(policy_kwargs)
    function = getattr(jax.nn, str(engines.activation(policy_kwargs["activation_fn"])))
    return policy_kwargs | {"activation_fn": function}


def _policy_class(algorithm: str) -> type[BasePolicy]:
    base = CLASSES[algorithm].policy_aliases["MlpPolicy"]
    return type(base.__name__, (_Networks, base), {})


def _key() -> np.ndarray:
    """A key of JAX, from PyTorch's generator."""
    return torch.randint(2**32, (2,)).numpy().astype(np.uint32)


class _Networks:
    """A policy whose networks have the interface of PyTorch's."""

    noise_key: np.ndarray

    def reset_noise(self, batch_size: int = 1) -> None:
        """Draw a new key for the next actions."""
        self.noise_key = _key()

    def state_dict(self, *_: object, **__: object) -> Tensors:
        """Copies of all arrays of its networks by name."""
        return {name: _tensor(leaf) for name, leaf in self._leaves(_OF_NETWORKS)}

    def load_state_dict(
        self, tensors: Mapping[str, torch.Tensor], *_: object, **__: object
    ) -> None:
        """Put arrays back.

        Raises:
            ValueError: They belong to other networks.
        """
        for name, here, then in other_shapes(self.state_dict(), tensors):
            raise ValueError(f"{name} is {then} in the given weights, and {here} in this network")
        for name, state in self._states():
            tree = serialization.to_state_dict(state)
            parts = {p: tree[p] for p in _OF_NETWORKS if p in tree}
            changed = {p: _replaced(part, f"{name}.{p}", tensors) for p, part in parts.items()}
            setattr(self, name, serialization.from_state_dict(state, tree | changed))

    def named_parameters(
        self, *_: object, **__: object
    ) -> Iterator[tuple[str, torch.nn.Parameter]]:
        """Copies of the parameters that are learned."""
        for name, leaf in self._leaves(("params",)):
            yield name, torch.nn.Parameter(_tensor(leaf))

    def parameters(self, *_: object, **__: object) -> Iterator[torch.nn.Parameter]:
        """See ``named_parameters``."""
        return (parameter for _, parameter in self.named_parameters())

    def _leaves(self, parts: tuple[str, ...]) -> Iterator[tuple[str, Leaf]]:
        for name, state in self._states():
            tree = serialization.to_state_dict(state)
            for part in (p for p in parts if p in tree):
                yield from _flat(f"{name}.{part}", tree[part])

    def _states(self) -> list[tuple[str, TrainState]]:
        return [(name, getattr(self, name)) for name in _STATES if hasattr(self, name)]


class _Holder(NamedTuple):
    """An object with a ``TrainState``, and the name of that attribute."""

    name: str
    owner: BasePolicy | BaseAlgorithm


class _Optimisers:
    """Everything that learns in a model except its networks, as one tree of arrays."""

    def __init__(self, model: BaseAlgorithm) -> None:
        self._model = model

    def _holders(self) -> list[_Holder]:
        policy = self._model.policy
        holders = [_Holder(name, policy) for name, _ in policy._states()]
        if hasattr(self._model, _ENTROPY):
            holders.append(_Holder(_ENTROPY, self._model))
        return holders

    def state_dict(self) -> State:
        """The optimisers and their steps, and the value of the entropy coefficient."""
        whole = {n: serialization.to_state_dict(getattr(o, n)) for n, o in self._holders()}
        return {
            name: _arrays(
                {k: v for k, v in tree.items() if name == _ENTROPY or k not in _OF_NETWORKS}
            )
            for name, tree in whole.items()
        }

    def load_state_dict(self, trees: State) -> None:
        """Put the optimisers back.

        Raises:
            ValueError: They belong to other networks.
        """
        for name, owner in self._holders():
            state = getattr(owner, name)
            tree = serialization.to_state_dict(state)
            now = dict(_flat(name, {k: tree[k] for k in trees[name]}))
            for leaf, here, then in other_shapes(now, dict(_flat(name, trees[name]))):
                raise ValueError(f"{leaf} is {then} in the given state, and {here} in this model")
            setattr(owner, name, serialization.from_state_dict(state, tree | trees[name]))


class _Model:
    """An algorithm that is saved and described as Stable-Baselines3's are."""

    library = engines.SBX
    policy: BasePolicy

    def train(self, *args: Any, **kwargs: Any) -> None:
        """Train as SBX does, with a new key."""
        self.key = _key()
        super().train(*args, **kwargs)  # type: ignore[misc]

    @property
    def optimisers(self) -> _Optimisers:
        """See ``_Optimisers``."""
        return _Optimisers(self)

    def _get_torch_save_params(self) -> tuple[list[str], list[str]]:
        return ["policy", "optimisers"], []

    def described(self) -> JsonObject:
        """The parameters that ``sb3_build.describe`` does not find as in PyTorch's models."""
        policy = self.policy
        parameters: JsonObject = {
            "engine": engines.SBX,
            "device": jax.default_backend(),
            "net_arch": _widths(policy),
            "optimizer_class": policy.optimizer_class.__name__,
            "activation_fn": policy.activation_fn.__name__,
        }
        if hasattr(self, "ent_coef_init"):
            parameters["ent_coef"] = self.ent_coef_init
        if hasattr(policy, "top_quantiles_to_drop_per_net"):
            dropped = policy.top_quantiles_to_drop_per_net
            parameters["top_quantiles_to_drop_per_net"] = dropped
        return parameters


def _widths(policy: BasePolicy) -> Json:
    if hasattr(policy, "n_units"):
        return [policy.n_units, policy.n_units]
    parts: JsonObject = {
        part: list(getattr(policy, f"net_arch_{part}"))
        for part in ("pi", "qf", "vf")
        if hasattr(policy, f"net_arch_{part}")
    }
    same = all(widths == parts["pi"] for widths in parts.values())
    return parts["pi"] if same else parts


def _flat(name: str, tree: Tree) -> Iterator[tuple[str, Leaf]]:
    if not isinstance(tree, Mapping):
        yield name, tree
        return
    for key, value in tree.items():
        yield from _flat(f"{name}.{key}", value)


def _tensor(leaf: Leaf) -> torch.Tensor:
    return torch.from_numpy(np.array(leaf))


def _replaced(tree: Tree, name: str, tensors: Mapping[str, torch.Tensor]) -> Tree:
    if not isinstance(tree, Mapping):
        return jax.numpy.asarray(tensors[name].cpu().numpy())
    return {key: _replaced(value, f"{name}.{key}", tensors) for key, value in tree.items()}


def _arrays(tree: Tree) -> Tree:
    if isinstance(tree, Mapping):
        return {key: _arrays(value) for key, value in tree.items()}
    return tree if isinstance(tree, bool | int | float) or tree is None else np.array(tree)
