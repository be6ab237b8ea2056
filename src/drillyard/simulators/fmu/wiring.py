"""Names of the experiment and variables of its models: actions, states, lessons, connections."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

from drillyard.errors import SimulatorError
from drillyard.simulators.fmu.description import (
    NOT_NUMBERS,
    Model,
    Variable,
)
from drillyard.simulators.points import must_be_inside, must_be_same_unit
from drillyard.spec.agent import Act, AgentSpec, Observed

TIME = "time"
"""A state of each plant: the simulated time, in seconds."""


class Port(NamedTuple):
    """A variable of one of the models."""

    model: str
    variable: Variable


@dataclass(frozen=True)
class Wiring:
    """The models by name, and what connects them.

    Attributes:
        models: By name; variables of several models are ``model.variable``.
        names: A name of the experiment -> a variable, for names that expressions cannot read.
        connections: An input -> the variable that it follows.
    """

    models: Mapping[str, Model]
    names: Mapping[str, str]
    connections: Mapping[str, str]

    def port(self, name: str, field: str, *, inputs: bool = False) -> Port:
        """The variable behind a name.

        Args:
            name: Name in the experiment.
            field: Where it is written.
            inputs: It must be an input, or a parameter that can change in an episode.

        Raises:
            SimulatorError: There is none; it suggests the nearest name.
        """
        port = self._all.get(self.names.get(name, name))
        if port is None or (inputs and not _is_input(port.variable)):
            usable = [n for n, p in self._all.items() if not inputs or _is_input(p.variable)]
            shown = [*self.names, *usable]
            is_not = "is not a variable of the model" if port is None else "is not an input"
            raise SimulatorError(
                is_not, field=field, value=self.names.get(name, name), known=shown
            )
        if port.variable.type in NOT_NUMBERS and field != "simulator.args.start":
            raise SimulatorError(
                f"is a {port.variable.type}, not a number",
                field=field,
                value=name,
                hint="a text can be given in `simulator.args: {start: …}`",
            )
        return port

    def wires(self) -> list[tuple[Port, Port]]:
        """Each connected input, and what it follows.

        Raises:
            SimulatorError: An unknown name, no input, or two units.
        """
        field = "simulator.args.connections"
        wires = []
        for target, source in self.connections.items():
            ends = self.port(target, field, inputs=True), self.port(source, field)
            units = {"of the input": ends[0].variable.unit, f"of {source}": ends[1].variable.unit}
            must_be_same_unit(target, units, field)
            wires.append(ends)
        return wires

    def check(self, agent: AgentSpec, start: Iterable[str]) -> None:
        """Refuses an agent that does not fit the models.

        Args:
            agent: What the agent sees and does.
            start: Names that have a constant value.

        Raises:
            SimulatorError: An unknown name, a wrong unit or range, or an input that nothing sets,
                or that two set.
        """
        for name, variable in self.names.items():
            if variable not in self._all:
                raise SimulatorError(
                    "is not a variable of the model",
                    field=f"simulator.args.names.{name}",
                    value=variable,
                    known=self._all,
                )
        for name, observed in agent.observes.items():
            self._check_one(name, observed, f"simulator.agent.observes.{name}")
        for name, act in agent.acts.items():
            self._check_one(name, act, f"simulator.agent.acts.{name}", inputs=True)
        self._check_writers(agent)
        for name in agent.resets or ():
            self.settable(name, "simulator.agent.resets")
        given = {*agent.acts, *(agent.resets or ()), *start, *self.connections}
        known = {self.names.get(name, name) for name in given}
        unset = [
            name
            for name, port in self._all.items()
            if port.variable.causality == "input"
            and port.variable.type not in NOT_NUMBERS
            and name not in known
        ]
        if unset:
            raise SimulatorError(
                f"nothing sets the inputs {', '.join(unset[:5])}",
                field="simulator.agent.acts",
                value=sorted(agent.acts),
                hint=f"add `{unset[0]}` to `acts`, to `resets` and `lesson`, or give it a "
                f"constant: args: {{start: {{{unset[0]}: 0}}}}",
            )

    def settable(self, name: str, field: str) -> Port:
        """The variable behind a name that can have a value before the start."""
        port = self.port(name, field)
        if not port.variable.settable:
            raise SimulatorError(
                f"cannot be set: it is a {port.variable.causality} that the model computes",
                field=field,
                value=name,
                known=[n for n, p in self._all.items() if p.variable.settable],
            )
        return port

    def reads(self, agent: AgentSpec, more: Iterable[str]) -> list[str]:
        """The names of all states that the experiment reads, besides the time."""
        outputs = [n for n, p in self._all.items() if _is_output(p.variable)]
        names = [*agent.reads(outputs), *more]
        return [name for name in dict.fromkeys(names) if name != TIME]

    def _check_one(
        self, name: str, given: Observed | Act, field: str, *, inputs: bool = False
    ) -> None:
        if name == TIME and not inputs:
            return
        variable = self.port(name, field, inputs=inputs).variable
        units = {"in the model": variable.unit, "in the experiment": given.unit}
        must_be_same_unit(name, units, f"{field}.unit")
        for value in (given.min, given.max) if inputs else ():
            if value is not None:
                must_be_inside(name, variable, value, field)

    def _check_writers(self, agent: AgentSpec) -> None:
        writers = {target: "`connections`" for target, _ in self.wires()}
        for name in agent.acts:
            field = f"simulator.agent.acts.{name}"
            port = self.port(name, field, inputs=True)
            if port in writers:
                raise SimulatorError(
                    f"sets the same input as {writers[port]}",
                    field=field,
                    value=name,
                    hint="remove one of the two",
                )
            writers[port] = f"the action {name}"

    @cached_property
    def _all(self) -> dict[str, Port]:
        single = len(self.models) == 1
        return {
            name if single else f"{model}.{name}": Port(model, variable)
            for model, description in self.models.items()
            for name, variable in description.variables.items()
        }


def _is_input(variable: Variable) -> bool:
    return variable.causality == "input" or variable.tunable


def _is_output(variable: Variable) -> bool:
    return variable.causality == "output" and variable.type not in NOT_NUMBERS
