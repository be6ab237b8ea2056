"""A stored policy, ready to play: a run's, or a bundle's."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from drillyard.agents.base import SPACES_FILE, load_policy
from drillyard.agents.spaces import space_from_json, space_to_json
from drillyard.agents.trained import Trained
from drillyard.documents.json_types import JsonObject
from drillyard.documents.space_text import space_text
from drillyard.errors import SpaceMismatch
from drillyard.evaluation.episodes import BatchPolicy, lesson_of
from drillyard.policies import bundles
from drillyard.simulators.make_copies import make_vec
from drillyard.simulators.types import Options
from drillyard.spec.learning import SimulatorSpec

if TYPE_CHECKING:
    from stable_baselines3.common.vec_env import VecEnv
    from stable_baselines3.common.vec_env.base_vec_env import VecEnvObs


@dataclass(frozen=True)
class LoadedBundle:
    """A policy that acts in a simulator."""

    name: str
    simulator: SimulatorSpec
    """Simulator of its training, with the wrappers between it and the policy."""
    lesson: JsonObject
    """Lesson of its evaluation."""
    observation: JsonObject
    action: JsonObject
    """Its spaces, as JSON."""
    normalisation: Mapping[str, np.ndarray] | None
    player: Callable[[bool], BatchPolicy]
    """Makes a new ``BatchPolicy`` from ``deterministic``."""

    def must_fit(self, simulator: SimulatorSpec) -> None:
        """Refuse a simulator of other spaces.

        Raises:
            SpaceMismatch: With both.
        """
        venv = make_vec(simulator, 1, 0, training=False)
        try:
            for what in ("observation", "action"):
                then_json, now = getattr(self, what), getattr(venv, f"{what}_space")
                if then_json != space_to_json(now) and "Image" not in type(venv).__name__:
                    then = space_text(space_from_json(then_json))
                    raise SpaceMismatch(
                        f"{self.name} has the {what} space {then}, and "
                        f"{simulator.id} has {space_text(now)}",
                        field="--simulator",
                        allowed=then,
                        hint="name a simulator of the same spaces",
                    )
        finally:
            venv.close()


def of_run(trained: Trained) -> LoadedBundle:
    """The policy of a run."""
    assert trained.spec.simulator is not None
    spaces = json.loads(trained.files[SPACES_FILE])
    return LoadedBundle(
        f"{trained.experiment}/{trained.run}",
        trained.spec.simulator,
        dict(lesson_of(trained.spec)),
        spaces["observation"],
        spaces["action"],
        trained.policy.normalisation,
        trained.policy.playing,
    )


def of_bundle(folder: Path) -> LoadedBundle:
    """The policy of a bundle, whose hashes are compared.

    Raises:
        NotFound, CorruptObject: See ``bundles.read``.
    """
    index, files = bundles.read(folder)
    simulator = SimulatorSpec.model_validate(index["simulator"])
    spaces = json.loads(files[SPACES_FILE])
    normalisation, player = None, None
    if index["format"] == "safetensors":
        which = "best" if "policy_best.safetensors" in files else "final"
        policy = load_policy(files, which)  # type: ignore[arg-type]
        normalisation, player = policy.normalisation, policy.playing
    else:
        kept = [w for w in simulator.wrappers if w.name != "normalize"]  # it is in the model
        simulator = simulator.model_copy(update={"wrappers": kept})

        def player(deterministic: bool) -> BatchPolicy:
            return _Onnx(folder, deterministic)

    return LoadedBundle(
        index["experiment"] + "/" + index["run"],
        simulator,
        index["lesson"],
        spaces["observation"],
        spaces["action"],
        normalisation,
        player,
    )


class _Onnx:
    """A ``BatchPolicy`` of an ONNX bundle."""

    def __init__(self, folder: Path, deterministic: bool) -> None:
        from drillyard.policies.act import Policy

        self._policy, self._deterministic = Policy(folder), deterministic
        self._rng = np.random.default_rng(0)
        self._venv: VecEnv | None = None

    def bind(self, venv: VecEnv) -> None:
        """The copies that it acts in."""
        self._venv = venv
        self._policy.begin()

    def begin(self, copy: int, seed: int, options: Options) -> None:
        """An episode begins in a copy."""
        self._policy.begin(copy)

    def act(self, observations: VecEnvObs) -> np.ndarray:
        """Actions of all copies."""
        masks = None
        if self._policy.spaces["masks"]:
            assert self._venv is not None
            masks = np.stack(self._venv.env_method("action_masks"))
        return np.asarray(self._policy.act(observations, self._deterministic, self._rng, masks))
