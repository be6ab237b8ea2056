"""Checks of the numbers in a file: their effect, and intervals that never occur."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

from drillyard.findings import Finding, passed, warning
from drillyard.runs.barrier_rule import CHECKPOINTS, barrier_steps, interval, part
from drillyard.spec.learning import TrainSpec
from drillyard.spec.load import Loaded


def plan(loaded: Loaded) -> Iterator[Finding]:
    """Reports budget, checkpoints and evaluations as they will be.

    Args:
        loaded: A resolved experiment.
    """
    train = loaded.spec.train
    if train is None:
        return
    yield from _budgets(loaded)
    if text := checkpoints(loaded):
        yield passed("checkpoints", text)
    yield from _never(loaded)
    if train.max_time_s is not None:
        yield warning(
            "budget",
            "train.max_time_s stops by the clock, so the run is not reproducible",
            "use only train.steps for reproducible results",
        )


def _budgets(loaded: Loaded) -> Iterator[Finding]:
    """Says how much is trained: one finding for each kind of run of the listed experiments."""
    from drillyard.runs.parallelism import runs

    spec, study = loaded.spec, loaded.spec.study
    counts: dict[str, int] = {}
    if study is not None and study.chooser == "list" and not study.only:
        for item in study.experiments[: study.trials]:
            if train := TrainSpec.model_validate(item["train"]) if "train" in item else spec.train:
                seeds = item.get("seeds")
                number = len(seeds if isinstance(seeds, list) else spec.seeds)
                counts[_budget(train)] = counts.get(_budget(train), 0) + number
    elif spec.train is not None:
        counts[_budget(spec.train)] = runs(spec) or len(spec.seeds)
    each = "each trial: " if study is not None and runs(spec) is None else ""
    for text, number in counts.items():
        several = "s" if number > 1 else ""
        yield passed("budget", f"{each}{number:,} run{several} of {text}")


def _budget(train: TrainSpec) -> str:
    steps = f"{train.steps:,} steps" if train.steps else f"{train.episodes:,} episodes"
    copies = "copies" if train.n_envs > 1 else "copy"
    return f"{steps}, {train.n_envs} {copies} of the simulator each"


def checkpoints(loaded: Loaded) -> str | None:
    """Says how many checkpoints a run writes, and how many steps a killed run repeats at most.

    Args:
        loaded: A resolved experiment.

    Returns:
        None where the file does not fix it.
    """
    barriers = _barriers(loaded)
    if barriers is None:
        return None
    every, rollout, steps = barriers
    rounded = f" (a rollout is {rollout:,} steps)" if rollout > 1 else ""
    number, most = len(steps) - 2, repeated(loaded) or 0
    if not number:
        if rollout < steps[-1]:
            return None  # a given interval that is too long, see `_never`
        return f"none: the budget is one rollout{rounded}, so a killed run starts again"
    where = (
        "after each rollout"
        if every == rollout > 1
        else f"at the end of the rollout nearest to each {every:,} steps"
        if rollout > 1
        else f"after each {every:,} steps"
    )
    cost = f"a killed run repeats at most {most:,} steps ({most / steps[-1]:.0%})"
    return f"{number:,} per run, {where}{rounded}; {cost}"


def repeated(loaded: Loaded) -> int | None:
    """The most steps that a killed run repeats; None where the file does not fix it.

    Args:
        loaded: A resolved experiment.
    """
    barriers = _barriers(loaded)
    return barriers and max(after - before for before, after in pairwise(barriers[2]))


def _barriers(loaded: Loaded) -> tuple[int, int, list[int]] | None:
    """Interval, steps of a rollout, and the steps of all barriers between 0 and the last step."""
    train, rollout = loaded.spec.train, _rollout(loaded)
    if train is None or train.steps is None or rollout is None:
        return None
    every = train.checkpoint_every or interval(part(train.steps, CHECKPOINTS), rollout)
    end = -(-train.steps // rollout) * rollout
    return every, rollout, [0, *barrier_steps(train.steps, every, rollout), end]


def _never(loaded: Loaded) -> Iterator[Finding]:
    """Warns of intervals that are longer than the budget, which may be a deliberate short test."""
    train, every = loaded.spec.train, loaded.spec.evaluate.every
    if train is None or train.steps is None:
        return
    if train.checkpoint_every is not None and train.checkpoint_every > train.steps:
        yield warning(
            "train.checkpoint_every",
            f"{train.checkpoint_every:,} steps is more than train.steps = {train.steps:,}: no "
            "checkpoint will be written, and a killed run will start over",
            f"for example {max(1, train.steps // 10):,}; null means a tenth of the budget",
        )
    if every is not None and every.steps is not None and every.steps > train.steps:
        yield warning(
            "evaluate.every.steps",
            f"{every.steps:,} steps is more than train.steps = {train.steps:,}: there is no "
            "evaluation during training, and the best policy is the final one",
            "use fewer steps, or every: null",
        )


def _rollout(loaded: Loaded) -> int | None:
    """Returns the steps of one rollout over all copies, None where a file does not fix it."""
    from drillyard.spec.algorithms.argument_table import ARGUMENTS
    from drillyard.spec.algorithms.signatures import ON_POLICY

    learner, train = loaded.spec.learner, loaded.spec.train
    if learner is None or train is None:
        return None
    name = "n_steps" if learner.algorithm in ON_POLICY else "train_freq"
    steps = learner.args.get(name, ARGUMENTS.get(learner.algorithm, {}).get(name))
    return steps * train.n_envs if isinstance(steps, int) else None
