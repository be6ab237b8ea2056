"""Algorithms of Stable-Baselines3 and sb3-contrib as learners of drillyard."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar

import numpy as np
from safetensors.torch import load as load_tensors
from stable_baselines3.common.callbacks import BaseCallback, CallbackList

from drillyard.agents.playing import Playing
from drillyard.agents.spaces import space_from_json
from drillyard.documents.json_types import Json, JsonObject, as_object
from drillyard.errors import ConfigError, CorruptObject
from drillyard.findings import Finding
from drillyard.learners import cloning, determinism, devices, replayed, sb3_build, warm_start
from drillyard.learners.callbacks import TrainingCallback, user_callbacks
from drillyard.learners.check import check_learner
from drillyard.learners.committing import announce
from drillyard.learners.evaluator import Evaluator, evaluator_of
from drillyard.learners.event_files import EventFiles
from drillyard.learners.exactness import exactness, platform_of
from drillyard.learners.honours import EVERYTHING
from drillyard.learners.hosted_copies import HostSession, with_hosts
from drillyard.learners.plan import Plan, make_plan
from drillyard.learners.result_files import result_files
from drillyard.learners.sb3_state import device_of
from drillyard.learners.training import Finished, Training, divergence, place_in_training
from drillyard.learners.training_videos import TrainingVideos
from drillyard.learners.types import Observation, Space, UserCallback
from drillyard.learners.vec_mode import choose
from drillyard.mailbox.patience import persist
from drillyard.mailbox.records import FileEntry, Manifest
from drillyard.metrics.streams import StreamWriter
from drillyard.runs import checkpoints
from drillyard.runs.checkpoints import Checkpoint
from drillyard.runs.workload import PhaseOutcome, RunContext
from drillyard.simulators.horizon import horizon
from drillyard.simulators.make_copies import make_vec
from drillyard.spec import ExperimentSpec
from drillyard.spec.algorithms.argument_table import ARGUMENTS
from drillyard.spec.algorithms.networks import auto_policy
from drillyard.spec.algorithms.signatures import FROM_EPISODES, ON_POLICY
from drillyard.spec.learning import LearnerSpec, SimulatorSpec

if TYPE_CHECKING:
    from stable_baselines3.common.base_class import BaseAlgorithm
    from stable_baselines3.common.policies import BasePolicy
    from stable_baselines3.common.vec_env import VecEnv

log = logging.getLogger(__name__)


class Sb3Learner:
    """One algorithm of Stable-Baselines3."""

    name: ClassVar[str] = ""
    resume: ClassVar[str] = "exact"
    inherits: ClassVar[bool] = True
    honours: ClassVar[tuple[str, ...]] = EVERYTHING

    def check(self, spec: ExperimentSpec, observation: Space, action: Space) -> list[Finding]:
        """See ``Learner.check``."""
        return check_learner(spec, observation, action)

    def train(self, context: RunContext) -> PhaseOutcome:
        """Train a run to the end of its budget, from its last checkpoint if there is one.

        Raises:
            Stopped: A stop was requested; the last checkpoint remains.
            RunFailed: The simulator or the learner produced numbers that are not finite.
            UserError: The requested device does not exist.
        """
        with determinism.deterministic(context.spec.resources.deterministic):
            return with_hosts(context, lambda hosts: self._train(context, hosts))

    def _train(self, context: RunContext, hosts: HostSession | None) -> PhaseOutcome:
        spec = context.spec
        learner, simulator = _parts(spec)
        with context.transfers:
            checkpoint = persist(lambda: checkpoints.latest(context.mailbox, context.run.run))
            if hosts is None or not hosts.went_back:
                announce(context, checkpoint)
            checkpoint = checkpoint or persist(
                lambda: checkpoints.inherited(context.mailbox, context.run)
            )
        gamma = learner.args.get("gamma", ARGUMENTS[self.name].get("gamma"))
        n_envs = spec.train.n_envs if spec.train is not None else 1
        how = choose(context, simulator, n_envs, begun=checkpoint is not None)
        replay = replayed.choose(context, simulator, how)
        with contextlib.ExitStack() as stack:
            venv = make_vec(
                simulator,
                n_envs,
                context.run.seed,
                gamma=None if gamma is None else float(gamma),
                how=how,
                streams=replay.streams,
                hosts=None if hosts is None else hosts.present,
            )
            stack.callback(venv.close)
            plan = _plan(context, venv)
            device, why = devices.choose(context, venv, checkpoint)
            model = sb3_build.build(
                self.name,
                learner.policy,
                learner.args,
                venv,
                context.run.seed,
                device,
                learner.engine,
                spec.resources.precision,
            )
            cloned = None if checkpoint is not None else _first_weights(context, model, venv)
            evaluator = None
            if plan.evaluate_episodes:
                evaluator = evaluator_of(spec, simulator, plan, n_envs, context.stop)
                stack.callback(evaluator.close)
            outcome = self._learn(
                context, plan, model, venv, evaluator, checkpoint, cloned, replay.step_s
            )
        chosen: JsonObject = {"copies": how, "device_because": why, **devices.fixed(spec)}
        outcome.summary["parameters"] = as_object(outcome.summary["parameters"]) | chosen
        if hosts is not None:
            outcome.summary["hosts"] = hosts.summary()
        return outcome

    def _learn(
        self,
        context: RunContext,
        plan: Plan,
        model: BaseAlgorithm,
        venv: VecEnv,
        evaluator: Evaluator | None,
        checkpoint: Checkpoint | None,
        cloned: JsonObject | None,
        step_s: float,
    ) -> PhaseOutcome:
        learner, _ = _parts(context.spec)
        # The lines of another run belong to that run: these curves begin where this run took over.
        continues = checkpoint is not None and checkpoint.meta.run == context.run.run
        writer, events = _streams(context, checkpoint if continues else None)
        users, videos = _callbacks(context, learner)
        platform = platform_of(model)
        training = Training(
            context, plan, model, venv, writer, evaluator, checkpoint, users, platform, step_s
        )
        training.cloned = cloned
        start_step = checkpoint.meta.step if checkpoint else 0
        began = context.clock.monotonic()
        model.num_timesteps = start_step
        try:
            # SB3 adds the steps that were done before to the number that it receives.
            self._follow(training, plan.total_steps - start_step, begins=checkpoint is None)
            training.end()
        except BaseException as error:
            place_in_training(error, training, model.num_timesteps, model.n_envs)
            _save_after_failure(training, events)
            raise
        wall = context.clock.monotonic() - began
        files = self._save(context, training, model, venv)
        files |= videos.entries if videos is not None else {}
        files |= events.finish() if events is not None else {}
        summary = {
            **_progress(training),
            "wall_s": wall,
            "steps_per_s": (model.num_timesteps - start_step) / max(wall, 1e-9),
            "resumed_step": start_step if continues else 0,
            "inherited_steps": persist(
                lambda: checkpoints.inherited_steps(context.mailbox, context.run)
            ),
            "parameters": sb3_build.describe(self.name, model),
            **({"problems": [*videos.problems]} if videos and videos.problems else {}),
            **({"init_from": learner.init_from} if learner.init_from else {}),
            "exactness": exactness(training, plan, device_of(model)),
        }
        return PhaseOutcome(files=Manifest(files=files), summary=summary)

    def _follow(self, training: Training, steps: int, *, begins: bool) -> None:
        """Lets the model learn, with a callback for all that happens meanwhile."""
        model = training.model
        ours = TrainingCallback(training, every_rollout=self.name in ON_POLICY | FROM_EPISODES)
        theirs = [user for user in training.users if isinstance(user, BaseCallback)]
        callback = CallbackList([ours, *theirs]) if theirs else ours
        try:
            model.learn(steps, callback, log_interval=None, reset_num_timesteps=begins)
        except Finished:
            callback.on_training_end()
        except ValueError as error:
            raise divergence(model, training.seed, error) from error
        if training.ended_by == "steps" and model.num_timesteps < training.plan.total_steps:
            training.ended_by = "callback"

    def _save(
        self, context: RunContext, training: Training, model: BaseAlgorithm, venv: VecEnv
    ) -> dict[str, FileEntry]:
        learner, _ = _parts(context.spec)
        policy = learner.policy or auto_policy(venv.observation_space, self.name)
        content = result_files(model, venv, training.best, learner, policy)
        return {name: context.save(name, data) for name, data in content.items()}

    def rebuild(
        self, description: Mapping[str, Json], spaces: Mapping[str, Json], weights: bytes
    ) -> Rebuilt:
        """See ``Learner.rebuild``.

        Raises:
            CorruptObject: The weights belong to another network.
        """
        policy = sb3_build.untrained_policy(
            self.name,
            str(description["policy"]),
            as_object(description["args"]),
            space_from_json(as_object(spaces["observation"])),
            space_from_json(as_object(spaces["action"])),
            str(description.get("engine", "sb3")),
        )
        try:
            policy.load_state_dict(load_tensors(weights))
        except Exception as error:
            raise CorruptObject(f"these are not this policy's weights: {error}") from error
        policy.set_training_mode(False)
        return Rebuilt(policy)


class Rebuilt:
    """A trained network. A call acts as in the first step of an episode.

    Args:
        policy: The network with its weights.
    """

    def __init__(self, policy: BasePolicy) -> None:
        self.policy = policy

    def __call__(self, observation: Observation, deterministic: bool = True) -> np.ndarray:
        """See ``Policy``."""
        action, _ = self.policy.predict(observation, deterministic=deterministic)
        return np.asarray(action)

    def playing(self, deterministic: bool) -> Playing:
        """The same for whole episodes, with a memory and with the masks of the simulator."""
        return Playing(self.policy, deterministic)


class PPO(Sb3Learner):
    """Proximal policy optimisation."""

    name = "ppo"


class A2C(Sb3Learner):
    """Advantage actor-critic."""

    name = "a2c"


class DQN(Sb3Learner):
    """Deep Q-network; discrete actions."""

    name = "dqn"


class DDPG(Sb3Learner):
    """Deep deterministic policy gradient; continuous actions."""

    name = "ddpg"


class TD3(Sb3Learner):
    """Twin delayed DDPG; continuous actions."""

    name = "td3"


class SAC(Sb3Learner):
    """Soft actor-critic; continuous actions."""

    name = "sac"


class DoubleDQN(Sb3Learner):
    """DQN that does not overestimate: one network chooses the action, the other rates it."""

    name = "double-dqn"


class DuelingDQN(Sb3Learner):
    """DQN that learns the value of a state and the advantage of an action separately."""

    name = "dueling-dqn"


class PrioritizedDQN(Sb3Learner):
    """DQN that replays steps with large errors more often (prioritised replay)."""

    name = "prioritized-dqn"


class Rainbow(Sb3Learner):
    """DQN with double targets, duelling networks and prioritised replay."""

    name = "rainbow"


class TRPO(Sb3Learner):
    """Trust region policy optimisation."""

    name = "trpo"


class RecurrentPPO(Sb3Learner):
    """PPO with a memory (LSTM)."""

    name = "recurrent-ppo"


class MaskablePPO(Sb3Learner):
    """PPO for simulators that say which actions are possible."""

    name = "maskable-ppo"


class QRDQN(Sb3Learner):
    """DQN with quantile regression; discrete actions."""

    name = "qr-dqn"


class TQC(Sb3Learner):
    """SAC with truncated quantile critics; continuous actions."""

    name = "tqc"


class CrossQ(Sb3Learner):
    """SAC with batch normalisation and no target networks; continuous actions."""

    name = "crossq"


class ARS(Sb3Learner):
    """Augmented random search, without gradients."""

    name = "ars"


def _parts(spec: ExperimentSpec) -> tuple[LearnerSpec, SimulatorSpec]:
    if spec.learner is None or spec.simulator is None or spec.train is None:
        raise ConfigError("an `rl` experiment needs `simulator:`, `learner:` and `train:`")
    return spec.learner, spec.simulator


def _plan(context: RunContext, venv: VecEnv) -> Plan:
    lineage, run = context.run.lineage, context.run
    ends_at = lineage.ends_at if lineage else None
    return make_plan(context.spec, run.choices, horizon(venv), ends_at, run.streams)


def _first_weights(context: RunContext, model: BaseAlgorithm, venv: VecEnv) -> JsonObject | None:
    """What a training begins with; returns the summary of an imitation."""
    learner, _ = _parts(context.spec)
    if learner.init_from is not None:
        context.log.info("starting from the weights of %s", learner.init_from)
        warm_start.apply(warm_start.find(learner.init_from, context.mailbox), model, venv)
    if learner.clone_from is None:
        return None
    cloned = cloning.apply(learner.clone_from, model, context.stop)
    context.log.info("imitated %(steps)d steps: loss %(loss).3f", cloned)
    return cloned


def _save_after_failure(training: Training, events: EventFiles | None) -> None:
    """Store what a failed attempt can still store; its error is raised afterwards."""
    try:
        training.abandon()
        if events is not None:
            events.finish()
    except Exception as error:
        log.warning("the last checkpoint or lines were not stored: %s", error)


def _streams(
    context: RunContext, checkpoint: Checkpoint | None
) -> tuple[StreamWriter, EventFiles | None]:
    """The writers of the run's curves, from where a checkpoint left them."""
    offsets = checkpoint.meta.stream_offsets if checkpoint is not None else None
    events = None
    if context.spec.tracking.tensorboard:
        events = EventFiles(
            context.mailbox, context.run.run, context.attempt, offsets, context.clock
        )
    writer = StreamWriter(
        context.mailbox,
        context.run.run,
        context.attempt,
        offsets=offsets,
        clock=context.clock,
        usage=context.usage,
        on_flushed=events.take if events is not None else None,
    )
    return writer, events


def _callbacks(
    context: RunContext, learner: LearnerSpec
) -> tuple[list[UserCallback], TrainingVideos | None]:
    """The user's callbacks, and the one that makes videos."""
    users, asked = user_callbacks(learner.callbacks), context.spec.evaluate.videos
    if asked is None or asked.every is None:
        return users, None
    videos = TrainingVideos(context, asked.every, Rebuilt)
    # Last, so that a checkpoint's list of the user's callbacks fits with and without it.
    return [*users, videos], videos


def _progress(training: Training) -> JsonObject:
    """What a training itself knows of its course, for the summary of the run."""
    marks = training.marks
    return {
        "steps": int(training.model.num_timesteps),
        "episodes": marks.episodes,
        "elapsed_s": training.elapsed_s,
        "resumes": marks.resumes,
        "episodes_cut": marks.episodes_cut,
        "simulator_restarts": training.ends.restarts,
        "silent_layers": [*training.silent],
        "checkpoint_every": training.interval,
        "ended_by": training.ended_by,
        **training.best.summary(),
        **({"cloned": training.cloned} if training.cloned else {}),
    }
