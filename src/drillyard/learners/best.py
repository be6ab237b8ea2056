"""The best policies of a training by its evaluations, also across resumes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors

from drillyard.agents.packing import npz_arrays, npz_bytes
from drillyard.documents.json_types import JsonObject
from drillyard.errors import CorruptObject
from drillyard.learners.sb3_state import weights
from drillyard.learners.types import Arrays, HasPolicy, Tensors
from drillyard.mailbox.records import FileEntry
from drillyard.simulators.state import State
from drillyard.simulators.vec_state import normalisation

if TYPE_CHECKING:
    from stable_baselines3.common.vec_env import VecEnv

WEIGHTS, STATISTICS = "best.safetensors", "best-normalisation.npz"


@dataclass(frozen=True)
class Kept:
    """One of the best policies."""

    step: int
    mean_return: float
    weights: Tensors
    statistics: Arrays | None

    def to_json(self) -> JsonObject:
        """The step and the score."""
        return {"step": self.step, "mean_return": self.mean_return}

    def files(self, weights: str, statistics: str) -> dict[str, bytes]:
        """Name -> content."""
        files = {weights: save_tensors(self.weights)}
        if self.statistics is not None:
            files[statistics] = npz_bytes(self.statistics)
        return files


class BestPolicies:
    """Keeps the policy with the highest mean return, and the k best; of equals, the first.

    Args:
        k: Length of the list; 0 for none.
    """

    def __init__(self, k: int) -> None:
        self._k = k
        self.best: Kept | None = None
        """None before the first evaluation."""
        self._top: list[Kept] = []
        self._stored = False

    def offer(self, mean_return: float, step: int, model: HasPolicy, venv: VecEnv | None) -> None:
        """Take a policy if it is one of the best so far."""
        better = self.best is None or mean_return > self.best.mean_return
        listed = len(self._top) < self._k or (self._k and mean_return > self._top[-1].mean_return)
        if not better and not listed:
            return
        kept = Kept(step, mean_return, weights(model), normalisation(venv))
        if better:
            self.best, self._stored = kept, False
        if listed:
            ranked = sorted([*self._top, kept], key=lambda each: (-each.mean_return, each.step))
            self._top = ranked[: self._k]

    def best_json(self) -> JsonObject | None:
        """The step and the score of the best."""
        return None if self.best is None else self.best.to_json()

    def top_json(self) -> list[JsonObject]:
        """The steps and scores of the list, best first."""
        return [kept.to_json() for kept in self._top]

    def summary(self) -> JsonObject:
        """Both, for the summary of a run."""
        return {"best": self.best_json(), **({"top": [*self.top_json()]} if self._top else {})}

    def checkpoint_files(self, stored: Mapping[str, FileEntry]) -> dict[str, bytes | FileEntry]:
        """Files for a checkpoint; stored files are referenced, not written again."""
        files: dict[str, bytes | FileEntry] = {}
        if self.best is not None and self._stored:
            files |= {n: stored[n] for n in (WEIGHTS, STATISTICS) if n in stored}
        elif self.best is not None:
            files |= self.best.files(WEIGHTS, STATISTICS)
            self._stored = True
        for kept in self._top:
            names = _names(kept.step)
            if names[0] in stored:
                files |= {n: stored[n] for n in names if n in stored}
            else:
                files |= kept.files(*names)
        return files

    def load(self, tree: State, files: Mapping[str, bytes]) -> None:
        """Load the policies of a checkpoint.

        Args:
            tree: Its content; older ones have no ``top``.
            files: Its files.

        Raises:
            CorruptObject: A policy has no step, no score or no weights.
        """
        if tree["best"] is not None:
            self.best, self._stored = _read(tree["best"], files, WEIGHTS, STATISTICS), True
        for record in tree.get("top", ()):
            self._top.append(_read(record, files, *_names(record.get("step"))))

    def result_files(self) -> dict[str, bytes]:
        """Files of the list, named with step and return."""
        files: dict[str, bytes] = {}
        for kept in self._top:
            stem = f"policy/top/step-{kept.step}-return-{kept.mean_return:.6g}"
            files |= kept.files(f"{stem}.safetensors", f"{stem}.npz")
        return files


def _names(step: object) -> tuple[str, str]:
    stem = f"top-{step:012d}" if isinstance(step, int) else "top"
    return f"{stem}.safetensors", f"{stem}.npz"


def _read(record: JsonObject, files: Mapping[str, bytes], weights: str, statistics: str) -> Kept:
    step, score = record.get("step"), record.get("mean_return")
    if not isinstance(step, int) or not isinstance(score, int | float):
        raise CorruptObject(f"a best policy in the checkpoint has no step or no return: {record}")
    if weights not in files:
        raise CorruptObject(f"{weights} is missing from the checkpoint")
    arrays = npz_arrays(files[statistics]) if statistics in files else None
    return Kept(step, float(score), load_tensors(files[weights]), arrays)
