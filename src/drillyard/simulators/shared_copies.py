"""The part that copies without objects of their own share: drawn lessons, and what they refuse."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sized
from typing import TYPE_CHECKING, ClassVar

import numpy as np
from stable_baselines3.common.vec_env import VecEnv
from stable_baselines3.common.vec_env.base_vec_env import VecEnvIndices

from drillyard.errors import ConfigError, CorruptObject
from drillyard.simulators.state import State
from drillyard.simulators.streams import SeededCopies, copy_seeds, lesson_word
from drillyard.simulators.types import Options
from drillyard.spec.simulator.lessons import Lesson, draw

if TYPE_CHECKING:
    import gymnasium as gym

    from drillyard.simulators.types import Action, Observation


class NoObjects(SeededCopies, VecEnv):  # type: ignore[misc]
    """Copies that a callback can neither change nor call."""

    form: ClassVar[str]
    """How the simulator is stepped, for messages."""
    instead: ClassVar[str] = "use `train.copies: processes`"

    def set_attr(self, attr_name: str, value: object, indices: VecEnvIndices = None) -> None:
        """Refuses to set an attribute of single copies."""
        raise self._refused(attr_name, "set")

    def env_method(
        self, method_name: str, *args: object, indices: VecEnvIndices = None, **kwargs: object
    ) -> list[object]:
        """Refuses to call a method of single copies."""
        raise self._refused(method_name, "called")

    def env_is_wrapped(self, wrapper_class: type, indices: VecEnvIndices = None) -> list[bool]:
        """No copy has a wrapper of Stable-Baselines3."""
        del wrapper_class
        return [False for _ in self._get_indices(indices)]

    def _refused(self, member: str, what: str) -> ConfigError:
        return ConfigError(
            f"{member} cannot be {what}: the simulator is {self.form}, so its copies are not "
            "objects of their own",
            field="learner.callbacks",
            value=member,
            hint=f"{self.instead}, or leave the call out of the callback",
        )


class SharedCopies(NoObjects):
    """Copies that share one step.

    Args:
        n: How many.
        lesson: A valid one; {} for none.
        declared: The class of one copy, for ``metadata`` and whatever else it declares.
        spaces: Spaces of observations and actions, as one copy has them.
        horizon: Longest episode in steps, None where nothing bounds it.
        seed: Until ``seed`` is called.
        streams: Version of the random numbers, see ``streams``.
    """

    key: ClassVar[str]
    """Key of its state in a checkpoint."""

    def __init__(
        self,
        n: int,
        lesson: Lesson,
        declared: type,
        spaces: tuple[gym.Space[Observation], gym.Space[Action]],
        horizon: int | None,
        seed: int,
        streams: int,
    ) -> None:
        self.streams, self._word = streams, lesson_word(streams)
        self._lesson, self._declared, self.max_episode_steps = lesson, declared, horizon
        super().__init__(n, *spaces)
        self.metadata = dict(getattr(declared, "metadata", {}))
        self._lesson_seeds = [seed] * n if streams < 2 else copy_seeds(seed, n, streams)
        self._episodes = np.zeros(n, np.int64)
        """Episodes that each copy has begun, with the one under way."""

    @abstractmethod
    def state(self) -> State:
        """Everything that the next steps depend on."""

    @abstractmethod
    def load_state(self, state: State) -> None:
        """Continues from a state.

        Raises:
            CorruptObject: It has another number of copies, or is of another version.
        """

    @abstractmethod
    def failed(self, copy: int) -> str:
        """Keeps the record of these steps; returns where a copy is."""

    def set_lesson(self, lesson: Lesson) -> None:
        """Uses another lesson from the next episode of each copy on."""
        self._lesson = lesson

    def get_attr(self, attr_name: str, indices: VecEnvIndices = None) -> list[object]:
        """What the class of one copy declares, once a copy."""
        value = getattr(self._declared, attr_name, None)
        return [value for _ in self._get_indices(indices)]

    def _must_have_all(self, copies: Sized) -> None:
        if len(copies) != self.num_envs:
            raise CorruptObject(f"the checkpoint has {len(copies)} copies, not {self.num_envs}")

    def _draw(self, copy: int, episode: int) -> Options:
        if not self._lesson:
            return {}
        return draw(self._lesson, self._lesson_seeds[copy], copy, episode, self._word)
