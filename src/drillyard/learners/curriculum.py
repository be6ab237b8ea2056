"""The position of a run in its curriculum."""

from __future__ import annotations

from collections import deque

import numpy as np

from drillyard.simulators.state import State
from drillyard.spec.curriculum import CurriculumSpec, RuleSpec
from drillyard.spec.simulator.lessons import Lesson


class Curriculum:
    """Counts the episodes of a stage, and decides when the stage changes. Part of a checkpoint.

    Args:
        spec: The stages.
    """

    def __init__(self, spec: CurriculumSpec) -> None:
        self._stages = spec.stages
        self.stage = 0
        longest = max(r.episodes for s in spec.stages for r in (s.promote, s.demote) if r)
        self._ended: deque[list[float]] = deque(maxlen=longest)
        self._since = 0

    def lesson(self, base: Lesson) -> Lesson:
        """The simulator's lesson with the changes of the stage."""
        return {**base, **self._stages[self.stage].lesson}

    def record(self, step: int, episode_return: float, success: bool) -> bool:
        """Record that an episode ended; True if the stage changed.

        Args:
            step: Environment steps so far.
            episode_return: The sum of the agent's rewards.
            success: ``info["is_success"]`` of its last step.
        """
        self._ended.append([episode_return, float(success)])
        now = self._stages[self.stage]
        if now.promote is not None and self._met(now.promote, step, up=True):
            return self._go(self.stage + 1, step)
        if now.demote is not None and self._met(now.demote, step, up=False):
            return self._go(self.stage - 1, step)
        return False

    def _met(self, rule: RuleSpec, step: int, up: bool) -> bool:
        if rule.steps is not None:
            return step - self._since >= rule.steps
        if len(self._ended) < rule.episodes:
            return False
        last = np.array(self._ended)[-rule.episodes :].mean(axis=0)
        score, limit = (
            (last[0], rule.mean_return)
            if rule.success_rate is None
            else (last[1], rule.success_rate)
        )
        assert limit is not None  # a rule has one of the three
        return bool(score >= limit if up else score <= limit)

    def _go(self, stage: int, step: int) -> bool:
        self.stage, self._since = stage, step
        self._ended.clear()  # a stage is judged by its own episodes
        return True

    def state(self) -> State:
        """The stage, its first step and its last episodes."""
        return {"stage": self.stage, "since": self._since, "ended": [list(e) for e in self._ended]}

    def load_state(self, state: State) -> None:
        """Continue from a state."""
        self.stage, self._since = int(state["stage"]), int(state["since"])
        self._ended.clear()
        self._ended.extend([float(r), float(s)] for r, s in state["ended"])
