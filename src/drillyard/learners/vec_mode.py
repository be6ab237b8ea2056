"""How the copies of a simulator are stepped.

What can change numbers is decided by the file alone. A measurement, which sees how busy the
machine is, chooses only between one after the other and in processes: the same code on the same
numbers, compared first (``trace``). Arrays round otherwise than single copies do, and checkpoints
do not cut their episodes where they cut those of single ones.
"""

from __future__ import annotations

import hashlib
import os
import random
import time
from typing import Any

import numpy as np
import torch
from pydantic import Field

from drillyard.learners.barriers import preserved_randomness
from drillyard.mailbox.records import STREAMS, Record
from drillyard.runs.phases import RunContext
from drillyard.simulators.make import by_rule, make_vec
from drillyard.simulators.vec_state import silent_layers
from drillyard.spec.learning import SimulatorSpec, Way

MEASURE_S = 2.0
"""For all candidates together."""
PROBE_S = 0.1
WORTH_IT_S = 30.0
"""Stepping the whole budget one copy after the other must take longer than this."""
COMPARED_STEPS = 512
"""Most steps of each copy that are compared."""
COMPARED_PART = 100
"""Ways are compared over at most this part of the budget; no speed decides how far."""
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
    rule = by_rule(bool(context.run.choices.get("vectorised")), simulator)
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
    # A program of its own has its own process already.
    if n_envs > 1 and len(os.sched_getaffinity(0)) > 1 and simulator.id != "external":
        others.append("processes")
    # A short training goes by the rule, which is the same on every machine.
    if not others or budget < _rate(simulator, n_envs, "one-by-one", PROBE_S) * WORTH_IT_S:
        return Copies(how="one-by-one")
    steps = max(1, min(COMPARED_STEPS, budget // (COMPARED_PART * n_envs)))
    wanted = trace(simulator, n_envs, "one-by-one", steps)
    others = [how for how in others if wanted and trace(simulator, n_envs, how, steps) == wanted]
    if not others:
        return Copies(how="one-by-one")
    ways: list[Way] = ["one-by-one", *others]
    rates = {how: _rate(simulator, n_envs, how, MEASURE_S / len(ways)) for how in ways}
    best = max(ways, key=lambda how: rates[how])
    chosen = best if rates[best] > MARGIN * rates["one-by-one"] else "one-by-one"
    return Copies(how=chosen, steps_per_s={how: round(rate, 1) for how, rate in rates.items()})


def trace(simulator: SimulatorSpec, n_envs: int, how: Way, steps: int) -> str | None:
    """A hash over what a training meets in the first steps of random actions.

    That is observations, rewards, ends, the last observations and sums of episodes; and which
    layers cannot be frozen, because those are reset at each checkpoint.

    Args:
        simulator: The world.
        n_envs: Copies.
        how: They are stepped.
        steps: Of each copy.

    Returns:
        None where the simulator draws from the generators that all code of a process shares:
        then each way has other numbers.
    """
    seen = hashlib.sha256()
    venv: Any = make_vec(simulator, n_envs, 0, how=how, streams=STREAMS)
    try:
        seen.update(repr(silent_layers(venv)).encode())
        venv.action_space.seed(0)
        before = _shared()
        _take(seen, venv.reset())
        for _ in range(steps):
            given = venv.step(np.array([venv.action_space.sample() for _ in range(n_envs)]))
            observations, rewards, dones, infos = given
            for value in (observations, rewards, dones):
                _take(seen, value)
            for copy in np.flatnonzero(dones):
                _take(seen, infos[copy]["terminal_observation"])
                episode = infos[copy]["episode"]
                _take(seen, [bool(infos[copy].get("TimeLimit.truncated"))])
                _take(seen, [float(episode["r"]), float(episode["l"])])
        return seen.hexdigest() if _shared() == before else None
    finally:
        venv.close()


def _take(seen: Any, value: Any) -> None:
    if isinstance(value, dict):
        for key in sorted(value):
            seen.update(key.encode())
            _take(seen, value[key])
        return
    array = np.asarray(value)
    seen.update(f"{array.dtype} {array.shape}".encode())
    seen.update(np.ascontiguousarray(array).tobytes())


def _shared() -> str:
    """The state of the generators that all code of this process shares."""
    return repr((random.getstate(), np.random.get_state(), torch.get_rng_state().tolist()))


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
