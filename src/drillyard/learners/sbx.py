"""Algorithms of SBX, made to stand where Stable-Baselines3's do.

SBX descends from Stable-Baselines3's classes; its networks and optimisers are trees of JAX arrays.
Here they show themselves as named tensors and plain trees, so that checkpoints, best policies and
the files of a result are those of the other engine, without a pickle. All random keys are drawn
from PyTorch's generator, which barriers seed anew and evaluations leave as it was.

Read against sbx-rl 0.28 and flax 0.12.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import jax
import numpy as np
import sbx
import torch
from flax import serialization

from drillyard.learners import sb3_build
from drillyard.spec.algorithms import engines

CLASSES: dict[str, Any] = {
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

Tree = dict[str, Any]


def build(
    algorithm: str, args: Mapping[str, Any], venv: Any, seed: int | None, device: str
) -> Any:
    """Build a model.

    Args:
        algorithm: A name that SBX has.
        args: ``learner.args``, checked.
        venv: The copies of the simulator.
        seed: Of the run; None leaves the process's random numbers alone.
        device: ``cpu`` or ``cuda``.
    """
    if device == "cpu":
        jax.config.update("jax_platforms", "cpu")
    filled = engines.filled(algorithm, args)
    kwargs = _for_jax(filled.pop("policy_kwargs"))
    made = sb3_build.arguments(filled, venv.action_space) | {"policy_kwargs": kwargs}
    if made.get("ent_coef") is not None and not isinstance(made["ent_coef"], str):
        made["ent_coef"] = float(made["ent_coef"])  # SBX takes an integer for a mistake
    kind = type(algorithm, (_Model, CLASSES[algorithm]), {})
    return kind(_policy_class(algorithm), venv, seed=seed, verbose=0, **made)


def untrained_policy(algorithm: str, args: Mapping[str, Any], seen: Any, acted: Any) -> Any:
    """The network of an algorithm, for weights that are known.

    Args:
        algorithm: A name that SBX has.
        args: ``learner.args``.
        seen: Observation space that it was trained for.
        acted: Its action space.
    """
    jax.config.update("jax_platforms", "cpu")
    kwargs = _for_jax(engines.filled(algorithm, args)["policy_kwargs"])
    if algorithm == "ddpg":
        kwargs = {"n_critics": 1, **kwargs}  # as its constructor puts in
    policy = _policy_class(algorithm)(seen, acted, lambda _: 0.0, **kwargs)
    rates = [] if algorithm == "dqn" else [0.0]  # of a second optimiser, or a limit of gradients
    policy.build(jax.random.PRNGKey(0), lambda _: 0.0, *rates)
    return policy


def _for_jax(policy_kwargs: Tree) -> Tree:
    if "activation_fn" not in policy_kwargs:
        return dict(policy_kwargs)
    function = getattr(jax.nn, str(engines.activation(policy_kwargs["activation_fn"])))
    return policy_kwargs | {"activation_fn": function}


def _policy_class(algorithm: str) -> Any:
    base = CLASSES[algorithm].policy_aliases["MlpPolicy"]
    return type(base.__name__, (_Networks, base), {})


def _key() -> np.ndarray:
    """A key of JAX, from PyTorch's generator."""
    return torch.randint(2**32, (2,)).numpy().astype(np.uint32)


class _Networks:
    """A policy whose networks show themselves as PyTorch's do."""

    noise_key: Any

    def reset_noise(self, batch_size: int = 1) -> None:
        """A new key for the next actions."""
        self.noise_key = _key()

    def state_dict(self, *_: Any, **__: Any) -> dict[str, torch.Tensor]:
        """Every array of its networks by name, copied."""
        return {name: _tensor(leaf) for name, leaf in self._leaves(_OF_NETWORKS)}

    def load_state_dict(self, tensors: Mapping[str, torch.Tensor], *_: Any, **__: Any) -> None:
        """Put arrays back.

        Raises:
            ValueError: They are those of other networks.
        """
        now = self.state_dict()
        for name in sorted({*now, *tensors}):
            then, here = (tuple(t[name].shape) if name in t else None for t in (tensors, now))
            if then != here:
                raise ValueError(f"{name} is {then} there, and {here} here")
        for name, state in self._states():
            tree = serialization.to_state_dict(state)
            parts = {p: tree[p] for p in _OF_NETWORKS if p in tree}
            changed = {p: _replaced(part, f"{name}.{p}", tensors) for p, part in parts.items()}
            setattr(self, name, serialization.from_state_dict(state, tree | changed))

    def named_parameters(self, *_: Any, **__: Any) -> Iterator[tuple[str, torch.nn.Parameter]]:
        """What is learned, copied."""
        for name, leaf in self._leaves(("params",)):
            yield name, torch.nn.Parameter(_tensor(leaf))

    def parameters(self, *_: Any, **__: Any) -> Iterator[torch.nn.Parameter]:
        """See ``named_parameters``."""
        return (parameter for _, parameter in self.named_parameters())

    def _leaves(self, parts: tuple[str, ...]) -> Iterator[tuple[str, Any]]:
        for name, state in self._states():
            tree = serialization.to_state_dict(state)
            for part in (p for p in parts if p in tree):
                yield from _flat(f"{name}.{part}", tree[part])

    def _states(self) -> list[tuple[str, Any]]:
        return [(name, getattr(self, name)) for name in _STATES if hasattr(self, name)]


class _Optimisers:
    """Everything of a model that learns besides its networks, as one tree of arrays."""

    def __init__(self, model: Any) -> None:
        self._model = model

    def _holders(self) -> list[tuple[str, Any]]:
        found = [(name, self._model.policy) for name, _ in self._model.policy._states()]
        return found + ([(_ENTROPY, self._model)] if hasattr(self._model, _ENTROPY) else [])

    def state_dict(self) -> Tree:
        """Optimisers and their steps; of the entropy coefficient its value, too."""
        whole = {n: serialization.to_state_dict(getattr(o, n)) for n, o in self._holders()}
        return {
            name: _arrays(
                {k: v for k, v in tree.items() if name == _ENTROPY or k not in _OF_NETWORKS}
            )
            for name, tree in whole.items()
        }

    def load_state_dict(self, trees: Tree) -> None:
        """Put them back.

        Raises:
            ValueError: They are those of other networks.
        """
        for name, owner in self._holders():
            state = getattr(owner, name)
            tree = serialization.to_state_dict(state)
            here = _shapes(name, {k: tree[k] for k in trees[name]})
            there = _shapes(name, trees[name])
            for leaf in sorted(k for k in {*here, *there} if here.get(k) != there.get(k)):
                raise ValueError(f"{leaf} is {there.get(leaf)} there, and {here.get(leaf)} here")
            setattr(owner, name, serialization.from_state_dict(state, tree | trees[name]))


class _Model:
    """An algorithm that is saved and told as Stable-Baselines3's are."""

    library = engines.SBX

    def train(self, *args: Any, **kwargs: Any) -> None:
        """As SBX's, with a new key."""
        self.key = _key()
        super().train(*args, **kwargs)  # type: ignore[misc]

    @property
    def optimisers(self) -> _Optimisers:
        """See ``_Optimisers``."""
        return _Optimisers(self)

    def _get_torch_save_params(self) -> tuple[list[str], list[str]]:
        return ["policy", "optimisers"], []

    def described(self) -> Tree:
        """What ``sb3_build.describe`` would not find where PyTorch's models have it."""
        policy: Any = self.policy  # type: ignore[attr-defined]
        found = {
            "engine": engines.SBX,
            "device": jax.default_backend(),
            "net_arch": _widths(policy),
            "optimizer_class": policy.optimizer_class.__name__,
            "activation_fn": policy.activation_fn.__name__,
        }
        if hasattr(self, "ent_coef_init"):
            found["ent_coef"] = self.ent_coef_init
        if hasattr(policy, "top_quantiles_to_drop_per_net"):
            found["top_quantiles_to_drop_per_net"] = policy.top_quantiles_to_drop_per_net
        return found


def _widths(policy: Any) -> Any:
    if hasattr(policy, "n_units"):
        return [policy.n_units, policy.n_units]
    parts = {
        part: list(getattr(policy, f"net_arch_{part}"))
        for part in ("pi", "qf", "vf")
        if hasattr(policy, f"net_arch_{part}")
    }
    same = all(widths == parts["pi"] for widths in parts.values())
    return parts["pi"] if same else parts


def _flat(name: str, tree: Any) -> Iterator[tuple[str, Any]]:
    if not isinstance(tree, Mapping):
        yield name, tree
        return
    for key, value in tree.items():
        yield from _flat(f"{name}.{key}", value)


def _tensor(leaf: Any) -> torch.Tensor:
    return torch.from_numpy(np.array(leaf))


def _replaced(tree: Any, name: str, tensors: Mapping[str, torch.Tensor]) -> Any:
    if not isinstance(tree, Mapping):
        return jax.numpy.asarray(tensors[name].cpu().numpy())
    return {key: _replaced(value, f"{name}.{key}", tensors) for key, value in tree.items()}


def _arrays(tree: Any) -> Any:
    if isinstance(tree, Mapping):
        return {key: _arrays(value) for key, value in tree.items()}
    return tree if isinstance(tree, bool | int | float) or tree is None else np.array(tree)


def _shapes(name: str, tree: Any) -> dict[str, tuple[int, ...]]:
    return {at: np.shape(leaf) for at, leaf in _flat(name, tree) if leaf is not None}
