"""Trainings that are killed and resumed: each way in which a learner or a simulator has state."""

from __future__ import annotations

import sys
from pathlib import Path

DRIFT = {"id": "tests.helpers.resume_worlds:Drift", "lesson": {"start": {"min": -1, "max": 1}}}
DISCRETE = {**DRIFT, "args": {"discrete": True}}
MASKED = {**DRIFT, "id": "tests.helpers.resume_worlds:Masked"}
FORGETFUL = {**DRIFT, "id": "tests.helpers.resume_worlds:Forgetful"}
DICE = {**DRIFT, "id": "tests.helpers.resume_worlds:Dice"}
PLAIN = {
    "id": "tests.helpers.resume_worlds:Tank",
    "agent": {
        "observes": {"level": {"min": 0, "max": 2}},
        "acts": {"inflow": {"min": 0, "max": 1}},
        "reward": "-abs(level - 1)",
    },
}
ENDING = {**PLAIN, "agent": {**PLAIN["agent"], "max_episode_steps": 70}}
PROGRAM = {
    "id": "external",
    "args": {"command": [sys.executable, str(Path(__file__).parent / "external_world.py")]},
    "agent": {
        "observes": {"x": {"min": -20, "max": 20}},
        "acts": {"push": {"min": -1, "max": 1}},
        "reward": "-abs(x)",
    },
}
EVERY = {"every": {"steps": 200, "episodes": 2}}


def case(simulator, algorithm, args, wrappers=(), **train):
    return {
        "simulator": {**simulator, "wrappers": list(wrappers)},
        "learner": {"algorithm": algorithm, "args": args},
        "train": {"steps": 600, "checkpoint_every": 120, "log_interval": 50, **train},
        "evaluate": EVERY,
        "tracking": {"tensorboard": False},
    }


LINEAR = "lin_1e-3"
WARM = {
    "policy_kwargs": {"net_arch": [24]},
    "learning_starts": 40,
    "learning_rate": LINEAR,
    "batch_size": 32,
}
CASES = {
    "ppo": case(
        DRIFT,
        "ppo",
        {"n_steps": 32, "batch_size": 32, "learning_rate": LINEAR, "clip_range": "lin_0.2"},
        ["normalize"],
        n_envs=2,
    ),
    "ppo-vectorised": case(
        {
            "id": "building",
            "args": {"days": 1},
            "lesson": {"day": {"min": 0, "max": 364, "int": True}},
        },
        "ppo",
        {"n_steps": 16, "batch_size": 32},
        ["normalize"],
        n_envs=3,
        copies="vectorised",
    ),
    "ppo-processes": case(
        DRIFT,
        "ppo",
        {"n_steps": 32, "batch_size": 32},
        ["normalize"],
        n_envs=2,
        copies="processes",
    ),
    "a2c-curriculum": case(
        {
            **DISCRETE,
            "metrics": {"far": "max"},
            "curriculum": {
                "stages": [
                    {"lesson": {"start": 0}, "promote": {"steps": 150}},
                    {
                        "lesson": {"noise": 0.3},
                        "promote": {"mean_return": -1e9, "episodes": 4},
                        "demote": {"mean_return": -2e9, "episodes": 4},
                    },
                    {"lesson": {"start": {"min": -2, "max": 2}}},
                ]
            },
        },
        "a2c",
        {"n_steps": 8},
        n_envs=2,
    ),
    "ppo-sde-stack": case(
        DRIFT,
        "ppo",
        {"n_steps": 64, "batch_size": 32, "use_sde": True},
        [{"name": "frame_stack", "args": {"n": 3}}],
    ),
    "ppo-dict": case(
        {**DRIFT, "args": {"dict_observation": True}},
        "ppo",
        {"n_steps": 64, "batch_size": 32},
        ["normalize"],
    ),
    "dqn": case(
        DISCRETE,
        "dqn",
        {**WARM, "buffer_size": 250, "target_update_interval": 100, "exploration_fraction": 0.8},
        ["normalize"],
    ),
    "dqn-n-step": case(DISCRETE, "dqn", {**WARM, "n_steps": 3, "buffer_size": 3000}, n_envs=2),
    "dqn-lean": case(
        DISCRETE,
        "dqn",
        {
            **WARM,
            "buffer_size": 200,
            "optimize_memory_usage": True,
            "replay_buffer_kwargs": {"handle_timeout_termination": False},
        },
    ),
    "ddpg": case(DRIFT, "ddpg", {**WARM, "action_noise": "normal"}, ["normalize"], n_envs=2),
    "td3-episodes": case(
        DRIFT,
        "td3",
        {
            **WARM,
            "train_freq": [1, "episode"],
            "gradient_steps": 20,
            "action_noise": "ornstein-uhlenbeck",
        },
    ),
    "sac": case(DRIFT, "sac", {**WARM, "buffer_size": 300}, ["normalize"]),
    "double-dqn": case(
        DISCRETE,
        "double-dqn",
        {**WARM, "buffer_size": 250, "target_update_interval": 100},
        ["normalize"],
        n_envs=2,
    ),
    "dueling-dqn": case(DISCRETE, "dueling-dqn", {**WARM, "buffer_size": 250}, ["normalize"]),
    "prioritized-dqn": case(
        DISCRETE, "prioritized-dqn", {**WARM, "buffer_size": 250}, ["normalize"], n_envs=2
    ),
    "rainbow": case(
        DISCRETE,
        "rainbow",
        {**WARM, "buffer_size": 3000, "n_steps": 3, "target_update_interval": 100},
    ),
    "qr-dqn": case(
        DISCRETE,
        "qr-dqn",
        {
            **WARM,
            "policy_kwargs": {"net_arch": [24], "n_quantiles": 8},
            "target_update_interval": 100,
            "n_steps": 3,
        },
    ),
    "trpo": case(
        DRIFT,
        "trpo",
        {"n_steps": 32, "batch_size": 32, "learning_rate": LINEAR},
        ["normalize"],
        n_envs=2,
    ),
    "recurrent-ppo": case(
        DRIFT,
        "recurrent-ppo",
        {
            "n_steps": 32,
            "batch_size": 32,
            "n_epochs": 2,
            "learning_rate": LINEAR,
            "policy_kwargs": {"lstm_hidden_size": 8},
        },
        ["normalize"],
        n_envs=2,
    ),
    "maskable-ppo": case(MASKED, "maskable-ppo", {"n_steps": 32, "batch_size": 32}, n_envs=2),
    "tqc": case(
        DRIFT,
        "tqc",
        {
            **WARM,
            "use_sde": True,
            "buffer_size": 300,
            "policy_kwargs": {"net_arch": [24], "n_quantiles": 5},
        },
        ["normalize"],
    ),
    "crossq": case(DRIFT, "crossq", {**WARM, "action_noise": "normal"}, n_envs=2),
    "ars": case(
        DRIFT,
        "ars",
        {"n_delta": 2, "learning_rate": LINEAR, "delta_std": "lin_0.1"},
        ["normalize"],
        n_envs=2,
        steps=2400,
        checkpoint_every=400,
    ),
    "replay-ppo": case(
        {"id": "CartPole-v1"},
        "ppo",
        {"n_steps": 32, "batch_size": 32},
        ["normalize"],
        n_envs=2,
        checkpoint_every=None,
    ),
    "replay-processes": case(
        FORGETFUL,
        "ppo",
        {"n_steps": 32, "batch_size": 32},
        ["normalize"],
        n_envs=2,
        copies="processes",
    ),
    "replay-td3": case(
        {"id": "Pendulum-v1"},
        "td3",
        {**WARM, "action_noise": "ornstein-uhlenbeck"},
        [{"name": "frame_stack", "args": {"n": 2}}, "normalize"],
        n_envs=2,
    ),
    "replay-plain": case(ENDING, "ppo", {"n_steps": 32, "batch_size": 32}, n_envs=2),
    "replay-external": case(PROGRAM, "ppo", {"n_steps": 32, "batch_size": 32}, n_envs=2),
    "reset-ppo": case(DICE, "ppo", {"n_steps": 32, "batch_size": 32}, n_envs=2),
    "reset-td3": case(
        DICE, "td3", {**WARM, "action_noise": "ornstein-uhlenbeck"}, ["normalize"], n_envs=2
    ),
    "reset-dqn": {
        **case({"id": "CartPole-v1"}, "dqn", {**WARM, "n_steps": 2, "buffer_size": 250}),
        "streams": 3,
    },
}
"""``replay-…``: a simulator that cannot be saved; ``reset-…``: nor replayed, or of an experiment
that an earlier version began."""
