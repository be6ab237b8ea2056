"""What ``check`` says of the checkpoints of a file."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from drillyard.checks.numbers import plan
from drillyard.spec.load import load


def said(folder: Path, learner: dict[str, object], train: dict[str, object]) -> str | None:
    """The finding about checkpoints, None if there is none."""
    file = folder / "f.yaml"
    given = {"name": "f", "workload": "rl", "simulator": {"id": "cstr"}}
    file.write_text(json.dumps({**given, "learner": learner, "train": train}))
    texts = {finding.subject: finding.message for finding in plan(load(file))}
    return texts.get("checkpoints")


SAC = {"algorithm": "sac", "args": {"train_freq": 1}}
PPO = {"algorithm": "ppo", "args": {"n_steps": 1024}}


@pytest.mark.parametrize(
    ("learner", "train", "number", "most"),
    [
        (PPO, {"steps": 40_960, "n_envs": 1}, "9 per run", "at most 4,096 steps"),
        (PPO, {"steps": 40_960, "n_envs": 4}, "9 per run", "at most 4,096 steps"),
        (
            PPO,
            {"steps": 40_960, "n_envs": 1, "checkpoint_every": 20_000},
            "2 per run",
            "at most 20,480 steps",
        ),
        (PPO, {"steps": 50_000, "n_envs": 2}, "10 per run", "at most 6,144 steps (12%)"),
        (
            PPO,
            {"steps": 15_000, "n_envs": 1},
            "14 per run, after each rollout",
            "1,024 steps (7%)",
        ),
        (SAC, {"steps": 5000, "n_envs": 1}, "9 per run", "at most 500 steps"),
        (PPO, {"steps": 1000, "n_envs": 1}, "none: the budget is one rollout", "starts again"),
    ],
)
def test_the_number_of_checkpoints_and_what_a_kill_costs_are_said(
    learner, train, number, most, tmp_path
):
    text = said(tmp_path, learner, train)
    assert text is not None
    assert text.startswith(number)
    assert most in text


@pytest.mark.parametrize(
    ("learner", "train"),
    [
        (PPO, {"episodes": 10}),
        ({"algorithm": "sac", "args": {"train_freq": [1, "episode"]}}, {"steps": 5000}),
        (PPO, {"steps": 4096, "n_envs": 1, "checkpoint_every": 9000}),
    ],
    ids=["episodes", "train_freq in episodes", "a warning says it"],
)
def test_nothing_is_said_that_the_file_does_not_fix(learner, train, tmp_path):
    assert said(tmp_path, learner, train) is None
