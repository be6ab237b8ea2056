"""The summaries of accepted results, read with types.

A workload writes the summary, and a workload may be a plug-in. So each value is checked when it is
read: a missing value and a value of another type read as None.
"""

from __future__ import annotations

from dataclasses import dataclass

from drillyard.documents.json_types import JsonObject, as_integer, as_list, as_number, as_object
from drillyard.mailbox.records import Accepted


@dataclass(frozen=True)
class TrainSummary:
    """What a training reports about itself.

    Attributes:
        steps: Environment steps.
        inherited_steps: Environment steps of the run whose checkpoint it started from.
        episodes: Finished episodes.
        episodes_cut: Episodes that a restart of the simulator cut short.
        steps_per_s: Speed of the last attempt, in environment steps per second.
        wall_s: Duration of the training in seconds, over all attempts that count; of the last one
            where earlier ones are not counted.
        resumes: How often the training was resumed.
        simulator_restarts: How often the simulator was started again.
        best: The evaluation of the best policy, where evaluations ran during the training.
        exactness: Whether a resume repeats the same numbers, as a label.
        parameters: Parameters as the built model has them.
    """

    steps: int | None = None
    inherited_steps: int | None = None
    episodes: int | None = None
    episodes_cut: int | None = None
    steps_per_s: float | None = None
    wall_s: float | None = None
    resumes: int | None = None
    simulator_restarts: int | None = None
    best: JsonObject | None = None
    exactness: str | None = None
    parameters: JsonObject | None = None

    @classmethod
    def of(cls, accepted: Accepted | None) -> TrainSummary:
        """Reads the summary of an accepted training; every value is None without one."""
        summary = accepted.summary if accepted is not None else {}
        exactness = summary.get("exactness")
        return cls(
            steps=as_integer(summary.get("steps")),
            inherited_steps=as_integer(summary.get("inherited_steps")),
            episodes=as_integer(summary.get("episodes")),
            episodes_cut=as_integer(summary.get("episodes_cut")),
            steps_per_s=as_number(summary.get("steps_per_s")),
            wall_s=as_number(summary.get("elapsed_s", summary.get("wall_s"))),
            resumes=as_integer(summary.get("resumes")),
            simulator_restarts=as_integer(summary.get("simulator_restarts")),
            best=as_object(summary.get("best")) or None,
            exactness=exactness if isinstance(exactness, str) else None,
            parameters=as_object(summary.get("parameters")) or None,
        )


def policy_scores(accepted: Accepted | None) -> dict[str, JsonObject]:
    """The scores of each policy that an accepted evaluation measured, by the policy's name."""
    if accepted is None:
        return {}
    scores = as_object(accepted.summary.get("policies"))
    return {name: score for name, score in scores.items() if isinstance(score, dict)}


def metric_values(accepted: Accepted) -> JsonObject:
    """The metrics of an accepted result, by name."""
    return as_object(accepted.summary.get("metrics"))


def policy_used(accepted: Accepted | None) -> str | None:
    """Which policy an accepted evaluation measured: ``best`` or ``final``; None if unknown."""
    used = accepted.summary.get("policy_used") if accepted is not None else None
    return used if isinstance(used, str) else None


def problems(accepted: Accepted) -> list[str]:
    """What an accepted result warns about."""
    return [str(problem) for problem in as_list(accepted.summary.get("problems"))]
