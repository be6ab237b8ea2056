"""Chooses how the copies of a simulator are stepped.

Only the file decides on what can change numbers. A measurement, which depends on the load of the
machine, chooses only between one after the other and in processes: this is the same code on the
same numbers, which is checked first (``trace``). Arrays round differently from single copies, and
checkpoints cut their episodes elsewhere.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from functools import partial
from typing import TypeVar

import numpy as np
from pydantic import Field

from drillyard.errors import ConfigError
from drillyard.learners.barriers import preserved_randomness
from drillyard.mailbox.patience import persist
from drillyard.mailbox.records import STREAMS, Record
from drillyard.runs.workload import RunContext
from drillyard.simulators.episode_replay import add_observation
from drillyard.simulators.functional.gymnax_worlds import is_gymnax
from drillyard.simulators.make_copies import by_rule, make_vec
from drillyard.simulators.random_actions import drawing
from drillyard.simulators.streams import globals_state
from drillyard.simulators.vec_state import silent_layers
from drillyard.spec.learning import SimulatorSpec, Way
from drillyard.system.operating_system import usable_cores
from drillyard.system.watchdog import run_in_child

T = TypeVar("T")

MEASURE_S = 2.0
"""Seconds for all candidates together."""
PROBE_S = 0.1
WORTH_IT_S = 30.0
"""Stepping the whole budget one copy after the other must take more seconds than this."""
COMPARED_STEPS = 512
"""Maximum number of steps of each copy that are compared."""
COMPARED_PART = 100
"""At most one step in this many of the budget is compared, whatever the speed is."""
MARGIN = 1.2
"""A way that is faster by less than this factor is not used."""


class Copies(Record):
    """``runs/<run>/copies/<child or run>.json``: put-if-absent by the first attempt to train."""

    how: Way
    steps_per_s: dict[str, float] = Field(default_factory=dict)
    """Speed of each way that was measured; empty if a rule or the user decided."""


def choose(context: RunContext, simulator: SimulatorSpec, n_envs: int, begun: bool) -> Way:
    """The way of a run: the user's, else the recorded one, else the rule's or the fastest.

    Args:
        context: The context of the training.
        simulator: The simulator.
        n_envs: Number of copies.
        begun: There is a checkpoint, so the training keeps its way.
    """
    train = context.spec.train
    assert train is not None
    if simulator.copies_on != "learner":
        if context.run.choices.get("vectorised"):
            raise ConfigError(
                f"{context.run.run} began with copies that are stepped at once over arrays, which "
                "cannot be on several machines",
                field="simulator.copies_on",
                value=simulator.copies_on,
                allowed="learner, for this run",
                hint="delete copies_on, or choose a new name (--set name=…)",
            )
        return "one-by-one"  # its numbers are those of each copy by itself
    if train.copies != "auto":
        return train.copies
    rule = by_rule(bool(context.run.choices.get("vectorised")), simulator)
    # The parts of a composite share a run.
    run = context.run
    key = f"runs/{run.run}/copies/{context.child or 'run'}.json"
    known = persist(lambda: context.mailbox.read(key, Copies))
    if known is not None:
        return known.how
    # Members of a population continue each other's checkpoints, so all have the same way.
    if begun or context.run.lineage is not None or rule == "vectorised":
        return rule
    with preserved_randomness():
        try:
            fastest = _fastest(simulator, n_envs, train.steps or 0)
        except Exception as error:
            error.add_note(f"before training step 1, with random actions; run seed {run.seed}")
            raise
    persist(lambda: context.mailbox.create(key, fastest))
    kept = persist(lambda: context.mailbox.read(key, Copies)) or fastest
    if kept.steps_per_s:
        rates = ", ".join(f"{how} {rate:,.0f}" for how, rate in kept.steps_per_s.items())
        context.log.info("copies are stepped %s; measured steps/s: %s", kept.how, rates)
    return kept.how


def _fastest(simulator: SimulatorSpec, n_envs: int, budget: int) -> Copies:
    others: list[Way] = []
    # An external program already has its own process. A world of gymnax has imported JAX, whose
    # threads do not survive a fork.
    alone = simulator.id == "external" or is_gymnax(simulator.id)
    if n_envs > 1 and usable_cores() > 1 and not alone:
        others.append("processes")
    # A short training follows the rule, which is the same on every machine.
    if not others or budget < _rate(simulator, n_envs, "one-by-one", PROBE_S) * WORTH_IT_S:
        return Copies(how="one-by-one")
    steps = max(1, min(COMPARED_STEPS, budget // (COMPARED_PART * n_envs)))
    traced = partial(trace, simulator, n_envs, steps=steps)
    expected = _apart("one-by-one", lambda: traced("one-by-one"))
    others = [how for how in others if expected and traced(how) == expected]
    if not others:
        return Copies(how="one-by-one")
    ways: list[Way] = ["one-by-one", *others]
    rates = {how: _rate(simulator, n_envs, how, MEASURE_S / len(ways)) for how in ways}
    best = max(ways, key=lambda how: rates[how])
    chosen = best if rates[best] > MARGIN * rates["one-by-one"] else "one-by-one"
    return Copies(how=chosen, steps_per_s={how: round(rate, 1) for how, rate in rates.items()})


def trace(simulator: SimulatorSpec, n_envs: int, how: Way, steps: int) -> str | None:
    """A hash over what a training observes in the first steps of random actions.

    It covers observations, rewards, ends, the last observations and the sums of episodes. It also
    covers the layers whose state cannot be saved, because they are reset at each checkpoint.

    Args:
        simulator: The simulator.
        n_envs: Number of copies.
        how: How they are stepped.
        steps: Steps of each copy.

    Returns:
        None if the simulator draws from the generators that all code of a process shares: then
        each way has other numbers.
    """
    digest = hashlib.sha256()
    venv = make_vec(simulator, n_envs, 0, how=how, streams=STREAMS)
    try:
        digest.update(repr(silent_layers(venv)).encode())
        venv.action_space.seed(0)
        before = globals_state()
        add_observation(digest, venv.reset())
        draw = drawing(venv)
        for _ in range(steps):
            observations, rewards, dones, infos = venv.step(draw())
            for value in (observations, rewards, dones):
                add_observation(digest, value)
            for copy in np.flatnonzero(dones):
                add_observation(digest, infos[copy]["terminal_observation"])
                episode = infos[copy]["episode"]
                add_observation(digest, np.array([bool(infos[copy].get("TimeLimit.truncated"))]))
                add_observation(digest, np.array([float(episode["r"]), float(episode["l"])]))
        return digest.hexdigest() if globals_state() == before else None
    finally:
        venv.close()


def _rate(simulator: SimulatorSpec, n_envs: int, how: Way, limit_s: float) -> float:
    """Steps per second, summed over copies, with random actions."""
    return _apart(how, lambda: _stepped(simulator, n_envs, how, limit_s))


def _apart(how: Way, work: Callable[[], T]) -> T:
    """Runs in a child what steps copies in its own process.

    Threads that a simulator starts, such as JAX's, would not survive the fork of the copies.
    """
    return run_in_child(work, None, "measuring copies") if how == "one-by-one" else work()


def _stepped(simulator: SimulatorSpec, n_envs: int, how: Way, limit_s: float) -> float:
    venv = make_vec(simulator, n_envs, 0, how=how)
    try:
        venv.action_space.seed(0)
        venv.reset()
        draw = drawing(venv)
        steps, begin = 0, time.perf_counter()
        while True:
            venv.step(draw())
            steps += n_envs
            passed = time.perf_counter() - begin
            if passed >= limit_s:
                return steps / passed
            if steps == n_envs:  # by now everything is compiled
                steps, begin = 0, time.perf_counter()
                limit_s -= passed
    finally:
        venv.close()
