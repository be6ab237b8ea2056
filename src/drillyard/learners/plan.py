"""The plan of a training: budget, barriers, points of the curve, evaluations."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from drillyard.documents.json_types import Json, JsonObject, as_integer
from drillyard.errors import ConfigError
from drillyard.runs.barrier_rule import CHECKPOINTS, interval, part
from drillyard.simulators.streams import REPLAYED
from drillyard.spec.experiment import ExperimentSpec
from drillyard.spec.learning import VECTORISED_FROM, TrainSpec

POINTS = 100
_EPISODES_BETWEEN_RESETS = 20
_UNKNOWN_HORIZON = 1000


@dataclass(frozen=True)
class Plan:
    """When a training does what, in environment steps summed over copies."""

    total_steps: int
    """The budget; for a budget in episodes, the most steps that the episodes can take."""
    episodes: int | None
    """Budget in episodes; training ends at the first rollout boundary after the last of them."""
    checkpoint_every: int
    checkpoint_given: bool
    """True if the user chose ``checkpoint_every``."""
    point_every: int
    evaluate_every: int | None
    evaluate_after_episodes: int | None
    evaluate_episodes: int
    max_time_s: float | None
    horizon: int | None
    """Length of the longest episode in steps, if known."""
    streams: int = 1
    """Version of the experiment, which decides where barriers are; see ``simulators.streams``."""
    stop_at: int | None = None
    """Step at which a generation of a population ends; schedules extend over ``total_steps``."""

    def barrier_interval(self, silent: bool, n_envs: int, rollout: int) -> int:
        """Steps between barriers.

        Args:
            silent: A layer of the simulator can neither be saved nor replayed.
            n_envs: Number of copies.
            rollout: Steps of one rollout, over all copies; 0 where they differ.
        """
        if self.checkpoint_given:
            return self.checkpoint_every
        if self.streams >= REPLAYED:
            return interval(self.checkpoint_every, rollout)
        # Each barrier cuts an episode of each copy of a silent simulator.
        whole = _EPISODES_BETWEEN_RESETS * (self.horizon or _UNKNOWN_HORIZON) * n_envs
        return max(self.checkpoint_every, whole) if silent else self.checkpoint_every


def freeze(spec: ExperimentSpec, seed: int) -> JsonObject:
    """The choices of a run that are made when it is first posted; see ``Workload.freeze``.

    A larger budget later on does not change them. A budget in episodes is turned into steps by
    the worker, which can look at the simulator; the rule is a function of the file alone.
    """
    del seed
    train = _train(spec)
    choices: JsonObject = {"n_envs": train.n_envs}
    hosted = spec.simulator is not None and spec.simulator.copies_on != "learner"
    at_once = train.copies == "auto" and train.n_envs >= VECTORISED_FROM and not hosted
    if at_once or train.copies == "vectorised":
        choices["vectorised"] = True  # older runs do not have this choice, and keep their way
    if train.steps is not None:
        choices["checkpoint_every"] = train.checkpoint_every or part(train.steps, CHECKPOINTS)
        choices["point_every"] = train.log_interval or part(train.steps, POINTS)
    return choices


def make_plan(
    spec: ExperimentSpec,
    choices: Mapping[str, Json],
    horizon: int | None,
    stop_at: int | None = None,
    streams: int = 1,
) -> Plan:
    """The plan of a run.

    Args:
        spec: The experiment.
        choices: The frozen choices of ``run.json``.
        horizon: Longest episode of the simulator in steps, None if it is not bounded.
        stop_at: See ``Plan``.
        streams: See there.

    Raises:
        ConfigError: A budget in episodes for a simulator whose episodes are not bounded.
    """
    train = _train(spec)
    total = total_steps(train, horizon)
    every = spec.evaluate.every
    return Plan(
        total_steps=total,
        episodes=train.episodes,
        checkpoint_every=as_integer(choices.get("checkpoint_every"))
        or train.checkpoint_every
        or part(total, CHECKPOINTS),
        checkpoint_given=train.checkpoint_every is not None,
        point_every=as_integer(choices.get("point_every"))
        or train.log_interval
        or part(total, POINTS),
        evaluate_every=every.steps if every else None,
        evaluate_after_episodes=every.after_episodes if every else None,
        evaluate_episodes=every.episodes if every else 0,
        max_time_s=train.max_time_s,
        horizon=horizon,
        streams=streams,
        stop_at=stop_at,
    )


def total_steps(train: TrainSpec, horizon: int | None) -> int:
    """The budget in steps.

    ``episodes`` become ``ceil(episodes / n_envs) * n_envs * horizon``: copies are stepped
    together, so this number of steps holds that many whole episodes, whatever their lengths.
    Schedules extend over this number; training ends earlier when the episodes are done.

    Raises:
        ConfigError: Episodes without a horizon.
    """
    if train.steps is not None:
        return train.steps
    if horizon is None:
        raise ConfigError(
            "the simulator's episodes have no maximum length, so a budget in episodes has no end",
            field="train.episodes",
            value=train.episodes,
            hint="give train.steps, or add the wrapper time_limit {max_episode_steps: …}",
        )
    rounds = -(-(train.episodes or 1) // train.n_envs)
    return rounds * train.n_envs * horizon


def _train(spec: ExperimentSpec) -> TrainSpec:
    if spec.train is None:
        raise ConfigError("an `rl` experiment needs `train:`", field="train")
    return spec.train
