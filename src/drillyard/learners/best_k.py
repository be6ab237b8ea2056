"""The k best policies of a training by its evaluations, also over resumes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors

from drillyard.agents.packing import npz_arrays, npz_bytes
from drillyard.learners.sb3_state import weights
from drillyard.mailbox.records import FileEntry
from drillyard.simulators.vec_state import normalisation


@dataclass(frozen=True)
class Kept:
    """One of them."""

    step: int
    mean_return: float
    weights: dict[str, torch.Tensor]
    statistics: dict[str, np.ndarray] | None

    def files(self, stem: str) -> dict[str, bytes]:
        """Name -> content."""
        found = {f"{stem}.safetensors": save_tensors(self.weights)}
        if self.statistics is not None:
            found[f"{stem}.npz"] = npz_bytes(self.statistics)
        return found


class BestPolicies:
    """Keeps the best k; of equals, the first.

    Args:
        k: How many; 0 for none.
    """

    def __init__(self, k: int) -> None:
        self._k = k
        self.kept: list[Kept] = []

    def offer(self, mean_return: float, step: int, model: Any, venv: Any) -> None:
        """Take a policy when it is one of the best so far."""
        if self._k and (len(self.kept) < self._k or mean_return > self.kept[-1].mean_return):
            self.kept.append(Kept(step, mean_return, weights(model), normalisation(venv)))
            self.kept = sorted(self.kept, key=lambda one: (-one.mean_return, one.step))[: self._k]

    def to_json(self) -> list[dict[str, Any]]:
        """Steps and scores, best first."""
        return [{"step": one.step, "mean_return": one.mean_return} for one in self.kept]

    def checkpoint_files(self, stored: Mapping[str, FileEntry]) -> dict[str, bytes | FileEntry]:
        """Files for a checkpoint: those that are stored already are named, not written again."""
        found: dict[str, bytes | FileEntry] = {}
        for one in self.kept:
            stem = f"top-{one.step:012d}"
            if f"{stem}.safetensors" in stored:
                found |= {n: e for n, e in stored.items() if n.rpartition(".")[0] == stem}
            else:
                found |= one.files(stem)
        return found

    def load(self, text: list[dict[str, Any]], files: Mapping[str, bytes]) -> None:
        """Go on from a checkpoint."""
        for one in text:
            stem = f"top-{int(one['step']):012d}"
            arrays = files.get(f"{stem}.npz")
            statistics = None if arrays is None else npz_arrays(arrays)
            tensors = load_tensors(files[f"{stem}.safetensors"])
            self.kept.append(
                Kept(int(one["step"]), float(one["mean_return"]), tensors, statistics)
            )

    def result_files(self) -> dict[str, bytes]:
        """Files of the result, named with step and return."""
        found: dict[str, bytes] = {}
        for one in self.kept:
            found |= one.files(f"policy/top/step-{one.step}-return-{one.mean_return:.6g}")
        return found
