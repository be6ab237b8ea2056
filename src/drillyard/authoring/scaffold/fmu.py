"""Writes an experiment for an FMU; what its description does not say is tried, or guessed."""

from __future__ import annotations

import json
import keyword
import math
import re
from collections.abc import Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from drillyard.authoring.scaffold.looking import Look, Seen, seen
from drillyard.authoring.scaffold.write import Scaffold, write_experiment
from drillyard.errors import DrillyardError, SimulatorError
from drillyard.simulators.fmu.description import NOT_NUMBERS, Model, Variable, read_model
from drillyard.simulators.fmu.fmu import Fmu
from drillyard.simulators.fmu.instance import CannotStart
from drillyard.spec.agent import AgentSpec
from drillyard.system.watchdog import report_activity

STEPS = 200
"""Steps with all inputs at random, at their lowest and at their highest."""
LONGEST = 1000
"""Steps of an episode that is written, if the model's own would have more."""
TRIAL_STEP_S = 10.0
"""Longest time of a step in the trial, in seconds."""
_SEED = 7
_EPISODE = 200
_WHOLE_VALUES = 20


@dataclass(frozen=True)
class Line:
    """One variable as a line of the experiment.

    Attributes:
        name: Name in the experiment.
        text: Range or values, and unit, as YAML.
        comment: The model's words, or ``guess: …``.
    """

    name: str
    text: str
    comment: str


@dataclass(frozen=True)
class Draft:
    """What the experiment will say.

    Attributes:
        file: Name of the FMU.
        title: The model's words about itself.
        look: Names and ranges, for the reward.
        observes: States.
        acts: Actions.
        lesson: Parameters and start values, around the model's own.
        names: Name in the experiment -> a variable that expressions cannot read.
        times: Arguments about time, as lines.
        steps: Steps of an episode, and a comment.
    """

    file: str
    title: str
    look: Look
    observes: list[Line]
    acts: list[Line]
    lesson: list[Line]
    names: dict[str, str]
    times: list[Line]
    steps: Line = field(default_factory=lambda: Line("", "", ""))


def around_fmu(path: Path) -> Scaffold:
    """Writes an experiment beside an FMU, which is not changed.

    Args:
        path: The FMU; its folder is on ``sys.path``.

    Raises:
        UserError: The FMU cannot be used here, or the experiment already exists.
    """
    draft = drafted(path.name)
    name = re.sub(r"[^a-z0-9]+", "-", path.stem.lower()).strip("-") or "plant"
    return write_experiment(path.with_name(f"{name}.yaml"), "fmu.yaml.j2", name, draft)


def drafted(file: str) -> Draft:
    """Reads and tries an FMU."""
    model = read_model(file)
    variables = [v for v in model.variables.values() if v.type not in NOT_NUMBERS]
    inputs = [v for v in variables if v.causality == "input"]
    inputs = inputs or [v for v in variables if v.tunable]
    outputs = [v for v in variables if v.causality == "output"]
    outputs = outputs or [v for v in variables if v.causality == "local"][:_WHOLE_VALUES]
    for what, there in (("inputs", inputs), ("outputs", outputs)):
        if not there:
            raise SimulatorError(
                f"has no {what}, so an agent could not {'act' if what == 'inputs' else 'observe'}",
                field="simulator.id",
                value=file,
                hint=f"declare {what} in the model, and export it again",
            )
    lessons = [v for v in variables if v.settable and v not in inputs and v.start is not None]
    names = _names([*inputs, *outputs, *lessons])
    step_s, times, steps = _times(model)
    discrete = all(_choices(v) for v in inputs)
    acts = [_act(names[v.name], v, discrete=discrete) for v in inputs]
    states, failed, lost = _tried(file, step_s, inputs, outputs, names)
    if lost:
        times.append(Line("isolate", "true", "the model ended its process in a trial"))
    observes = [_observe(state, v, failed) for state, v in zip(states, outputs, strict=True)]
    return Draft(
        file,
        " ".join(model.description.split()),
        Look(file, states, [line.name for line in acts]),
        observes,
        acts,
        [_lesson(names[v.name], v) for v in lessons],
        {names[v.name]: v.name for v in [*inputs, *outputs, *lessons] if names[v.name] != v.name},
        times,
        steps,
    )


def _times(model: Model) -> tuple[float, list[Line], Line]:
    """Seconds of a step, the arguments about time, and the steps of an episode."""
    own, stop_s = model.step_s, model.stop_s
    length_s = stop_s - model.start_s if stop_s is not None and stop_s > model.start_s else None
    if own and (length_s is None or length_s / own <= LONGEST):
        step_s, comment = own, "s, the step of the model's own experiment"
    elif length_s is not None:
        parts = length_s / _EPISODE
        step_s = max(round(parts / own), 1) * own if own else float(f"{parts:.2g}")
        comment = "s, guess: how often does the agent act?"
    else:
        step_s, comment = 1.0, "s, guess: how often does the agent act?"
    times = [Line("step_s", f"{step_s:.12g}", comment)]
    if own and step_s != own:
        times.append(Line("communication_s", f"{own:.12g}", "s, the model's own step"))
    if length_s is None:
        return step_s, times, Line("", f"{_EPISODE}", "guess: the model says no end")
    count = max(round(length_s / step_s), 1)
    return step_s, times, Line("", f"{count}", f"the model's own experiment: {length_s:g} s")


def _names(variables: Iterable[Variable]) -> dict[str, str]:
    """A name that a reward can read, for each variable."""
    names: dict[str, str] = {}
    for variable in variables:
        name = re.sub(r"\W+", "_", variable.name, flags=re.ASCII).strip("_") or "value"
        name = f"_{name}" if name[0].isdigit() or keyword.iskeyword(name) else name
        taken = {n for v, n in names.items() if v != variable.name}
        while name in taken or (name == "time" and variable.name != name):
            name += "_"
        names[variable.name] = name
    return names


def _choices(variable: Variable) -> list[int]:
    """The values of a variable with few of them."""
    if variable.type == "Boolean":
        return [0, 1]
    whole = variable.type not in ("Real", "Float64", "Float32")
    if not whole or variable.low is None or variable.high is None:
        return []
    values = range(int(variable.low), int(variable.high) + 1)
    return list(values) if 1 < len(values) <= _WHOLE_VALUES else []


def _input_range(variable: Variable) -> tuple[float, float, bool]:
    """Lowest and highest value, and whether that is a guess."""
    if variable.type == "Boolean":
        return 0.0, 1.0, False
    start = variable.start or 0.0
    reach = abs(start) or 1.0
    low = start - reach if variable.low is None else variable.low
    high = max(start, low) + reach if variable.high is None else variable.high
    return low, high, variable.low is None or variable.high is None


def _act(name: str, variable: Variable, *, discrete: bool) -> Line:
    low, high, guess = _input_range(variable)
    text = f"values: {_choices(variable)}" if discrete else _range(low, high)
    comment = "guess: which values may it take?" if guess else variable.description
    return Line(name, _with_unit(text, variable), comment)


def _observe(state: Seen, variable: Variable, failed: str) -> Line:
    low, high = (float(f"{end:.6g}") for end in state.range)
    comment = variable.description
    if variable.type == "Boolean":
        low, high = 0.0, 1.0
    elif variable.low is None or variable.high is None:
        tried = f"{state.low:.4g} to {state.high:.4g} in a trial"
        comment = f"guess: {failed or tried}"
        low = low if variable.low is None else variable.low
        high = high if variable.high is None else variable.high
        high = high if high > low else low + 1.0
    else:
        low, high = variable.low, variable.high
    return Line(state.name, _with_unit(_range(low, high), variable), comment)


def _lesson(name: str, variable: Variable) -> Line:
    start = variable.start or 0.0
    low, high = sorted(float(f"{share * start:.6g}") for share in (0.9, 1.1))
    low = low if variable.low is None else max(low, variable.low)
    high = high if variable.high is None else min(high, variable.high)
    whole = variable.type not in ("Real", "Float64", "Float32")
    text = f"{{{_range(low, high)}}}" if low < high and not whole else _number(start)
    words = f", {variable.description}" if variable.description else ""
    own = f"{start:.6g} {variable.unit}".rstrip()
    return Line(name, text, f"the model's own is {own}{words}")


def _with_unit(text: str, variable: Variable) -> str:
    unit = f", unit: {json.dumps(variable.unit, ensure_ascii=False)}" if variable.unit else ""
    return f"{{{text}{unit}}}"


def _range(low: float, high: float) -> str:
    return f"min: {_number(low)}, max: {_number(high)}"


def _number(value: float) -> str:
    """A short text that is the same number: a rounded one can lie outside the model's range."""
    texts = (f"{value:.{digits}g}" for digits in range(6, 18))
    return next((text for text in texts if float(text) == value), "0")


def _tried(
    file: str,
    step_s: float,
    inputs: Sequence[Variable],
    outputs: Sequence[Variable],
    names: dict[str, str],
) -> tuple[list[Seen], str, bool]:
    """The values of the outputs under random inputs, why there are none, and lost processes.

    Raises:
        CannotStart: The model cannot be loaded.
    """
    acts = {v.name: dict(zip(("min", "max"), _input_range(v), strict=False)) for v in inputs}
    observes = {v.name: {"min": 0.0, "max": 1.0} for v in outputs}
    table = {"observes": observes, "acts": acts, "reward": "0"}
    rng, failed = np.random.default_rng(_SEED), ""
    records: list[dict[str, float]] = []
    starts: list[int] = []
    lost = False
    setting: Any = Fmu(
        {"model": file}, step_s=step_s, on_error="cut", isolate=True, step_timeout_s=TRIAL_STEP_S
    )
    with closing(setting.for_agent(AgentSpec.model_validate(table))) as plant:
        try:
            for share in (None, 0.0, 1.0):
                report_activity("a reset of the trial")
                starts.append(len(records))
                records.append(dict(plant.reset({}, rng)))
                for step in range(STEPS):
                    report_activity(f"step {step + 1} of the trial")
                    shares = rng.random(len(acts)) if share is None else [share] * len(acts)
                    actions = {
                        name: float(act["min"] + part * (act["max"] - act["min"]))
                        for (name, act), part in zip(acts.items(), shares, strict=True)
                    }
                    records.append(dict(plant.step(actions)))
                    if plant.terminated() or plant.truncated():
                        break
                lost |= plant.lost
        except CannotStart:
            raise
        except DrillyardError as error:
            failed = f"the trial failed: {' '.join(error.message.split())[:80]}"
    known = [{names[v.name]: record[v.name] for v in outputs} for record in records]
    known = known or [dict.fromkeys((names[v.name] for v in outputs), 0.0)]
    assert all(math.isfinite(value) for record in known for value in record.values())
    return [seen(name, known, starts) for name in known[0]], failed, lost
