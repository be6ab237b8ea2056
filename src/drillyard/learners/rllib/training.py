"""A training by RLlib, and what drillyard stores of it.

Ray's own checkpoints hold pickles. Here the weights and the optimiser of the learner are written
as arrays, as for other learners. A resumed training begins with them and with new workers in new
episodes, so that it is statistically equal to an uninterrupted one, but not exact.

Read against ray 2.60 with its new API stack.
"""

from __future__ import annotations

import math
import sys
from typing import TYPE_CHECKING

import numpy as np
import torch
from ray.rllib.algorithms.appo import APPOConfig
from ray.rllib.algorithms.impala import IMPALAConfig
from ray.rllib.core.rl_module.default_model_config import DefaultModelConfig
from ray.tune.registry import register_env

from drillyard.agents.packing import pack, unpack
from drillyard.documents.json_types import JsonObject, as_integer
from drillyard.errors import RunFailed
from drillyard.learners.barriers import next_multiple
from drillyard.learners.best import BestPolicies
from drillyard.learners.committing import announce, prune, save
from drillyard.learners.evaluator import evaluator_of
from drillyard.learners.plan import Plan, make_plan
from drillyard.learners.result_files import result_files
from drillyard.learners.rllib.arguments import ARGUMENTS, NETWORK, WORKERS
from drillyard.learners.rllib.cluster import cluster, placed, share
from drillyard.learners.rllib.network import Network
from drillyard.learners.rllib.worlds import World
from drillyard.learners.types import Arrays, Space, Tensors
from drillyard.mailbox.patience import persist
from drillyard.mailbox.records import FileEntry, Manifest
from drillyard.metrics.streams import StreamWriter
from drillyard.runs import checkpoints
from drillyard.runs.identity import device
from drillyard.runs.workload import PhaseOutcome, RunContext
from drillyard.simulators.horizon import horizon
from drillyard.simulators.make import make_env
from drillyard.simulators.state import State
from drillyard.simulators.streams import REPLAYED

if TYPE_CHECKING:
    from ray.rllib.algorithms.algorithm import Algorithm
    from ray.rllib.algorithms.algorithm_config import AlgorithmConfig

CONFIGS = {"impala": IMPALAConfig, "appo": APPOConfig}
MODULE = "default_policy"
EXACTNESS = "statistically equal (workers play at their own pace)"
_CURVE = {
    "rollout/ep_rew_mean": "episode_return_mean",
    "rollout/ep_len_mean": "episode_len_mean",
    "rollout/episodes": "num_episodes_lifetime",
}
"""Name in drillyard's curves -> name in RLlib's results."""


class Model:
    """The model for evaluations, the best policy and the files of a result.

    Args:
        policy: The acting network, with a copy of the learner's weights.
    """

    library = "rllib"

    def __init__(self, policy: Network) -> None:
        self.policy = policy
        self.observation_space, self.action_space = policy.observation_space, policy.action_space


def train(context: RunContext, algorithm: str) -> PhaseOutcome:
    """Train a run to the end of its budget, from its last checkpoint if there is one.

    Args:
        context: The run.
        algorithm: ``impala`` or ``appo``.

    Raises:
        Stopped: A stop was requested; the last checkpoint remains.
        RunFailed: The weights are no longer finite.
    """
    spec = context.spec
    assert spec.simulator is not None and spec.learner is not None and spec.train is not None
    with context.transfers:
        checkpoint = persist(lambda: checkpoints.latest(context.mailbox, context.run.run))
    announce(context, checkpoint)
    env = make_env(spec.simulator, training=False)
    try:
        plan = make_plan(spec, context.run.choices, horizon(env))
        spaces = env.observation_space, env.action_space
    finally:
        env.close()
    args = {**ARGUMENTS[algorithm], **spec.learner.args}
    with cluster(context) as machines:
        algo = _config(context, algorithm, args, machines).build_algo()
        try:
            return _Training(context, plan, algo, args, spaces, checkpoint).run()
        finally:
            algo.stop()


class _Training:
    def __init__(
        self,
        context: RunContext,
        plan: Plan,
        algo: Algorithm,
        args: JsonObject,
        spaces: tuple[Space, Space],
        checkpoint: checkpoints.Checkpoint | None,
    ) -> None:
        self._context, self._plan, self._algo, self._args = context, plan, algo, args
        self._writer = StreamWriter(
            context.mailbox,
            context.run.run,
            context.attempt,
            clock=context.clock,
            usage=context.usage,
            offsets=checkpoint.meta.stream_offsets if checkpoint else None,
        )
        self.best = BestPolicies(context.spec.evaluate.keep_best)
        self.step = self._start = checkpoint.meta.step if checkpoint else 0
        self.episodes, self._episodes_before, self._barrier, self._resumes = 0, 0, 0, 0
        self._elapsed_before, self._began = 0.0, context.clock.monotonic()
        self._last: State = {}
        self._stored = dict(checkpoint.meta.files) if checkpoint else {}
        if checkpoint is not None:
            self._restore(checkpoint)
        self._machines = placed(algo)
        context.log.info("workers on each machine: %s", list(self._machines.values()))
        self.model = Model(Network(*spaces, self._weights(), str(args["fcnet_activation"])))
        self._last_point = -1
        self._next_point = next_multiple(self.step, plan.point_every)
        self._next_barrier = next_multiple(self.step, plan.checkpoint_every)
        every = plan.evaluate_every
        self._next_evaluation = next_multiple(self.step, every) if every else None

    def run(self) -> PhaseOutcome:
        """Train to the end of the budget."""
        ended_by = "steps"
        while self.step < self._plan.total_steps:
            self._context.stop.check()
            if self._plan.max_time_s is not None and self._elapsed_s >= self._plan.max_time_s:
                ended_by = "max_time_s"
                break
            self._iterate()
        self._context.stop.check()
        if self._last_point < self.step:
            self._point()
        if self._plan.evaluate_episodes:
            self._evaluate()
        persist(self._writer.flush)
        return self._outcome(ended_by)

    @property
    def _elapsed_s(self) -> float:
        return self._elapsed_before + self._context.clock.monotonic() - self._began

    def _iterate(self) -> None:
        result = self._algo.train()
        self._last = result
        played = result.get("env_runners", {})
        self.step = self._start + int(result.get("num_env_steps_sampled_lifetime") or 0)
        self.episodes = self._episodes_before + int(played.get("num_episodes_lifetime") or 0)
        mean = played.get("episode_return_mean")
        self._context.progress(
            step=self.step,
            total=self._plan.total_steps,
            episodes=self.episodes,
            episode_return=float(mean) if mean is not None and math.isfinite(mean) else None,
        )
        if self.step >= self._next_point:
            self._point()
        if self._next_evaluation is not None and self.step >= self._next_evaluation:
            self._evaluate()
            self._next_evaluation = next_multiple(self.step, self._plan.evaluate_every or 1)
        if self.step >= self._next_barrier:
            self._commit()

    def _point(self) -> None:
        played = self._last.get("env_runners", {})
        metrics = {name: float(played[key]) for name, key in _CURVE.items() if key in played}
        metrics |= {
            f"train/{name}": float(value)
            for name, value in self._last.get("learners", {}).get(MODULE, {}).items()
            if isinstance(value, int | float)
        }
        metrics["rollout/episodes"] = float(self.episodes)
        self._writer.append("train", self.step, metrics)
        spent = max(self._context.clock.monotonic() - self._began, 1e-9)
        self._writer.append(
            "timing",
            self.step,
            {
                "time/steps_per_s": (self.step - self._start) / spent,
                "time/elapsed_s": self._elapsed_s,
            },
        )
        self._writer.flush_soon()
        self._last_point = self.step
        self._next_point = next_multiple(self.step, self._plan.point_every)

    def _evaluate(self) -> None:
        spec = self._context.spec
        assert spec.simulator is not None and spec.train is not None
        self.model.policy.load_state_dict(self._weights())
        evaluator = evaluator_of(
            spec, spec.simulator, self._plan, spec.train.n_envs, self._context.stop
        )
        try:
            score = evaluator.run(self.model, None)
        finally:
            evaluator.close()
        self._writer.append("evaluation", self.step, score.metrics())
        self.best.offer(score.mean_return, self.step, self.model, None)

    # -- checkpoints --------------------------------------------------------------------------

    def _weights(self) -> Tensors:
        module: Arrays = self._learner_state("rl_module")["rl_module"][MODULE]
        for name, array in module.items():
            if not np.isfinite(array).all():
                raise RunFailed(
                    f"the parameter {name} is no longer finite at step {self.step} (seed "
                    f"{self._context.run.seed})",
                    hint="a smaller lr or grad_clip may help",
                )
        return {name: torch.tensor(array) for name, array in module.items()}

    def _learner_state(self, *parts: str) -> State:
        components = [f"learner/{part}" for part in parts]
        state: State = self._algo.learner_group.get_state(components=components)["learner"]
        return {part: state[part] for part in parts}

    def _commit(self) -> None:
        context = self._context
        self._weights()  # raises if they are not finite
        self._barrier += 1
        files: dict[str, bytes | FileEntry] = dict(
            pack(
                {
                    "learner": self._learner_state("rl_module", "optimizer"),
                    "episodes": self.episodes,
                    "elapsed_s": self._elapsed_s,
                    "resumes": self._resumes,
                    "best": self.best.best_json(),
                    "top": self.best.top_json(),
                }
            )
        )
        files |= self.best.checkpoint_files(self._stored)
        lines = self._writer
        self._stored = save(context, lines, self.step, self._barrier, files, lines.offsets())
        self._next_barrier = next_multiple(self.step, self._plan.checkpoint_every)
        context.log.info("checkpoint at step %d", self.step)
        context.progress(checkpoint_step=self.step)
        prune(context)

    def _restore(self, checkpoint: checkpoints.Checkpoint) -> None:
        tree = unpack(checkpoint.files)
        self._algo.learner_group.set_state({"learner": tree["learner"]})
        self._algo.env_runner_group.sync_weights(
            from_worker_or_learner_group=self._algo.learner_group, inference_only=True
        )
        self.episodes = self._episodes_before = int(tree["episodes"])
        self._elapsed_before = float(tree["elapsed_s"])
        self._resumes = int(tree["resumes"]) + 1
        self._barrier = checkpoint.meta.barrier
        self.best.load(tree, checkpoint.files)
        self._context.log.info("resuming at step %d", self.step)

    # -- the end ------------------------------------------------------------------------------

    def _outcome(self, ended_by: str) -> PhaseOutcome:
        context, learner = self._context, self._context.spec.learner
        assert learner is not None
        self.model.policy.load_state_dict(self._weights())
        content = result_files(self.model, None, self.best, learner, "fcnet")
        wall = context.clock.monotonic() - self._began
        files = {name: context.save(name, data) for name, data in content.items()}
        return PhaseOutcome(
            files=Manifest(files=files),
            summary={
                "steps": self.step,
                "episodes": self.episodes,
                "wall_s": wall,
                "elapsed_s": self._elapsed_s,
                "resumes": self._resumes,
                "steps_per_s": (self.step - self._start) / max(wall, 1e-9),
                "resumed_step": self._start,
                "inherited_steps": 0,
                "episodes_cut": 0,
                "simulator_restarts": 0,
                "silent_layers": [],
                "checkpoint_every": self._plan.checkpoint_every,
                "ended_by": ended_by,
                "parameters": {**described(self._algo, self._args)},
                "machines": {**self._machines},
                "exactness": EXACTNESS,
                **self.best.summary(),
            },
        )


def described(algo: Algorithm, args: JsonObject) -> JsonObject:
    """The parameters that the built algorithm really has.

    Args:
        algo: RLlib's algorithm.
        args: The arguments to describe, by name.
    """
    config, module = algo.config, algo.get_module(MODULE)
    parameters: JsonObject = {name: getattr(config, name) for name in args if name not in NETWORK}
    model = module.model_config
    model = model if isinstance(model, dict) else vars(model)
    return (
        parameters
        | {name: model[name] for name in NETWORK}
        | {
            "policy": type(module).__name__,
            "seed": config.seed,
            "n_parameters": sum(p.numel() for p in module.parameters() if p.requires_grad),
            "num_envs_per_env_runner": config.num_envs_per_env_runner,
            "device": str(next(module.parameters()).device),
        }
    )


def _config(
    context: RunContext, algorithm: str, args: JsonObject, machines: int
) -> AlgorithmConfig:
    spec, cuda = context.spec, device(context.spec) == "cuda"
    assert spec.simulator is not None
    copies = as_integer(context.run.choices.get("n_envs")) or 1
    streams = min(context.run.streams, REPLAYED - 1)  # its copies are never restored
    world = World(spec.simulator, context.run.seed, copies, list(sys.path), streams)
    register_env("drillyard", world)
    rest = {n: v for n, v in args.items() if n not in NETWORK and n not in WORKERS}
    return (
        CONFIGS[algorithm]()
        .environment("drillyard")
        .env_runners(
            num_envs_per_env_runner=copies,
            num_cpus_per_env_runner=share(as_integer(args["num_env_runners"]) or 1, machines),
            **{n: args[n] for n in WORKERS},
        )
        .learners(num_learners=0, num_gpus_per_learner=1 if cuda else 0)
        .training(**rest)
        .rl_module(model_config=DefaultModelConfig(**{n: args[n] for n in NETWORK}))
        .reporting(min_time_s_per_iteration=1)  # so that a stop takes effect soon
        .debugging(seed=context.run.seed, log_level="ERROR")
    )
