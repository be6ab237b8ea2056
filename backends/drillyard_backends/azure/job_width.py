"""Nodes of a job, and runs on a node: what `plan` says of them."""

from __future__ import annotations

from collections.abc import Iterator

from drillyard.backend import Order
from drillyard.findings import Finding, problem
from drillyard.simulators.hosts.posted import reach
from drillyard_backends.azure import clusters
from drillyard_backends.azure.settings import AzureConfig


def examine(config: AzureConfig, order: Order | None) -> Iterator[Finding]:
    """Refuses a job that has more nodes than it can use: they are rented together."""
    most, packed = config.max_nodes, config.runs_per_machine
    if order is not None and order.hosts:
        yield from _with_hosts(config, order.all_workers)
        return
    width = config.instance_count
    side_by_side = 1 if order is None else -(-order.workers // packed)
    busy = width if order is None else order.spread if order.spread > 1 else side_by_side
    if order is not None and order.spread > 1 and packed > 1:
        yield problem(
            "runs_per_machine",
            f"a run of this learner takes {width} nodes for itself, and {packed} runs are to "
            "share one",
            "runs_per_machine: 1; or resources.workers without num_env_runners",
        )
    if width > busy:
        more = (
            "more seeds and resources.workers"
            if order is None or order.spread == 1
            else ("more workers of the learner (num_env_runners)")
        )
        yield problem(
            "instance_count",
            f"a job would have {width} nodes, and {busy} of them have something to do",
            f"instance_count: {busy}; or {more}",
        )
    if most is not None and width > most:
        yield problem(
            "instance_count",
            f"a job of {width} nodes never starts on a cluster of {most} (max_nodes)",
            f"instance_count: {most}; or max_nodes: {width}",
        )


def _with_hosts(config: AzureConfig, width: int) -> Iterator[Finding]:
    """The nodes of a job whose first node trains, and whose others host copies for it."""
    if config.instance_count not in (1, width):
        yield problem(
            "instance_count",
            f"is {config.instance_count}, and copies on workers make a job of {width} nodes",
            f"delete it, or set resources.workers: {config.instance_count}",
        )
    if config.runs_per_machine > 1:
        yield problem(
            "runs_per_machine",
            f"a run with copies on workers takes {width} nodes for itself, and "
            f"{config.runs_per_machine} runs are to share one",
            "runs_per_machine: 1; or delete simulator.copies_on",
        )
    if config.max_nodes is not None and width > config.max_nodes:
        yield problem(
            "max_nodes",
            f"a job of {width} nodes (resources.workers) never starts on a cluster of "
            f"{config.max_nodes}",
            f"resources.workers: {config.max_nodes}; or max_nodes: {width}",
        )
    yield reach(None)


def note(config: AzureConfig, order: Order) -> str:
    """Returns how many runs a job has, in words."""
    if clusters.width(config, order) > 1:
        return "of several nodes"
    runs = clusters.runs_of_a_job(config, order)
    return "one for each run" if runs == 1 else f"one for every {runs} runs"
