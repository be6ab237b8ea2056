"""The arguments of the built-in algorithms: everything that drillyard knows of each, in one row.

Checks, generated files, search spaces and the refusals of engines read this table. It makes
checking a file fast, because neither torch nor Stable-Baselines3 is imported:
``tests/unit/learners/test_sb3_arguments.py`` compares it with the installed signatures.

The search spaces are those with which RL Baselines3 Zoo tunes the same algorithms
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

from typing import Any

from drillyard.documents.json_types import JsonObject
from drillyard.spec.algorithms import argument_rules as rules
from drillyard.spec.algorithms.argument_row import Argument, between, choices, of
from drillyard.spec.algorithms.argument_rules import number, whole
from drillyard.spec.algorithms.signatures import ACTION_SPACES

PPOS = ("ppo", "recurrent-ppo", "maskable-ppo")
DQNS = ("dqn", "double-dqn", "dueling-dqn", "prioritized-dqn", "rainbow")
SACS = ("sac", "tqc", "crossq")
_ALL_DQNS = (*DQNS, "qr-dqn")
_ON_POLICY = (*PPOS, "a2c", "trpo")
_CONTINUOUS = ("ddpg", "td3", *SACS)
_OFF_POLICY = (*_ALL_DQNS, *_CONTINUOUS)
ALGORITHMS = tuple(ACTION_SPACES)
TRIAL_ROLLOUT = 8
"""Steps of each copy between two updates of a trial training."""


_TUNED_LIKE_PPO = (*PPOS, "a2c")
_POWERS = (32, 64, 128, 256, 512)
_SDE_LACKS = {"sbx": ("ppo", *SACS), "jax": ("ppo", "a2c")}

TABLE: dict[str, Argument] = {
    "learning_rate": Argument(
        "Step size of the optimiser",
        rules.SCHEDULE,
        of(
            (_ON_POLICY + SACS, 3e-4),
            (DQNS, 1e-4),
            ("qr-dqn", 5e-5),
            ("a2c", 7e-4),
            (("trpo", "ddpg", "td3", "crossq"), 1e-3),
            ("ars", 0.02),
        ),
        searched=of(
            (ALGORITHMS, between(1e-5, 1e-2, log=True)),
            (_TUNED_LIKE_PPO, between(1e-5, 2e-3, log=True)),
        ),
    ),
    "n_steps": Argument(
        "Steps of each copy per rollout; off-policy: steps of the return",
        whole(1),
        of((_ON_POLICY, 2048), ("recurrent-ppo", 128), ("a2c", 5), (_OFF_POLICY, 1)),
        "steps",
        of(
            (_TUNED_LIKE_PPO, choices(*_POWERS, 1024, 2048)),
            ("trpo", choices(8, 16, *_POWERS, 1024, 2048)),
        ),
        kept=_OFF_POLICY,
        in_steps=True,
        in_trial=TRIAL_ROLLOUT,
    ),
    "batch_size": Argument(
        "Samples of a minibatch; ppo: a divisor of n_steps x n_envs",
        whole(1),
        of((PPOS, 64), (("recurrent-ppo", "trpo"), 128), (_ALL_DQNS, 32), (_CONTINUOUS, 256)),
        "samples",
        of(
            (PPOS, choices(*_POWERS)),
            ("trpo", choices(8, 16, *_POWERS)),
            (_ALL_DQNS, choices(16, 32, 64, 100, 128, 256, 512)),
            (("ddpg", "td3"), choices(16, 32, 64, 100, 128, 256, 512, 1024, 2048)),
            (SACS, choices(16, *_POWERS, 1024, 2048)),
        ),
        in_trial=2 * TRIAL_ROLLOUT,
    ),
    "gamma": Argument(
        "Discount of the future per step",
        number(0, 1),
        of((_ON_POLICY + _OFF_POLICY, 0.99)),
        searched=of(
            (
                _ON_POLICY + _OFF_POLICY,
                choices(0.9, 0.95, 0.98, 0.99, 0.995, 0.999, 0.9999),
            )
        ),
    ),
    "gae_lambda": Argument(
        "Bias (0) against variance (1) of the advantage estimate",
        number(0, 1),
        of((_ON_POLICY, 0.95), ("a2c", 1.0)),
        searched=of((_ON_POLICY, choices(0.8, 0.9, 0.92, 0.95, 0.98, 0.99, 1.0))),
    ),
    "ent_coef": Argument(
        "Weight of the entropy, which keeps exploration alive",
        rules.ENTROPY,
        of((_TUNED_LIKE_PPO, 0.0), (SACS, "auto")),
        searched=of((_TUNED_LIKE_PPO, between(1e-8, 0.1, log=True))),
    ),
    "max_grad_norm": Argument(
        "Gradients longer than this are cut",
        number(0, open_low=True),
        of((_TUNED_LIKE_PPO, 0.5), (DQNS, 10), ("qr-dqn", None)),
        searched=of((_TUNED_LIKE_PPO, between(0.3, 2.0))),
        ignored={"sbx": ("dqn",)},
    ),
    "clip_range": Argument(
        "How far the policy may move in an update",
        rules.SCHEDULE,
        of((PPOS, 0.2)),
        searched=of((PPOS, choices(0.1, 0.2, 0.3, 0.4))),
    ),
    "clip_range_vf": Argument(
        "How far the value function may move in an update",
        rules.or_null(rules.SCHEDULE, "as far as it likes"),
        of((PPOS, None)),
        ignored={"sbx": ("ppo",)},
    ),
    "n_epochs": Argument(
        "Times each rollout is learned from",
        whole(1),
        of((PPOS, 10)),
        "passes",
        of((PPOS, choices(1, 5, 10, 20))),
        in_trial=1,
    ),
    "normalize_advantage": Argument(
        "Advantages with mean 0 and spread 1", rules.FLAG, of((_ON_POLICY, True), ("a2c", False))
    ),
    "vf_coef": Argument(
        "Weight of the value function's loss", number(0), of((_TUNED_LIKE_PPO, 0.5))
    ),
    "n_critic_updates": Argument(
        "Passes of the value function over each rollout",
        whole(1),
        of(("trpo", 10)),
        "passes",
        of(("trpo", choices(5, 10, 20, 25, 30))),
    ),
    "cg_max_steps": Argument(
        "Steps of the conjugate gradient",
        whole(1),
        of(("trpo", 15)),
        "steps",
        of(("trpo", choices(5, 10, 20, 25, 30))),
    ),
    "cg_damping": Argument("Damping of the Hessian in it", number(0), of(("trpo", 0.1))),
    "target_kl": Argument(
        "A rollout's updates end when the policy moved this far",
        rules.or_null(number(0, open_low=True), "never"),
        of((PPOS, None), ("trpo", 0.01)),
        "nats",
        of(("trpo", choices(0.1, 0.05, 0.03, 0.02, 0.01, 0.005, 0.001))),
        {"sbx": ("ppo",)},
    ),
    "line_search_shrinking_factor": Argument(
        "How much shorter each try of the line search is",
        number(0, 1, open_low=True),
        of(("trpo", 0.8)),
    ),
    "line_search_max_iter": Argument(
        "Tries of the line search", whole(1), of(("trpo", 10)), "tries"
    ),
    "sub_sampling_factor": Argument(
        "One of this many samples is used for the Hessian", whole(1), of(("trpo", 1))
    ),
    "use_sde": Argument(
        "Noise that depends on the state instead of fresh noise every step",
        rules.FLAG,
        of((("ppo", "recurrent-ppo", "a2c", "trpo", *SACS), False)),
        ignored=_SDE_LACKS,
        kept=ALGORITHMS,
    ),
    "sde_sample_freq": Argument(
        "Steps after which that noise is drawn again",
        whole(1, {-1: "once a rollout"}),
        of((("ppo", "recurrent-ppo", "a2c", "trpo", *SACS), -1)),
        "steps",
        ignored=_SDE_LACKS,
    ),
    "use_sde_at_warmup": Argument(
        "That noise also before learning starts",
        rules.FLAG,
        of((SACS, False)),
        ignored={"sbx": SACS},
    ),
    "use_rms_prop": Argument(
        "RMSprop as optimiser instead of Adam", rules.FLAG, of(("a2c", True))
    ),
    "rms_prop_eps": Argument("Stabiliser of RMSprop", number(0, open_low=True), of(("a2c", 1e-5))),
    "buffer_size": Argument(
        "Transitions that are remembered",
        whole(1),
        of((_OFF_POLICY, 1_000_000)),
        "transitions",
        kept=ALGORITHMS,
        in_steps=True,
    ),
    "learning_starts": Argument(
        "Steps before the first update",
        whole(0, limit="below train.steps"),
        of((_OFF_POLICY, 100)),
        "steps",
        in_steps=True,
        in_trial=TRIAL_ROLLOUT,
    ),
    "tau": Argument(
        "Share of the network that flows into the target network at an update",
        number(0, 1, open_low=True),
        of((_ALL_DQNS, 1.0), (("ddpg", "td3", "sac", "tqc"), 0.005)),
        searched=of(
            (("ddpg", "td3", "sac", "tqc"), choices(0.001, 0.005, 0.01, 0.02, 0.05, 0.08))
        ),
    ),
    "train_freq": Argument(
        "Number of steps between updates",
        rules.TRAIN_FREQUENCY,
        of((_ALL_DQNS, 4), (_CONTINUOUS, 1)),
        "steps",
        in_trial=4,
    ),
    "gradient_steps": Argument(
        "Updates each time",
        whole(0, {-1: "as many as steps"}),
        of((_OFF_POLICY, 1)),
        "updates",
        in_trial=1,
    ),
    "target_update_interval": Argument(
        "Between two updates of the target network",
        whole(1),
        of((_ALL_DQNS, 10_000), (("sac", "tqc"), 1)),
        "steps",
        of((_ALL_DQNS, choices(1, 1000, 5000, 10_000, 15_000, 20_000))),
        {"sbx": ("sac", "tqc")},
        in_steps=True,
    ),
    "exploration_fraction": Argument(
        "Share of the training over which random actions become rarer",
        number(0, 1, open_low=True),
        of((DQNS, 0.1), ("qr-dqn", 0.005)),
        searched=of((_ALL_DQNS, between(0.01, 0.5))),
    ),
    "exploration_initial_eps": Argument(
        "Share of random actions at the start", number(0, 1), of((_ALL_DQNS, 1.0))
    ),
    "exploration_final_eps": Argument(
        "Share of random actions at the end",
        number(0, 1),
        of((DQNS, 0.05), ("qr-dqn", 0.01)),
        searched=of((_ALL_DQNS, between(0.0, 0.2))),
    ),
    "action_noise": Argument(
        "Noise on actions while training",
        rules.NOISE,
        of((_CONTINUOUS, None)),
        "units of the action",
    ),
    "policy_delay": Argument(
        "Updates of the critics per update of the policy",
        whole(1),
        of(("td3", 2), ("crossq", 3)),
        "updates",
    ),
    "target_policy_noise": Argument(
        "Noise on the target policy's actions",
        number(0),
        of(("td3", 0.2)),
        "units of the action",
    ),
    "target_noise_clip": Argument(
        "Limit of that noise", number(0), of(("td3", 0.5)), "units of the action"
    ),
    "target_entropy": Argument(
        "Entropy that the automatic coefficient aims at",
        number(also={"auto": "minus the number of actions"}),
        of((SACS, "auto")),
        "nats",
    ),
    "top_quantiles_to_drop_per_net": Argument(
        "Highest quantiles of each critic left out of the target",
        whole(0, limit="below n_quantiles"),
        of(("tqc", 2)),
        "quantiles",
        of(("tqc", between(0, 24))),
    ),
    "optimize_memory_usage": Argument(
        "Store each observation once; not together with time limits",
        rules.FLAG,
        of((_OFF_POLICY, False)),
        ignored={"sbx": _CONTINUOUS},
        kept=ALGORITHMS,
    ),
    "replay_buffer_kwargs": Argument(
        "Arguments of the replay buffer",
        rules.REPLAY_BUFFER,
        of((_OFF_POLICY, None)),
        kept=ALGORITHMS,
    ),
    "n_delta": Argument(
        "Directions tried in an update, each to both sides",
        whole(1),
        of(("ars", 8)),
        "directions",
        of(("ars", choices(4, 6, 8, 32, 64))),
        in_trial=2,
    ),
    "n_top": Argument(
        "Best of them that count",
        rules.or_null(whole(1, limit="at most n_delta"), "all"),
        of(("ars", None)),
        "directions",
        in_trial=2,
    ),
    "delta_std": Argument(
        "How far aside a direction is tried",
        rules.SCHEDULE,
        of(("ars", 0.05)),
        searched=of(("ars", choices(0.01, 0.02, 0.025, 0.03, 0.05, 0.1, 0.2, 0.3))),
    ),
    "zero_policy": Argument(
        "Begin with weights of zero",
        rules.FLAG,
        of(("ars", True)),
        searched=of(("ars", choices(True, False))),
    ),
    "alive_bonus_offset": Argument(
        "Added to the reward of each step, to remove a bonus for staying alive",
        number(),
        of(("ars", 0)),
        "reward",
    ),
    "n_eval_episodes": Argument(
        "Episodes for each side of a direction",
        whole(1),
        of(("ars", 1)),
        "episodes",
        in_trial=1,
    ),
    "stats_window_size": Argument(
        "Episodes that rollout/ep_rew_mean averages over",
        whole(1),
        of((tuple(name for name in ALGORITHMS if name != "ddpg"), 100)),
        "episodes",
        ignored={"sbx": ("ppo", "dqn")},
    ),
    "policy_kwargs": Argument(
        "Network: net_arch, activation_fn, optimizer_class and more",
        rules.NETWORK,
        of((ALGORITHMS, None)),
        kept=ALGORITHMS,
    ),
}
"""Argument -> its row."""

ARGUMENTS: dict[str, dict[str, Any]] = {
    algorithm: {
        name: row.defaults[algorithm] for name, row in TABLE.items() if algorithm in row.defaults
    }
    for algorithm in ALGORITHMS
}
"""Algorithm -> argument -> default."""

_AFTER_THE_REST = ("batch_size", "clip_range", "n_epochs")
SPACES: dict[str, JsonObject] = {
    algorithm: {
        name: TABLE[name].searched[algorithm]
        # Trials are drawn in this order: another one would change the trials of a seed.
        for name in sorted(TABLE, key=lambda n: algorithm in PPOS and n in _AFTER_THE_REST)
        if algorithm in TABLE[name].searched
    }
    for algorithm in ALGORITHMS
}
"""Algorithm -> argument -> what the file would say to tune it."""


SCHEDULED = tuple(name for name, row in TABLE.items() if row.rule.scheduled)
"""Arguments that can change over the training."""


def ignored(engine: str, algorithm: str) -> tuple[str, ...]:
    """Returns the arguments that an engine lacks for an algorithm, or takes and does not use."""
    return tuple(name for name, row in TABLE.items() if algorithm in row.ignored.get(engine, ()))
