"""The checkpoints of a training: how they are written at barriers, and how one is restored.

A *stop checkpoint* is written at the rollout boundary after a request to stop. It reseeds nothing
and has the state of every generator, so that the resumed run is the one that was not stopped.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from drillyard.agents.packing import pack
from drillyard.documents.json_types import JsonObject
from drillyard.learners import randomness, replay, resumable, sb3_state
from drillyard.learners.barriers import Marks, barrier_seeds, reseed
from drillyard.learners.committing import Committer, prune, save
from drillyard.learners.exactness import note_changes, settings_of
from drillyard.mailbox.patience import persist
from drillyard.mailbox.records import FileEntry
from drillyard.runs.checkpoints import Checkpoint
from drillyard.simulators import vec_state
from drillyard.simulators.state import State, Stateful
from drillyard.system.watchdog import listen

if TYPE_CHECKING:
    from stable_baselines3.common.buffers import ReplayBuffer

    from drillyard.learners.training import Training
    from drillyard.learners.types import TrainingState


class TrainingCheckpoints:
    """Writes the checkpoints of one training, and restores the one that it continues.

    Args:
        training: What is saved.
        checkpoint: What it continues, None to begin.
        platform: What bit-equality depends on; it is compared with the checkpoint's.
    """

    def __init__(
        self, training: Training, checkpoint: Checkpoint | None, platform: dict[str, str | int]
    ) -> None:
        self._training = training
        self._platform = platform
        self._settings = persist(lambda: settings_of(training.context.mailbox))
        self._committer = Committer()
        run = training.context.run.run
        self.inherited = checkpoint is not None and checkpoint.meta.run != run
        """The training continues the training of another run."""
        # A run names only its own files: the other run may be deleted.
        self._stored: dict[str, FileEntry] = (
            dict(checkpoint.meta.files) if checkpoint and not self.inherited else {}
        )
        self.step = checkpoint.meta.step if checkpoint else None
        """Step of the newest checkpoint, None before the first."""
        self._start_step = self.step or 0
        self._new_episodes = False  # the copies are reset at the next rollout boundary
        self._randomness: State | None = None  # of the stop checkpoint that is continued

    def wait(self) -> None:
        """Wait until no checkpoint is being written.

        Raises:
            Exception: What the last one raised.
        """
        self._committer.wait()

    def write(self, step: int, dones: np.ndarray | None) -> None:
        """Write a checkpoint, then continue as a resumed run would.

        Args:
            step: Environment steps so far.
            dones: Which copies ended an episode with the last step, None before any step.
        """
        training = self._training
        model, marks = training.model, training.marks
        name = sb3_state.unfinite_tensor(model)
        if name is not None:
            training.diverged(f"the parameter {name} is not finite", step)
        buffer = getattr(model, "replay_buffer", None)
        cut = training.cuts(step)
        if cut:
            ended = 0 if dones is None else int(np.count_nonzero(dones))
            marks.episodes_cut += model.n_envs - ended
            if buffer is not None:
                replay.mark_cut(buffer)
        marks.barrier += 1
        marks.next_barrier = training.barrier_after(step)
        marks.elapsed_s = training.elapsed_s
        logger = sb3_state.capture_logger(model.logger)
        sb3_state.restore_logger(model.logger, logger)
        self._committer.wait()  # this checkpoint names files of the one before
        if cut:
            training.context.stop.check()  # it may have been requested during the wait
        self._commit(step, self._content(buffer, cut))
        difference = vec_state.at_barrier(training.venv, keep=not cut)
        if difference:
            self._committer.wait()
            self._cut_after(difference)
        self._new_episodes = cut or bool(difference)
        self.after_barrier()

    def write_stop(self, step: int) -> None:
        """Write a checkpoint with everything as it is, and wait until it exists.

        Args:
            step: Environment steps so far.

        Raises:
            InfrastructureError: The store cannot be reached; the earlier checkpoint counts.
        """
        training, model = self._training, self._training.model
        if sb3_state.unfinite_tensor(model) is not None:
            return
        training.marks.elapsed_s = training.elapsed_s
        self._committer.wait()
        content = self._content(getattr(model, "replay_buffer", None), cut=False, stopped=True)
        self._commit(step, content, stopped=True)
        self._committer.wait()

    def _content(
        self, buffer: ReplayBuffer | None, cut: bool, stopped: bool = False
    ) -> dict[str, bytes | FileEntry]:
        """Everything that a checkpoint keeps, copied: the training may continue."""
        training, model = self._training, self._training.model
        tree: TrainingState = {
            "marks": training.marks.to_json(),
            "model": sb3_state.capture(model),
            "simulators": None if cut else vec_state.vec_state(training.venv),
            "normalisation": vec_state.normalisation(training.venv),
            "best": training.best.best_json(),
            "top": training.best.top_json(),
            "stopping": training.stopping.state(),
            "cloned": training.cloned,
            "ends": training.ends.state(),
            "replay_head": None if buffer is None else replay.head(buffer),
            "users": [u.state() if isinstance(u, Stateful) else None for u in training.users],
            "platform": self._platform,
            "settings": self._settings,
        }
        if stopped:
            tree["randomness"] = randomness.capture(model)
            tree["logged"] = sb3_state.capture_kinds(model.logger)
        files: dict[str, bytes | FileEntry] = dict(pack(tree))
        files |= training.best.checkpoint_files(self._stored)
        if buffer is not None:
            rows = model.num_timesteps // model.n_envs
            old = [n for n in self._stored if replay.is_segment(n)]
            kept = replay.needed(old, rows, int(buffer.buffer_size))
            files |= {n: self._stored[n] for n in kept}
            segment = replay.new_segment(old, buffer, rows)
            if segment is not None:
                files[segment[0]] = segment[1]
        return files

    def _commit(
        self, step: int, files: dict[str, bytes | FileEntry], stopped: bool = False
    ) -> None:
        """Write a checkpoint in another thread; it exists when that is done, and not before."""
        training, context = self._training, self._training.context
        offsets, barrier = training.writer.offsets(), training.marks.barrier
        info: JsonObject = {
            "silent_layers": [*training.silent],
            "episodes_cut": training.marks.episodes_cut,
            "interval": training.interval,
            "spaces": {**resumable.spaces_of(training.model)},
            "device": sb3_state.device_of(training.model),
        }
        if stopped:
            info["stopped"] = True

        def commit() -> None:
            self._stored = save(context, training.writer, step, barrier, files, offsets, info)
            self.step = step
            context.log.info("%scheckpoint at step %d", "stop " if stopped else "", step)
            context.progress(checkpoint_step=step)
            prune(context)

        self._committer.submit(commit)

    def go_on(self) -> bool:
        """Continue at the first rollout boundary after a resume.

        Returns:
            True where the run was stopped there, so that what was due at the boundary still is;
            False after a barrier, where it was done.
        """
        if self._randomness is None:
            self.after_barrier()
            return False
        randomness.restore(self._training.model, self._randomness)
        self._randomness = None
        return True

    def after_barrier(self) -> None:
        """Begin what follows a barrier: from here on a running and a resumed run are the same."""
        training, model = self._training, self._training.model
        seeds = barrier_seeds(training.seed, training.marks.barrier)
        reseed(seeds, model.action_space)
        if self._new_episodes:
            self._new_episodes = False
            training.marks.began = [model.num_timesteps] * model.n_envs
            model.env.seed(seeds.simulators)
            model._last_obs = model.env.reset()
            model._last_episode_starts = np.ones((model.n_envs,), dtype=bool)
            normalize = model.get_vec_normalize_env()
            if normalize is not None:
                model._last_original_obs = normalize.get_original_obs()
            sb3_state.begin_episodes(model)
        sb3_state.resample_exploration(model)

    def restore(self, checkpoint: Checkpoint) -> None:
        """Put the training where the checkpoint was written.

        Raises:
            CheckpointRefused, SpaceMismatch: See ``resumable``.
        """
        training, model = self._training, self._training.model
        tree = resumable.tree_of(checkpoint, model)
        marks = self._restore_marks(checkpoint, tree)
        copies = resumable.copies_of(tree)
        other, saved = copies != model.n_envs, tree["simulators"]
        difference = ""
        self._new_episodes = saved is None or other or bool(training.silent)
        if saved is not None and not self._new_episodes:
            with listen(lambda doing: training.context.progress()):  # ``budget.stall_s``
                difference = vec_state.load_vec_state(training.venv, saved)
            self._new_episodes = bool(difference)
        keeps = not self._new_episodes
        resumable.restore(checkpoint, model, tree, observations=keeps)
        if keeps and not self.inherited and "randomness" in tree:
            self._randomness = tree["randomness"]
            sb3_state.restore_kinds(model.logger, tree["logged"])
        if tree["normalisation"] is not None:
            vec_state.load_normalisation(training.venv, tree["normalisation"])
        self._restore_buffer(checkpoint, tree, copies)
        if other:
            marks.copies_changed = True
            marks.episodes_cut += copies
            self._forget_segments()
        elif difference:
            self._cut_after(difference)
        if "ends" in tree:  # older checkpoints had none
            training.ends.load_state(tree["ends"])
        for user, state in zip(training.users, tree["users"], strict=False):
            if state is not None and isinstance(user, Stateful):
                user.load_state(state)
        step, same_run = self._start_step, not self.inherited
        note_changes(marks, tree, self._platform, self._settings, step, same_run)
        training.context.log.info("resuming at step %d", checkpoint.meta.step)

    def _restore_marks(self, checkpoint: Checkpoint, tree: TrainingState) -> Marks:
        """The position in the training, and what was best so far."""
        training = self._training
        known = {k: v for k, v in tree["marks"].items() if k in Marks.__dataclass_fields__}
        marks = training.marks = Marks(**known)
        if self.inherited:
            # What was counted, and what was best, belongs to the other run and its settings.
            marks.resumes, marks.episodes_cut, marks.elapsed_s = 0, 0, 0.0
            # A fixed entropy coefficient is a setting that SAC keeps as a tensor.
            tree["model"]["tensors"].pop("ent_coef_tensor", None)
        else:
            marks.resumes += 1
            training.best.load({**tree}, checkpoint.files)
            training.stopping.load_state(tree.get("stopping"))
            training.cloned = tree.get("cloned")
        plan = training.plan
        marks.replan(self._start_step, plan.evaluate_every, plan.evaluate_after_episodes)
        return marks

    def _restore_buffer(self, checkpoint: Checkpoint, tree: TrainingState, copies: int) -> None:
        model = self._training.model
        buffer = getattr(model, "replay_buffer", None)
        if buffer is not None:
            # Taken out of the checkpoint, which is held until the training ends.
            names = [name for name in checkpoint.files if replay.is_segment(name)]
            segments = {name: checkpoint.files.pop(name) for name in names}
            replay.restore(buffer, segments, model.num_timesteps, copies)
            replay.load_head(buffer, tree["replay_head"] if copies == model.n_envs else None)

    def _cut_after(self, difference: str) -> None:
        """Mark that all copies begin new episodes, because a replay differed."""
        training, model = self._training, self._training.model
        training.context.log.warning(
            "the replay of an episode differs (%s), so all copies begin new episodes", difference
        )
        training.marks.replay_differed = True
        training.marks.episodes_cut += model.n_envs
        buffer = getattr(model, "replay_buffer", None)
        if buffer is not None:
            replay.mark_cut(buffer)
            self._forget_segments()

    def _forget_segments(self) -> None:
        """Store the whole replay buffer again with the next checkpoint: its rows have changed."""
        self._stored = {n: e for n, e in self._stored.items() if not replay.is_segment(n)}
