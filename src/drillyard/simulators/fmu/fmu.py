"""``simulator: {id: plant.fmu}``: the arguments of an experiment, checked."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import PurePosixPath
from typing import Any, Literal

from drillyard.documents.json_types import Json
from drillyard.errors import SimulatorError
from drillyard.simulators.fmu.description import Kind, Model, read_model
from drillyard.simulators.fmu.isolated import IsolatedPlant
from drillyard.simulators.fmu.library import check_platform
from drillyard.simulators.fmu.plant import Plant, Setting, StatefulPlant
from drillyard.simulators.fmu.state_test import incompleteness
from drillyard.simulators.fmu.wiring import TIME, Wiring
from drillyard.simulators.points import end_condition
from drillyard.spec.agent import AgentSpec
from drillyard.spec.learning import SimulatorSpec

ENDING = ".fmu"
_NEEDS_AGENT = "is missing: an FMU does not say what the agent observes, does and is rewarded for"


class Fmu:
    """One or several FMUs; ``for_agent`` makes the simulator.

    Args:
        models: Name -> file beside the experiment. With several, their variables are
            ``name.variable``. ``id: plant.fmu`` is short for one.
        connections: An input -> the variable that it follows, as of the communication point.
        names: A name for the experiment -> a variable of the model, for names such as ``x[1]``
            that a reward cannot read.
        start: Start values of all episodes, by variable; a lesson replaces them.
        kind: ``co-simulation`` or ``model-exchange``; by default the first that the model offers.
        step_s: Seconds of one step of the agent; by default the step of the model's experiment.
        communication_s: Seconds between two communication points; by default one step.
        tolerance: Relative tolerance of the solver, without unit; by default its own.
        start_s: Time of the model at which episodes begin, in seconds.
        events: Handle the events of FMI 3.0 co-simulation. Model exchange always handles them.
        solver: Solver of model exchange: ``cvode``, or ``euler`` with steps of
            ``communication_s``.
        state: ``auto`` saves the model's own state where a test shows that it is complete, and
            otherwise replays the actions of the open episode; ``replay`` always replays.
        ends: A condition that ends the episode: ``level > 1.9``.
        on_error: ``stop`` ends the run where the model fails, ``cut`` only the episode.
        isolate: Run each copy in a separate process. By default where the model allows one
            instance per process.
        restart_after: With ``isolate``: episodes after which the process is replaced.
        step_timeout_s: With ``isolate``: longest time of one step, in seconds.
        restarts_per_hour: With ``isolate``: more lost processes end the run.
        validate: Refuse a description that FMI's rules forbid.

    Raises:
        SimulatorError: An FMU or an argument that cannot be used.
    """

    def __init__(
        self,
        models: Mapping[str, str],
        connections: Mapping[str, str] | None = None,
        names: Mapping[str, str] | None = None,
        start: Mapping[str, Json] | None = None,
        kind: Kind | Literal["auto"] = "auto",
        step_s: float | None = None,
        communication_s: float | None = None,
        tolerance: float | None = None,
        start_s: float | None = None,
        events: bool = True,
        solver: Literal["cvode", "euler"] = "cvode",
        state: Literal["auto", "replay"] = "auto",
        ends: str | None = None,
        on_error: Literal["stop", "cut"] = "stop",
        isolate: bool | None = None,
        restart_after: int | None = None,
        step_timeout_s: float = 60.0,
        restarts_per_hour: int = 5,
        validate: bool = True,
    ) -> None:
        self._arguments = {k: v for k, v in locals().items() if k != "self" and v is not None}
        choices: dict[str, tuple[object, list[str]]] = {
            "kind": (kind, ["auto", "co-simulation", "model-exchange"]),
            "solver": (solver, ["cvode", "euler"]),
            "state": (state, ["auto", "replay"]),
            "on_error": (on_error, ["stop", "cut"]),
        }
        if not isinstance(models, Mapping) or not models:
            allowed = "names and files: {boiler: Boiler.fmu}"
            raise _wrong("models", "is not a table", models, allowed=allowed)
        for name, (value, known) in choices.items():
            if value not in known:
                raise _wrong(name, "is not known", value, known=known)
        for name in ("step_s", "communication_s", "tolerance", "step_timeout_s"):
            number = self._arguments.get(name, 1)
            if not isinstance(number, int | float) or not 0 < number < math.inf:
                raise _wrong(name, "is out of range", number, allowed="a number above 0")
        described = {key: read_model(file, validate=validate) for key, file in models.items()}
        self._models, self._state = described, state
        kinds = {key: _kind(model, kind) for key, model in described.items()}
        for key, model in described.items():
            check_platform(model, kinds[key])
        step_s = _step_s(described) if step_s is None else step_s
        starts = {model.start_s for model in described.values()}
        once = any(
            m.interface(kinds[k]).canBeInstantiatedOnlyOncePerProcess for k, m in described.items()
        )
        self._isolate = once if isolate is None else isolate
        self.setting = Setting(
            Wiring(described, dict(names or {}), dict(connections or {})),
            kinds,
            dict(start or {}),
            step_s,
            _substeps(step_s, communication_s),
            max(starts) if start_s is None else start_s,
            tolerance,
            events,
            solver,
            end_condition(ends),
            on_error == "cut",
        )

    def for_agent(self, agent: AgentSpec) -> Plant | IsolatedPlant:
        """The simulator of one copy, for what the agent sees and does.

        Raises:
            SimulatorError: The agent does not fit the models.
        """
        setting = self.setting
        setting.wiring.check(agent, setting.start)
        ends = sorted(setting.ends.names) if setting.ends is not None else []
        reads = setting.wiring.reads(agent, ends)
        for name in reads:
            setting.wiring.port(name, "simulator.agent")
        acts = list(agent.acts)
        name = " and ".join(model.path.name for model in self._models.values())
        if self._isolate:
            return IsolatedPlant(self._arguments, reads, acts, name, setting.step_s)
        if self._state == "replay" or not all(map(self._saves, self._models)):
            return Plant(setting, reads, acts, name)
        missing = incompleteness(setting, reads, agent.acts)
        if missing:
            return Plant(setting, reads, acts, f"{name} (its own state is incomplete: {missing})")
        return StatefulPlant(setting, reads, acts, name)

    def _saves(self, key: str) -> bool:
        interface = self._models[key].interface(self.setting.kinds[key])
        return bool(interface.canGetAndSetFMUstate and interface.canSerializeFMUstate)


def fmu_class(spec: SimulatorSpec) -> Callable[..., Any] | None:
    """What makes the simulator of an experiment on an FMU; None for another simulator.

    Raises:
        SimulatorError: ``agent:`` is missing.
    """
    if spec.id != "fmu" and not spec.id.endswith(ENDING):
        return None
    if spec.agent is None:
        file = "FILE.fmu" if spec.id == "fmu" else spec.id
        raise SimulatorError(
            _NEEDS_AGENT,
            field="simulator.agent",
            allowed="a table with observes, acts and reward, or module:Class",
            hint=f"`drillyard new simulator {file}` writes a complete experiment",
        )
    if spec.id == "fmu":
        return Fmu
    return partial(Fmu, models={PurePosixPath(spec.id).stem: spec.id})


def _wrong(name: str, message: str, value: object, **more: Any) -> SimulatorError:
    return SimulatorError(message, field=f"simulator.args.{name}", value=value, **more)


def _kind(model: Model, wanted_kind: str) -> Kind:
    if wanted_kind == "auto":
        return model.kinds[0]
    kind = next((k for k in model.kinds if k == wanted_kind), None)
    if kind is None:
        raise _wrong(
            "kind", f"is not what {model.path.name} offers", wanted_kind, known=model.kinds
        )
    return kind


def _step_s(models: Mapping[str, Model]) -> float:
    steps = {model.step_s for model in models.values() if model.step_s}
    if len(steps) != 1:
        raise _wrong(
            "step_s",
            f"is missing: the model says {'different steps' if steps else 'none'}",
            None,
            allowed="seconds above 0",
            hint="write how often the agent acts: simulator.args: {step_s: 60}",
        )
    return steps.pop()


def _substeps(step_s: float, communication_s: float | None) -> int:
    if communication_s is None:
        return 1
    substeps = round(step_s / communication_s)
    if substeps < 1 or not math.isclose(substeps * communication_s, step_s, rel_tol=1e-9):
        raise _wrong(
            "communication_s",
            f"does not divide a step of {step_s:g} s",
            communication_s,
            allowed=f"{step_s:g} s, or {step_s:g} s divided by a whole number",
        )
    return substeps


__all__ = ["ENDING", "TIME", "Fmu", "fmu_class"]
