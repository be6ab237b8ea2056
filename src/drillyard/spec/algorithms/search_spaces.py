"""Ready-made search spaces of the built-in algorithms: ``learner: {tune: default}``.

The ranges are those with which RL Baselines3 Zoo tunes the same algorithms
(``rl_zoo3/hyperparams_opt.py``, https://github.com/DLR-RM/rl-baselines3-zoo, commit 0a9df50),
with these differences:

- Networks, buffer size, ``learning_starts`` and ``train_freq`` are not varied.
- The discount of PPO and A2C has the list of values that the other algorithms have there.
- Learning rates of the other algorithms end at 0.01 (there: 1). ``exploration_fraction`` begins
  at 0.01 (there: 0, which drillyard refuses).
- What the Zoo does not tune takes the space of its nearest relative: ``maskable-ppo`` that of
  ``ppo``, ``crossq`` that of ``sac`` without ``tau``, and the other DQNs that of ``dqn``.
"""

from __future__ import annotations

from drillyard.documents.json_types import Json, JsonObject


def _range(low: float, high: float, *, log: bool = False) -> JsonObject:
    return {"tune": [low, high], "log": True} if log else {"tune": [low, high]}


def _choices(*values: Json) -> JsonObject:
    return {"tune": {"choices": list(values)}}


_GAMMA = _choices(0.9, 0.95, 0.98, 0.99, 0.995, 0.999, 0.9999)
_LAMBDA = _choices(0.8, 0.9, 0.92, 0.95, 0.98, 0.99, 1.0)
_TAU = _choices(0.001, 0.005, 0.01, 0.02, 0.05, 0.08)
_ROLLOUT = _choices(32, 64, 128, 256, 512, 1024, 2048)

_A2C: JsonObject = {
    "learning_rate": _range(1e-5, 2e-3, log=True),
    "n_steps": _ROLLOUT,
    "gamma": _GAMMA,
    "gae_lambda": _LAMBDA,
    "ent_coef": _range(1e-8, 0.1, log=True),
    "max_grad_norm": _range(0.3, 2.0),
}
_PPO: JsonObject = {
    **_A2C,
    "batch_size": _choices(32, 64, 128, 256, 512),
    "clip_range": _choices(0.1, 0.2, 0.3, 0.4),
    "n_epochs": _choices(1, 5, 10, 20),
}
_TRPO: JsonObject = {
    "learning_rate": _range(1e-5, 1e-2, log=True),
    "n_steps": _choices(8, 16, 32, 64, 128, 256, 512, 1024, 2048),
    "batch_size": _choices(8, 16, 32, 64, 128, 256, 512),
    "gamma": _GAMMA,
    "gae_lambda": _LAMBDA,
    "n_critic_updates": _choices(5, 10, 20, 25, 30),
    "cg_max_steps": _choices(5, 10, 20, 25, 30),
    "target_kl": _choices(0.1, 0.05, 0.03, 0.02, 0.01, 0.005, 0.001),
}
_SAC: JsonObject = {
    "learning_rate": _range(1e-5, 1e-2, log=True),
    "batch_size": _choices(16, 32, 64, 128, 256, 512, 1024, 2048),
    "gamma": _GAMMA,
    "tau": _TAU,
}
_TD3: JsonObject = {
    **_SAC,
    "batch_size": _choices(16, 32, 64, 100, 128, 256, 512, 1024, 2048),
}
_DQN: JsonObject = {
    "learning_rate": _range(1e-5, 1e-2, log=True),
    "batch_size": _choices(16, 32, 64, 100, 128, 256, 512),
    "gamma": _GAMMA,
    "target_update_interval": _choices(1, 1000, 5000, 10_000, 15_000, 20_000),
    "exploration_fraction": _range(0.01, 0.5),
    "exploration_final_eps": _range(0.0, 0.2),
}

SPACES: dict[str, JsonObject] = {
    "ppo": _PPO,
    "maskable-ppo": _PPO,
    "recurrent-ppo": _PPO,
    "a2c": _A2C,
    "trpo": _TRPO,
    "dqn": _DQN,
    "double-dqn": _DQN,
    "dueling-dqn": _DQN,
    "prioritized-dqn": _DQN,
    "qr-dqn": _DQN,
    "rainbow": _DQN,
    "sac": _SAC,
    "tqc": {**_SAC, "top_quantiles_to_drop_per_net": _range(0, 24)},
    "crossq": {name: body for name, body in _SAC.items() if name != "tau"},
    "td3": _TD3,
    "ddpg": _TD3,
    "ars": {
        "learning_rate": _range(1e-5, 1e-2, log=True),
        "n_delta": _choices(4, 6, 8, 32, 64),
        "delta_std": _choices(0.01, 0.02, 0.025, 0.03, 0.05, 0.1, 0.2, 0.3),
        "zero_policy": _choices(True, False),
    },
}
"""Algorithm -> argument -> what the file would say to tune it."""
