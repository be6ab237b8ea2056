"""All variables, meters and actuators of a model, by their names in it."""

from __future__ import annotations

import json
from contextlib import closing
from pathlib import Path

from drillyard.simulators.energyplus import building_model as models
from drillyard.simulators.energyplus.simulation import EngineFailed, Point, Simulation

_WEATHER = "usa_il_chicago"
"""The names do not depend on it."""


def points(model: str | Path) -> list[Point]:
    """Runs a model until it knows its own names.

    Args:
        model: As in ``simulator.args``, or its path.

    Raises:
        SimulatorError: It cannot be read or run.
    """
    path = model if isinstance(model, Path) else models.model_path(model)
    try:
        return _points(models.read(path))
    except EngineFailed as error:
        message = f"cannot be run, EnergyPlus ended with errors: {error}"
        hint = "correct the model, as EnergyPlus says"
        raise models.wrong("model", message, path.name, hint=hint) from error


def _points(document: models.Document) -> list[Point]:
    models.with_settings(document, None, "01-01", "01-01", 1)
    document["Output:VariableDictionary"] = {"all": {"key_field": "regular"}}
    with closing(_opened(document)) as simulation:
        lines = simulation.finished("eplusout.rdd").splitlines()[2:]
    # Only what a report asks for has keys.
    names = {line.split(",", 2)[2].rpartition(" [")[0] for line in lines}
    document["Output:Variable"] = {
        name: {"key_value": "*", "variable_name": name, "reporting_frequency": "RunPeriod"}
        for name in sorted(names)
    }
    with closing(_opened(document)) as simulation:
        return list(simulation.points())


def _opened(document: models.Document) -> Simulation:
    simulation = Simulation(models.weather_path(_WEATHER), [], [])
    simulation.write_model(json.dumps(document))
    simulation.advance()
    return simulation
