"""One run of EnergyPlus, stepped from outside.

The engine calls back between its time steps and cannot be stepped. So it runs in a greenlet of
the caller's thread, and a callback gives the control back: no other thread, no waiting.
"""

from __future__ import annotations

import contextlib
import shutil
import tempfile
import weakref
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from greenlet import GreenletExit, getcurrent, greenlet

from drillyard.system.optional_packages import must_have

_WEATHER_PERIOD = 3
"""The kind of simulation that follows the weather file; before it come those of sizing."""
MESSAGES = 5
"""Errors of EnergyPlus that a message repeats, besides the last one."""
_WARM_UP = "CheckWarmupConvergence"


class Point(NamedTuple):
    """Something that can be read or set in a model.

    Attributes:
        kind: ``variable``, ``meter`` or ``actuator``.
        name: ``Zone Mean Air Temperature/CORE_ZN``, ``Electricity:Facility``, or
            ``Schedule:Compact/Schedule Value/HTGSETP_SCH``.
        unit: EnergyPlus's; "" for none.
    """

    kind: str
    name: str
    unit: str


class EngineFailed(Exception):
    """EnergyPlus ended with errors; the message has those of its own error file."""


class UnknownPoint(Exception):
    """The model has no point of this name.

    Args:
        name: The name.
        kind: What it should be.
    """

    def __init__(self, name: str, kind: str) -> None:
        super().__init__(name)
        self.name, self.kind = name, kind


@cache
def engine() -> Any:
    """The engine's interface, loaded once in a process.

    Raises:
        PackagesMissing: It is not installed.
    """
    must_have("energyplus", "the simulator energyplus")
    from pyenergyplus.api import EnergyPlusAPI

    return EnergyPlusAPI()


class Simulation:
    """One run; it waits before each time step of the run period.

    Args:
        weather: The weather file; None for a conversion.
        reads: Names of variables and meters.
        sets: Names of actuators.
    """

    def __init__(self, weather: Path | None, reads: Sequence[str], sets: Sequence[str]) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="energyplus-"))
        # Also where nothing closes it: a copy's process ends with its work.
        self._delete = weakref.finalize(self, shutil.rmtree, self.folder, ignore_errors=True)
        self.model = self.folder / "model.epJSON"
        """Where the model is; an IDF to be converted may be elsewhere."""
        self._how = ["--convert-only"] if weather is None else ["-w", str(weather)]
        self._reads, self._sets = list(reads), list(sets)
        self._readers: list[Callable[[], float]] | None = None
        self._writers: list[Callable[[float], None]] = []
        self._actions: Sequence[float] = ()
        self._stopping = False
        self._error: BaseException | None = None
        self._code = 0
        self._run = greenlet(self._whole_run)
        self.values: list[float] = []
        """What ``reads`` were at the end of the last time step."""
        self.day_of_week = 0
        """1 is Sunday, of the first day."""

    def write_model(self, text: str) -> None:
        """Writes the model, which goes with this object."""
        self.model.write_text(text, encoding="utf-8")

    def finished(self, file: str) -> str:
        """Stops the engine, and returns one of its files."""
        self._stopping = True
        self._run.switch()
        return (self.folder / file).read_text(encoding="utf-8", errors="replace")

    def advance(self, actions: Sequence[float] = ()) -> bool:
        """Sets the actuators, and goes to the end of the next time step.

        The first call goes to the begin of the run period.

        Returns:
            False where the run period has ended.

        Raises:
            UnknownPoint: A name is not in the model.
            EngineFailed: The engine ended with errors.
        """
        self._actions = actions
        self._run.parent = getcurrent()
        self._run.switch()
        if self._error is not None:
            raise self._error
        if self._run.dead and self._code and not self._stopping:
            raise EngineFailed(errors_in(self.folder) or f"it ended with code {self._code}")
        return not self._run.dead

    def points(self) -> Iterator[Point]:
        """All points of the model; while it waits."""
        for point in engine().exchange.get_api_data(self._state):
            unit = point.unit.strip("[] ")
            if point.what == "OutputVariable":
                yield Point("variable", f"{point.name}/{point.key}", unit)
            elif point.what == "OutputMeter":
                yield Point("meter", point.key, unit)
            elif point.what == "Actuator":
                yield Point("actuator", f"{point.name}/{point.type}/{point.key}", unit)

    def close(self) -> None:
        """Ends the engine, and deletes its files."""
        self._stopping = True
        if self._run and not self._run.dead:
            with contextlib.suppress(Exception):  # it began in a thread that has ended
                self._run.parent = getcurrent()
                self._run.switch()
        self._delete()

    def _whole_run(self) -> None:
        from pyenergyplus.runtime import all_callbacks

        runtime, exchange = engine().runtime, engine().exchange
        self._state = state = engine().state_manager.new_state()
        runtime.set_console_output_status(state, False)
        for name in self._reads:
            variable, slash, key = name.partition("/")
            if slash:
                exchange.request_variable(state, variable, key)
        known = len(all_callbacks)
        runtime.callback_begin_zone_timestep_before_set_current_weather(
            state, self._guarded(self._before_step)
        )
        runtime.callback_end_zone_timestep_after_zone_reporting(
            state, self._guarded(self._after_step)
        )
        own = all_callbacks[known:]
        arguments = ["-d", str(self.folder), *self._how, str(self.model)]
        self._code = runtime.run_energyplus(state, arguments)
        for callback in own:  # the package would keep them, and this object with them
            all_callbacks.remove(callback)
        engine().state_manager.delete_state(state)

    def _guarded(self, step: Callable[[], None]) -> Callable[[Any], None]:
        """A callback: C code would lose an exception."""

        def guarded(_: Any) -> None:
            if self._stopping or (self._readers is None and not self._in_run_period()):
                return
            try:
                step()
            except BaseException as error:
                self._error = None if isinstance(error, GreenletExit) else error
                self._stopping = True
            if self._stopping:
                engine().runtime.stop_simulation(self._state)

        return guarded

    def _in_run_period(self) -> bool:
        """Whether sizing and warm-up are over; they do not come again."""
        exchange, state = engine().exchange, self._state
        return bool(
            exchange.api_data_fully_ready(state)
            and not exchange.warmup_flag(state)
            and exchange.kind_of_sim(state) == _WEATHER_PERIOD
        )

    def _before_step(self) -> None:
        if self._readers is None:
            self._open()
        assert self._run.parent is not None
        self._run.parent.switch()
        for write, value in zip(self._writers, self._actions, strict=False):
            write(value)

    def _after_step(self) -> None:
        self.values = [read() for read in self._readers or ()]

    def _open(self) -> None:
        """Finds the handles of all names, and reads the values of the warm-up."""
        exchange, state = engine().exchange, self._state
        self._readers = [self._reader(name) for name in self._reads]
        for name in self._sets:
            parts = name.split("/")
            splits = (
                ("/".join(parts[:i]), "/".join(parts[i:j]), "/".join(parts[j:]))
                for i in range(1, len(parts) - 1)
                for j in range(i + 1, len(parts))
            )
            handles = (exchange.get_actuator_handle(state, *split) for split in splits)
            handle = next((handle for handle in handles if handle != -1), None)
            if handle is None:
                raise UnknownPoint(name, "actuator")
            self._writers.append(_bound(exchange.set_actuator_value, state, handle))
        self.day_of_week = exchange.day_of_week(state)
        self._after_step()

    def _reader(self, name: str) -> Callable[[], float]:
        exchange, state = engine().exchange, self._state
        variable, slash, key = name.partition("/")
        if slash:
            handle = exchange.get_variable_handle(state, variable, key)
            read = engine().api.getVariableValue
        else:
            handle = exchange.get_meter_handle(state, name)
            read = engine().api.getMeterValue
        if handle == -1:
            raise UnknownPoint(name, "variable" if slash else "meter")
        return _bound(read, state, handle)


def _bound(call: Callable[..., Any], state: Any, handle: int) -> Callable[..., Any]:
    return lambda *values: call(state, handle, *values)


def errors_in(folder: Path) -> str:
    """The severe and fatal errors of EnergyPlus's own error file; empty for none."""
    try:
        lines = (folder / "eplusout.err").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
    messages: list[str] = []
    severe = False
    for line in lines.splitlines():
        mark, _, text = line.strip().lstrip("*").strip().partition("**")
        mark = mark.strip()
        if mark in ("Severe", "Fatal"):
            severe = True
            messages.append(" ".join(text.split()))
        elif mark == "~~~" and severe:
            messages[-1] += f" {' '.join(text.strip(' .').split())}"
        elif mark != "~~~":
            severe = False
    # A warm-up that was too short ends nothing, and has a message for each zone.
    messages = [message for message in messages if not message.startswith(_WARM_UP)]
    shown = [*messages[:MESSAGES], *messages[MESSAGES:][-1:]]  # the last one ended it
    return "".join(f"\n    {message}" for message in shown)
