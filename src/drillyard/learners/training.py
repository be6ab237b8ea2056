"""A training under way: what is due at rollout boundaries, and how it is resumed."""

from __future__ import annotations

from typing import Any

import numpy as np

from drillyard.agents.packing import pack
from drillyard.documents.json_types import JsonObject
from drillyard.errors import RunFailed
from drillyard.learners import replay, resumable, sb3_state
from drillyard.learners.barriers import (
    NEVER,
    Marks,
    barrier_seeds,
    next_multiple,
    reseed,
)
from drillyard.learners.best import Best
from drillyard.learners.best_k import BestPolicies
from drillyard.learners.committing import Committer, prune
from drillyard.learners.episode_ends import EpisodeEnds
from drillyard.learners.evaluator import Evaluator
from drillyard.learners.exactness import note_changes, settings_of
from drillyard.learners.plan import Plan
from drillyard.learners.stopping import EarlyStopping
from drillyard.metrics.streams import StreamWriter
from drillyard.runs import checkpoints
from drillyard.runs.checkpoints import Checkpoint
from drillyard.runs.phases import RunContext
from drillyard.simulators import vec_state

FLUSH_EVERY_S = 5.0


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
        checkpoint: Where to go on, None to begin.
        users: The user's callbacks.
        platform: What bit-equality depends on; compared with the checkpoint's.
    """

    def __init__(
        self,
        context: RunContext,
        plan: Plan,
        model: Any,
        venv: Any,
        writer: StreamWriter,
        evaluator: Evaluator | None,
        checkpoint: Checkpoint | None,
        users: list[Any],
        platform: dict[str, Any],
    ) -> None:
        self.context = context
        self.plan = plan
        self.seed = context.run.seed
        self.marks = Marks()
        self.best = Best()
        self.top = BestPolicies(context.spec.evaluate.keep_best)
        self._stopping = EarlyStopping(context.spec.train)
        self.silent: list[str] = []
        self.interval = plan.checkpoint_every
        self._settings = settings_of(context.mailbox)
        self.attention = False
        self.next_event = 0
        self.ended_by = "steps"
        self.cloned: dict[str, Any] | None = None  # what was imitated before the first step
        self._model = model
        self._venv = venv
        self._writer = writer
        assert context.spec.simulator is not None
        self.ends = EpisodeEnds(context.spec.simulator, venv, writer)
        self._evaluator = evaluator
        self._checkpoint = checkpoint
        self._inherited = checkpoint is not None and checkpoint.meta.run != context.run.run
        """It goes on with the training of another run."""
        self._users = users
        self._platform = platform
        self._committer = Committer()
        # A run names files of its own only: the other one may be deleted.
        self._stored = dict(checkpoint.meta.files) if checkpoint and not self._inherited else {}
        self._checkpoint_step = checkpoint.meta.step if checkpoint else None
        self._start_step = self._checkpoint_step or 0
        self._after_resume = False
        self._anew = False  # other copies than the checkpoint's: they begin new episodes
        self._elapsed_before = 0.0
        self._started = context.clock.monotonic()
        self._flushed = self._started
        self._episode_limit = NEVER

    # -- beginning and end --------------------------------------------------------------------

    def begin(self) -> None:
        """Called once SB3 has set up its learning and reset the simulators."""
        plan = self.plan
        self.silent = vec_state.silent_layers(self._venv)
        self.interval = plan.barrier_interval(bool(self.silent), self._model.n_envs)
        if self._checkpoint is not None:
            self._restore(self._checkpoint)
            self._checkpoint = None
        else:
            self.marks.next_point = plan.point_every
            self.marks.next_barrier = self.interval
            self.marks.replan(0, plan.evaluate_every, plan.evaluate_after_episodes)
        self._plan_next()

    def end(self) -> None:
        """The last point, the last evaluation, the last segment."""
        step = self._model.num_timesteps
        self._check_learning(step)
        if self.marks.last_point < step:
            self._point(step)
        if self._evaluator is not None and self.marks.last_evaluation < step:
            self._evaluate(step)
        self._committer.wait()
        self._writer.flush()
        self.tell(step, flush=False)

    def abandon(self) -> None:
        """End badly: a checkpoint under way is completed, and lines are written."""
        self._committer.wait()
        self._writer.flush()

    @property
    def elapsed_s(self) -> float:
        """Training time of all attempts that count."""
        return self._elapsed_before + self.context.clock.monotonic() - self._started

    # -- every step ---------------------------------------------------------------------------

    def episodes_ended(self, step: int, dones: Any, infos: Any) -> None:
        """Note each episode that ended."""
        self.marks.episodes += self.ends.take(step, dones, infos)
        over = self._stopping.record(dones, infos)
        if over or self.marks.episodes >= self._episode_limit:
            self.attention = True

    def tell(self, step: int, flush: bool = True) -> None:
        """Progress for people, segments for readers; a few times a second."""
        if self.plan.max_time_s is not None and self.elapsed_s >= self.plan.max_time_s:
            self.attention = True
        returns, limit = [e["r"] for e in self._model.ep_info_buffer], self.plan.max_time_s
        left_s = None if limit is None else max(0.0, limit - self.elapsed_s)
        self.context.progress(
            step=step,
            total=self.plan.total_steps,
            episodes=self.marks.episodes,
            episode_return=float(np.mean(returns)) if returns else None,
            checkpoint_step=self._checkpoint_step,
            time_left_s=left_s,
        )
        now = self.context.clock.monotonic()
        if flush and now - self._flushed >= FLUSH_EVERY_S:
            self._flushed = now
            self._writer.flush_soon()

    # -- rollout boundaries -------------------------------------------------------------------

    def boundary(self, step: int, dones: Any) -> None:
        """What is due at a rollout boundary.

        Args:
            step: Environment steps so far.
            dones: Which copies ended an episode with the last step, None before any step.

        Raises:
            Finished: The budget in episodes or in time is used up, or the generation is over.
            RunFailed: The learner's numbers are no longer finite.
        """
        if self._after_resume:
            self._after_resume = False
            self._after_barrier()
            if self.plan.stop_at is not None and step >= self.plan.stop_at:
                # Killed between its last checkpoint and its result, or nothing is left to train.
                self.ended_by = "generation"
                raise Finished
            return
        self._check_learning(step)
        if step >= self.marks.next_point:
            self._point(step)
        if step >= self.marks.next_evaluation or (
            self.marks.episodes >= self.marks.next_evaluation_episode
        ):
            self._evaluate(step)
        if self.plan.stop_at is not None and step >= self.plan.stop_at:
            self.ended_by = "generation"
            self._barrier(step, dones)  # what the next generation begins with
            raise Finished
        self._check_finished()
        if step >= self.marks.next_barrier:
            self._barrier(step, dones)
        self.attention = False
        self._plan_next()

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
        if self._stopping.reason is not None:
            self.ended_by = self._stopping.reason
            raise Finished

    def _check_learning(self, step: int) -> None:
        for name, value in self._model.logger.name_to_value.items():
            # SB3's own explained variance is NaN where all returns are equal.
            if name == "train/explained_variance" or not isinstance(value, float | np.floating):
                continue
            if not np.isfinite(value):
                self._diverged(f"{name} became {value}", step)

    def _diverged(self, what: str, step: int) -> None:
        raise RunFailed(
            f"{what} at step {step} (seed {self.seed}); the last checkpoint is that of step "
            f"{self._checkpoint_step or 0}",
            hint="a smaller learning_rate or max_grad_norm, or the wrapper `normalize`, may help",
        )

    def _point(self, step: int) -> None:
        """A point of the training curve."""
        model, logger = self._model, self._model.logger
        metrics: dict[str, Any] = {}
        if model.ep_info_buffer:
            metrics["rollout/ep_rew_mean"] = float(np.mean([e["r"] for e in model.ep_info_buffer]))
            metrics["rollout/ep_len_mean"] = float(np.mean([e["l"] for e in model.ep_info_buffer]))
        if model.ep_success_buffer:
            metrics["rollout/success_rate"] = float(np.mean(model.ep_success_buffer))
        metrics["rollout/episodes"] = self.marks.episodes
        metrics |= self.ends.point()
        metrics |= sb3_state.capture_logger(logger)["values"]
        for noted in (logger.name_to_value, logger.name_to_count, logger.name_to_excluded):
            noted.clear()
        self._writer.append("train", step, metrics)
        wall = max(self.context.clock.monotonic() - self._started, 1e-9)
        speed = (step - self._start_step) / wall
        self._writer.append(
            "timing", step, {"time/steps_per_s": speed, "time/elapsed_s": self.elapsed_s}
        )
        self.marks.last_point = step
        self.marks.next_point = next_multiple(step, self.plan.point_every)
        for user in self._users:
            if hasattr(user, "on_point"):
                user.on_point(step, dict(metrics))

    def _evaluate(self, step: int) -> None:
        if self._evaluator is None:
            return
        score = self._evaluator.run(self._model, self._venv)
        self._writer.append("evaluation", step, score.metrics())
        self.best.offer(score.mean_return, step, self._model, self._venv)
        self.top.offer(score.mean_return, step, self._model, self._venv)
        self.marks.last_evaluation = step
        if self.plan.evaluate_every is not None:
            self.marks.next_evaluation = next_multiple(step, self.plan.evaluate_every)
        if self.plan.evaluate_after_episodes is not None:
            self.marks.next_evaluation_episode = next_multiple(
                self.marks.episodes, self.plan.evaluate_after_episodes
            )

    # -- barriers -----------------------------------------------------------------------------

    def _barrier(self, step: int, dones: Any) -> None:
        """Write a checkpoint, then go on as a resumed run would."""
        model, marks = self._model, self.marks
        name = sb3_state.unfinite_tensor(model)
        if name is not None:
            self._diverged(f"the parameter {name} is not finite", step)
        buffer = getattr(model, "replay_buffer", None)
        if self.silent:
            marks.episodes_cut += model.n_envs - int(np.count_nonzero(dones))
            if buffer is not None:
                replay.mark_cut(buffer)
        marks.barrier += 1
        marks.next_barrier = next_multiple(step, self.interval)
        marks.elapsed_s = self.elapsed_s
        logger = sb3_state.capture_logger(model.logger)
        sb3_state.restore_logger(model.logger, logger)
        self._committer.wait()  # the files of the one before are named by this one
        self.context.stop.check()  # a stop writes no checkpoint, also one that came meanwhile
        self._commit(step, self._content(buffer))
        self._after_barrier()

    def _content(self, buffer: Any) -> dict[str, Any]:
        """Everything that a checkpoint keeps, copied: the training may go on."""
        tree = {
            "marks": self.marks.to_json(),
            "model": sb3_state.capture(self._model),
            "simulators": None if self.silent else vec_state.vec_state(self._venv),
            "normalisation": vec_state.normalisation(self._venv),
            "best": self.best.to_json(),
            "top": self.top.to_json(),
            "stopping": self._stopping.state(),
            "cloned": self.cloned,
            "ends": self.ends.state(),
            "replay_head": None if buffer is None else replay.head(buffer),
            "users": [u.state() if hasattr(u, "load_state") else None for u in self._users],
            "platform": self._platform,
            "settings": self._settings,
        }
        files: dict[str, Any] = dict(pack(tree))
        files |= self.best.files(self._stored)
        files |= self.top.checkpoint_files(self._stored)
        if buffer is not None:
            rows = self._model.num_timesteps // self._model.n_envs
            old = [n for n in self._stored if replay.is_segment(n)]
            kept = replay.needed(old, rows, int(buffer.buffer_size))
            files |= {n: self._stored[n] for n in kept}
            segment = replay.new_segment(old, buffer, rows)
            if segment is not None:
                files[segment[0]] = segment[1]
        return files

    def _commit(self, step: int, files: dict[str, Any]) -> None:
        """Write a checkpoint in another thread; it exists when that is done, and not before."""
        offsets, barrier = self._writer.offsets(), self.marks.barrier
        now = self.context.clock.now()
        info: JsonObject = {
            "silent_layers": [*self.silent],
            "episodes_cut": self.marks.episodes_cut,
            "interval": self.interval,
            "spaces": resumable.spaces_of(self._model),
            "device": sb3_state.device_of(self._model),
        }

        def commit() -> None:
            self._writer.flush()  # its lines, and perhaps later ones, which a resume cuts off
            meta = checkpoints.save(
                self.context.mailbox,
                self.context.run.run,
                self.context.attempt,
                step,
                barrier,
                files,
                offsets,
                now,
                info=info,
            )
            self._stored = dict(meta.files)
            self._checkpoint_step = step
            self.context.log.info("checkpoint at step %d", step)
            self.context.progress(checkpoint_step=step)
            prune(self.context)

        self._committer.submit(commit)

    def _after_barrier(self) -> None:
        """From here on a running and a resumed run are the same."""
        model = self._model
        seeds = barrier_seeds(self.seed, self.marks.barrier)
        reseed(seeds, model.action_space)
        if self.silent or self._anew:
            self._anew = False
            model.env.seed(seeds.simulators)
            model._last_obs = model.env.reset()
            model._last_episode_starts = np.ones((model.n_envs,), dtype=bool)
            normalize = model.get_vec_normalize_env()
            if normalize is not None:
                model._last_original_obs = normalize.get_original_obs()
            sb3_state.begin_episodes(model)
        sb3_state.resample_exploration(model)

    def _restore(self, checkpoint: Checkpoint) -> None:
        model = self._model
        tree = resumable.tree_of(checkpoint, model)
        known = {k: v for k, v in tree["marks"].items() if k in Marks.__dataclass_fields__}
        self.marks = Marks(**known)
        if self._inherited:
            # What was counted, and what was best, belongs to the other run and its settings.
            self.marks.resumes, self.marks.episodes_cut, self.marks.elapsed_s = 0, 0, 0.0
            # A fixed entropy coefficient is a setting that SAC keeps as a tensor.
            tree["model"]["tensors"].pop("ent_coef_tensor", None)
        else:
            self.marks.resumes += 1
            self.best = Best.from_json(tree["best"], checkpoint.files)
            self.top.load(tree.get("top", []), checkpoint.files)
            self._stopping.load_state(tree.get("stopping"))
            self.cloned = tree.get("cloned")
        plan = self.plan
        self.marks.replan(self._start_step, plan.evaluate_every, plan.evaluate_after_episodes)
        self._elapsed_before = self.marks.elapsed_s
        copies = resumable.copies_of(tree)
        self._anew = copies != model.n_envs
        keeps = not self.silent and not self._anew
        resumable.restore(checkpoint, model, tree, observations=keeps)
        if tree["simulators"] is not None and keeps:
            vec_state.load_vec_state(self._venv, tree["simulators"])
        if tree["normalisation"] is not None:
            vec_state.load_normalisation(self._venv, tree["normalisation"])
        buffer = getattr(model, "replay_buffer", None)
        if buffer is not None:
            segments = {n: d for n, d in checkpoint.files.items() if replay.is_segment(n)}
            replay.restore(buffer, segments, model.num_timesteps, copies)
            replay.load_head(buffer, None if self._anew else tree["replay_head"])
        if self._anew:
            self.marks.copies_changed = True
            self.marks.episodes_cut += copies
            self._stored = {n: e for n, e in self._stored.items() if not replay.is_segment(n)}
        if "ends" in tree:  # older checkpoints had none
            self.ends.load_state(tree["ends"])
        for user, state in zip(self._users, tree["users"], strict=False):
            if state is not None:
                user.load_state(state)
        own = not self._inherited
        note_changes(self.marks, tree, self._platform, self._settings, self._start_step, own)
        self._after_resume = True
        self.context.log.info("going on at step %d", checkpoint.meta.step)
