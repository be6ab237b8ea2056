"""What an experiment reached, as plain data: everything that a table, report or `--json` shows.

All numbers are Python floats and ints, all times are seconds (since the epoch, UTC, where they
name a moment), and nothing here knows where it was read from.
"""

from __future__ import annotations

import dataclasses
import json
import math
from dataclasses import dataclass, field
from typing import Any, Literal

from drillyard.documents.json_types import JsonView
from drillyard.mailbox.status import Status

Point = tuple[int, float]
"""(environment step, value)."""
Role = Literal["", "listed", "searched", "confirms"]
"""What a trial is to its study: one of a list of the user's; one of a search, ranked by its own
score; the winner of a search on fresh seeds. Empty: there is no study."""


@dataclass(frozen=True, slots=True)
class Interval:
    """A 95 % interval of a mean, and what it is over.

    An interval over episodes says how well the return of *these* policies is known; only one over
    seeds says what another training would give. The two are never mixed without a label.
    """

    low: float
    high: float
    over: str
    """``seeds`` or ``episodes``."""
    method: str
    """``Student's t, widened for skewness``; see ``drillyard.statistics.intervals``."""
    level: float = 0.95
    among: int = 1
    """So many intervals of a table hold at once at this level: whichever line is picked, its
    interval counts."""

    def cut(self, within: tuple[float, float] | None) -> Interval:
        """The part that is possible.

        Args:
            within: Least and greatest possible value; None where they are not known.
        """
        if within is None:
            return self
        return dataclasses.replace(
            self, low=max(self.low, within[0]), high=min(self.high, within[1])
        )


@dataclass(frozen=True, slots=True)
class PolicyScore:
    """The final evaluation of one policy: the agent over its seeds, or a baseline."""

    policy: str
    baseline: bool
    mean_return: float
    interval: Interval | None
    seeds: dict[int, float]
    """Training seed -> mean return; empty for a baseline, which has no training seed."""
    n_episodes: int
    """Episodes in all."""
    std_return: float | None
    """Spread of the return from episode to episode, all seeds pooled."""
    mean_length: float | None = None
    by_option: dict[str, dict[str, float]] = field(default_factory=dict)
    """Reset key -> its value -> mean return over seeds."""
    metrics: dict[str, float] = field(default_factory=dict)
    """The simulator's own measures (``kpi_…``, ``is_success``): mean over seeds."""
    trial: int = 1
    simulator: str = ""
    """The one it acted in; policies of different ones have no common scale."""
    role: Role = ""


@dataclass(frozen=True, slots=True)
class MetricScore:
    """One metric of a workload without a policy, over the seeds of a trial."""

    metric: str
    mean: float
    interval: Interval | None
    """Over seeds; None below three, and where the trial was ranked by such a score."""
    seeds: dict[int, float]
    trial: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class RunResult:
    """One seed of one trial, finished or not."""

    run: str
    trial: int
    seed: int
    status: str
    phase: str | None = None
    """The phase it is in, or the one it ended in."""
    step: int
    total: int | None
    episodes: int | None
    episode_return: float | None = None
    """Mean return of the last training episodes."""
    steps_per_s: float | None
    eta_s: float | None = None
    wall_s: float | None
    """Training time in seconds, over all attempts that count."""
    resumes: int
    attempts: int
    """Attempts of the phase with the most; 1 if nothing failed, 0 before the first."""
    episodes_cut: int | None
    simulator_restarts: int
    """How often the process of an external simulator was lost while training."""
    mean_return: float | None
    """Final evaluation of the agent."""
    policy_used: str | None
    best: dict[str, Any] | None
    """Best evaluation while training: ``step``, ``mean_return``."""
    exactness: str | None
    parameters: dict[str, Any]
    threads: int
    device: str
    heartbeat_age_s: float | None = None
    """None when nothing works on it."""
    worker: str | None = None
    message: str = ""
    hint: str | None = None
    fingerprint: str | None = None
    metrics: dict[str, float] = field(default_factory=dict)
    """What a script, mock or composite measured."""
    simulator: str = ""

    @property
    def finished(self) -> bool:
        """Nothing is left to do: it succeeded, or its study pruned it."""
        return self.status in (Status.SUCCEEDED, Status.PRUNED)


@dataclass(frozen=True, slots=True)
class RunCurves:
    """The learning curves of one run."""

    run: str
    seed: int
    training: tuple[Point, ...]
    """``rollout/ep_rew_mean``: mean return of the last training episodes."""
    evaluation: tuple[Point, ...]
    """``eval/mean_reward``: evaluations while training."""


@dataclass(frozen=True, slots=True)
class PhaseTime:
    """How long a phase took."""

    phase: str
    seconds: float
    """Summed over what took part in it."""
    longest_s: float
    count: int
    """Runs (train, evaluate, store) or drivers (the others)."""


@dataclass(frozen=True, slots=True)
class LeaseCost:
    """What rented capacity cost."""

    lease: str
    backend: str
    workers: int
    seconds: float
    """Its life so far."""
    total: float
    currency: str
    note: str = ""
    gone: bool = False
    """The provider's own listing showed nothing left of it."""


@dataclass(frozen=True, slots=True)
class ExperimentResults:
    """Everything there is to show about an experiment."""

    name: str
    status: str
    store: str
    identity: str
    created_at: float
    ended_at: float | None
    worked_s: float
    """Seconds in which a driver or a worker was active; without the time between commands."""
    spec: dict[str, Any]
    provenance: dict[str, str]
    versions: dict[str, str]
    git_commit: str | None
    git_dirty: bool | None
    code: str | None
    command: list[str]
    runs: tuple[RunResult, ...]
    policies: tuple[PolicyScore, ...]
    """Best first."""
    curves: tuple[RunCurves, ...]
    phases: tuple[PhaseTime, ...]
    costs: tuple[LeaseCost, ...]
    warnings: tuple[str, ...] = ()
    """What could not be read, in words: damaged files, missing parts."""
    report: str | None = None
    """Where the report is, once it was built."""
    metrics: tuple[MetricScore, ...] = ()
    """Metrics of workloads without a policy, in their order."""
    schema_version: int = 1
    removed: tuple[RunResult, ...] = ()
    """Runs of seeds that were removed: they are shown, and count in nothing."""
    ranges: dict[str, tuple[float, float]] = field(default_factory=dict)
    """Simulator -> least and greatest possible return, if known; they cut intervals."""

    @property
    def agents(self) -> list[PolicyScore]:
        """The trained policies, best first."""
        return [p for p in self.policies if not p.baseline]

    @property
    def baselines(self) -> list[PolicyScore]:
        """The baselines, best first."""
        return [p for p in self.policies if p.baseline]

    def by_simulator(self) -> list[tuple[str, ExperimentResults]]:
        """The results of each simulator; one pair without a name where there is only one."""
        names = list(dict.fromkeys(r.simulator for r in self.runs))
        if len(names) < 2:
            return [("", self)]
        return [
            (
                name,
                dataclasses.replace(
                    self,
                    runs=tuple(r for r in self.runs if r.simulator == name),
                    policies=tuple(p for p in self.policies if p.simulator == name),
                ),
            )
            for name in names
        ]

    @property
    def learns(self) -> bool:
        """True where a policy is trained: then there are curves, episodes and baselines."""
        return trains(self.spec)

    def to_dict(self) -> dict[str, Any]:
        """As JSON values; numbers that are not finite become null."""
        return {k: _finite(v) for k, v in dataclasses.asdict(self).items()}

    def to_json(self, *, indent: int | None = 2) -> str:
        """The whole as JSON text, stable under the same content."""
        return json.dumps(self.to_dict(), indent=indent, allow_nan=False, ensure_ascii=False)


def _finite(value: JsonView) -> JsonView:
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, dict):
        return {str(k): _finite(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(v) for v in value]
    return value


def trains(spec: dict[str, Any]) -> bool:
    """True where an experiment, or a child of it, trains a policy.

    Args:
        spec: A resolved experiment or child, as JSON.
    """
    workload = spec.get("workload", "rl")
    if workload == "composite":
        return any(trains(child) for child in spec.get("children") or ())
    return workload not in ("script", "mock")
