"""The steps of whole episodes as CSV files, under the names that other tools read.

| file                              | columns                                                     |
|-----------------------------------|-------------------------------------------------------------|
| ``<id>-res<n>/monitor.csv``       | of one copy, a row a step: timestep, the calendar's (month, |
|                                   | day, hour), observations, actions, time (seconds), reward,  |
|                                   | penalties, done; timestep 0 is the reset                    |
| ``…/monitor_normalized.csv``      | the same as the agent sees it, where that is scaled         |
| ``…/progress.csv``                | a row an episode, ``PROGRESS``                              |
| ``states.csv``                    | state_…, action_…, config_…, EpisodeIndex, IterationIndex   |
| ``<start>.csv``                   | ``TRAJECTORY``                                              |
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from drillyard.documents.json_types import Json, JsonObject
from drillyard.system.tables import to_csv

if TYPE_CHECKING:
    from drillyard.simulators.step_logs import Log, Row, Units


PROGRESS = (
    "episode_num",
    "cumulative_reward",
    "mean_reward",
    "cumulative_power_consumption",
    "mean_power_consumption",
    "cumulative_comfort_penalty",
    "mean_comfort_penalty",
    "cumulative_power_penalty",
    "mean_power_penalty",
    "comfort_violation (%)",
    "length(timesteps)",
    "time_elapsed(seconds)",
)
TRAJECTORY = ("episode_id", "step_id", "state", "action", "reward", "terminated", "truncated")
CALENDAR = ("month", "day", "hour")
PENALTIES = {"power_penalty": "reward_energy", "comfort_penalty": "reward_comfort"}
"""Column -> the simulator's term of the reward."""


def step_logs(
    logs: Iterable[tuple[int, Log]], world: str, started_at: float
) -> Iterator[tuple[str, str]]:
    """Name and text of each file.

    Args:
        logs: (copy, log) of each episode, in the order in which they ended.
        world: The simulator's id, for the folders' names.
        started_at: Epoch seconds, for the name of the trajectory file.
    """
    episodes = list(logs)
    copies: dict[int, list[Log]] = {}
    for copy, log in episodes:
        copies.setdefault(copy, []).append(log)
    base = "".join(c if c.isalnum() or c in "-." else "-" for c in world)
    for copy, copy_logs in sorted(copies.items()):
        if "monitor" not in copy_logs[0]["files"]:
            continue
        folder = f"{base}-res{copy + 1}"
        yield f"{folder}/monitor.csv", _monitor(copy_logs, scaled=False)
        if any(line is not None for line in copy_logs[0]["observation_units"]):
            yield f"{folder}/monitor_normalized.csv", _monitor(copy_logs, scaled=True)
        yield f"{folder}/progress.csv", to_csv(PROGRESS, _progress(copy_logs))
    if episodes and "states" in episodes[0][1]["files"]:
        yield "states.csv", _states([log for _, log in episodes])
    if episodes and "trajectory" in episodes[0][1]["files"]:
        start = datetime.fromtimestamp(started_at, UTC).strftime("%Y-%m-%dT%H-%M-%S")
        yield f"{start}.csv", to_csv(TRAJECTORY, _trajectory(log for _, log in episodes))


def _monitor(logs: Sequence[Log], scaled: bool) -> str:
    first = logs[0]
    calendar = sorted(first["rows"][0].get("calendar", {}), key=CALENDAR.index)
    penalties = {n: term for n, term in PENALTIES.items() if term in first["rows"][-1]["reward_"]}
    header = [
        "timestep",
        *calendar,
        *first["observation_names"],
        *first["action_names"],
        "time (seconds)",
        "reward",
        *penalties,
        "done",
    ]

    def cells(log: Log, number: int, row: Row) -> list[Json]:
        seen: Sequence[float | None] = row["observation"]
        done: Sequence[float | None] = row.get("action") or [None] * len(log["action_names"])
        if not scaled:
            seen = _physical(seen, log["observation_units"])
            done = _physical(done, log["action_units"])
        ends = row.get("ends")
        paid = [row["reward_"].get(term) if ends else None for term in penalties.values()]
        return [
            number,
            *(row["calendar"][name] for name in calendar),
            *seen,
            *done,
            number * log["step_seconds"],
            row.get("reward"),
            *paid,
            None if ends is None else any(ends),
        ]

    return to_csv(
        header, (cells(log, n, row) for log in logs for n, row in enumerate(log["rows"]))
    )


def _physical(values: Sequence[float | None], units: Units) -> list[float | None]:
    """From the range of a policy's space to the simulator's own units."""
    return [
        value if value is None or line is None else line[0] * value + line[1]
        for value, line in zip(values, units, strict=True)
    ]


def _progress(logs: Sequence[Log]) -> Iterator[list[float | None]]:
    for number, log in enumerate(logs, 1):
        steps = log["rows"][1:]  # the reset is not a step
        n = len(steps)
        row: list[float | None] = [number]
        comfort = _all(s["reward_"].get(PENALTIES["comfort_penalty"]) for s in steps)
        for values in (
            [s["reward"] for s in steps],
            _all(s["state_"].get("state_power") for s in steps),
            comfort,
            _all(s["reward_"].get(PENALTIES["power_penalty"]) for s in steps),
        ):
            total = None if values is None else math.fsum(values)
            row += [total, None if total is None else total / n]
        broken = None if comfort is None else 100.0 * sum(c < 0 for c in comfort) / n
        yield [*row, broken, n, n * log["step_seconds"]]


def _all(values: Iterable[float | None]) -> list[float] | None:
    """The values; None if one of them is missing."""
    complete: list[float] = []
    for value in values:
        if value is None:
            return None
        complete.append(value)
    return complete


def _states(logs: Sequence[Log]) -> str:
    rows: list[JsonObject] = []
    for episode, log in enumerate(logs):
        names = [f"action_{name}" for name in log["action_names"]]
        config = {f"config_{key}": value for key, value in log["config"].items()}
        for step, row in enumerate(log["rows"][1:]):
            done = _physical(row["action"], log["action_units"])
            rows.append(
                {
                    **row["state_"],
                    **dict(zip(names, done, strict=True)),
                    **config,
                    "EpisodeIndex": episode,
                    "IterationIndex": step,
                }
            )
    last = ("EpisodeIndex", "IterationIndex")
    columns = [c for c in dict.fromkeys(k for row in rows for k in row) if c not in last]
    kinds = ("state_", "action_", "config_")
    columns.sort(key=lambda name: next(i for i, k in enumerate(kinds) if name.startswith(k)))
    header = [*columns, *last]
    return to_csv(header, ([row.get(name) for name in header] for row in rows))


def _trajectory(logs: Iterable[Log]) -> Iterator[list[Json]]:
    for episode, log in enumerate(logs):
        before = log["rows"][0]
        for step, row in enumerate(log["rows"][1:]):
            yield [
                episode,
                step,
                json.dumps(before["observation"]),
                json.dumps(row["action"]),
                row["reward"],
                *row["ends"],
            ]
            before = row
