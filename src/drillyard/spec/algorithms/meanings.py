"""What each argument of an algorithm means, in which unit and range: for files people read."""

from __future__ import annotations

SCHEDULE = "a number above 0, or a schedule by name such as lin_3e-4"

MEANINGS: dict[str, tuple[str, str, str]] = {
    "learning_rate": ("Step size of the optimiser", "", SCHEDULE),
    "n_steps": (
        "Steps of each copy per rollout; off-policy: steps of the return",
        "steps",
        "1 or more",
    ),
    "batch_size": (
        "Samples of a minibatch; ppo: a divisor of n_steps x n_envs",
        "samples",
        "1 or more",
    ),
    "n_epochs": ("Times each rollout is learned from", "passes", "1 or more"),
    "gamma": ("Discount of the future per step", "", "0 to 1"),
    "gae_lambda": ("Bias (0) against variance (1) of the advantage estimate", "", "0 to 1"),
    "clip_range": ("How far the policy may move in an update", "", SCHEDULE),
    "clip_range_vf": (
        "How far the value function may move in an update",
        "",
        f"{SCHEDULE}; null: as far as it likes",
    ),
    "normalize_advantage": ("Advantages with mean 0 and spread 1", "", "true or false"),
    "ent_coef": (
        "Weight of the entropy, which keeps exploration alive",
        "",
        "0 or more; sac: also auto, auto_<start>",
    ),
    "vf_coef": ("Weight of the value function's loss", "", "0 or more"),
    "max_grad_norm": ("Gradients longer than this are cut", "", "above 0"),
    "target_kl": (
        "A rollout's updates end when the policy moved this far",
        "nats",
        "above 0; null: never",
    ),
    "use_sde": (
        "Noise that depends on the state instead of fresh noise every step",
        "",
        "true or false",
    ),
    "sde_sample_freq": (
        "Steps after which that noise is drawn again",
        "steps",
        "1 or more; -1: once a rollout",
    ),
    "use_sde_at_warmup": ("That noise also before learning starts", "", "true or false"),
    "use_rms_prop": ("RMSprop as optimiser instead of Adam", "", "true or false"),
    "rms_prop_eps": ("Stabiliser of RMSprop", "", "above 0"),
    "buffer_size": ("Transitions that are remembered", "transitions", "1 or more"),
    "learning_starts": ("Steps before the first update", "steps", "0 or more, below train.steps"),
    "tau": (
        "Share of the network that flows into the target network at an update",
        "",
        "above 0, to 1",
    ),
    "train_freq": ("Number of steps between updates", "steps", "1 or more, or [n, episode]"),
    "gradient_steps": ("Updates each time", "updates", "0 or more; -1: as many as steps"),
    "target_update_interval": ("Between two updates of the target network", "steps", "1 or more"),
    "exploration_fraction": (
        "Share of the training over which random actions become rarer",
        "",
        "above 0, to 1",
    ),
    "exploration_initial_eps": ("Share of random actions at the start", "", "0 to 1"),
    "exploration_final_eps": ("Share of random actions at the end", "", "0 to 1"),
    "action_noise": (
        "Noise on actions while training",
        "units of the action",
        "null, normal, ornstein-uhlenbeck, or {name, sigma}",
    ),
    "policy_delay": ("Updates of the critics per update of the policy", "updates", "1 or more"),
    "target_policy_noise": (
        "Noise on the target policy's actions",
        "units of the action",
        "0 or more",
    ),
    "target_noise_clip": ("Limit of that noise", "units of the action", "0 or more"),
    "target_entropy": (
        "Entropy that the automatic coefficient aims at",
        "nats",
        "a number, or auto",
    ),
    "optimize_memory_usage": (
        "Store each observation once; not together with time limits",
        "",
        "true or false",
    ),
    "replay_buffer_kwargs": (
        "Arguments of the replay buffer",
        "",
        "null, or {handle_timeout_termination: true|false}",
    ),
    "stats_window_size": (
        "Episodes that rollout/ep_rew_mean averages over",
        "episodes",
        "1 or more",
    ),
    "cg_max_steps": ("Steps of the conjugate gradient", "steps", "1 or more"),
    "cg_damping": ("Damping of the Hessian in it", "", "0 or more"),
    "line_search_shrinking_factor": (
        "How much shorter each try of the line search is",
        "",
        "above 0, to 1",
    ),
    "line_search_max_iter": ("Tries of the line search", "tries", "1 or more"),
    "n_critic_updates": ("Passes of the value function over each rollout", "passes", "1 or more"),
    "sub_sampling_factor": ("One of this many samples is used for the Hessian", "", "1 or more"),
    "top_quantiles_to_drop_per_net": (
        "Highest quantiles of each critic left out of the target",
        "quantiles",
        "0 or more, below n_quantiles",
    ),
    "n_delta": ("Directions tried in an update, each to both sides", "directions", "1 or more"),
    "n_top": ("Best of them that count", "directions", "1 to n_delta; null: all"),
    "delta_std": ("How far aside a direction is tried", "", SCHEDULE),
    "zero_policy": ("Begin with weights of zero", "", "true or false"),
    "alive_bonus_offset": (
        "Added to the reward of each step, to remove a bonus for staying alive",
        "reward",
        "any number",
    ),
    "n_eval_episodes": ("Episodes for each side of a direction", "episodes", "1 or more"),
    "policy_kwargs": (
        "Network: net_arch, activation_fn, optimizer_class and more",
        "",
        "null, or a mapping such as {net_arch: [64, 64], activation_fn: relu}",
    ),
}
"""Argument -> (meaning, unit or empty, range)."""
