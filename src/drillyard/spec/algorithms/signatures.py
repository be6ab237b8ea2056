"""Tables of Stable-Baselines3 and sb3-contrib: arguments, defaults and spaces of algorithms.

They make checking a file fast, because neither torch nor Stable-Baselines3 is imported.
``tests/unit/learners/test_sb3_arguments.py`` compares the table with the installed signatures.
"""

from __future__ import annotations

from typing import Any

from drillyard.documents.json_types import JsonObject

_ON_POLICY: JsonObject = {
    "gamma": 0.99,
    "vf_coef": 0.5,
    "ent_coef": 0.0,
    "max_grad_norm": 0.5,
    "use_sde": False,
    "sde_sample_freq": -1,
    "rollout_buffer_class": None,
    "rollout_buffer_kwargs": None,
    "stats_window_size": 100,
    "policy_kwargs": None,
}
_OFF_POLICY: JsonObject = {
    "buffer_size": 1_000_000,
    "learning_starts": 100,
    "gamma": 0.99,
    "gradient_steps": 1,
    "replay_buffer_class": None,
    "replay_buffer_kwargs": None,
    "optimize_memory_usage": False,
    "n_steps": 1,
    "policy_kwargs": None,
}
_CONTINUOUS: JsonObject = {
    **_OFF_POLICY,
    "batch_size": 256,
    "tau": 0.005,
    "train_freq": 1,
    "action_noise": None,
}

_PPO: JsonObject = {
    **_ON_POLICY,
    "learning_rate": 3e-4,
    "n_steps": 2048,
    "batch_size": 64,
    "n_epochs": 10,
    "gae_lambda": 0.95,
    "clip_range": 0.2,
    "clip_range_vf": None,
    "normalize_advantage": True,
    "target_kl": None,
}
_SAC: JsonObject = {
    **_CONTINUOUS,
    "learning_rate": 3e-4,
    "ent_coef": "auto",
    "target_update_interval": 1,
    "target_entropy": "auto",
    "use_sde": False,
    "sde_sample_freq": -1,
    "use_sde_at_warmup": False,
    "stats_window_size": 100,
}
_DQN: JsonObject = {
    **_OFF_POLICY,
    "learning_rate": 1e-4,
    "batch_size": 32,
    "tau": 1.0,
    "train_freq": 4,
    "target_update_interval": 10_000,
    "exploration_fraction": 0.1,
    "exploration_initial_eps": 1.0,
    "exploration_final_eps": 0.05,
    "max_grad_norm": 10,
    "stats_window_size": 100,
}


def _without(table: JsonObject, *names: str) -> JsonObject:
    return {name: default for name, default in table.items() if name not in names}


ARGUMENTS: dict[str, dict[str, Any]] = {
    "ppo": _PPO,
    "a2c": {
        **_ON_POLICY,
        "learning_rate": 7e-4,
        "n_steps": 5,
        "gae_lambda": 1.0,
        "rms_prop_eps": 1e-5,
        "use_rms_prop": True,
        "normalize_advantage": False,
    },
    "dqn": _DQN,
    "double-dqn": _DQN,
    "dueling-dqn": _DQN,
    "prioritized-dqn": _DQN,
    "rainbow": _DQN,
    "ddpg": {**_CONTINUOUS, "learning_rate": 1e-3},
    "td3": {
        **_CONTINUOUS,
        "learning_rate": 1e-3,
        "policy_delay": 2,
        "target_policy_noise": 0.2,
        "target_noise_clip": 0.5,
        "stats_window_size": 100,
    },
    "sac": _SAC,
    "trpo": {
        **_without(_ON_POLICY, "vf_coef", "ent_coef", "max_grad_norm"),
        "learning_rate": 1e-3,
        "n_steps": 2048,
        "batch_size": 128,
        "gae_lambda": 0.95,
        "cg_max_steps": 15,
        "cg_damping": 0.1,
        "line_search_shrinking_factor": 0.8,
        "line_search_max_iter": 10,
        "n_critic_updates": 10,
        "normalize_advantage": True,
        "target_kl": 0.01,
        "sub_sampling_factor": 1,
    },
    "recurrent-ppo": {
        **_without(_PPO, "rollout_buffer_class", "rollout_buffer_kwargs"),
        "n_steps": 128,
        "batch_size": 128,
    },
    "maskable-ppo": _without(_PPO, "use_sde", "sde_sample_freq"),
    "qr-dqn": {
        **_DQN,
        "learning_rate": 5e-5,
        "exploration_fraction": 0.005,
        "exploration_final_eps": 0.01,
        "max_grad_norm": None,
    },
    "tqc": {**_SAC, "top_quantiles_to_drop_per_net": 2},
    "crossq": {
        **_without(_SAC, "tau", "target_update_interval"),
        "learning_rate": 1e-3,
        "policy_delay": 3,
    },
    "ars": {
        "n_delta": 8,
        "n_top": None,
        "learning_rate": 0.02,
        "delta_std": 0.05,
        "zero_policy": True,
        "alive_bonus_offset": 0,
        "n_eval_episodes": 1,
        "policy_kwargs": None,
        "stats_window_size": 100,
    },
}
"""Algorithm -> argument -> default."""

OURS: dict[str, str] = {
    "policy": "write it as `learner.policy`",
    "env": "write it as `simulator:`",
    "verbose": "drillyard prints by itself; see `drillyard logs`",
    "tensorboard_log": "write `tracking.tensorboard: true`",
    "seed": "write `seeds:`, with one run for each",
    "device": "write it as `resources.device`",
    "monitor_wrapper": "drillyard always monitors episodes",
    "_init_setup_model": "the model is always set up",
    "rollout_buffer_class": "only the standard buffers can be resumed exactly",
    "rollout_buffer_kwargs": "only the standard buffers can be resumed exactly",
    "replay_buffer_class": "only the standard buffers can be resumed exactly",
}
"""Arguments that are not for the experiment file, and why."""

ON_POLICY = frozenset({"ppo", "a2c", "trpo", "recurrent-ppo", "maskable-ppo"})
"""Algorithms that learn from whole rollouts."""
FROM_EPISODES = frozenset({"ars"})
"""Algorithms that compare whole episodes. All others learn from a replay buffer."""
PRIORITISED = frozenset({"prioritized-dqn", "rainbow"})
"""Algorithms with a replay buffer that gives some steps more often than others."""
MASKED = frozenset({"maskable-ppo"})
"""Algorithms that ask the simulator which actions are possible (``action_masks()``)."""

_BY_RATIO = "it compares probabilities with those noted while playing, which are in full precision"
_BY_ENTROPY = "the logarithm of its squashed actions has too few digits left in bfloat16"
NOT_MIXED: dict[str, str] = {
    "ppo": _BY_RATIO,
    "a2c": _BY_RATIO,
    "trpo": _BY_RATIO,
    "recurrent-ppo": _BY_RATIO,
    "maskable-ppo": _BY_RATIO,
    "sac": _BY_ENTROPY,
    "tqc": _BY_ENTROPY,
    "crossq": _BY_ENTROPY,
    "ars": "it computes no gradients",
}
"""Algorithm -> why it does not support ``resources.precision: mixed``; all others do."""

_ANY = ("Box", "Discrete", "MultiDiscrete", "MultiBinary")
ACTION_SPACES: dict[str, tuple[str, ...]] = {
    "ppo": _ANY,
    "a2c": _ANY,
    "trpo": _ANY,
    "recurrent-ppo": _ANY,
    "maskable-ppo": ("Discrete", "MultiDiscrete", "MultiBinary"),
    "dqn": ("Discrete",),
    "double-dqn": ("Discrete",),
    "qr-dqn": ("Discrete",),
    "dueling-dqn": ("Discrete",),
    "prioritized-dqn": ("Discrete",),
    "rainbow": ("Discrete",),
    "ddpg": ("Box",),
    "td3": ("Box",),
    "sac": ("Box",),
    "tqc": ("Box",),
    "crossq": ("Box",),
    "ars": ("Box", "Discrete"),
}
"""Algorithm -> action spaces that it can act in."""

ACTIVATIONS: dict[str, str] = {
    "tanh": "Tanh",
    "relu": "ReLU",
    "leaky_relu": "LeakyReLU",
    "elu": "ELU",
    "gelu": "GELU",
    "silu": "SiLU",
    "selu": "SELU",
    "softplus": "Softplus",
    "sigmoid": "Sigmoid",
    "mish": "Mish",
    "relu6": "ReLU6",
    "celu": "CELU",
    "prelu": "PReLU",
    "softsign": "Softsign",
    "hardtanh": "Hardtanh",
    "hardswish": "Hardswish",
    "hardsigmoid": "Hardsigmoid",
    "log_sigmoid": "LogSigmoid",
    "identity": "Identity",
}
"""Name in a file -> class in ``torch.nn``."""

OPTIMISERS: dict[str, str] = {
    "adam": "Adam",
    "adamw": "AdamW",
    "rmsprop": "RMSprop",
    "sgd": "SGD",
    "nadam": "NAdam",
    "radam": "RAdam",
    "adamax": "Adamax",
    "adagrad": "Adagrad",
    "adadelta": "Adadelta",
    "rprop": "Rprop",
    "asgd": "ASGD",
}
"""Name in a file -> class in ``torch.optim``."""

_FOR_ALL = ("foreach", "maximize", "differentiable")
_ADAM = ("betas", "eps", "weight_decay")
OPTIMISER_SETTINGS: dict[str, tuple[str, ...]] = {
    "Adam": (*_ADAM, "amsgrad", "decoupled_weight_decay", "capturable", "fused", *_FOR_ALL),
    "AdamW": (*_ADAM, "amsgrad", "capturable", "fused", *_FOR_ALL),
    "RMSprop": ("alpha", "eps", "weight_decay", "momentum", "centered", "capturable", *_FOR_ALL),
    "SGD": ("momentum", "dampening", "weight_decay", "nesterov", "fused", *_FOR_ALL),
    "NAdam": (*_ADAM, "momentum_decay", "decoupled_weight_decay", "capturable", *_FOR_ALL),
    "RAdam": (*_ADAM, "decoupled_weight_decay", "capturable", *_FOR_ALL),
    "Adamax": (*_ADAM, "capturable", *_FOR_ALL),
    "Adagrad": (
        "lr_decay",
        "weight_decay",
        "initial_accumulator_value",
        "eps",
        "fused",
        *_FOR_ALL,
    ),
    "Adadelta": ("rho", "eps", "weight_decay", "capturable", *_FOR_ALL),
    "Rprop": ("etas", "step_sizes", "capturable", *_FOR_ALL),
    "ASGD": ("lambd", "alpha", "t0", "weight_decay", "capturable", *_FOR_ALL),
}
"""Class in ``torch.optim`` -> its settings, without the learning rate, which is ours."""

EXTRACTORS: dict[str, str] = {
    "flatten": "FlattenExtractor",
    "nature_cnn": "NatureCNN",
    "combined": "CombinedExtractor",
}
"""Name in a file -> class in ``stable_baselines3.common.torch_layers``."""


def class_name(text: object, table: dict[str, str]) -> str | None:
    """The class that a file means: ``leaky_relu``, ``LeakyReLU`` and ``leakyrelu`` are one.

    Args:
        text: The text in the file.
        table: ``ACTIVATIONS``, ``OPTIMISERS`` or ``EXTRACTORS``.
    """
    plain = str(text).replace("_", "").lower()
    for name, found in table.items():
        if plain in (name.replace("_", ""), found.lower()):
            return found
    return None


NOISES = ("normal", "ornstein-uhlenbeck")
"""Names of action noises."""

POLICIES = ("MlpPolicy", "CnnPolicy", "MultiInputPolicy")
"""Names of policies: for flat observations, images, and mappings."""

OTHER_POLICIES: dict[str, dict[str, str]] = {
    "recurrent-ppo": {
        "MlpPolicy": "MlpLstmPolicy",
        "CnnPolicy": "CnnLstmPolicy",
        "MultiInputPolicy": "MultiInputLstmPolicy",
    },
    "crossq": {"MlpPolicy": "MlpPolicy"},
    "ars": {"MlpPolicy": "MlpPolicy"},
}
"""Algorithm -> which of ``POLICIES`` it has, and what it calls them; others have all three."""

MORE_POLICIES: dict[str, tuple[str, ...]] = {"ars": ("LinearPolicy",)}
"""Algorithm -> policies for flat observations that only it has."""

_QUANTILES = ("n_quantiles",)
POLICY_ARGUMENTS: dict[str, tuple[str, ...]] = {
    "recurrent-ppo": (
        "lstm_hidden_size",
        "n_lstm_layers",
        "shared_lstm",
        "enable_critic_lstm",
        "lstm_kwargs",
    ),
    "tqc": _QUANTILES,
    "qr-dqn": _QUANTILES,
    "crossq": ("batch_norm", "batch_norm_momentum", "batch_norm_eps", "renorm_warmup_steps"),
    "ars": ("with_bias",),
}
"""Algorithm -> what its networks take besides ``net_arch`` and the like."""
