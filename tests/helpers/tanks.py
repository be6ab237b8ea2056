"""The model of a tank as a simulator, for the tests of FMUs."""

from __future__ import annotations

from contextlib import closing
from typing import Any

import numpy as np

from drillyard.simulators.make import make_env
from drillyard.simulators.streams import REPLAYED
from drillyard.spec.learning import SimulatorSpec

AGENT: dict[str, Any] = {
    "observes": {"level": {"min": 0, "max": 2, "unit": "m"}, "flow": {"min": 0, "max": 0.02}},
    "acts": {"pump": {"min": 0, "max": 10, "unit": "V"}},
    "reward": "-abs(level - 1) - full",
    "resets": ["level", "area"],
    "max_episode_steps": 30,
}
NAMES = {"pump": "pump.voltage"}


def spec(id_: str, agent: dict[str, Any] | None = None, **args: Any) -> SimulatorSpec:
    given = {"names": NAMES, **args} if id_ != "fmu" else args
    return SimulatorSpec.model_validate(
        {"id": id_, "args": given, "agent": {**AGENT, **(agent or {})}}
    )


def made(id_: str, agent: dict[str, Any] | None = None, **args: Any) -> Any:
    return closing(make_env(spec(id_, agent, **args), streams=REPLAYED))


def played(env: Any, steps: int = 5, action: float = 0.5) -> list[dict[str, Any]]:
    infos = []
    for _ in range(steps):
        _, reward, terminated, truncated, info = env.step(np.array([action], np.float32))
        infos.append({**info, "reward": reward, "ends": (terminated, truncated)})
        if terminated or truncated:
            break
    return infos
