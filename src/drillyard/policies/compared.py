"""Compares an exported policy with the trained one, in episodes that the trained one plays."""

from __future__ import annotations

import csv
import io
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from gymnasium import spaces
from stable_baselines3.common.vec_env import VecEnv, VecNormalize
from stable_baselines3.common.vec_env.base_vec_env import VecEnvObs

from drillyard.agents.base import SPACES_FILE
from drillyard.agents.trained import Trained
from drillyard.policies.bundles import Described
from drillyard.simulators.make_copies import make_vec
from drillyard.simulators.types import Observation
from drillyard.simulators.vec_state import freeze_normalisation, load_normalisation

CHECKED = 1000
"""Real observations on which both are compared."""
VECTORS = 100
"""Steps in the file of test vectors."""


@dataclass
class Compared:
    """What a comparison found; differences in units of half the action's range."""

    checked: int = 0
    onnx: float | None = None
    c: float | None = None
    seen: list[np.ndarray] = field(default_factory=list)
    """Observations in the units of their channels."""
    done: list[np.ndarray] = field(default_factory=list)
    """The trained policy's actions, in theirs."""
    begins: list[int] = field(default_factory=list)
    """1 for the first step of an episode."""

    @property
    def largest(self) -> float:
        """The largest difference of all programs."""
        return float(np.maximum(self.onnx or 0.0, self.c or 0.0))

    def ranges(self, described: Described) -> dict[str, tuple[float, float]]:
        """Channel of the observation -> the smallest and the largest value that was seen."""
        if not self.seen:
            return {}
        low, high = np.min(self.seen, axis=0), np.max(self.seen, axis=0)
        names = [c["name"] for c in described["channels"]["observation"]]
        return {n: (float(a), float(b)) for n, a, b in zip(names, low, high, strict=True)}

    def csv(self, described: Described) -> bytes | None:
        """The first steps by name, in units; None without names, or with masks."""
        channels = described["channels"]
        if not self.seen or described.get("masks"):
            return None
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        kinds = ("observation", "action")
        writer.writerow(["begin", *(c["name"] for kind in kinds for c in channels[kind])])
        rows = zip(self.begins, self.seen, self.done, strict=True)
        for begin, seen, done in list(rows)[:VECTORS]:
            writer.writerow([begin, *map(repr, seen.tolist()), *map(repr, done.tolist())])
        return text.getvalue().encode()


def compare(trained: Trained, files: dict[str, bytes], described: Described) -> Compared:
    """Plays with the trained policy, and compares the exported one's action at every step.

    Args:
        trained: The policy.
        files: ``policy.onnx`` and ``spaces.json`` of its bundle; with ``policy.c``, that too where
            a C compiler is here.
        described: ``spaces.json``.
    """
    from drillyard.policies.act import Policy
    from drillyard.policies.c_code import HEADER, SOURCE
    from drillyard.policies.c_loader import CompiledPolicy, compiler

    assert trained.spec.simulator is not None
    programs: dict[str, Any] = {}
    with tempfile.TemporaryDirectory(prefix="drillyard-export-") as scratch:
        for name in {"policy.onnx", SPACES_FILE, SOURCE, HEADER} & files.keys():
            Path(scratch, name).write_bytes(files[name])
        programs["onnx"] = Policy(scratch)
        if SOURCE in files and (command := compiler()):
            programs["c"] = CompiledPolicy(Path(scratch), described, command)
    # With the training's lesson: the observations that it will meet.
    venv = make_vec(trained.spec.simulator, 1, trained.seed)
    try:
        if trained.policy.normalisation is not None:
            load_normalisation(venv, trained.policy.normalisation)
        freeze_normalisation(venv)
        return _played(trained, venv, programs, described)
    finally:
        venv.close()


def _played(
    trained: Trained, venv: VecEnv, programs: dict[str, Any], described: Described
) -> Compared:
    from drillyard.policies.c_loader import units

    compared = Compared(CHECKED, 0.0, 0.0 if "c" in programs else None)
    named = bool(described["channels"]["observation"]) and bool(described["channels"]["action"])
    playing = trained.policy.playing(True)
    playing.bind(venv)
    seen, begins = venv.reset(), 1
    playing.begin(0)
    for _ in range(CHECKED):
        observation = _first(_raw(venv, seen))
        masks = venv.env_method("action_masks")[0] if described.get("masks") else None
        action = playing.act(seen)
        for kind, program in programs.items():
            other = np.asarray(program.act(observation, masks=masks))
            apart = _apart(action[0], other, venv.action_space)
            # Not max(), which prefers any number to NaN.
            setattr(compared, kind, float(np.maximum(getattr(compared, kind), apart)))
        if named:
            compared.seen.append(units(observation, described))
            compared.done.append(units(action[0], described, "action"))
            compared.begins.append(begins)
        seen, _, dones, _ = venv.step(action)
        begins = int(dones[0])
        if begins:
            playing.begin(0)
            for program in programs.values():
                program.begin()
    return compared


def _raw(venv: VecEnv, seen: VecEnvObs) -> VecEnvObs:
    """The observations before the normalisation, which is the outermost layer."""
    return venv.get_original_obs() if isinstance(venv, VecNormalize) else seen


def _first(batch: Any) -> Any:
    return {k: v[0] for k, v in batch.items()} if isinstance(batch, dict) else batch[0]


def _apart(one: np.ndarray, other: np.ndarray, space: spaces.Space[Observation]) -> float:
    if isinstance(space, spaces.Box):
        half = np.maximum((space.high - space.low) / 2.0, 1e-12)
        return float(np.abs((one - other) / half).max())
    return float(np.any(one != other))
