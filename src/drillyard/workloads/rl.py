"""The workload ``rl``: a learner on a simulator."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from drillyard.documents.json_types import JsonObject
from drillyard.errors import ConfigError, SpaceMismatch
from drillyard.findings import Finding, passed, warning
from drillyard.learners.honours import refuse_ignored
from drillyard.learners.plan import freeze, total_steps
from drillyard.registry import importable, load
from drillyard.runs.parallelism import hosts
from drillyard.runs.workload import PhaseOutcome, RunContext, SpreadsRuns, StopSignal
from drillyard.spec import ExperimentSpec
from drillyard.spec.algorithms.argument_table import ARGUMENTS
from drillyard.spec.algorithms.arguments import Sizes, validate_arguments
from drillyard.spec.algorithms.engines import SBX
from drillyard.spec.algorithms.signatures import MASKED
from drillyard.spec.conditions import known_keys

if TYPE_CHECKING:
    from gymnasium import spaces

    from drillyard.agents.base import Learner
    from drillyard.simulators.wrappers import Env


class RlWorkload:
    """Trains one agent a run, and measures it."""

    kind = "rl"

    def check(self, spec: ExperimentSpec, folder: Path | None) -> list[Finding]:
        """See ``Workload.check``: arguments first, then the world, then whether they fit.

        Neither torch nor Stable-Baselines3 is imported for a built-in learner.

        Raises:
            UserError: The experiment cannot work.
        """
        del folder  # on sys.path already
        learner, train, simulator = spec.learner, spec.train, spec.simulator
        if learner is None or train is None or simulator is None:
            raise ConfigError("an `rl` experiment needs `simulator:`, `learner:` and `train:`")
        built_in = learner.algorithm in ARGUMENTS
        if built_in:
            validate_arguments(learner.algorithm, learner.args, Sizes(train.n_envs, train.steps))
        else:
            plugged: Learner = load("learners", learner.algorithm)()
            refuse_ignored(spec, plugged)

        from drillyard.agents.baselines import check_baselines
        from drillyard.simulators.horizon import horizon
        from drillyard.simulators.make import make_env, raw_world, reset_keys

        env = make_env(simulator)
        try:
            longest = horizon(env)
            observation, action = env.observation_space, env.action_space
            masks = _masks(env, learner.algorithm)
        finally:
            env.close()
        raw = make_env(raw_world(simulator))
        try:
            yardsticks = check_baselines(spec, raw)
            conditions = spec.evaluate.conditions or []
            known_keys(conditions, reset_keys(raw), "evaluate.conditions")
        finally:
            raw.close()
        findings = _budget(spec, longest) + _copies(spec) + yardsticks + masks
        total = total_steps(train, longest)
        if built_in:
            from drillyard.learners.check import check_learner

            findings += check_learner(spec, observation, action, total)
            asks = spec.resources.gpus or spec.resources.device == "cuda"
            if asks and find_spec("torch") is not None:  # a machine that only drives lacks it
                from drillyard.learners.devices import advise

                findings += advise(spec, observation, action)
        else:
            findings += plugged.check(spec, observation, action)
        if learner.init_from is not None:
            findings += _earlier(learner.init_from, action)
        if learner.clone_from is not None:
            from drillyard.learners.cloning import check as check_cloning

            text = check_cloning(learner, simulator, observation, action)
            findings.append(passed("learner.clone_from", text))
        for number, callback in enumerate(learner.callbacks):
            field = f"learner.callbacks[{number}]"
            # Named as it is written: without arguments, a callback is its id alone.
            place = f"{field}.id" if callback.args else field
            _must_take(importable(callback.id, place), callback.args, f"{field}.args")
        return findings

    def try_training(self, spec: ExperimentSpec, scratch: Path, stop: StopSignal) -> str:
        """See ``TriesTraining``; a plug-in's learner and RLlib's are not tried."""
        if spec.learner is None or spec.learner.algorithm not in ARGUMENTS:
            return ""
        from drillyard.workloads.trial import try_training

        return try_training(self, spec, scratch, stop)

    def preload(self, spec: ExperimentSpec) -> list[str]:
        """See ``Workload.preload``."""
        # Making an optimiser imports torch._dynamo (1.4 s): once for all tickets, not once each.
        modules = [
            "torch",
            "torch._dynamo",
            "stable_baselines3",
            "sb3_contrib",
            "drillyard.learners.sb3",
            "drillyard.workloads.evaluate_phase",
            "scipy.special",
        ]
        if spec.learner is not None and spec.learner.engine == SBX:
            modules.append(SBX)  # it starts no thread before its first computation
        if spec.tracking.tensorboard:
            modules.append("torch.utils.tensorboard")
        if spec.learner is not None and ":" in spec.learner.algorithm:
            modules.append(spec.learner.algorithm.partition(":")[0])
        return modules

    def spread(self, spec: ExperimentSpec) -> int:
        """See ``SpreadsRuns``."""
        if spec.learner is None or spec.learner.algorithm in ARGUMENTS:
            return 1
        learner = load("learners", spec.learner.algorithm)()
        return learner.spread(spec) if isinstance(learner, SpreadsRuns) else 1

    def freeze(self, spec: ExperimentSpec, seed: int) -> JsonObject:
        """See ``Workload.freeze``."""
        return freeze(spec, seed)

    def check_lineage(self, spec: ExperimentSpec) -> None:
        """See ``HandsRunsOn``."""
        from drillyard.learners.lineage_checks import check_lineage

        check_lineage(spec)

    def train(self, context: RunContext) -> PhaseOutcome:
        """See ``Workload.train``."""
        assert context.spec.learner is not None
        learner = load("learners", context.spec.learner.algorithm)()
        outcome: PhaseOutcome = learner.train(context)
        return outcome

    def evaluate(self, context: RunContext) -> PhaseOutcome:
        """See ``Workload.evaluate``."""
        from drillyard.workloads.evaluate_phase import evaluate_phase

        return evaluate_phase(context)


def _must_take(kind: Callable[..., object], args: JsonObject, field: str) -> None:
    """Refuse arguments that a callback's constructor does not have, and those that it misses."""
    try:
        signature = inspect.signature(kind)
    except (TypeError, ValueError):
        return  # no constructor that tells; the worker finds out what it is
    try:
        signature.bind(**args)
    except TypeError as error:
        names = [n for n, p in signature.parameters.items() if p.kind is not p.VAR_KEYWORD]
        raise ConfigError(
            f"do not fit: {error}",
            field=field,
            value=", ".join(args) or None,
            allowed=", ".join(names) or "nothing",
            hint="write `{id: module:Class, args: {name: value}}` with the constructor's names",
        ) from None


def _earlier(source: str, action: spaces.Space[Any]) -> list[Finding]:
    """The policy that a training begins with, where it can be looked at already.

    What the network sees is known after frames were stacked and images transposed, so that the
    worker compares it; what it does is known here.

    Raises:
        SpaceMismatch: It does other things.
    """
    from drillyard.learners.warm_start import find, must_have

    files = find(source, None)
    if not files:
        return [passed("learner.init_from", f"{source}: looked at by the worker")]
    must_have(files, "action", action)
    return [passed("learner.init_from", f"{source} is there")]


def _masks(env: Env, algorithm: str) -> list[Finding]:
    """Compare an algorithm with a simulator that says which actions are possible, or does not."""
    says = env.has_wrapper_attr("action_masks")
    if says == (algorithm in MASKED) or algorithm not in ARGUMENTS:
        return []
    if says:
        return [
            warning(
                "learner.algorithm",
                f"{algorithm} may choose actions that the simulator's action_masks() rules out",
                "algorithm: maskable-ppo chooses only possible ones",
            )
        ]
    raise SpaceMismatch(
        f"{algorithm} asks the simulator which actions are possible, and it does not say",
        field="learner.algorithm",
        value=algorithm,
        allowed="a simulator with a method action_masks(): a boolean for each action",
        hint="write the method (or a wrapper that has it), or choose ppo",
    )


def _copies(spec: ExperimentSpec) -> list[Finding]:
    """How copies are stepped, where there is a choice."""
    from drillyard.learners.plan import freeze
    from drillyard.simulators.functional.gymnax_worlds import is_gymnax
    from drillyard.simulators.make_copies import can_vectorise, running_server

    train, simulator = spec.train, spec.simulator
    assert train is not None and simulator is not None
    server, several = running_server(simulator), len(spec.seeds) > 1 or spec.study is not None
    if server is not None and not server.shared and several and spec.resources.workers != 1:
        raise ConfigError(
            "runs that train at the same time would drive the same plant",
            field="resources.workers",
            value=spec.resources.workers,
            allowed="1, or a `command` that starts a server for each copy",
            hint="write resources: {workers: 1}",
        )
    if train.copies == "compiled":
        from drillyard.simulators.functional.forms import check_compiled

        assert spec.learner is not None
        check_compiled(simulator, spec.learner)
        how = "in one compiled program with the learner"
        return [passed("simulator: copies", f"{train.n_envs} are stepped {how}")]
    if train.copies == "processes" and is_gymnax(simulator.id):
        raise ConfigError(
            "environments of gymnax compute in JAX, whose threads do not survive a fork",
            field="train.copies",
            value=train.copies,
            allowed="auto, one-by-one, compiled",
            hint="write `copies: compiled` with `engine: jax`, or delete `copies:`",
        )
    able = can_vectorise(simulator)
    if train.copies == "vectorised" and not able:
        raise ConfigError(
            "the simulator cannot step all copies at once, or a wrapper stands around each copy",
            field="train.copies",
            value=train.copies,
            allowed="auto, one-by-one, processes",
            hint="delete `copies:`, or the wrappers but normalize and frame_stack",
        )
    if simulator.copies_on != "learner":
        number = hosts(spec)
        where = f"{number} hosts" if number else "hosts that join"
        text = f"{train.n_envs} on {where}, one training at a time"
        return [passed("simulator: copies", text)]
    if not able:
        return []
    at_once = bool(freeze(spec, 0).get("vectorised"))
    how = "at once, over arrays" if at_once else "one after the other"
    return [passed("simulator: copies", f"{train.n_envs} are stepped {how}")]


def _budget(spec: ExperimentSpec, longest: int | None) -> list[Finding]:
    """What the budget means, in steps and in episodes."""
    train = spec.train
    assert train is not None
    total = total_steps(train, longest)
    if train.episodes is None:
        return [passed("train", f"{total:,} environment steps")]
    return [
        passed(
            "train",
            f"{train.episodes:,} episodes of at most {longest} steps: at most {total:,} steps; "
            "schedules fall over these, and training ends at the first rollout boundary at which "
            "the episodes are done",
        )
    ]
