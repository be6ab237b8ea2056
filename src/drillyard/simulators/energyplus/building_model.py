"""A model of EnergyPlus as JSON: read, converted from IDF, and changed for one episode."""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from datetime import date, timedelta
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeAlias

from drillyard.documents.json_types import Json
from drillyard.errors import SimulatorError
from drillyard.simulators.energyplus.simulation import EngineFailed, Simulation, engine
from drillyard.simulators.own_files import find

Document: TypeAlias = dict[str, dict[str, dict[str, Any]]]
"""epJSON: kind of object -> its name -> field -> value."""
ENERGY = "Electricity:Facility"
SAME_ENERGY = "drillyard electricity"
"""A meter of the same content: EnergyPlus 25.2 gives no handle for the first of its meters."""
_YEAR = 2023
"""The year of days that have none; it begins on a Sunday."""
_DAYS = ("Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday")
_STEPS = (1, 2, 3, 4, 5, 6, 10, 12, 15, 20, 30, 60)


@dataclass(frozen=True)
class Period:
    """Which days are simulated, and how finely.

    Attributes:
        begin: First day.
        days: How many.
        per_hour: Time steps in an hour.
    """

    begin: date
    days: int
    per_hour: int

    def day(self, number: int) -> date:
        """The day of this number, from 0."""
        return self.begin + timedelta(days=number)


def wrong(name: str, message: str, value: object, **more: Any) -> SimulatorError:
    """An argument that cannot be used."""
    return SimulatorError(message, field=f"simulator.args.{name}", value=value, **more)


def model_path(name: str) -> Path:
    """The file of a model: the user's, or a reference building of the package."""
    engine()
    from pyenergyplus.dataset import ashrae_models, ref_models

    return _path(name, "args.model", {**ashrae_models, **ref_models}, ".epJSON", ".idf")


def weather_path(name: str, field: str = "args.weather") -> Path:
    """The file of a weather: the user's, or one of the package."""
    engine()
    from pyenergyplus.dataset import weather_files

    return _path(name, field, weather_files, ".epw")


def _path(name: Json, field: str, known: Mapping[str, str], *endings: str) -> Path:
    files = f"FILE{' or FILE'.join(endings)}"
    if isinstance(name, str) and name in known:
        return Path(known[name])
    if not isinstance(name, str) or not name.lower().endswith(tuple(e.lower() for e in endings)):
        raise SimulatorError(
            f"is neither {files} nor the name of one in the package",
            field=f"simulator.{field}",
            value=name,
            allowed=f"{files}, {', '.join(known)}",
            known=known,
        )
    return find(name, files, f"simulator.{field}")


def read(path: Path) -> Document:
    """The model in a file; an IDF is converted by EnergyPlus.

    Raises:
        SimulatorError: It is not a model, or of another version of EnergyPlus.
    """
    return copy.deepcopy(_read(path, path.stat().st_mtime_ns))


@lru_cache(maxsize=4)
def _read(path: Path, _: int) -> Document:
    try:
        text = _converted(path) if path.suffix.lower() == ".idf" else path.read_text("utf-8")
        document: Document = json.loads(text)
        (version,) = (str(v["version_identifier"]) for v in document["Version"].values())
    except (ValueError, LookupError, AttributeError, TypeError, EngineFailed) as error:
        raise wrong(
            "model",
            f"cannot be read as a model: {error}",
            path.name,
            hint="open it with EnergyPlus, which must run it without errors",
        ) from error
    own = engine().functional.ep_version()
    if version != f"{own.ep_version_major}.{own.ep_version_minor}":
        raise wrong(
            "model",
            f"is a model of EnergyPlus {version}",
            path.name,
            allowed=f"{own.ep_version_major}.{own.ep_version_minor}, which is installed here",
            hint="convert it with EnergyPlus's own IDFVersionUpdater",
        )
    return document


def _converted(path: Path) -> str:
    with closing(Simulation(None, [], [])) as simulation:
        simulation.model = path
        simulation.advance()
        return next(simulation.folder.glob("*.epJSON")).read_text(encoding="utf-8")


def with_settings(
    document: Document,
    timestep_min: int | None,
    begin: str | None,
    end: str | None,
    warm_up_days: int | None,
) -> Period:
    """Changes a model as the arguments of an experiment say; reports are left out.

    Raises:
        SimulatorError: An argument that EnergyPlus does not take.
    """
    for kind in [kind for kind in document if kind.startswith(("Output:", "OutputControl:"))]:
        del document[kind]  # they take time, and only the engine's own error file is read
    if timestep_min is not None:
        if timestep_min not in _STEPS:
            allowed = f"{', '.join(map(str, _STEPS))} minutes"
            raise wrong("timestep_min", "does not divide an hour", timestep_min, allowed=allowed)
        document["Timestep"] = {"Timestep": {"number_of_timesteps_per_hour": 60 // timestep_min}}
    if warm_up_days is not None:
        if not isinstance(warm_up_days, int) or not 1 <= warm_up_days <= 100:
            raise wrong("warm_up_days", "is out of range", warm_up_days, allowed="1 to 100 days")
        for building in document.get("Building", {}).values():
            building["minimum_number_of_warmup_days"] = warm_up_days
            building["maximum_number_of_warmup_days"] = warm_up_days
    for control in document.setdefault("SimulationControl", {"Control": {}}).values():
        control["run_simulation_for_sizing_periods"] = "No"
        control["run_simulation_for_weather_file_run_periods"] = "Yes"
    steps = next(iter(document.get("Timestep", {}).values()), {})
    per_hour = int(steps.get("number_of_timesteps_per_hour", 6))
    return _run_period(document, begin, end, per_hour)


def _run_period(document: Document, begin: str | None, end: str | None, per_hour: int) -> Period:
    periods = document.setdefault("RunPeriod", {"Year": {}})
    if len(periods) > 1 and begin is None:
        raise wrong(
            "begin",
            f"is missing: the model has {len(periods)} run periods",
            None,
            allowed="the first and the last day, MM-DD",
            hint="write begin: 01-01 and end: 12-31",
        )
    name, period = next(iter(periods.items()))
    year = int(period.get("begin_year", _YEAR))
    own = [
        date(
            year, int(period.get(f"{which}_month", m)), int(period.get(f"{which}_day_of_month", d))
        )
        for which, m, d in (("begin", 1, 1), ("end", 12, 31))
    ]
    first = own[0] if begin is None else _day("begin", begin, year)
    last = own[1] if end is None else _day("end", end, year)
    if last < first:
        raise wrong(
            "end", f"is before the begin, {first:%m-%d}", end, allowed="a later day, MM-DD"
        )
    weekday = period.get("day_of_week_for_start_day")
    if weekday in _DAYS:
        shifted = (_DAYS.index(weekday) + (first - own[0]).days) % 7
        period["day_of_week_for_start_day"] = _DAYS[shifted]
    for which, day in (("begin", first), ("end", last)):
        period |= {f"{which}_month": day.month, f"{which}_day_of_month": day.day}
    document["RunPeriod"] = {name: period}
    return Period(first, (last - first).days + 1, per_hour)


def _day(name: str, text: str, year: int) -> date:
    try:
        return date.fromisoformat(f"{year}-{text}")
    except ValueError as error:
        raise wrong(name, "is not a day", text, allowed="MM-DD, as 07-01") from error


def parameter(document: Document, name: str, field: str) -> tuple[dict[str, Any], str]:
    """An object of a model, and the name of one of its fields.

    Args:
        document: The model.
        name: ``Material/Wall insulation/thickness``.
        field: Where it is written.

    Raises:
        SimulatorError: The model has no such field.
    """
    kind, _, rest = name.partition("/")
    key, _, own_field = rest.rpartition("/")
    if own_field not in document.get(kind, {}).get(key, {}):
        known = [f"{k}/{n}/{f}" for k, o in document.items() for n, fs in o.items() for f in fs]
        raise SimulatorError("is not a field of the model", field=field, value=name, known=known)
    return document[kind][key], own_field


def add_energy_meter(document: Document) -> None:
    """Adds ``SAME_ENERGY``."""
    details = [{"key_name": "", "output_variable_or_meter_name": ENERGY}]
    meters = document.setdefault("Meter:Custom", {})
    meters[SAME_ENERGY] = {"resource_type": "Electricity", "variable_details": details}
