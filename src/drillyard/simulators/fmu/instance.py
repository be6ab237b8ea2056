"""One running model, through FMPy."""

from __future__ import annotations

import contextlib
import logging
import shutil
import weakref
from collections import deque
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from drillyard.errors import RunFailed
from drillyard.simulators.fmu.archive import extract
from drillyard.simulators.fmu.description import NOT_NUMBERS, Kind, Model, Variable
from drillyard.simulators.fmu.library import library
from drillyard.simulators.fmu.values import Values

_DISCARD, _FATAL, _TERMINATED = 2, 4, 3
LAST_WORDS = 5
"""Messages of the model that an error repeats."""
log = logging.getLogger("drillyard.simulator")


_words: deque[str] = deque(maxlen=LAST_WORDS)


def last_words() -> str:
    """The last messages of the models of this process, for an error."""
    return "".join(f"\n    {line}" for line in _words)


def _log(_: Any, status: int, category: bytes, text: bytes) -> None:
    del category
    line = (text or b"").decode(errors="replace").rstrip()
    _words.append(line)
    log.log(logging.WARNING if status > 1 else logging.INFO, "%s", line)


@cache
def _callbacks() -> Any:
    """FMI 2.0's callbacks: one object that is never freed, because FMPy's proxy keeps it."""
    import fmpy.fmi2 as two

    callbacks = two.fmi2CallbackFunctions()
    callbacks.logger = two.fmi2CallbackLoggerTYPE(
        lambda _, name, status, category, text: _log(name, status, category, text)
    )
    callbacks.allocateMemory = two.defaultCallbacks.allocateMemory
    callbacks.freeMemory = two.defaultCallbacks.freeMemory
    with contextlib.suppress(Exception):  # without it, messages keep their %s
        from fmpy.logging import addLoggerProxy

        addLoggerProxy(two.byref(callbacks))
    return callbacks


class Failed(Exception):
    """A call of the model returned an error, or its solver could not go on."""


class CannotStart(RunFailed):
    """A model cannot be loaded, or gives no instance, as where all licences are in use."""


class Files:
    """The extracted files of an FMU; they are deleted with this object.

    Attributes:
        folder: Where they are.
        library: The model's own.
        solver: CVODE for all instances, one after another: FMPy does not free its matrices.
    """

    def __init__(self, model: Model, kind: Kind) -> None:
        self.folder = extract(model.path)
        self.solver: Any = None
        # Also where nothing closes it: a copy's process ends with its work.
        self.delete = weakref.finalize(self, shutil.rmtree, self.folder, ignore_errors=True)
        try:
            self.library: Path = library(model, kind, self.folder)
        except BaseException:
            self.delete()
            raise


class Instance:
    """One instance of a co-simulation model; a new one for each episode.

    Args:
        model: A checked FMU.
        files: Where it was extracted.
        events: Handle the events of FMI 3.0, where the model offers it.
    """

    kind: Kind = "co-simulation"

    def __init__(self, model: Model, files: Files, *, events: bool = True) -> None:
        import fmpy.fmi2
        import fmpy.fmi3

        self.model = model
        classes: Mapping[tuple[int, Kind], Any] = {
            (2, "co-simulation"): fmpy.fmi2.FMU2Slave,
            (2, "model-exchange"): fmpy.fmi2.FMU2Model,
            (3, "co-simulation"): fmpy.fmi3.FMU3Slave,
            (3, "model-exchange"): fmpy.fmi3.FMU3Model,
        }
        interface = model.interface(self.kind)
        self._events = bool(events and getattr(interface, "hasEventMode", False))
        self._alive = False
        _words.clear()
        try:
            # FMPy stays in the folder of a library that cannot be loaded.
            with contextlib.chdir("."):
                self.fmu = classes[model.version, self.kind](
                    guid=model.fmi.guid,
                    modelIdentifier=interface.modelIdentifier,
                    unzipDirectory=str(files.folder),
                    instanceName=model.path.stem,
                )
            self._instantiate()
        except Exception as error:  # FMPy raises plain exceptions here
            raise CannotStart(
                f"{model.path.name} cannot be started: {error}{last_words()}",
                hint="is a licence or another library missing on this machine?",
            ) from error
        self._alive = True

    def begin(
        self,
        values: Mapping[Variable, float | str],
        start_s: float,
        tolerance: float | None,
    ) -> None:
        """Sets start values and begins to initialise.

        Args:
            values: Start values of parameters, inputs and states.
            start_s: Time of the begin, in seconds.
            tolerance: Relative tolerance of the model's own solver; None: its default.
        """
        if self.model.version == 2:
            self.fmu.setupExperiment(tolerance=tolerance, startTime=start_s)
        numbers = {v: x for v, x in values.items() if not isinstance(x, str)}
        arrays = {v.reference for v in numbers if v.size > 1}
        for variable in self.model.variables.values():
            if variable.reference in arrays:  # an array is set as a whole
                numbers.setdefault(variable, variable.start or 0.0)
        if numbers:
            self.values(list(numbers)).write(list(numbers.values()))
        for variable, text in values.items():
            if isinstance(text, str):
                self.fmu.setString([variable.reference], [text])
        more = {} if self.model.version == 2 else {"tolerance": tolerance, "startTime": start_s}
        self.fmu.enterInitializationMode(**more)

    def started(self) -> None:
        """Ends the initialisation."""
        self.fmu.exitInitializationMode()
        if self._events:
            self._handle_events()
            self.fmu.enterEventMode()

    def values(self, variables: Sequence[Variable]) -> Values:
        """Reads and writes some numbers of this instance."""
        return Values(self.fmu, self.model.version, variables)

    def numbers(self) -> list[Variable]:
        """Everything that can be read as a number, besides the time."""
        there = self.model.variables.values()
        return [v for v in there if v.type not in NOT_NUMBERS and v.causality != "independent"]

    def step(self, time_s: float, size_s: float) -> bool:
        """Steps once; True where the model ended its simulation.

        Raises:
            Failed: The model returned an error.
        """
        try:
            if self.model.version == 2:
                self.fmu.doStep(time_s, size_s)
                return False
            return self._step_with_events(time_s, time_s + size_s)
        except Exception as error:  # FMPy's own is an exception without a class above it
            if getattr(error, "status", None) == _DISCARD and self._has_ended():
                return True
            raise self.failed(error) from error

    def failed(self, error: Exception) -> Failed:
        """Returns the error for one of a call; after a fatal one, FMI allows no call at all."""
        self._alive = getattr(error, "status", None) != _FATAL
        return Failed(f"{error}{last_words()}")

    def state(self) -> np.ndarray:
        """Its serialised state."""
        handle = self.fmu.getFMUState()
        try:
            return np.frombuffer(self.fmu.serializeFMUState(handle), np.uint8).copy()
        finally:
            self.fmu.freeFMUState(handle)

    def load_state(self, state: np.ndarray) -> None:
        """Continues from a serialised state."""
        handle = self.fmu.deserializeFMUState(np.asarray(state, np.uint8).tobytes())
        try:
            self.fmu.setFMUState(handle)
        finally:
            self.fmu.freeFMUState(handle)

    def close(self) -> None:
        """Frees the instance and its library; static variables begin again with the next one."""
        if self._alive:
            self._alive = False
            with contextlib.suppress(Exception):
                self.fmu.terminate()
            with contextlib.suppress(Exception):
                self.fmu.freeInstance()

    def _instantiate(self) -> None:
        if self.model.version == 2:
            self.fmu.instantiate(callbacks=_callbacks())
            return
        more = {}
        if self.kind == "co-simulation":  # without the second, no event ends a step early
            more = {"eventModeUsed": self._events, "earlyReturnAllowed": self._events}
        self.fmu.instantiate(logMessage=_log, **more)

    def _has_ended(self) -> bool:
        return self.model.version == 2 and bool(self.fmu.getBooleanStatus(_TERMINATED))

    def _step_with_events(self, time_s: float, end_s: float) -> bool:
        """FMI 3.0: a step may stop early at an event, and goes on after it.

        Between steps a model with events is in event mode: an action is a jump of an input.
        """
        if self._events and self._handle_events():
            return True
        while True:
            event, ended, early, last_s = self.fmu.doStep(time_s, end_s - time_s)
            if ended:
                return True
            if event and self._events:
                self.fmu.enterEventMode()
                if self._handle_events():
                    return True
            if not early or last_s >= end_s:
                if self._events:
                    self.fmu.enterEventMode()
                return False
            time_s = last_s

    def _handle_events(self) -> bool:
        """Repeats until the discrete states are settled; True where the model ends."""
        while True:
            needed, ended, *_ = self.fmu.updateDiscreteStates()
            if ended:
                return True
            if not needed:
                self.fmu.enterStepMode()
                return False
