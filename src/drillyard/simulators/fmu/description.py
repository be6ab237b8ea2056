"""What a model says about itself: names, units, ranges and start values of its variables."""

from __future__ import annotations

import hashlib
import itertools
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from drillyard.simulators.fmu.archive import check, leaves, refused
from drillyard.simulators.own_files import find

Kind = Literal["co-simulation", "model-exchange"]
NOT_NUMBERS = ("String", "Binary", "Clock")


@dataclass(frozen=True)
class Variable:
    """A number of a model, or one element of an array.

    Attributes:
        name: The model's name; elements of arrays are ``x[1]``, ``x[1,2]``.
        type: ``Real``, ``Float64``, ``Boolean``, ``String`` and so on, as FMI calls it.
        reference: Its value reference.
        element: Which element of the array it is, from 0.
        size: Elements of the array; 1 for a scalar.
        causality: ``input``, ``output``, ``parameter``, ``local`` and so on.
        settable: Whether a value can be given before the start.
        tunable: Whether it is a parameter that can change in an episode.
        unit: Its unit, or "".
        low: Smallest value, where the model says one.
        high: Largest value, where the model says one.
        start: Start value, where the model says one.
        description: The model's words.
    """

    name: str
    type: str
    reference: int
    element: int
    size: int
    causality: str
    settable: bool
    tunable: bool
    unit: str
    low: float | None
    high: float | None
    start: float | None
    description: str


@dataclass(frozen=True)
class Model:
    """A checked FMU.

    Attributes:
        path: Its file.
        sha256: Hash of the file.
        version: 2 or 3.
        names: The files in it.
        variables: By name.
        kinds: What it is exported for.
        description: The model's words about itself.
        start_s: Start of its default experiment, in seconds.
        stop_s: Its end, where the model says one.
        step_s: Its step, where the model says one.
        fmi: FMPy's ``ModelDescription``.
    """

    path: Path
    sha256: str
    version: int
    names: list[str]
    variables: dict[str, Variable]
    kinds: list[Kind]
    description: str
    start_s: float
    stop_s: float | None
    step_s: float | None
    fmi: Any

    def interface(self, kind: Kind) -> Any:
        """What the model says about one kind."""
        return self.fmi.coSimulation if kind == "co-simulation" else self.fmi.modelExchange


def read_model(name: str, *, validate: bool = True) -> Model:
    """Checks and describes an FMU; executes nothing of it.

    Args:
        name: File beside the experiment.
        validate: Refuse a description that FMI's rules forbid.

    Raises:
        SimulatorError: It is not an FMU that can be used here.
    """
    path = find(name, "an FMU")
    names = check(path)
    from fmpy import read_model_description

    try:
        fmi = read_model_description(str(path), validate=validate)
    except Exception as error:  # FMPy raises plain exceptions, and those of its parser
        raise refused(
            path,
            f"its description breaks FMI's rules: {' '.join(str(error).split())}",
            "export it again with a newer version of its tool; `simulator.args: {validate: "
            "false}` uses it as it is",
        ) from error
    if not str(fmi.fmiVersion).startswith(("2.", "3.")):
        raise refused(
            path, f"is an FMU {fmi.fmiVersion}", "export the model again, as FMI 2.0 or 3.0"
        )
    kinds: list[Kind] = ["co-simulation"] if fmi.coSimulation is not None else []
    kinds += ["model-exchange"] if fmi.modelExchange is not None else []
    if not kinds:
        raise refused(
            path,
            "is for scheduled execution only",
            "export the model again for co-simulation",
        )
    outside = next(filter(leaves, _files(fmi)), None)
    if outside is not None:
        raise refused(
            path,
            f"its description names a file outside its folder: {outside!r}",
            "do not use this file; export the model again, or ask its author for another one",
        )
    variables = [v for given in fmi.modelVariables for v in _scalars(given)]
    twice = [n for n, count in Counter(v.name for v in variables).items() if count > 1]
    if twice:
        raise refused(
            path,
            f"two variables have the name {twice[0]!r}",
            "rename one of them in the model, and export it again",
        )
    default = fmi.defaultExperiment
    return Model(
        path,
        hashlib.sha256(path.read_bytes()).hexdigest(),
        int(fmi.fmiMajorVersion),
        names,
        {v.name: v for v in variables},
        kinds,
        fmi.description or fmi.modelName or path.stem,
        _number(default, "startTime") or 0.0,
        _number(default, "stopTime"),
        _number(default, "stepSize"),
        fmi,
    )


def _files(fmi: Any) -> Iterator[str]:
    """The names of the library and of the sources in a description."""
    interfaces = (fmi.coSimulation, fmi.modelExchange)
    yield from (each.modelIdentifier for each in interfaces if each is not None)
    for part in (part for each in fmi.buildConfigurations for part in each.sourceFileSets):
        yield from (*part.sourceFiles, *part.includeDirectories)


def _scalars(given: Any) -> Iterator[Variable]:
    """The numbers of a variable of FMPy's description."""
    shape = tuple(int(length) for length in given.shape or ())
    indices = list(itertools.product(*(range(1, length + 1) for length in shape)))
    starts = str(given.start).split() if given.start is not None else []
    kind = given.declaredType
    unit = given.unit or getattr(kind, "unit", None) or ""
    low, high = (_limit(getattr(given, end) or getattr(kind, end, None)) for end in ("min", "max"))
    items = [float(item.value) for item in kind.items] if kind is not None else []
    if items:  # an enumeration
        low = min(items) if low is None else low
        high = max(items) if high is None else high
    if low is None and given.type.startswith("UInt"):
        low = 0.0
    settable = given.causality == "input" or (
        given.variability != "constant" and given.initial in ("exact", "approx")
    )
    for element, index in enumerate(indices):
        label = f"[{','.join(map(str, index))}]" if shape else ""
        start = starts[element] if element < len(starts) else starts[0] if starts else None
        yield Variable(
            f"{given.name}{label}",
            given.type,
            int(given.valueReference),
            element,
            len(indices),
            given.causality or "local",
            settable and given.causality != "structuralParameter",
            given.causality == "parameter" and given.variability == "tunable",
            unit,
            low,
            high,
            _limit(start),
            " ".join((given.description or "").split()),
        )


def _limit(text: Any) -> float | None:
    """A number of the description; booleans are words."""
    if text in ("true", "false"):
        return float(text == "true")
    try:
        return None if text is None else float(text)
    except ValueError:
        return None


def _number(default: Any, name: str) -> float | None:
    return _limit(getattr(default, name, None))
