"""Microseconds of one step of an FMU: FMPy alone, in the process of the copy, in a separate one.

``python -m tests.benchmarks.fmu`` compiles a small tank and steps it in turns.
"""

from __future__ import annotations

import itertools
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import numpy as np

from drillyard.simulators.fmu.archive import extract
from drillyard.simulators.fmu.fmu import Fmu
from drillyard.simulators.make import make_env
from drillyard.spec.agent import AgentSpec
from drillyard.spec.learning import SimulatorSpec
from tests.fmus import write_fmu

STEPS, TURNS = 500, 11
ACT = "pump.voltage"
AGENT = {
    "observes": {"level": {"min": 0, "max": 2}, "flow": {"min": 0, "max": 1}},
    "acts": {ACT: {"min": 0, "max": 10}},
    "reward": "-abs(level - 1)",
}


def bare(path: Path) -> Callable[[int], None]:
    """The same reads, writes and step by FMPy's own methods."""
    from fmpy import read_model_description
    from fmpy.fmi2 import FMU2Slave

    description = read_model_description(str(path))
    fmu = FMU2Slave(
        guid=description.guid,
        modelIdentifier=description.modelIdentifier,
        unzipDirectory=str(extract(path)),
    )
    fmu.instantiate()
    fmu.setupExperiment(startTime=0.0)
    fmu.enterInitializationMode()
    fmu.exitInitializationMode()

    count = itertools.count()  # a step begins where the last one ended, over all turns

    def step(_: int) -> None:
        fmu.setReal([2], [7.5])
        fmu.doStep(5.0 * next(count), 5.0)
        fmu.getReal([0, 5])

    return step


def microseconds(step: Callable[[int], object]) -> float:
    """Median time of one step."""
    took = []
    for number in range(STEPS):
        begin = time.perf_counter()
        step(number)
        took.append(time.perf_counter() - begin)
    return statistics.median(took) * 1e6


def main() -> None:
    """Prints the medians over all turns."""
    with tempfile.TemporaryDirectory() as folder:
        tempfile.tempdir = folder
        path = write_fmu(Path(folder) / "tank.fmu")
        sys.path.append(folder)
        agent = AgentSpec.model_validate(AGENT)
        plant = Fmu({"tank": path.name}).for_agent(agent)
        env, apart = (
            make_env(SimulatorSpec.model_validate({"id": path.name, "agent": AGENT, "args": args}))
            for args in ({}, {"isolate": True})
        )
        with closing(plant), closing(env), closing(apart):
            plant.reset({})  # type: ignore[call-arg]
            env.reset(seed=1)
            apart.reset(seed=1)
            action = np.array([0.5], np.float32)
            ways = {
                "FMPy alone": bare(path),
                "plant": lambda _: plant.step({ACT: 7.5}),
                "environment": lambda _: env.step(action),
                "environment, separate process": lambda _: apart.step(action),
            }
            rows = {name: [microseconds(step) for _ in range(1)] for name, step in ways.items()}
            for _ in range(TURNS - 1):
                for name, step in ways.items():
                    rows[name].append(microseconds(step))
        least = statistics.median(rows["FMPy alone"])
        for name, values in rows.items():
            middle = statistics.median(values)
            print(f"{name:30} {middle:7.1f} µs per step, {middle - least:+7.1f} over FMPy alone")
        tempfile.tempdir = None


if __name__ == "__main__":
    main()
