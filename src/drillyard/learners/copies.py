"""How the copies of a simulator are stepped: chosen once a run, by measuring where it pays."""

from __future__ import annotations

import os
import time
from typing import Any

import numpy as np
from pydantic import Field

from drillyard.learners.barriers import preserved_randomness
from drillyard.mailbox.records import Record
from drillyard.runs.phases import RunContext
from drillyard.simulators.make import can_vectorise, make_vec
from drillyard.spec.learning import SimulatorSpec, Way

MEASURE_S = 2.0
"""For all candidates together."""
PROBE_S = 0.1
WORTH_IT_S = 30.0
"""Stepping the whole budget one copy after the other must take longer than this."""
MARGIN = 1.2
"""What is faster by less than this is not worth another way."""


class Copies(Record):
    """``runs/<run>/copies/<child or run>.json``: put-if-absent by the first attempt to train."""

    how: Way
    steps_per_s: dict[str, float] = Field(default_factory=dict)
    """Of each way that was measured; empty where a rule or a person decided."""


def choose(context: RunContext, simulator: SimulatorSpec, n_envs: int, begun: bool) -> Way:
    """The way of a run: the person's, else the recorded one, else the rule's or the fastest.

    Args:
        context: Of the training.
        simulator: The world.
        n_envs: Copies.
        begun: There is a checkpoint: it goes on as it began.
    """
    train = context.spec.train
    assert train is not None
    if train.copies != "auto":
        return train.copies
    rule: Way = "one-by-one"
    if context.run.choices.get("vectorised") and can_vectorise(simulator):
        rule = "vectorised"
    # The parts of a composite share a run.
    key = f"runs/{context.run.run}/copies/{context.child or 'run'}.json"
    known = context.mailbox.read(key, Copies)
    if known is not None:
        return known.how
    # Members of a population go on from each other's checkpoints, and so are all stepped alike.
    if begun or context.run.lineage is not None or rule == "vectorised":
        return rule
    with preserved_randomness():
        found = _fastest(simulator, n_envs, train.steps or 0)
    context.mailbox.create(key, found)
    kept = context.mailbox.read(key, Copies) or found
    if kept.steps_per_s:
        rates = ", ".join(f"{how} {rate:,.0f}" for how, rate in kept.steps_per_s.items())
        context.log.info("copies are stepped %s; measured steps/s: %s", kept.how, rates)
    return kept.how


def _fastest(simulator: SimulatorSpec, n_envs: int, budget: int) -> Copies:
    others: list[Way] = []
    if n_envs > 1 and can_vectorise(simulator):
        others.append("vectorised")
    # A program of its own has its own process already.
    if n_envs > 1 and len(os.sched_getaffinity(0)) > 1 and simulator.id != "external":
        others.append("processes")
    # A short training goes by the rule, which is the same on every machine.
    if not others or budget < _rate(simulator, n_envs, "one-by-one", PROBE_S) * WORTH_IT_S:
        return Copies(how="one-by-one")
    ways: list[Way] = ["one-by-one", *others]
    rates = {how: _rate(simulator, n_envs, how, MEASURE_S / len(ways)) for how in ways}
    best = max(ways, key=lambda how: rates[how])
    chosen = best if rates[best] > MARGIN * rates["one-by-one"] else "one-by-one"
    return Copies(how=chosen, steps_per_s={how: round(rate, 1) for how, rate in rates.items()})


def _rate(simulator: SimulatorSpec, n_envs: int, how: Way, limit_s: float) -> float:
    """Steps/s, summed over copies, of random actions."""
    venv: Any = make_vec(simulator, n_envs, 0, how=how)
    try:
        venv.action_space.seed(0)
        venv.reset()
        steps, begin = 0, time.perf_counter()
        while True:
            venv.step(np.array([venv.action_space.sample() for _ in range(n_envs)]))
            steps += n_envs
            passed = time.perf_counter() - begin
            if passed >= limit_s:
                return steps / passed
            if steps == n_envs:  # what is compiled is compiled by now
                steps, begin = 0, time.perf_counter()
                limit_s -= passed
    finally:
        venv.close()
