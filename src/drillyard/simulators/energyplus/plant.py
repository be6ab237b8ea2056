"""``simulator: {id: energyplus}``: a building, stepped by the real engine."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping

from drillyard.errors import RunFailed, SimulatorError
from drillyard.simulators.energyplus import building_model as models
from drillyard.simulators.energyplus.points import points
from drillyard.simulators.energyplus.simulation import EngineFailed, Simulation, UnknownPoint
from drillyard.simulators.points import must_be_same_unit
from drillyard.simulators.types import Options, States
from drillyard.spec.agent import AgentSpec
from drillyard.system.watchdog import keep_alive

CALENDAR = ("time", "hour", "day_of_week", "day_of_year", "month")
"""States of each building: seconds since the begin; 0 to 24; 1 is Sunday; from 1; from 1."""
WEATHER = "weather"
"""The reset key of the weather file."""
_UNITS = {"°C": "C", "degC": "C", "deg": "C", "€": ""}


class EnergyPlus:
    """A building; ``for_agent`` makes the simulator.

    Args:
        model: ``office.epJSON`` or ``office.idf`` beside the experiment, or the name of a
            reference building of the package, such as ``small_office``.
        weather: ``city.epw`` beside the experiment, or one of the package: ``usa_il_chicago``.
        names: A name for the experiment -> a variable (``Zone Mean Air Temperature/Core_ZN``), a
            meter (``Electricity:Facility``), an actuator
            (``Schedule:Compact/Schedule Value/HTGSETP_SCH``) or a field of an object
            (``Material/Insulation/thickness``) of the model.
        timestep_min: Minutes of one step; it divides an hour. By default the model's own.
        begin: First day of an episode, ``MM-DD``; by default that of the model.
        end: Its last day, ``MM-DD``.
        warm_up_days: Days before it that are repeated until the building is settled; by default
            as many as the model says and needs.

    Raises:
        SimulatorError: An argument that cannot be used.
        PackagesMissing: EnergyPlus is not installed.
    """

    def __init__(
        self,
        model: str,
        weather: str,
        names: Mapping[str, str] | None = None,
        timestep_min: int | None = None,
        begin: str | None = None,
        end: str | None = None,
        warm_up_days: int | None = None,
    ) -> None:
        self.model, self.path = model, models.model_path(model)
        self.weather = models.weather_path(weather)
        self.names = dict(names or {})
        self.document = models.read(self.path)
        self.period = models.with_settings(self.document, timestep_min, begin, end, warm_up_days)

    def for_agent(self, agent: AgentSpec) -> Building:
        """The simulator of one copy, for what the agent sees and does.

        Raises:
            SimulatorError: A reset key that names nothing in the model.
        """
        for key in agent.resets or ():
            if key != WEATHER:
                models.parameter(self.document, self.names.get(key, key), "simulator.agent.resets")
        return Building(self, agent)


class Building:
    """The building of one copy; each episode is a new simulation.

    Args:
        setting: Model, weather and period, checked.
        agent: What the agent sees and does.
    """

    def __init__(self, setting: EnergyPlus, agent: AgentSpec) -> None:
        self.simulator_name = setting.path.name
        self._setting, self._agent = setting, agent
        period = setting.period
        self.max_episode_steps = period.days * 24 * period.per_hour
        self.step_seconds = 3600.0 / period.per_hour
        self._acts = list(agent.acts)
        self._reads = [name for name in self._read_names() if name not in CALENDAR]
        self._simulation: Simulation | None = None
        self._steps, self._over, self._checked = 0, False, False
        self._today: dict[str, float] = {}
        self._weather = ""

    def reset(self, config: Options) -> States:
        """Begins an episode; the config has the weather file and fields of the model."""
        self.close()
        self._steps, self._over = 0, False
        simulation = self._started(config)
        try:
            with keep_alive("EnergyPlus sizes the building and warms it up"):
                simulation.advance()
        except UnknownPoint as error:
            raise self._unknown(error) from error
        except EngineFailed as error:
            raise self._failed(error, config) from error
        if not self._checked:
            self._check_units(simulation)
            self._checked = True
        return self._states()

    def step(self, actions: Options) -> States:
        """One time step of the model."""
        assert self._simulation is not None
        values = [float(actions[name]) for name in self._acts]  # type: ignore[arg-type]
        try:
            self._over = not self._simulation.advance(values)
        except EngineFailed as error:
            raise self._failed(error, actions) from error
        self._steps += 1
        return self._states()

    def terminated(self) -> bool:
        """False: a building does not end by itself."""
        return False

    def truncated(self) -> bool:
        """The run period is over."""
        return self._over

    def close(self) -> None:
        """Ends the engine, and deletes its files."""
        if self._simulation is not None:
            self._simulation.close()
            self._simulation = None

    def _started(self, config: Options) -> Simulation:
        setting = self._setting
        document = json.loads(json.dumps(setting.document)) if config else setting.document
        weather = setting.weather
        for key, value in config.items():
            field = f"simulator.lesson.{key}"
            if key == WEATHER:
                weather = models.weather_path(value, f"lesson.{key}")  # type: ignore[arg-type]
            else:
                fields, name = models.parameter(document, setting.names.get(key, key), field)
                fields[name] = value
        given = [self._name(name) for name in self._reads]
        same = models.ENERGY.lower()
        reads = [models.SAME_ENERGY if name.lower() == same else name for name in given]
        if reads != given:
            models.add_energy_meter(document)
        self._weather = weather.name
        simulation = Simulation(weather, reads, [self._name(name) for name in self._acts])
        simulation.write_model(json.dumps(document))
        self._simulation = simulation
        return simulation

    def _states(self) -> dict[str, float]:
        assert self._simulation is not None
        hours = self._steps / self._setting.period.per_hour
        if self._steps % (24 * self._setting.period.per_hour) == 0:  # a new day
            day = self._setting.period.day(int(hours // 24))
            self._today = {
                "day_of_week": (self._simulation.day_of_week - 1 + hours // 24) % 7 + 1,
                "day_of_year": float(day.timetuple().tm_yday),
                "month": float(day.month),
            }
        states = dict(zip(self._reads, self._simulation.values, strict=True))
        return {**states, "time": hours * 3600.0, "hour": math.fmod(hours, 24.0), **self._today}

    def _name(self, name: str) -> str:
        return self._setting.names.get(name, name)

    def _read_names(self) -> list[str]:
        agent, setting = self._agent, self._setting
        readable = [n for n, p in setting.names.items() if p.count("/") < 2]
        return [n for n in agent.reads(readable) if n not in agent.acts]

    def _unknown(self, error: UnknownPoint) -> SimulatorError:
        known = [p.name for p in points(self._setting.path) if p.kind == error.kind]
        own = next((k for k in (*self._acts, *self._reads) if self._name(k) == error.name), "")
        return SimulatorError(
            f"is not {'an' if error.kind == 'actuator' else 'a'} {error.kind} of the model",
            field=f"simulator.agent: {own}",
            value=error.name,
            allowed=f"`drillyard list points {self._setting.model}` shows all {len(known)}",
            known=known,
        )

    def _failed(self, error: EngineFailed, given: Options) -> RunFailed:
        """The error for one of the engine, in the words of its own error file."""
        return RunFailed(
            f"EnergyPlus ended with errors after {self._steps} steps of {self.simulator_name} "
            f"in {self._weather}, with {given}:{error}",
            hint="correct the model or its weather file, as EnergyPlus says",
        )

    def _check_units(self, simulation: Simulation) -> None:
        """Refuses units that contradict those of the model."""
        units = {p.name.lower(): p.unit for p in simulation.points()}
        for kind, table in (("observes", self._agent.observes), ("acts", self._agent.acts)):
            for name, given in table.items():
                unit = _UNITS.get(given.unit, given.unit)
                own = units.get(self._name(name).lower(), "")
                both = {"in the model": own, "in the experiment": unit}
                must_be_same_unit(name, both, f"simulator.agent.{kind}.{name}.unit")
