"""Steps per second of a year of a reference office, over those of EnergyPlus alone.

``python -m tests.benchmarks.energyplus`` runs both in turns: the engine by its own interface, and
the environment of an experiment that reads two temperatures and two meters and sets one schedule.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np

from drillyard.simulators.energyplus import building_model
from drillyard.simulators.energyplus.simulation import engine
from drillyard.simulators.make import make_env
from drillyard.spec.learning import SimulatorSpec

WEATHER = "usa_il_chicago"
NAMES = {
    "room": "Zone Mean Air Temperature/Core_ZN",
    "outdoor": "Site Outdoor Air Drybulb Temperature/Environment",
    "power": "Electricity:Facility",
    "gas": "NaturalGas:Facility",
    "always": "Schedule:Compact/Schedule Value/ALWAYS_ON",
}
AGENT = {
    "observes": {"room": {"min": 10, "max": 35}, "outdoor": {"min": -30, "max": 40}},
    "acts": {"always": {"min": 0, "max": 1}},
    "reward": "-(power + gas) / 1e7",
}


def bare_s(document: Any) -> float:
    """Processor seconds of the engine alone."""
    api = engine()
    with tempfile.TemporaryDirectory() as folder:
        model = Path(folder) / "model.epJSON"
        model.write_text(json.dumps(document))
        weather = str(building_model.weather_path(WEATHER))
        state = api.state_manager.new_state()
        api.runtime.set_console_output_status(state, False)
        begin = time.process_time()
        code = api.runtime.run_energyplus(state, ["-d", folder, "-w", weather, str(model)])
        took = time.process_time() - begin
        api.state_manager.delete_state(state)
    assert code == 0
    return took


def stepped_s(env: Any) -> tuple[float, int]:
    """Processor seconds and steps of the same year, stepped from outside."""
    action, steps, over = np.array([1.0], np.float32), 0, False
    begin = time.process_time()
    env.reset()
    while not over:
        over = env.step(action)[3]
        steps += 1
    return time.process_time() - begin, steps


def main() -> None:
    """Prints the medians over all turns."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", default="small_office")
    parser.add_argument("--turns", type=int, default=3)
    given = parser.parse_args()
    names = dict(NAMES)
    if given.model != "small_office":
        names["room"] = names["room"].replace("Core_ZN", "Core_bottom")
    args = {"model": given.model, "weather": WEATHER, "names": names}
    spec = SimulatorSpec.model_validate({"id": "energyplus", "args": args, "agent": AGENT})
    ratios = []
    with closing(make_env(spec)) as env:
        document = env.unwrapped.simulator._setting.document  # type: ignore[attr-defined]
        env.reset(seed=1)
        for _ in range(given.turns):
            alone = bare_s(document)
            stepped, steps = stepped_s(env)
            ratios.append(alone / stepped)
            print(
                f"{steps:,} steps: {alone:.2f} s alone ({steps / alone:,.0f} steps/s), "
                f"{stepped:.2f} s stepped ({steps / stepped:,.0f} steps/s), {ratios[-1]:.3f}"
            )
    print(f"{given.model}: {statistics.median(ratios):.3f} of the engine's own steps/s")


if __name__ == "__main__":
    main()
