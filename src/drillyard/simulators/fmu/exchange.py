"""A model-exchange FMU: the model has the equations, and a solver of FMPy integrates them."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from drillyard.simulators.fmu.description import Kind, Model
from drillyard.simulators.fmu.instance import Failed, Files, Instance

SAME = 1e-12
"""Relative difference of two times that are one; CVODE refuses to integrate between them."""
TOLERANCE = 1e-5
"""Relative tolerance of CVODE, if neither the experiment nor the model says one."""


class _NoInput:
    """Inputs change between steps only, and FMPy's solvers ask for more."""

    def apply(self, time: float) -> None:
        """Changes nothing."""


class Exchange(Instance):
    """One instance of a model-exchange model.

    Between steps it is in event mode, in which inputs of each kind may change. Each step begins
    the solver again, so that nothing outside the model remembers an earlier step.

    Args:
        model: A checked FMU.
        files: Where it was extracted.
        solver: ``cvode``, or ``euler`` with one step between two communication points.
        tolerance: Relative tolerance of CVODE.
    """

    kind: Kind = "model-exchange"

    def __init__(self, model: Model, files: Files, solver: str, tolerance: float | None) -> None:
        super().__init__(model, files, events=False)
        own = getattr(model.fmi.defaultExperiment, "tolerance", None)
        self._tolerance = tolerance or float(own or TOLERANCE)
        self._files, self._name, self._next_s = files, solver, math.inf
        self._error: Exception | None = None
        self._completes = not getattr(
            model.fmi.modelExchange, "completedIntegratorStepNotNeeded", False
        )

    def started(self) -> None:
        """Ends the initialisation; the model is in event mode then."""
        self.fmu.exitInitializationMode()
        self._settle()
        self._solver = self._made_solver()

    def step(self, time_s: float, size_s: float) -> bool:
        """See ``Instance.step``."""
        end_s = time_s + size_s
        try:
            self.fmu.setTime(time_s)
            if self._continue(time_s):
                return True
            while end_s - time_s > SAME * max(abs(end_s), 1.0):
                until_s, happened = min(end_s, self._next_s), False
                if until_s - time_s > SAME * max(abs(end_s), 1.0):
                    happened, _, until_s = self._solver.step(time_s, until_s)
                elif until_s <= time_s:
                    raise Failed(f"its next event, at {until_s:g} s, is not after {time_s:g} s")
                if self._error is not None:
                    raise self._error
                time_s = until_s
                self.fmu.setTime(time_s)
                if self._completes:
                    event, ended = self.fmu.completedIntegratorStep()
                    if ended:
                        return True
                    happened |= event
                if (happened or time_s >= self._next_s) and time_s < end_s:
                    self.fmu.enterEventMode()
                    if self._continue(time_s):
                        return True
            self.fmu.enterEventMode()
            return False
        except (
            Exception
        ) as error:  # FMPy's errors and those of its solvers have no class in common
            raise self.failed(error) from error

    def _continue(self, time_s: float) -> bool:
        """From event mode to integration; True where the model ends."""
        if self._settle():
            return True
        self.fmu.enterContinuousTimeMode()
        self._solver.reset(time_s)
        return False

    def _settle(self) -> bool:
        """Repeats until the discrete states are settled; True where the model ends."""
        two = self.model.version == 2
        update = self.fmu.newDiscreteStates if two else self.fmu.updateDiscreteStates
        while True:
            needed, ended, _, _, timed, next_s = update()
            if ended or not needed:
                self._next_s = next_s if timed else math.inf
                return bool(ended)

    def _made_solver(self) -> Any:
        from fmpy.simulation import ForwardEuler
        from fmpy.sundials import CVodeSolver

        fmu, description = self.fmu, self.model.fmi
        derivatives = (
            "getDerivatives" if self.model.version == 2 else "getContinuousStateDerivatives"
        )
        sizes = {
            "nx": description.numberOfContinuousStates,
            "nz": description.numberOfEventIndicators,
            "input": _NoInput(),
        }
        calls = {
            "get_x": self._noted(fmu.getContinuousStates),
            "set_x": self._noted(fmu.setContinuousStates),
            "get_dx": self._noted(getattr(fmu, derivatives)),
            "get_z": self._noted(fmu.getEventIndicators),
        }
        if self._name == "euler":
            return ForwardEuler(**sizes, **calls)
        calls["get_nominals"] = self._noted(fmu.getNominalsOfContinuousStates)
        calls["set_time"] = self._noted(fmu.setTime)
        if self._files.solver is None:
            self._files.solver = CVodeSolver(
                startTime=0.0, relativeTolerance=self._tolerance, **sizes, **calls
            )
        else:
            vars(self._files.solver).update(calls)
        return self._files.solver

    def _noted(self, call: Callable[..., object]) -> Callable[..., None]:
        """Keeps an exception, which the solver's C code would lose."""

        def noted(*args: object) -> None:
            try:
                call(*args)
            except Exception as error:
                self._error = self._error or error

        return noted
