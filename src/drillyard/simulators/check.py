"""Checks of a simulator before anything is rented."""

from __future__ import annotations

import contextlib
import warnings
from dataclasses import dataclass

import numpy as np
from gymnasium import spaces

from drillyard.documents.space_text import space_text
from drillyard.errors import DrillyardError, SpaceMismatch
from drillyard.findings import Finding, Severity, passed, problem, warning
from drillyard.simulators.far_outside import WIDER
from drillyard.simulators.flat_spaces import flattened
from drillyard.simulators.horizon import horizon
from drillyard.simulators.make import make_env
from drillyard.simulators.random_actions import PossibleActions, is_masked, random_action
from drillyard.simulators.replay_probe import LIMIT_S, probe
from drillyard.simulators.speed import measure_speed
from drillyard.simulators.stepping import Stepping, fault, short
from drillyard.simulators.types import Env, Observation, ResetResult
from drillyard.simulators.wrappers import is_silent, layers
from drillyard.spec.learning import SimulatorSpec
from drillyard.system.user_code import described
from drillyard.system.watchdog import report_activity

STEPS = 50
_SEED = 12_345
_WAITS = (
    "A checkpoint waits for the ends of the open episodes, at most half of the interval between "
    "checkpoints; it cuts those that are open even then (they count as truncated), and"
)
_NOT_REPEATED = "are not equivalent"


def check_simulator(spec: SimulatorSpec, *, speed: bool = True) -> list[Finding]:
    """Tries a simulator as training will use it.

    Gymnasium's own checker; spaces, shapes, types and finite numbers over 50 random steps;
    the same steps twice from one seed; whether its state can be saved; steps/s.

    Args:
        spec: The simulator part of an experiment, wrappers and lesson included.
        speed: Measure steps/s too, which imports the learner's libraries.

    Returns:
        Findings. A simulator that raises is a finding, never an exception of this function; only
        an experiment file that cannot be read as a simulator raises.

    Raises:
        ConfigError, SimulatorError, PluginError: The simulator cannot even be made.
    """
    env = make_env(spec, flat=False)
    try:
        findings = check_env_contract(env)
        repeats = findings[-1].severity is Severity.OK
        findings += _flat(env)
        if not any(f.severity is Severity.ERROR for f in findings):
            with contextlib.suppress(Exception):
                env.close()  # a plant, a licence or a place of a service may be the only one
            findings.append(_resumable(spec, env, repeats))
            if speed:
                findings.append(measure_speed(spec))
        return findings
    finally:
        with contextlib.suppress(Exception):  # a simulator that cannot close was reported before
            env.close()


def check_env_contract(env: Env) -> list[Finding]:
    """Checks one environment, which stays open; a part of ``check_simulator``."""
    findings = _spaces(env)
    # Before Gymnasium's checker: where a simulator hangs, our steps are counted and its are not.
    trial = _trial(env)
    rules, named = _gymnasium(env)
    if trial.finding.severity is not Severity.ERROR:
        findings = [rules, *findings, trial.finding]
    else:
        # Both meet the same fault. It is reported once: by the rule that is broken where Gymnasium
        # names one, and otherwise with its step and value.
        findings.append(rules if named and trial.raised else trial.finding)
    if not any(f.severity is Severity.ERROR for f in findings):
        findings.append(_deterministic(trial, env))
    return findings


def _flat(env: Env) -> list[Finding]:
    """What learners see of spaces that they do not take as they are."""
    subject = "simulator: spaces for the learner"
    try:
        seen = flattened(env)
    except SpaceMismatch as error:
        return [problem(subject, error.message, error.hint, error)]
    if seen is env:
        return []
    both = (seen.observation_space, seen.action_space)
    text = f"{' and actions '.join(map(space_text, both))}, by FlattenSpaces"
    return [passed(subject, text)]


def _gymnasium(env: Env) -> tuple[Finding, bool]:
    """The finding of Gymnasium's checker, and whether it names a broken rule."""
    from gymnasium.utils.env_checker import check_env

    subject = "simulator: Gymnasium's checker"
    report_activity("Gymnasium's checker (reset and step, seed 123)")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            base = layers(env)[-1]
            checked = PossibleActions(base) if is_masked(base) else base
            check_env(checked, skip_render_check=True, skip_close_check=True)
        except DrillyardError as error:
            return problem(subject, str(error), error.hint), False
        except AssertionError as error:
            # Gymnasium refuses random simulators; training works, but cannot be repeated.
            severity = Severity.WARNING if _NOT_REPEATED in str(error) else Severity.ERROR
            broken = severity is Severity.ERROR
            return Finding(severity, subject, _first_line(error), _fix(severity)), broken
        except Exception as error:
            text = described(error)
            return problem(subject, text, _fix(Severity.ERROR)), False
    texts = [t for w in caught if (t := _warning(w)) is not None]
    if texts:
        text = "; ".join(dict.fromkeys(texts))[:500]
        return warning(subject, text), False
    return passed(subject, "reset, step and spaces follow the rules"), False


def _fix(severity: Severity) -> str:
    if severity is Severity.WARNING:
        return "draw from self.np_random, after super().reset(seed=seed)"
    return "fix the simulator; the rules are at https://gymnasium.farama.org/api/env"


def _warning(caught: warnings.WarningMessage) -> str | None:
    text = str(caught.message).replace("\x1b[33m", "").replace("\x1b[0m", "")
    text = text.removeprefix("WARN: ").strip()
    # Gymnasium warns about every class that it did not make from a registered id, and about every
    # layer, also about ours that keeps to the masks.
    if ("spec" in text and "None" in text) or "different from the unwrapped version" in text:
        return None
    return text


def _spaces(env: Env) -> list[Finding]:
    findings = []
    for what, space in (("observation", env.observation_space), ("action", env.action_space)):
        if not isinstance(space, spaces.Space):
            findings.append(
                problem(
                    f"simulator: {what} space",
                    f"is a {type(space).__name__}, not a gymnasium space",
                    f"set self.{what}_space in the constructor",
                )
            )
        else:
            findings.append(passed(f"simulator: {what} space", space_text(space)))
    box = env.observation_space
    if isinstance(box, spaces.Box) and len(box.shape) == 3 and box.dtype != np.uint8:
        findings.append(
            warning(
                "simulator: observation space",
                f"has the shape of an image {box.shape} but is {box.dtype}, not uint8: it will be "
                "flattened, not seen by a convolutional network",
                "give images as uint8, 0 to 255, height x width x channels",
            )
        )
    return findings


_Result = tuple[Observation] | tuple[Observation, float, bool, bool]
"""What a reset or a step returned."""


@dataclass(frozen=True)
class _Trial:
    """The result of random steps.

    Attributes:
        seen: What each reset and step returned.
        finding: OK, or the first fault.
        raised: The fault is an exception, not a value.
        steps: How many were taken, without a fault.
    """

    seen: list[_Result]
    finding: Finding
    raised: bool = False
    steps: int = 0


def _trial(env: Env, steps: int | None = None) -> _Trial:
    """Reset and step at random, until the first fault.

    Args:
        env: The simulator.
        steps: Take exactly so many; otherwise fewer than ``STEPS`` of a slow simulator.
    """
    subject = "simulator: 50 random steps"
    seen: list[_Result] = []
    run, most = Stepping(env, f"copy 0, seed {_SEED}"), STEPS if steps is None else steps

    def begin(seed: int | None = None) -> None:
        observation = _first(run.reset(seed))
        run.broken = run.broken or fault(env, observation, 0.0)
        seen.append((observation,))

    try:
        env.action_space.seed(_SEED)
        begin(_SEED)
        while run.broken is None and run.step < most and (steps is not None or not run.enough):
            observation, reward, terminated, truncated, _ = run.take(random_action(env))
            if run.broken is None:
                seen.append((observation, reward, terminated, truncated))
            if terminated or truncated:
                begin()
    except DrillyardError as error:
        # It says where: the wrapper that noticed it knows.
        return _Trial(seen, problem(subject, str(error), error.hint), raised=True)
    except Exception as error:
        fix = "fix the simulator; a run would fail in the same way"
        finding = problem(subject, f"{run.where}: {described(error)}", fix)
        return _Trial(seen, finding, raised=True)
    if run.broken is not None:
        fix = "a NaN or a wrong shape ends the training; fix the simulator"
        return _Trial(seen, problem(subject, f"{run.where}: {run.broken}", fix))
    if run.little:
        return _Trial(seen, warning(subject, run.little, WIDER), steps=run.step)
    few = f" (it is slow: {run.step} steps)" if run.step < STEPS else ""
    text = f"finite, and inside their spaces{few}"
    return _Trial(seen, passed(subject, text), steps=run.step)


def _first(given: ResetResult) -> Observation:
    """The observation of a reset; an array of two numbers is not a pair."""
    if not isinstance(given, tuple) or len(given) != 2:
        raise TypeError(f"reset() gave a {type(given).__name__}, not (observation, info)")
    return given[0]


def _deterministic(trial: _Trial, env: Env) -> Finding:
    subject = "simulator: same seed, same steps"
    first, second = trial.seen, _trial(env, trial.steps).seen
    for number, (a, b) in enumerate(zip(first, second, strict=False)):
        if not _same(a, b):
            return warning(
                subject,
                f"differ from result {number} on: {short(a)} and {short(b)}",
                "draw from self.np_random, after super().reset(seed=seed); otherwise results "
                "cannot be repeated and a resume is not exact",
            )
    if len(first) != len(second):
        return warning(subject, "episodes have different lengths")
    return passed(subject, "two trials are equal")


def _resumable(spec: SimulatorSpec, env: Env, repeats: bool) -> Finding:
    """What happens to the open episodes of a run that is killed or stopped."""
    subject = "simulator: resume"
    silent = [
        getattr(layer, "simulator_name", type(layer).__name__)
        for layer in layers(env)
        if is_silent(layer)
    ]
    replayed = probe(spec) if silent else None
    if replayed is None:
        return passed(
            subject,
            "stateful: a stopped run continues in mid-episode, a killed one from its last "
            "checkpoint",
        )
    names, longest = ", ".join(silent), horizon(env)
    advice = (
        "add state() and load_state(state) to avoid this; see what `drillyard new simulator` "
        "writes"
    )
    if replayed.difference:
        text = (
            f"{names} cannot be saved, and a replay of its actions differs: {replayed.difference}"
        )
        exact = "; a resume is still exact" if repeats else ""
        return passed(subject, f"{text}. {_WAITS} the copies are reset{exact}", advice)
    most = int(LIMIT_S / max(replayed.step_s, 1e-9))
    text = (
        f"{names} cannot be saved, so a run replays the actions of the open episodes when it "
        "continues. A stopped run continues in mid-episode, a killed one from its last checkpoint."
    )
    if longest is not None:
        seconds = f"{longest * replayed.step_s:.2g} s"
        text += f" An episode has at most {longest:,} steps, whose replay takes {seconds}"
        if longest <= most:
            return passed(subject, text)
        text += "."
    return passed(
        subject,
        f"{text} A replay of more than {most:,} steps would take longer than {LIMIT_S:g} s. Then "
        f"{_WAITS[0].lower()}{_WAITS[1:]} the copies are reset",
        advice,
    )


def _same(a: Observation, b: Observation) -> bool:
    if isinstance(a, dict):
        return isinstance(b, dict) and a.keys() == b.keys() and all(_same(a[k], b[k]) for k in a)
    if isinstance(a, tuple | list):
        if not isinstance(b, tuple | list) or len(a) != len(b):
            return False
        return all(_same(x, y) for x, y in zip(a, b, strict=True))
    first, second = np.asarray(a), np.asarray(b)
    if first.dtype == object or second.dtype == object:
        return repr(a) == repr(b)
    return np.array_equal(first, second, equal_nan=first.dtype.kind == "f")


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [""])[0]
