"""A training in progress: what is done at each step and at rollout boundaries."""

from __future__ import annotations

import logging
import math
from typing import TYPE_CHECKING, NoReturn

import numpy as np

from drillyard.documents.json_types import JsonObject
from drillyard.errors import InfrastructureError, RunFailed, Stopped
from drillyard.learners import sb3_state
from drillyard.learners.barriers import NEVER, Marks, next_multiple
from drillyard.learners.best import BestPolicies
from drillyard.learners.episode_ends import EarlyStopping, EpisodeEnds
from drillyard.learners.evaluator import Evaluator
from drillyard.learners.plan import Plan
from drillyard.learners.training_checkpoints import TrainingCheckpoints
from drillyard.learners.types import Infos, Metrics, TakesPoints, UserCallback
from drillyard.mailbox.patience import persist
from drillyard.mailbox.status import Cause
from drillyard.metrics.streams import StreamWriter
from drillyard.runs.barrier_rule import next_barrier
from drillyard.runs.checkpoints import Checkpoint
from drillyard.runs.workload import RunContext
from drillyard.simulators import vec_state
from drillyard.simulators.replay_probe import LIMIT_S
from drillyard.simulators.streams import REPLAYED
from drillyard.system import episode_memory

if TYPE_CHECKING:
    from stable_baselines3.common.base_class import BaseAlgorithm
    from stable_baselines3.common.vec_env import VecEnv

FLUSH_EVERY_S = 5.0
STOP_WAIT_S = {Cause.PREEMPTION: 4.0, Cause.CANCELLED: 12.0, Cause.TIME_LIMIT: 12.0}
"""Seconds to the next rollout boundary that a stop waits, by its cause. Others do not wait.

The worker kills a ticket that does not stop, after 8 s when its machine goes away and else after
20 s. The rest of that time is for the upload.
"""
log = logging.getLogger(__name__)


class Finished(Exception):
    """A budget other than steps is used up; raised at a rollout boundary, caught by ``train``."""


class Training:
    """The state of one training and the work at its boundaries.

    Args:
        context: The run.
        plan: When what is due.
        model: The SB3 algorithm.
        venv: The copies of the simulator, as built (without the layers that the model adds).
        writer: Its streams.
        evaluator: For evaluations while training, None for none.
        checkpoint: What it continues, None to begin.
        users: The user's callbacks.
        platform: What bit-equality depends on; it is compared with the checkpoint's.
        step_s: Seconds in which the simulator replays one step; 0 if it is not replayed.
    """

    def __init__(
        self,
        context: RunContext,
        plan: Plan,
        model: BaseAlgorithm,
        venv: VecEnv,
        writer: StreamWriter,
        evaluator: Evaluator | None,
        checkpoint: Checkpoint | None,
        users: list[UserCallback],
        platform: dict[str, str | int],
        step_s: float = 0.0,
    ) -> None:
        self.context = context
        self.plan = plan
        self.seed = context.run.seed
        self.model, self.venv, self.writer, self.users = model, venv, writer, users
        self.marks = Marks()
        self.best = BestPolicies(context.spec.evaluate.keep_best)
        self.stopping = EarlyStopping(context.spec.train)
        self.silent: list[str] = []
        self.interval = plan.checkpoint_every
        self._early, self._step_s = 0, step_s
        self.attention = False
        self.next_event = 0
        self.ended_by = "steps"
        self.refused_at: int | None = None
        """Step at which the simulators returned what no learner can use."""
        self.cloned: JsonObject | None = None
        """Summary of the imitation before the first step, None where nothing was imitated."""
        assert context.spec.simulator is not None
        self.ends = EpisodeEnds(context.spec.simulator, venv, writer)
        self._evaluator = evaluator
        self._checkpoint = checkpoint
        self._checkpoints = TrainingCheckpoints(self, checkpoint, platform)
        self._start_step = self._checkpoints.step or 0
        self._after_resume = False
        self._stop_by: float | None = None
        self._elapsed_before = 0.0
        self._started = context.clock.monotonic()
        self._flushed = self._started
        self._episode_limit = NEVER

    # -- beginning and end --------------------------------------------------------------------

    def begin(self) -> None:
        """Called once SB3 has set up its learning and reset the simulators."""
        plan = self.plan
        self.silent = vec_state.silent_layers(self.venv)
        rollout, n_envs = sb3_state.rollout_steps(self.model), self.model.n_envs
        self.interval = plan.barrier_interval(bool(self.silent), n_envs, rollout)
        self._early = rollout // 2 if plan.streams >= REPLAYED else 0
        if self._checkpoint is not None:
            self._checkpoints.restore(self._checkpoint)
            self._elapsed_before = self.marks.elapsed_s
            self._after_resume = True
            self._checkpoint = None
        else:
            self.marks.next_point = plan.point_every
            self.marks.next_barrier = self.barrier_after(0)
            self.marks.began = [0] * n_envs
            self.marks.replan(0, plan.evaluate_every, plan.evaluate_after_episodes)
        self._plan_next()

    def end(self) -> None:
        """Write the last point, the last evaluation and the last segment of the streams."""
        step = self.model.num_timesteps
        self._check_learning(step)
        if self.marks.last_point < step:
            self._point(step)
        if self._evaluator is not None and self.marks.last_evaluation < step:
            self._evaluate_or_stop(step)
        self._checkpoints.wait()
        persist(self.writer.flush)
        self.tell(step, flush=False)

    def abandon(self) -> None:
        """Clean up after a failure: complete a checkpoint in progress, and write the lines."""
        self._checkpoints.wait()
        self.writer.flush()

    @property
    def elapsed_s(self) -> float:
        """Training time of all attempts that count."""
        return self._elapsed_before + self.context.clock.monotonic() - self._started

    # -- a request to stop --------------------------------------------------------------------

    def stop_soon(self) -> None:
        """A stop was requested: go on to the next rollout boundary if the state can be kept there.

        Raises:
            Stopped: It cannot be kept, or the boundary is too far away: an earlier checkpoint
                counts.
        """
        now = self.context.clock.monotonic()
        if self._stop_by is None:
            cause = self.context.stop.cause
            cuts = self.cuts(self.model.num_timesteps)
            wait_s = STOP_WAIT_S.get(cause, 0.0) if cause and not cuts else 0.0
            self._stop_by, self.attention = now + wait_s, True
        if now >= self._stop_by:
            self.tell(self.model.num_timesteps, flush=False)
            self.context.stop.check()

    def _stop(self, step: int) -> None:
        """Write the stop checkpoint, and end."""
        self.tell(step, flush=False)
        if not self.cuts(step):
            try:
                self._checkpoints.write_stop(step)
            except InfrastructureError as error:
                log.warning("the stop checkpoint was not written: %s", error)
        self.context.stop.check()

    def _evaluate_or_stop(self, step: int) -> None:
        """Evaluate. A stop meanwhile leaves the evaluation to the resumed run."""
        try:
            self._evaluate(step)
        except Stopped:
            if self.context.stop.cause in STOP_WAIT_S:
                self._stop(step)
            raise

    # -- every step ---------------------------------------------------------------------------

    def episodes_ended(self, step: int, dones: np.ndarray, infos: Infos) -> None:
        """Record each episode that ended."""
        self.marks.episodes += self.ends.take(step, dones, infos)
        if self.silent or self._step_s:
            for copy in np.flatnonzero(dones):
                self.marks.began[copy] = step
        over = self.stopping.record(dones, infos)
        if over or self.marks.episodes >= self._episode_limit:
            self.attention = True

    def tell(self, step: int, flush: bool = True) -> None:
        """Report progress, and write segments of the streams; called a few times a second."""
        if self.plan.max_time_s is not None and self.elapsed_s >= self.plan.max_time_s:
            self.attention = True
        returns, limit = [e["r"] for e in self.model.ep_info_buffer], self.plan.max_time_s
        left_s = None if limit is None else max(0.0, limit - self.elapsed_s)
        self.context.progress(
            step=step,
            total=self.plan.total_steps,
            episodes=self.marks.episodes,
            episode_return=float(np.mean(returns)) if returns else None,
            checkpoint_step=self._checkpoints.step,
            time_left_s=left_s,
        )
        now = self.context.clock.monotonic()
        if flush and now - self._flushed >= FLUSH_EVERY_S:
            self._flushed = now
            self.writer.flush_soon()

    # -- rollout boundaries -------------------------------------------------------------------

    def boundary(self, step: int, dones: np.ndarray | None) -> None:
        """Do what is due at a rollout boundary.

        Args:
            step: Environment steps so far.
            dones: Which copies ended an episode with the last step, None before any step.

        Raises:
            Finished: The budget in episodes or in time is used up, or the generation is over.
            RunFailed: The learner's numbers are no longer finite.
        """
        if self._after_resume:
            self._after_resume = False
            due = self._checkpoints.go_on()
        else:
            due = True
        if self._stop_by is not None:
            self._stop(step)
        if not due:
            if self.plan.stop_at is not None and step >= self.plan.stop_at:
                # It was killed between its last checkpoint and its result, or no steps remain.
                self.ended_by = "generation"
                raise Finished
            return
        self._check_learning(step)
        if step >= self.marks.next_point:
            self._point(step)
        if step >= self.marks.next_evaluation or (
            self.marks.episodes >= self.marks.next_evaluation_episode
        ):
            self._evaluate_or_stop(step)
        if self.plan.stop_at is not None and step >= self.plan.stop_at:
            self.ended_by = "generation"
            self._checkpoints.write(step, dones)  # the next generation begins with it
            raise Finished
        self._check_finished()
        if step >= self.marks.next_barrier and self._may_write(step):
            self._checkpoints.write(step, dones)
        self.attention = False
        self._plan_next()

    # -- barriers -----------------------------------------------------------------------------

    def barrier_after(self, step: int) -> int:
        """The first step at which the barrier that follows a step may be."""
        return next_barrier(step, self.interval, self._early)

    def cuts(self, step: int) -> bool:
        """Whether a checkpoint here cuts the open episodes: it cannot keep the simulators."""
        return bool(self.silent) or self._replay_s(step) > LIMIT_S

    def _may_write(self, step: int) -> bool:
        """Whether the barrier that is due is here.

        One that would cut episodes waits for their ends, at most half an interval.
        """
        late = step >= self.marks.next_barrier + self._early + self.interval // 2
        return late or self.plan.streams < REPLAYED or self._replay_s(step) <= LIMIT_S

    def _replay_s(self, step: int) -> float:
        """Seconds in which the open episodes could be replayed; infinite if they cannot."""
        if not (self.silent or self._step_s):
            return 0.0
        steps = [(step - began) // self.model.n_envs for began in self.marks.began]
        most = vec_state.replay_steps(self.venv, steps)
        return most * self._step_s if not self.silent else math.inf if most else 0.0

    def _plan_next(self) -> None:
        self.next_event = min(self.marks.next_event, self.plan.stop_at or NEVER)
        limit = NEVER if self.plan.episodes is None else self.plan.episodes
        self._episode_limit = min(limit, self.marks.next_evaluation_episode)
        # A resumed run has something to do at its very first boundary.
        self.attention = self.attention or self._after_resume

    def _check_finished(self) -> None:
        if self.plan.episodes is not None and self.marks.episodes >= self.plan.episodes:
            self.ended_by = "episodes"
            raise Finished
        if self.plan.max_time_s is not None and self.elapsed_s >= self.plan.max_time_s:
            self.ended_by = "max_time_s"
            raise Finished
        if self.stopping.reason is not None:
            self.ended_by = self.stopping.reason
            raise Finished

    def _check_learning(self, step: int) -> None:
        for name, value in self.model.logger.name_to_value.items():
            # SB3's own explained variance is NaN where all returns are equal.
            if name == "train/explained_variance" or not isinstance(value, float | np.floating):
                continue
            if not np.isfinite(value):
                self.diverged(f"{name} became {value}", step)

    def diverged(self, what: str, step: int) -> NoReturn:
        """Raise the error for numbers of the learner that are not finite."""
        raise RunFailed(
            f"{what} at training step {step} (run seed {self.seed}); the last checkpoint is from "
            f"step {self._checkpoints.step or 0}",
            hint="a smaller learning_rate or max_grad_norm, or the wrapper `normalize`, may help",
        )

    def _point(self, step: int) -> None:
        """A point of the training curve."""
        model, logger = self.model, self.model.logger
        metrics: Metrics = {}
        if model.ep_info_buffer:
            metrics["rollout/ep_rew_mean"] = float(np.mean([e["r"] for e in model.ep_info_buffer]))
            metrics["rollout/ep_len_mean"] = float(np.mean([e["l"] for e in model.ep_info_buffer]))
        if model.ep_success_buffer:
            metrics["rollout/success_rate"] = float(np.mean(model.ep_success_buffer))
        metrics["rollout/episodes"] = self.marks.episodes
        metrics |= self.ends.point()
        metrics |= sb3_state.capture_logger(logger)["values"]
        for recorded in (logger.name_to_value, logger.name_to_count, logger.name_to_excluded):
            recorded.clear()
        self.writer.append("train", step, metrics)
        wall = max(self.context.clock.monotonic() - self._started, 1e-9)
        speed = (step - self._start_step) / wall
        self.writer.append(
            "timing", step, {"time/steps_per_s": speed, "time/elapsed_s": self.elapsed_s}
        )
        self.marks.last_point = step
        self.marks.next_point = next_multiple(step, self.plan.point_every)
        for user in self.users:
            if isinstance(user, TakesPoints):
                user.on_point(step, dict(metrics))

    def _evaluate(self, step: int) -> None:
        if self._evaluator is None:
            return
        score = self._evaluator.run(self.model, self.venv)
        self.writer.append("evaluation", step, score.metrics())
        self.best.offer(score.mean_return, step, self.model, self.venv)
        self.marks.last_evaluation = step
        if self.plan.evaluate_every is not None:
            self.marks.next_evaluation = next_multiple(step, self.plan.evaluate_every)
        if self.plan.evaluate_after_episodes is not None:
            self.marks.next_evaluation_episode = next_multiple(
                self.marks.episodes, self.plan.evaluate_after_episodes
            )


def divergence(model: BaseAlgorithm, seed: int, error: ValueError) -> Exception:
    """The meaning of a ValueError: torch refuses distributions of numbers that are not finite."""
    broken = sb3_state.unfinite_tensor(model)
    if broken is None and "satisfy the constraint" not in str(error):
        return error
    what = f"the parameter {broken}" if broken else "the distribution of actions"
    return RunFailed(
        f"{what} is no longer finite at training step {model.num_timesteps} (run seed {seed})",
        hint="a smaller learning_rate or max_grad_norm, or the wrapper `normalize`, may help",
    )


def place_in_training(error: BaseException, training: Training, done: int, copies: int) -> None:
    """Add the step of the training and the run's seed to what a simulator raised.

    Args:
        error: What ended the training.
        training: The training.
        done: Environment steps that Stable-Baselines3 has counted.
        copies: Steps that it counts at once.
    """
    if isinstance(error, Stopped | InfrastructureError):
        return
    if not isinstance(error, Exception | SystemExit):  # a simulator can end the process
        return
    if "training step" in str(error):
        return
    # What the callback refuses was counted already; what a simulator raises was not.
    counted = training.refused_at is not None
    step = done if counted else done + copies
    episode_memory.training_step = step
    error.add_note(f"training step {step:,}, run seed {training.seed}")
