"""The best policy so far: its score, weights and normalisation, also over resumes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors

from drillyard.agents.packing import npz_arrays, npz_bytes
from drillyard.documents.json_types import JsonObject
from drillyard.errors import CorruptObject
from drillyard.learners.sb3_state import weights
from drillyard.learners.types import Arrays, HasPolicy, Tensors
from drillyard.mailbox.records import FileEntry
from drillyard.simulators.vec_state import normalisation

if TYPE_CHECKING:
    from stable_baselines3.common.vec_env import VecEnv

WEIGHTS, STATISTICS = "best.safetensors", "best-normalisation.npz"


class Best:
    """The policy with the highest mean return of an evaluation while training."""

    def __init__(self) -> None:
        self.mean_return: float | None = None
        self.step: int | None = None
        self.weights: Tensors | None = None
        self.statistics: Arrays | None = None
        self._stored = False

    def offer(self, mean_return: float, step: int, model: HasPolicy, venv: VecEnv | None) -> bool:
        """Take a policy if it is better than the best so far; the first of equals remains."""
        if self.mean_return is not None and not mean_return > self.mean_return:
            return False
        self.mean_return, self.step = mean_return, step
        self.weights, self.statistics = weights(model), normalisation(venv)
        self._stored = False
        return True

    def to_json(self) -> JsonObject | None:
        """The step and the score, None before the first evaluation."""
        if self.step is None:
            return None
        return {"step": self.step, "mean_return": self.mean_return}

    def files(self, stored: Mapping[str, FileEntry]) -> dict[str, bytes | FileEntry]:
        """Files for a checkpoint; an unchanged best policy is referenced, not written again."""
        if self.weights is None:
            return {}
        if self._stored:
            return {n: stored[n] for n in (WEIGHTS, STATISTICS) if n in stored}
        self._stored = True
        files: dict[str, bytes | FileEntry] = {WEIGHTS: save_tensors(self.weights)}
        if self.statistics is not None:
            files[STATISTICS] = npz_bytes(self.statistics)
        return files

    @classmethod
    def from_json(cls, record: JsonObject | None, files: Mapping[str, bytes]) -> Best:
        """Reads the best policy of a checkpoint.

        Raises:
            CorruptObject: Its weights are missing.
        """
        best = cls()
        if record is None:
            return best
        if WEIGHTS not in files:
            raise CorruptObject(f"{WEIGHTS} is missing from the checkpoint")
        best.step, best.mean_return = step_and_score(record)
        best.weights = load_tensors(files[WEIGHTS])
        best.statistics = npz_arrays(files[STATISTICS]) if STATISTICS in files else None
        best._stored = True
        return best


def step_and_score(record: JsonObject) -> tuple[int, float]:
    """Step and mean return of a stored policy.

    Raises:
        CorruptObject: One of them is missing.
    """
    step, score = record.get("step"), record.get("mean_return")
    if not isinstance(step, int) or not isinstance(score, int | float):
        raise CorruptObject(f"a best policy in the checkpoint has no step or no return: {record}")
    return step, float(score)
