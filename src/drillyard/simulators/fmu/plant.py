"""One or several connected FMUs as a plain simulator."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from drillyard.documents.json_types import Json
from drillyard.errors import DrillyardError, RunFailed, SimulatorError
from drillyard.simulators.fmu.description import Kind
from drillyard.simulators.fmu.instance import Failed, Files, Instance
from drillyard.simulators.fmu.values import Values
from drillyard.simulators.fmu.wiring import TIME, Port, Wiring
from drillyard.simulators.points import must_be_inside
from drillyard.simulators.state import State
from drillyard.simulators.types import Options, States
from drillyard.spec.expressions import Expression


@dataclass(frozen=True)
class Setting:
    """How a plant is stepped; all values were checked.

    Attributes:
        wiring: Models, names and connections.
        kinds: How each model is used.
        start: Constant start values by name.
        step_s: Seconds of one step of the agent.
        substeps: Communication points in one step.
        start_s: Time at which each episode begins.
        tolerance: Relative tolerance of the solvers; None: their default.
        events: Handle events of FMI 3.0.
        solver: Solver of model exchange.
        ends: Ends an episode as terminated.
        cut: Cut the episode when a model fails, instead of ending the run.
    """

    wiring: Wiring
    kinds: Mapping[str, Kind]
    start: Mapping[str, Json]
    step_s: float
    substeps: int
    start_s: float
    tolerance: float | None
    events: bool
    solver: str
    ends: Expression | None
    cut: bool


class Plant:
    """The models of one copy; each episode has new instances of them.

    Args:
        setting: How it is stepped.
        reads: Names of the states that it returns, besides ``time``.
        acts: Names of the actions.
        name: For messages.
    """

    def __init__(self, setting: Setting, reads: list[str], acts: list[str], name: str) -> None:
        self.simulator_name, self._setting = name, setting
        self.step_seconds = setting.step_s
        wiring = setting.wiring
        self._reads, self._acts = reads, acts
        self._read_ports = [wiring.port(n, "simulator.agent.observes") for n in reads]
        self._act_ports = [wiring.port(n, "simulator.agent.acts", inputs=True) for n in acts]
        self._wires = wiring.wires()
        self._files = {key: Files(m, setting.kinds[key]) for key, m in wiring.models.items()}
        self._instances: dict[str, Instance] = {}
        self._config: Options = {}
        self._steps, self._losses, self._ended, self._cut = 0, 0, False, False
        self._states: dict[str, float] = {}

    def reset(self, config: Options) -> States:
        """Begins an episode; the config has start values of parameters, inputs and states."""
        self._end_instances()
        self._config = dict(config)
        self._steps, self._losses, self._ended, self._cut = 0, 0, False, False
        values = self._start_values()
        setting = self._setting
        try:
            for key in setting.wiring.models:
                self._instances[key] = self._instance(key)
                self._instances[key].begin(values[key], setting.start_s, setting.tolerance)
            self._links = [
                (self._values(end), self._values(source)) for end, source in self._wires
            ]
            self._connect()
            for instance in self._instances.values():
                instance.started()
            self._open()
            self._states = self._read()
        except DrillyardError:
            raise
        except Exception as error:  # as in `step`
            raise RunFailed(
                f"{self._names()} cannot be initialised: {error}",
                hint=f"are these start values possible? {self._given()}",
            ) from error
        return self._states

    def step(self, actions: Options) -> States:
        """Steps once; a failure cuts the episode, or ends the run."""
        setting = self._setting
        try:
            for writer, names in self._writers:
                writer.write([float(actions[name]) for name in names])  # type: ignore[arg-type]
            size_s = setting.step_s / setting.substeps
            for point in range(setting.substeps):
                done = self._steps + point / setting.substeps
                time_s = setting.start_s + done * setting.step_s
                if self._wires:
                    self._connect()
                for instance in self._instances.values():
                    self._ended |= instance.step(time_s, size_s)
                if self._ended:
                    break
            self._steps += 1
            self._states = self._read()
        except Exception as error:  # Failed, and what FMPy raises where values are exchanged
            self._fail(error, actions)
        return self._states

    def terminated(self) -> bool:
        """The model ended its simulation, or ``ends`` is true."""
        ends = self._setting.ends
        return self._ended or (ends is not None and bool(ends.value(self._states)))

    def truncated(self) -> bool:
        """A model failed."""
        return self._cut

    def notes(self) -> dict[str, float]:
        """``kpi_restarts``: how often a model failed in this episode."""
        return {"kpi_restarts": self._losses}

    def close(self) -> None:
        """Frees the models and deletes their files."""
        self._end_instances()
        for files in self._files.values():
            files.delete()

    def everything(self) -> list[float]:
        """All numbers of all models, to compare two plants."""
        return [x for i in self._instances.values() for x in i.values(i.numbers()).read()]

    def _instance(self, key: str) -> Instance:
        model, setting = self._setting.wiring.models[key], self._setting
        if setting.kinds[key] == "co-simulation":
            return Instance(model, self._files[key], events=setting.events)
        from drillyard.simulators.fmu.exchange import Exchange

        return Exchange(model, self._files[key], setting.solver, setting.tolerance)

    def _start_values(self) -> dict[str, dict[Any, float | str]]:
        wiring = self._setting.wiring
        values: dict[str, dict[Any, float | str]] = {key: {} for key in wiring.models}
        given = {**dict.fromkeys(self._setting.start, "args.start")}
        given |= dict.fromkeys(self._config, "lesson")
        for name, field in given.items():
            value = (self._config if field == "lesson" else self._setting.start)[name]
            place = f"simulator.{field}.{name}"
            port = wiring.settable(name, f"simulator.{field}")
            text = port.variable.type == "String"
            if isinstance(value, str) is not text or not isinstance(value, str | int | float):
                raise SimulatorError(
                    "is not a text" if text else "is not a number", field=place, value=value
                )
            if not isinstance(value, str):
                must_be_inside(name, port.variable, value, place)
            values[port.model][port.variable] = value
        return values

    def _open(self) -> None:
        """Prepares what each step reads and writes."""
        self._readers = [
            (self._instances[key].values([p.variable for _, p in part]), [n for n, _ in part])
            for key, part in _by_model(self._reads, self._read_ports)
        ]
        self._writers = [
            (self._instances[key].values([p.variable for _, p in part]), [n for n, _ in part])
            for key, part in _by_model(self._acts, self._act_ports)
        ]

    def _connect(self) -> None:
        """Gives each connected input the value that it follows, all at the same time."""
        now = [source.read() for _, source in self._links]
        for (target, _), value in zip(self._links, now, strict=True):
            target.write(value)

    def _values(self, port: Port) -> Values:
        return self._instances[port.model].values([port.variable])

    def _read(self) -> dict[str, float]:
        states = {TIME: self._setting.start_s + self._steps * self._setting.step_s}
        for reader, names in self._readers:
            states.update(zip(names, reader.read(), strict=True))
        if not all(map(math.isfinite, states.values())):
            broken = [f"{n} is {x}" for n, x in states.items() if not math.isfinite(x)]
            raise Failed(f"{', '.join(broken)}: the solver left the range of numbers")
        return states

    def _fail(self, error: Exception, actions: Options) -> None:
        setting = self._setting
        if not setting.cut:
            time_s = setting.start_s + self._steps * setting.step_s
            raise RunFailed(
                f"{self._names()} failed at {time_s:g} s of the model, after {self._given()}, "
                f"with the actions {actions}: {error}",
                hint="narrow the ranges of `acts`, set a smaller `communication_s`, or let it "
                "cost only the episode: simulator.args: {on_error: cut}",
            ) from error
        self._cut, self._losses = True, self._losses + 1

    def _names(self) -> str:
        return " and ".join(model.path.name for model in self._setting.wiring.models.values())

    def _given(self) -> str:
        return f"a start with {self._config or 'the values of the model'}"

    def _end_instances(self) -> None:
        for instance in self._instances.values():
            instance.close()
        self._instances = {}


class StatefulPlant(Plant):
    """A plant whose models can save their state; a test has shown that it is complete."""

    def state(self) -> State:
        """The start values, and the serialised state of each model."""
        state: State = {"open": bool(self._instances)}
        if self._instances:
            state |= {
                "config": self._config,
                "steps": self._steps,
                "losses": self._losses,
                "ended": [self._ended, self._cut],
                "states": self._states,
                "models": {key: one.state() for key, one in self._instances.items()},
            }
        return state

    def load_state(self, state: State) -> None:
        """Continues from a state, in new instances."""
        if not state["open"]:
            self._end_instances()
            return
        self.reset(state["config"])
        for key, instance in self._instances.items():
            instance.load_state(state["models"][key])
        self._steps, self._losses = int(state["steps"]), int(state["losses"])
        self._ended, self._cut = state["ended"]
        self._states = dict(state["states"])


def _by_model(names: list[str], ports: list[Port]) -> list[tuple[str, list[tuple[str, Port]]]]:
    parts: dict[str, list[tuple[str, Port]]] = {}
    for name, port in zip(names, ports, strict=True):
        parts.setdefault(port.model, []).append((name, port))
    return list(parts.items())
