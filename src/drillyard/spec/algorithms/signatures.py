"""Tables of Stable-Baselines3 and sb3-contrib: what algorithms learn from, act in and can take.

``argument_table`` has their arguments.
"""

from __future__ import annotations

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
    **dict.fromkeys(("ppo", "a2c", "trpo", "recurrent-ppo", "maskable-ppo"), _BY_RATIO),
    **dict.fromkeys(("sac", "tqc", "crossq"), _BY_ENTROPY),
    "ars": "it computes no gradients",
}
"""Algorithm -> why it does not support ``resources.precision: mixed``; all others do."""

_ANY = ("Box", "Discrete", "MultiDiscrete", "MultiBinary")
_QS = ("dqn", "double-dqn", "qr-dqn", "dueling-dqn", "prioritized-dqn", "rainbow")
ACTION_SPACES: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(("ppo", "a2c", "trpo", "recurrent-ppo"), _ANY),
    "maskable-ppo": ("Discrete", "MultiDiscrete", "MultiBinary"),
    **dict.fromkeys(_QS, ("Discrete",)),
    **dict.fromkeys(("ddpg", "td3", "sac", "tqc", "crossq"), ("Box",)),
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
    for name, kind in table.items():
        if plain in (name.replace("_", ""), kind.lower()):
            return kind
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
