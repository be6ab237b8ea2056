"""The k best policies of a training by its evaluations, also across resumes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors

from drillyard.agents.packing import npz_arrays, npz_bytes
from drillyard.documents.json_types import JsonObject
from drillyard.learners.best import step_and_score
from drillyard.learners.sb3_state import weights
from drillyard.learners.types import Arrays, HasPolicy, Tensors
from drillyard.mailbox.records import FileEntry
from drillyard.simulators.vec_state import normalisation

if TYPE_CHECKING:
    from stable_baselines3.common.vec_env import VecEnv


@dataclass(frozen=True)
class Kept:
    """One of the best policies."""

    step: int
    mean_return: float
    weights: Tensors
    statistics: Arrays | None

    def files(self, stem: str) -> dict[str, bytes]:
        """Name -> content."""
        files = {f"{stem}.safetensors": save_tensors(self.weights)}
        if self.statistics is not None:
            files[f"{stem}.npz"] = npz_bytes(self.statistics)
        return files


class BestPolicies:
    """Keeps the k best policies; of equals, the first.

    Args:
        k: Number of policies; 0 for none.
    """

    def __init__(self, k: int) -> None:
        self._k = k
        self.kept: list[Kept] = []

    def offer(self, mean_return: float, step: int, model: HasPolicy, venv: VecEnv | None) -> None:
        """Take a policy if it is one of the best so far."""
        if self._k and (len(self.kept) < self._k or mean_return > self.kept[-1].mean_return):
            self.kept.append(Kept(step, mean_return, weights(model), normalisation(venv)))
            self.kept = sorted(self.kept, key=lambda kept: (-kept.mean_return, kept.step))[
                : self._k
            ]

    def to_json(self) -> list[JsonObject]:
        """The steps and scores, best first."""
        return [{"step": kept.step, "mean_return": kept.mean_return} for kept in self.kept]

    def checkpoint_files(self, stored: Mapping[str, FileEntry]) -> dict[str, bytes | FileEntry]:
        """Files for a checkpoint; stored files are referenced, not written again."""
        files: dict[str, bytes | FileEntry] = {}
        for kept in self.kept:
            stem = f"top-{kept.step:012d}"
            if f"{stem}.safetensors" in stored:
                files |= {n: e for n, e in stored.items() if n.rpartition(".")[0] == stem}
            else:
                files |= kept.files(stem)
        return files

    def load(self, records: Sequence[JsonObject], files: Mapping[str, bytes]) -> None:
        """Load the policies of a checkpoint.

        Raises:
            CorruptObject: A record has no step or no score.
        """
        for record in records:
            step, mean_return = step_and_score(record)
            stem = f"top-{step:012d}"
            arrays = files.get(f"{stem}.npz")
            statistics = None if arrays is None else npz_arrays(arrays)
            tensors = load_tensors(files[f"{stem}.safetensors"])
            self.kept.append(Kept(step, mean_return, tensors, statistics))

    def result_files(self) -> dict[str, bytes]:
        """Files of the result, named with step and return."""
        files: dict[str, bytes] = {}
        for kept in self.kept:
            files |= kept.files(f"policy/top/step-{kept.step}-return-{kept.mean_return:.6g}")
        return files
