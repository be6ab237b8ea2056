"""Plays episodes with a policy that no longer learns.

The agent of every seed and every baseline play the same episodes (seeds and reset options),
whatever the seeds of training are.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeAlias, runtime_checkable

import numpy as np

from drillyard.agents.baselines import Baseline, Random, make_baseline
from drillyard.agents.named import NamedBaseline
from drillyard.documents.json_types import JsonObject
from drillyard.errors import RunFailed
from drillyard.mailbox.records import STREAMS
from drillyard.simulators.make import make_env, raw_world
from drillyard.simulators.make_copies import make_vec, most_copies
from drillyard.simulators.random_actions import MASKS
from drillyard.simulators.step_logs import Log
from drillyard.simulators.streams import evaluation_word
from drillyard.simulators.vec_state import failed, load_normalisation
from drillyard.simulators.wrappers import Env, Scripted
from drillyard.spec.experiment import ExperimentSpec
from drillyard.spec.learning import SimulatorSpec
from drillyard.spec.simulator.lessons import Lesson, draw_in_order

if TYPE_CHECKING:
    from stable_baselines3.common.vec_env import VecEnv

Observation: TypeAlias = np.ndarray | dict[str, np.ndarray]
"""An observation of one copy, or of several copies with a leading axis of copies."""
Act: TypeAlias = Callable[[Observation], np.ndarray]
"""From observations to actions, both with a leading axis of copies."""
Info: TypeAlias = dict[str, Any]
"""What accompanies an observation. Gymnasium leaves the type of the values to each simulator."""
Row: TypeAlias = dict[str, float]
"""A step of a trajectory."""
COPIES = 8
"""Episodes that are played together: one call of the policy acts in all of them."""
_ENTROPY = 20_251_121
_AGAIN = 1
"""Third word in the key of episodes that no choice used; other keys have one or two words."""
MAX_STEPS = 1_000_000
"""A longer episode counts as one that never ends."""


@dataclass(frozen=True)
class Planned:
    """An episode to play."""

    episode: int
    seed: int
    options: JsonObject


@dataclass(frozen=True)
class Episode:
    """An episode that was played."""

    policy: str
    episode: int
    seed: int
    options: JsonObject
    episode_return: float
    length: int
    terminated: bool
    truncated: bool
    metrics: dict[str, float] = field(default_factory=dict)
    """Metrics of the simulator: ``kpi_…`` and ``is_success`` of its last ``info``, and
    ``simulator.metrics``."""

    def to_json(self) -> JsonObject:
        """The entry in ``evaluation/episodes.json``."""
        return {
            "policy": self.policy,
            "episode": self.episode,
            "seed": self.seed,
            "options": self.options,
            "return": self.episode_return,
            "length": self.length,
            "terminated": self.terminated,
            "truncated": self.truncated,
            "metrics": {**self.metrics},
        }


@dataclass
class Played:
    """The result of ``run_episodes``."""

    episodes: list[Episode]
    """In the order of the plan."""
    trajectories: dict[int, list[Row]]
    """Episode -> one row for each step, for episodes that are kept; columns ``t``, ``state_…``,
    ``action_…``, ``reward_…`` (its terms, if ``info`` has them), ``reward``. The state is the one
    after the step, ``t`` counts steps from 1."""
    metadata: Info
    """The simulator's class metadata (units, reference)."""

    logs: list[tuple[int, Log]] = field(default_factory=list)
    """(copy, steps) of each episode from ``CsvLogger``, if there is one."""

    @property
    def trajectory(self) -> list[Row]:
        """The steps of the plan's first episode."""
        return self.trajectories.get(0, [])


@runtime_checkable
class BatchPolicy(Protocol):
    """Acts for several copies at once."""

    def bind(self, venv: VecEnv) -> None:
        """Receive the copies that it will act in."""

    def begin(self, copy: int, seed: int, options: JsonObject) -> None:
        """Receive the beginning of an episode in a copy."""

    def act(self, observations: Observation) -> np.ndarray:
        """Actions, ``(copies, *action shape)``, for observations with a leading copy axis."""


class AgentPolicy:
    """A trained policy: a callable from observations to actions, both with a leading copy axis."""

    def __init__(self, act: Act) -> None:
        self._act = act

    def bind(self, venv: VecEnv) -> None:
        """Does nothing: the policy does not read the copies."""

    def begin(self, copy: int, seed: int, options: JsonObject) -> None:
        """Does nothing: the policy has no memory."""

    def act(self, observations: Observation) -> np.ndarray:
        """The actions of all copies."""
        return np.asarray(self._act(observations))


def batch_policy(policy: BatchPolicy | Act) -> BatchPolicy:
    """A policy for several copies; a plain callable counts as an agent."""
    return policy if isinstance(policy, BatchPolicy) else AgentPolicy(policy)


def plan(spec: ExperimentSpec, *, again: bool = False, streams: int = STREAMS) -> list[Planned]:
    """The episodes of the final evaluation.

    Args:
        spec: The experiment, with ``evaluate.episodes`` and ``seeds``, and ``evaluate.lesson`` or
            the training's lesson; ``values`` are taken in order.
        again: True for the winner of a search: other episodes than those that chose it. The
            first version of the random numbers has no others.
        streams: Version of the random numbers, see ``drillyard.simulators.streams``.
    """
    given = spec.evaluate.seeds
    again = again and streams >= 2
    lesson, word = lesson_of(spec), evaluation_word(streams)
    planned = []
    for index in range(spec.evaluate.episodes):
        if again:
            base = 0 if given == "fixed" else int(given[index % len(given)])
            key: tuple[int, ...] = (index, base, _AGAIN)
            seed = int(np.random.SeedSequence(_ENTROPY, spawn_key=key).generate_state(1)[0])
        elif given != "fixed" and index < len(given):
            seed = int(given[index])
        else:
            # A list that is shorter than the evaluation is continued by seeds derived from it.
            key = (index,) if given == "fixed" else (index, int(given[index % len(given)]))
            seed = int(np.random.SeedSequence(_ENTROPY, spawn_key=key).generate_state(1)[0])
        planned.append(Planned(index, seed, draw_in_order(lesson, seed, index, word)))
    return planned


def lesson_of(spec: ExperimentSpec) -> Lesson:
    """The lesson of the final evaluation: its own, or that of the training's last stage."""
    if spec.evaluate.lesson is not None:
        return spec.evaluate.lesson
    return spec.simulator.lesson_of_stage(-1) if spec.simulator is not None else {}


def run_episodes(
    spec: SimulatorSpec,
    policy: BatchPolicy | Act,
    planned: Sequence[Planned],
    *,
    name: str = "agent",
    normalisation: Mapping[str, np.ndarray] | None = None,
    copies: int = COPIES,
    trajectory: bool | Literal["all"] = False,
    on_step: Callable[[int], None] | None = None,
    around: Callable[[Env, int], Env] | None = None,
) -> Played:
    """Play episodes on separate simulators.

    It does not change global random generators, unless a simulator draws from them.

    Args:
        spec: The simulator.
        policy: The policy; a plain callable counts as an agent.
        planned: The episodes to play.
        name: Name of the policy, for the records.
        normalisation: Statistics of the training's normalisation, which do not change.
        copies: Maximum number of episodes that are played together; the result does not depend on
            the order in which they end.
        trajectory: Keep the steps of the first episode, or of all.
        on_step: Called at every step with the number of ended episodes; may raise to stop.
        around: Wraps each copy: (environment, copy) -> environment.

    Raises:
        RunFailed: An observation, reward or action is not finite; the message says where.
        ConfigError, SimulatorError: See ``make_env``.
    """
    acting = batch_policy(policy)
    n = most_copies(spec, min(copies, len(planned)))

    def scripted(env: Env, copy: int) -> Env:
        episodes = [(p.seed, p.options) for p in planned[copy::n]]
        inner = env if around is None else around(env, copy)
        return Scripted(inner, episodes, partial(acting.begin, copy))

    venv = make_vec(spec, n, 0, training=False, around=scripted)
    with contextlib.closing(venv):
        acting.bind(venv)
        if normalisation is not None:
            load_normalisation(venv, dict(normalisation))
        kept = range(len(planned) if trajectory == "all" else int(trajectory))
        under_way = EpisodesUnderWay(venv, planned, name, {index: [] for index in kept})
        while len(under_way.ended) < len(planned):
            if on_step is not None:
                on_step(len(under_way.ended))
            under_way.step(acting.act(under_way.observations))
        return under_way.result()


class EpisodesUnderWay:
    """Episodes of a plan in n copies: copy i plays every n-th, beginning with number i.

    Args:
        venv: The copies, each with a ``Scripted``; they are reset.
        planned: The episodes.
        name: Name of the policy, for the records.
        rows: Episode -> the list that receives its steps.
    """

    def __init__(
        self, venv: VecEnv, planned: Sequence[Planned], name: str, rows: dict[int, list[Row]]
    ) -> None:
        self._venv, self._planned, self._name, self._rows = venv, planned, name, rows
        # The normalisation has its own `metadata`; the copies have the simulator's.
        self._metadata = dict(getattr(venv.unwrapped, "metadata", None) or {})
        self._upcoming = list(range(venv.num_envs))
        self._begun, self._step = [0] * venv.num_envs, 0
        self._logs: dict[int, Log] = {}
        self.ended: dict[int, Episode] = {}
        self.observations = venv.reset()

    def step(self, actions: np.ndarray) -> None:
        """Steps all copies, and notes the episodes that end.

        Raises:
            RunFailed: A number is not finite, or an episode never ends.
        """
        if self._step - min(self._begun) >= MAX_STEPS:
            raise RunFailed(
                f"an evaluation episode did not end within {MAX_STEPS:,} steps",
                hint="add the wrapper time_limit {max_episode_steps: …}",
            )
        self._step += 1
        self._must_be_finite("action of the policy", actions)
        self.observations, rewards, dones, infos = self._venv.step(actions)
        self._must_be_finite("reward", rewards, self._venv)
        self._must_be_finite("observation", self.observations, self._venv)
        for copy, info in enumerate(infos):
            index = self._upcoming[copy]
            if index in self._rows:
                last = info.get("terminal_observation", one_of(self.observations, copy))
                t = len(self._rows[index]) + 1
                row = _row(t, info, last, actions[copy], rewards[copy], self._metadata)
                self._rows[index].append(row)
            if dones[copy]:
                self._end(copy, index, info)

    def result(self) -> Played:
        """Returns the episodes in the order of the plan."""
        ended = [self.ended[index] for index in range(len(self._planned))]
        # All under one number: it does not matter here which copy played an episode.
        logs = [(0, self._logs[index]) for index in sorted(self._logs)]
        return Played(ended, self._rows, self._metadata, logs)

    def _end(self, copy: int, index: int, info: Info) -> None:
        if index < len(self._planned):
            self.ended[index] = _ended(self._name, self._planned[index], info)
            if "log" in info:
                self._logs[index] = info["log"]
        self._upcoming[copy], self._begun[copy] = index + self._venv.num_envs, self._step

    def _must_be_finite(
        self, what: str, values: Observation, simulators: VecEnv | None = None
    ) -> None:
        if isinstance(values, dict):
            for key, part in values.items():
                self._must_be_finite(f"{what} {key!r}", part, simulators)
            return
        array = np.asarray(values)
        if array.dtype.kind != "f" or np.isfinite(array).all():
            return
        copy = int(np.argwhere(~np.isfinite(array))[0][0])
        value = array[copy].ravel()
        if simulators is not None:
            failed(simulators, copy)
        episode = self._planned[min(self._upcoming[copy], len(self._planned) - 1)]
        raise RunFailed(
            f"{what} is {value[~np.isfinite(value)][0]} at step {self._step} of copy {copy} of "
            f"the evaluation (episode {episode.episode}, seed {episode.seed}, options "
            f"{episode.options})",
            hint="`drillyard check` looks for this; if the action is not finite, training "
            "diverged",
        )


def run_baseline(
    name: str,
    spec: SimulatorSpec,
    planned: Sequence[Planned],
    *,
    trajectory: bool | Literal["all"] = False,
    on_step: Callable[[int], None] | None = None,
    around: Callable[[Env, int], Env] | None = None,
) -> Played:
    """Play the same episodes with a baseline, on raw observations.

    Raises:
        PluginError: The baseline does not exist.
        SpaceMismatch: It cannot act in this simulator.
        RunFailed: See ``run_episodes``.
    """
    raw = raw_world(spec)
    policy = BaselinePolicy(name, raw, most_copies(raw, min(COPIES, len(planned))))
    return run_episodes(
        raw, policy, planned, name=name, trajectory=trajectory, on_step=on_step, around=around
    )


def _ended(name: str, planned: Planned, info: Info) -> Episode:
    truncated = bool(info.get("TimeLimit.truncated", False))
    metrics = {
        key: float(value)
        for key, value in info.items()
        if (key.startswith("kpi_") or key == "is_success")
        and isinstance(value, int | float | np.number | np.bool_)
        and np.isfinite(value)
    }
    metrics |= {key: float(value) for key, value in info.get("metrics", {}).items()}
    return Episode(
        policy=name,
        episode=planned.episode,
        seed=planned.seed,
        options=planned.options,
        episode_return=float(info["episode"]["r"]),
        length=int(info["episode"]["l"]),
        terminated=not truncated,
        truncated=truncated,
        metrics=metrics,
    )


def _row(
    t: int,
    info: Info,
    observation: Observation,
    action: np.ndarray,
    reward: float,
    metadata: Info,
) -> Row:
    row: Row = {"t": t}
    states = {k: v for k, v in info.items() if k.startswith("state_") and np.ndim(v) == 0}
    row |= {k: float(v) for k, v in states.items()} or _columns(
        "state", observation, metadata.get("observations", ())
    )
    row |= _columns("action", action, metadata.get("actions", ()))
    terms = {k: float(v) for k, v in info.items() if k.startswith("reward_") and np.ndim(v) == 0}
    return row | terms | {"reward": float(reward)}


def _columns(prefix: str, values: Observation, names: Sequence[str]) -> Row:
    if isinstance(values, dict):
        parts = [_columns(f"{prefix}_{key}", part, ()) for key, part in values.items()]
        return {key: value for part in parts for key, value in part.items()}
    flat = np.asarray(values, dtype=np.float64).ravel()
    if len(flat) > 64:
        return {}  # an image: its pixels are not plotted as curves
    given = list(names) if len(names) == len(flat) else [str(i) for i in range(len(flat))]
    return {f"{prefix}_{n}": float(v) for n, v in zip(given, flat, strict=True)}


class BaselinePolicy:
    """A baseline for each copy."""

    def __init__(self, name: str, spec: SimulatorSpec, copies: int) -> None:
        self._each: list[Baseline] = []
        for _ in range(copies):
            env = make_env(spec, training=False)
            try:
                self._each.append(make_baseline(name, env))
            finally:
                env.close()

    def bind(self, venv: VecEnv) -> None:
        """Let ``random`` ask these copies which actions are possible, and controllers for states.

        Everything else was read from separate copies.
        """
        for copy, baseline in enumerate(self._each):
            if isinstance(baseline, NamedBaseline) and baseline.look is not None:
                baseline.look = partial(_states_of, venv, copy)
            if isinstance(baseline, Random) and baseline.mask is not None:
                baseline.mask = partial(_mask_of, venv, copy)

    def begin(self, copy: int, seed: int, options: JsonObject) -> None:
        """Reset the baseline of the copy."""
        self._each[copy].reset(seed, options)

    def act(self, observations: Observation) -> np.ndarray:
        """The actions of all baselines."""
        return np.array([b.act(one_of(observations, i)) for i, b in enumerate(self._each)])


def _states_of(venv: VecEnv, copy: int) -> Any:
    return venv.env_method("named_states", indices=[copy])[0]


def _mask_of(venv: VecEnv, copy: int) -> Any:
    return venv.env_method(MASKS, indices=[copy])[0]


def one_of(observations: Observation, copy: int) -> Observation:
    """What one copy observes."""
    if isinstance(observations, dict):
        return {key: value[copy] for key, value in observations.items()}
    observation: Observation = observations[copy]
    return observation
