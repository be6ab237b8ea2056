"""Decides once for each run whether its simulator is replayed (``episode_replay``)."""

from __future__ import annotations

from drillyard.learners.barriers import preserved_randomness
from drillyard.mailbox.patience import persist
from drillyard.mailbox.records import Record
from drillyard.runs.workload import RunContext
from drillyard.simulators.make_copies import can_vectorise
from drillyard.simulators.replay_probe import Probe, probe
from drillyard.simulators.streams import REPLAYED
from drillyard.spec.learning import SimulatorSpec, Way
from drillyard.system.watchdog import ChildDied, HangError, listen, run_in_child


class Replayed(Record):
    """``runs/<run>/replay/<child or run>.json``: put-if-absent by the first attempt to train."""

    streams: int
    """Version of the random numbers of the copies; older where a replay would differ."""
    step_s: float = 0.0
    """Seconds of one step; 0 if the simulator is not replayed."""
    difference: str = ""
    """How a replay differs; empty if it does not, or if the simulator can be saved."""


def choose(context: RunContext, simulator: SimulatorSpec, how: Way) -> Replayed:
    """How the copies of a run are made: the recorded way, else that of a probe.

    Args:
        context: The context of the training.
        simulator: The simulator.
        how: How the copies are stepped.

    Raises:
        Stopped: A stop was requested meanwhile; nothing is recorded.
    """
    streams = context.run.streams
    at_once = how == "compiled" or (how == "vectorised" and can_vectorise(simulator))
    if streams < REPLAYED or at_once:
        return Replayed(streams=streams)
    key = f"runs/{context.run.run}/replay/{context.child or 'run'}.json"
    known = persist(lambda: context.mailbox.read(key, Replayed))
    if known is not None:
        return known
    probed = _probed(context, simulator, how)
    if probed is None:
        chosen = Replayed(streams=streams)
    elif probed.difference:
        chosen = Replayed(streams=REPLAYED - 1, difference=probed.difference)
        context.log.info("the simulator cannot be replayed: %s", probed.difference)
    else:
        chosen = Replayed(streams=streams, step_s=max(probed.step_s, 1e-9))
    persist(lambda: context.mailbox.create(key, chosen))
    return persist(lambda: context.mailbox.read(key, Replayed)) or chosen


def _probed(context: RunContext, simulator: SimulatorSpec, how: Way) -> Probe | None:
    """Probes a simulator; each of its steps is activity for ``budget.stall_s``."""
    with listen(lambda doing: context.progress()), preserved_randomness():
        if how != "processes":
            probed = probe(simulator)
        else:
            # The threads of a simulator, such as JAX's, would not survive the fork of the copies.
            limit_s = context.spec.budget.stall_s
            try:
                probed = run_in_child(lambda: probe(simulator), limit_s, "a replay")
            except (ChildDied, HangError) as error:
                probed = Probe(str(error), 0.0)
    context.stop.check()
    return probed
