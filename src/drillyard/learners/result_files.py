"""The files of a finished training, by their names in the manifest of ``train``."""

from __future__ import annotations

import io
import json
from typing import TYPE_CHECKING

from safetensors.torch import save as save_tensors

from drillyard.agents.base import LEARNER_FILE, SPACES_FILE
from drillyard.agents.packing import npz_bytes
from drillyard.documents.json_types import JsonObject
from drillyard.learners.best import BestPolicies
from drillyard.learners.resumable import spaces_of
from drillyard.learners.sb3_state import weights
from drillyard.learners.types import Arrays, Tensors
from drillyard.simulators.vec_state import normalisation
from drillyard.spec.learning import LearnerSpec

if TYPE_CHECKING:
    from stable_baselines3.common.base_class import BaseAlgorithm
    from stable_baselines3.common.vec_env import VecEnv

SCHEMA_VERSION = 1
SB3 = "stable-baselines3"


def result_files(
    model: BaseAlgorithm,
    venv: VecEnv | None,
    best: BestPolicies,
    learner: LearnerSpec,
    policy: str,
) -> dict[str, bytes]:
    """All files except the event files.

    Args:
        model: The trained SB3 algorithm, or RLlib's ``Model``.
        venv: Its simulators, for the normalisation; None without one.
        best: The best policies of the evaluations while training; none without evaluations.
        learner: The learner of the experiment file.
        policy: Name of the chosen policy.

    Returns:
        Name -> content. ``*.zip`` are only for other tools; drillyard never reads one. They are
        not written for SBX, where they would hold pickled code, and for RLlib, which has none.
    """
    final, library = weights(model), getattr(model, "library", SB3)
    files = _policy("final", final, normalisation(venv))
    files[LEARNER_FILE] = _json(
        {
            "schema_version": SCHEMA_VERSION,
            "library": library,
            "algorithm": learner.algorithm,
            "policy": policy,
            "args": learner.args,
            **({} if learner.engine == "sb3" else {"engine": learner.engine}),
        }
    )
    files[SPACES_FILE] = _json({"schema_version": SCHEMA_VERSION, **spaces_of(model)})
    if library == SB3:
        files["final_model.zip"] = _zip(model)
    kept = best.best
    if kept is not None:
        files |= _policy("best", kept.weights, kept.statistics)
    if kept is not None and library == SB3:
        steps = model.num_timesteps
        model.policy.load_state_dict(kept.weights)
        model.num_timesteps = kept.step
        files["best_model.zip"] = _zip(model)
        model.policy.load_state_dict(final)
        model.num_timesteps = steps
    return files | best.result_files()


def _policy(which: str, tensors: Tensors, statistics: Arrays | None) -> dict[str, bytes]:
    files = {f"policy_{which}.safetensors": save_tensors(tensors)}
    if statistics is not None:
        files[f"normalisation_{which}.npz"] = npz_bytes(statistics)
    return files


def _zip(model: BaseAlgorithm) -> bytes:
    # Into memory first: SB3 truncates the file before it has serialised anything.
    file = io.BytesIO()
    model.save(file)
    return file.getvalue()


def _json(value: JsonObject) -> bytes:
    return json.dumps(value, indent=1, sort_keys=True).encode()
