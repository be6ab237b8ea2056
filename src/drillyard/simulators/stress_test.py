"""A simulator at its limits: extreme actions, ranges that are used, a lesson's ends."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import numpy as np
from gymnasium import spaces

from drillyard.documents.json_types import Json
from drillyard.errors import ConfigError, DrillyardError
from drillyard.findings import Finding, passed, problem, warning
from drillyard.simulators.far_outside import WIDER
from drillyard.simulators.horizon import horizon
from drillyard.simulators.make import make_env
from drillyard.simulators.plain import PlainEnv
from drillyard.simulators.random_actions import is_masked, random_action
from drillyard.simulators.stepping import Stepping
from drillyard.simulators.types import Action, Env, Info, Observation
from drillyard.simulators.wrappers import layers
from drillyard.spec.learning import SimulatorSpec
from drillyard.spec.simulator.lesson_draws import Choice, Normal, Range, read_rule
from drillyard.spec.simulator.lessons import Lesson, draw
from drillyard.system.user_code import described
from drillyard.system.watchdog import report_activity

STEPS = 200
"""Steps of each way of acting; a slow simulator is given fewer."""
CORNER_STEPS = 5
CLIPPED_SHARE = 0.05
USED_SHARE = 0.1
_SEED = 54_321
_SHOWN = 6

Act = Callable[[int], Action]


def try_limits(spec: SimulatorSpec) -> list[Finding]:
    """Step a simulator at random and at the ends of its actions, and begin at a lesson's ends.

    Args:
        spec: The simulator part of an experiment; it has passed ``check_simulator``.

    Returns:
        Findings: extreme actions, ranges of observations, the lesson. A simulator that raises is
        a finding.
    """
    env = make_env(spec)
    try:
        ranges = _Ranges(env)
        findings = [_extremes(env, ranges), *ranges.findings()]
        if spec.lesson or spec.curriculum:
            findings.append(_corners(env, spec.lesson_of_stage(-1)))
        return findings
    finally:
        env.close()


class _Ranges:
    """Smallest and largest values that were seen, beside those that are declared."""

    def __init__(self, env: Env) -> None:
        bare, self._steps = layers(env)[-1], 0
        self._outside: dict[str, int] = {}
        self.declared: dict[str, tuple[float, float]] = {}
        self._plain = bare.observed() if isinstance(bare, PlainEnv) else None
        if self._plain is not None:
            self.declared = dict(self._plain)
        elif (
            isinstance(env.observation_space, spaces.Box) and len(env.observation_space.shape) < 2
        ):
            box = env.observation_space
            both = zip(box.low.ravel().tolist(), box.high.ravel().tolist(), strict=True)
            self.declared = {f"[{i}]": pair for i, pair in enumerate(both)}
        self._seen = dict.fromkeys(self.declared, (math.inf, -math.inf))

    def take(self, observation: Observation, info: Info) -> None:
        """Notes what a step returned."""
        self._steps += 1
        if self._plain is not None:
            values = {name: float(info.get(f"state_{name}", math.nan)) for name in self._plain}
        else:
            flat = np.asarray(observation, np.float64).ravel() if self.declared else ()
            values = dict(zip(self.declared, map(float, flat), strict=True))
        for name, value in values.items():
            low, high = self._seen[name]
            self._seen[name] = (min(low, value), max(high, value))
            bottom, top = self.declared[name]
            if not bottom <= value <= top:
                self._outside[name] = self._outside.get(name, 0) + 1

    def findings(self) -> Iterator[Finding]:
        """Reports what is clipped and what hardly moves."""
        subject = "simulator: ranges"
        bounded = {n: (a, b) for n, (a, b) in self.declared.items() if math.isfinite(b - a)}
        if not bounded or not self._steps:
            return
        clipped = {
            n: k / self._steps
            for n, k in self._outside.items()
            if n in bounded and k / self._steps > CLIPPED_SHARE
        }
        for name, share in clipped.items():
            yield warning(
                subject,
                f"{self._described(name)}, and is clipped in {share:.0%} of the steps",
                "widen its range, or is the simulator wrong?",
            )
        small = [
            n
            for n, (a, b) in bounded.items()
            if n not in clipped and self._seen[n][1] - self._seen[n][0] < USED_SHARE * (b - a)
        ]
        if small:
            yield warning(
                subject,
                f"{'; '.join(map(self._described, small[:_SHOWN]))}: less "
                f"than {USED_SHARE:.0%} of the range was used",
                "narrow the range, or vary it by the lesson: an agent hardly sees it change",
            )
        good = [n for n in bounded if n not in clipped and n not in small]
        if good:
            more = f" and {len(good) - _SHOWN} more" if len(good) > _SHOWN else ""
            yield passed(subject, "; ".join(map(self._described, good[:_SHOWN])) + more)

    def _described(self, name: str) -> str:
        low, high = self._seen[name]
        bottom, top = self.declared[name]
        return f"{name} went from {low:.3g} to {high:.3g} of {bottom:.3g} to {top:.3g}"


def _extremes(env: Env, ranges: _Ranges) -> Finding:
    subject = "simulator: extreme actions"
    env.action_space.seed(_SEED)
    # The lowest or the highest action may be impossible.
    ends = None if is_masked(env) else _ends(env.action_space)
    endless, little, taken = "", "", STEPS
    for way, act in _ways(env, ends).items():
        run = Stepping(env, f"acting {way}, seed {_SEED}")
        try:
            ended = _play(run, ranges, act)
        except Exception as error:
            what = str(error) if isinstance(error, DrillyardError) else described(error)
            fix = "an agent tries such actions while it learns"
            return problem(subject, f"{run.where}: {what}", fix)
        if run.broken is not None:
            return problem(subject, f"{run.where}: {run.broken}", "fix the simulator")
        little, taken = little or run.little, min(taken, run.step)
        if not ended and run.step == STEPS:
            endless = way
    if endless and horizon(env) is None:
        return warning(
            subject,
            f"no episode ended in {STEPS} steps, acting {endless}, and nothing limits its length: "
            "an evaluation of such a policy never ends",
            "add the wrapper {name: time_limit, args: {max_episode_steps: 1000}}",
        )
    if little:
        return warning(subject, little, WIDER)
    slow = " (it is slow)" if taken < STEPS else ""
    if ends is None:
        text = f"{taken} random steps more{slow}; these actions have no ends to try"
        return passed(subject, text)
    return passed(
        subject,
        "lowest, highest, in turn and at random, "
        f"{taken} steps each{slow}: finite, and inside their spaces",
    )


def _ways(env: Env, ends: tuple[Action, Action] | None) -> dict[str, Act]:
    """Name -> the action of each step."""
    ways: dict[str, Act] = {"at random": lambda _: random_action(env)}
    if ends is not None:
        low, high = ends
        ways |= {
            "always the lowest": lambda _: low,
            "always the highest": lambda _: high,
            "lowest and highest in turn": lambda step: (low, high)[step % 2],
        }
    return ways


def _play(run: Stepping, ranges: _Ranges, act: Act) -> bool:
    """Steps until the first fault; returns whether an episode ended."""
    ended = False
    ranges.take(*run.reset(_SEED))
    while run.step < STEPS and not run.enough:
        observation, _, terminated, truncated, info = run.take(act(run.step + 1))
        if run.broken is not None:
            break
        ranges.take(observation, info)
        if terminated or truncated:
            ended = True
            run.env.reset()
    return ended


def _ends(space: spaces.Space[Action]) -> tuple[Action, Action] | None:
    """Lowest and highest action, where a space has them."""
    if isinstance(space, spaces.Box) and np.isfinite([space.low, space.high]).all():
        return space.low.copy(), space.high.copy()
    if isinstance(space, spaces.Discrete):
        return space.start, space.start + space.n - 1
    if isinstance(space, spaces.MultiDiscrete):
        return space.start.copy(), (space.start + space.nvec - 1).astype(space.dtype)
    return None


def _corners(env: Env, lesson: Lesson) -> Finding:
    """Begin an episode at each end of each key, the other keys as drawn."""
    subject, tried = "simulator: lesson", 0
    for key, rule in lesson.items():
        for value in _corner_values(rule, key):
            options = {**draw(lesson, _SEED, 0, tried), key: value}
            tried += 1
            run = Stepping(env, f"an episode with {key} = {value}")
            report_activity(f"reset, an episode with {key} = {value}")
            try:
                env.reset(seed=_SEED, options=options)
                while run.step < CORNER_STEPS and run.broken is None:
                    _, _, terminated, truncated, _ = run.take(random_action(env))
                    if terminated or truncated:
                        break
                what = run.broken and f"{run.broken} at step {run.step}"
            except Exception as error:
                what = error.message if isinstance(error, ConfigError) else str(error)
            if what is not None:
                return problem(
                    subject,
                    f"{key} = {value!r}: {what}; options {options}",
                    "narrow the lesson, or fix the simulator",
                )
    keys = f"{len(lesson)} key{'s' * (len(lesson) != 1)}"
    return passed(subject, f"{tried} episodes began at the ends of {keys}")


def _corner_values(rule: Json, key: str) -> list[Json]:
    parsed = read_rule(rule, key)
    if isinstance(parsed, Range):
        return [int(v) if parsed.integer else float(v) for v in (parsed.low, parsed.high)]
    if isinstance(parsed, Choice):
        return list(parsed.values)
    if isinstance(parsed, Normal):
        far = 3.0 * parsed.std
        return [max(parsed.mean - far, parsed.low), min(parsed.mean + far, parsed.high)]
    return [parsed.draw(np.random.default_rng(0))]
