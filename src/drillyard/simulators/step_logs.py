"""The steps of an episode, as ``CsvLogger`` gives them to the files of ``metrics.step_csv``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NotRequired, TypedDict

from drillyard.documents.json_types import JsonObject

Units = Sequence[Sequence[float] | None]
"""(factor, shift) of each value, None for a value in the simulator's own unit."""


class Row(TypedDict):
    """One step of an episode; the first row is the reset, and has no action.

    Attributes:
        observation: What the agent observes.
        state_: The simulator's state, by name.
        reward_: The terms of the reward, by name.
        calendar: Month, day and hour, if the simulator has a calendar.
        action: What the agent did.
        reward: The reward.
        ends: Whether the episode was terminated, and whether it was truncated.
    """

    observation: list[float]
    state_: dict[str, float]
    reward_: dict[str, float]
    calendar: NotRequired[dict[str, int]]
    action: NotRequired[list[float]]
    reward: NotRequired[float]
    ends: NotRequired[list[bool]]


class Names(TypedDict):
    """Names and units of observed values and of actions."""

    observation_names: list[str]
    observation_units: Units
    action_names: list[str]
    action_units: Units


class Log(Names):
    """The log of an episode, which ``CsvLogger`` puts into ``info["log"]``.

    Attributes:
        files: The kinds of files to write.
        step_seconds: Duration of a step.
        config: The options of the episode.
        rows: The steps.
    """

    files: list[str]
    step_seconds: float
    config: JsonObject
    rows: list[Row]
