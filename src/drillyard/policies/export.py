"""``drillyard export``: from a trained run to a self-contained bundle."""

from __future__ import annotations

import importlib.util
import json
import tempfile
import warnings
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from gymnasium import spaces
from stable_baselines3.common.policies import BasePolicy
from stable_baselines3.common.vec_env import VecEnv, VecNormalize
from stable_baselines3.common.vec_env.base_vec_env import VecEnvObs

from drillyard.agents.base import LEARNER_FILE, SPACES_FILE
from drillyard.agents.spaces import space_from_json
from drillyard.agents.trained import Trained
from drillyard.documents.json_types import JsonObject
from drillyard.errors import PluginError, RunFailed, UserError
from drillyard.evaluation.episodes import lesson_of
from drillyard.policies import assess, bundles
from drillyard.policies.best_run import Choice
from drillyard.policies.bundles import Described, Facts
from drillyard.policies.card import model_card
from drillyard.policies.channels import channels_of
from drillyard.policies.loaded import of_run
from drillyard.policies.network import Plain
from drillyard.results.model import ExperimentResults
from drillyard.simulators.make_copies import make_vec
from drillyard.simulators.types import Observation
from drillyard.simulators.vec_state import freeze_normalisation, load_normalisation
from drillyard.spec.algorithms.engines import SBX
from drillyard.system.optional_packages import install
from drillyard.system.version import VERSION

Format = Literal["onnx", "safetensors"]
CHECKED = 1000
"""Real observations on which both are compared."""
TOLERANCE = 1e-5
"""Largest difference of an action, in units of half its range."""
OPSET = 18
FRESH_SEED = 0
"""Seed of the episodes in a model card; `evaluate` and `promote` begin with 1."""


@dataclass(frozen=True)
class Exported:
    """The result of ``export``."""

    folder: Path
    files: list[str]
    checked: int
    """Observations that were compared."""
    largest_difference: float | None
    """Largest difference of an action, in units of half its range; None if not converted."""


def export(
    trained: Trained,
    format_: Format,
    folder: Path,
    results: ExperimentResults | None = None,
    chosen: Choice | None = None,
) -> Exported:
    """Write a bundle.

    Args:
        trained: The policy.
        format_: ``onnx`` (normalisation and action scaling are in it), or ``safetensors`` (the
            weights as they are, for drillyard and torch).
        folder: Folder to create.
        results: Results of its experiment, for the model card; None while there are none.
        chosen: How its run was chosen; of several, it plays fresh episodes for the model card.

    Raises:
        UserError: It cannot be exported in this format; names the reason or the missing packages.
        RunFailed: The exported policy does not act as the trained one.
    """
    assert trained.spec.simulator is not None
    described = _described(trained)
    # The weights in every bundle: a training can begin with it.
    files = dict(trained.files)
    difference, checked = None, 0
    if format_ == "onnx":
        _must_have_onnx()
        plain = Plain(_network(trained), trained.policy.normalisation)
        described |= {
            "noise": plain.signature.noise
            and {"kind": plain.signature.noise, "size": plain.signature.noise_size},
            "memory": plain.signature.memory,
            "masks": plain.signature.masks,
        }
        loader = Path(__file__).with_name("act.py").read_bytes()
        files |= {"policy.onnx": to_onnx(plain), "act.py": loader}
    files[SPACES_FILE] = json.dumps(described, indent=1, ensure_ascii=False).encode()
    if format_ == "onnx":
        difference, checked = compare(trained, files), CHECKED
        if not difference < TOLERANCE:
            raise RunFailed(
                f"the exported policy differs by {difference:.2g} of half the action's range on "
                f"{checked:,} observations, where {TOLERANCE:g} is allowed",
                hint="use --format safetensors, and report this as a bug",
            )
    facts: Facts = {
        "format": format_,
        "drillyard": VERSION,
        "experiment": trained.experiment,
        "run": trained.run,
        "policy": trained.which,
        "step": trained.step,
        "algorithm": trained.algorithm,
        "seed": trained.seed,
        "checked": checked,
        "largest_difference": difference,
        "lesson": dict(lesson_of(trained.spec)),
        "simulator": trained.spec.simulator.model_dump(mode="json"),
    }
    if chosen is not None and chosen.of > 1:
        facts["chosen"] = {"of": chosen.of, "fresh": _on_fresh_episodes(trained)}
    files["README.md"] = model_card(trained, facts, described, results).encode()
    bundles.write(folder, files, facts)
    return Exported(folder, sorted([*files, bundles.INDEX]), checked, difference)


def _described(trained: Trained) -> Described:
    """The spaces of a policy, with the names and units of their values."""
    assert trained.spec.simulator is not None
    stored: Described = json.loads(trained.files[SPACES_FILE])
    channels = channels_of(trained.spec.simulator, space_from_json(stored["observation"]))
    named = {kind: [c.to_json() for c in listed] for kind, listed in channels.items()}
    return {**stored, "schema_version": 2, "channels": named}


def _network(trained: Trained) -> BasePolicy:
    """The network of a policy, which only a torch module can be exported from."""
    network = getattr(getattr(trained.policy, "act", None), "policy", None)
    engine = json.loads(trained.files[LEARNER_FILE]).get("engine")
    if engine == SBX or not isinstance(network, torch.nn.Module):
        raise UserError(
            f"the policy of {trained.algorithm} is not a torch module"
            f"{f' (engine: {engine})' if engine else ''}, and only torch modules "
            "are exported to ONNX",
            hint="use --format safetensors",
        )
    return network


def _on_fresh_episodes(trained: Trained) -> JsonObject:
    """Plays episodes that chose nothing: the number that chose a policy is biased upwards."""
    policy = of_run(trained)
    planned = assess.plan(policy.lesson, trained.spec.evaluate.episodes, FRESH_SEED)
    return assess.summary(assess.play(policy, planned), policy.lesson)


def to_onnx(plain: Plain) -> bytes:
    """The function as an ONNX model whose batch may have any size.

    Raises:
        UserError: The network has a part that ONNX does not know.
    """
    inputs, names = _example(plain)
    outputs = ["action"] + (["hidden_out", "cell_out"] if plain.signature.memory else [])
    along = {n: {int(n.startswith(("hidden", "cell"))): "batch"} for n in names + outputs}
    plain.eval()
    try:
        with (
            tempfile.TemporaryDirectory(prefix="drillyard-export-") as scratch,
            warnings.catch_warnings(),
            torch.no_grad(),
        ):
            file = Path(scratch, "policy.onnx")
            # The exporter by tracing: a policy has no branch that depends on its input.
            warnings.simplefilter("ignore")
            torch.onnx.export(
                plain,
                tuple(inputs),
                file,
                input_names=names,
                output_names=outputs,
                dynamic_axes=along,
                opset_version=OPSET,
                dynamo=False,
            )
            return file.read_bytes()
    except Exception as error:
        raise UserError(
            f"the network cannot be written as ONNX: {error}", hint="use --format safetensors"
        ) from error


def _must_have_onnx() -> None:
    if any(importlib.util.find_spec(name) is None for name in ("onnx", "onnxruntime")):
        raise PluginError(
            "exporting to ONNX needs packages that are not installed",
            hint=f"{install('export')}, or use --format safetensors",
        )


def _example(plain: Plain) -> tuple[list[torch.Tensor], list[str]]:
    space = plain.policy.observation_space
    parts = space.spaces if isinstance(space, spaces.Dict) else {"": space}
    names = [f"observation.{key}".rstrip(".") for key in parts]
    inputs = [_zeros(part) for part in parts.values()]
    signature = plain.signature
    if signature.noise is not None:
        names.append("noise")
        inputs.append(torch.zeros(2, signature.noise_size))
    if signature.memory is not None:
        names += ["hidden", "cell"]
        inputs += [torch.zeros(signature.memory[0], 2, signature.memory[1]) for _ in range(2)]
    if signature.masks is not None:
        names.append("masks")
        inputs.append(torch.ones(2, signature.masks))
    return inputs, names


def _zeros(space: spaces.Space[Observation]) -> torch.Tensor:
    if isinstance(space, spaces.Box):
        kind = torch.uint8 if space.dtype == np.uint8 else torch.float32
        return torch.zeros((2, *space.shape), dtype=kind)
    if isinstance(space, spaces.MultiBinary):
        return torch.zeros((2, *(space.shape or ())))
    return torch.zeros((2, *(space.shape or ())), dtype=torch.int64)


def compare(trained: Trained, files: dict[str, bytes]) -> float:
    """Plays with the trained policy, and compares the exported one's action at every step.

    Args:
        trained: The policy.
        files: ``policy.onnx`` and ``spaces.json`` of its bundle.

    Returns:
        The largest difference of an action over ``CHECKED`` steps, in units of half its range; of
        choices, 1 where one differs.
    """
    from drillyard.policies.act import Policy

    assert trained.spec.simulator is not None
    with tempfile.TemporaryDirectory(prefix="drillyard-export-") as scratch:
        for name in ("policy.onnx", SPACES_FILE):
            Path(scratch, name).write_bytes(files[name])
        exported = Policy(scratch)
    # With the training's lesson: the observations that it will meet.
    venv = make_vec(trained.spec.simulator, 1, trained.seed)
    try:
        if trained.policy.normalisation is not None:
            load_normalisation(venv, trained.policy.normalisation)
        freeze_normalisation(venv)
        playing = trained.policy.playing(True)
        playing.bind(venv)
        seen, largest = venv.reset(), 0.0
        playing.begin(0)
        for _ in range(CHECKED):
            raw = _raw(venv, seen)
            observation = {k: v[0] for k, v in raw.items()} if isinstance(raw, dict) else raw[0]
            masks = None
            if exported.spaces["masks"]:
                masks = venv.env_method("action_masks")[0]
            other = np.asarray(exported.act(observation, masks=masks))
            action = playing.act(seen)
            largest = max(largest, _apart(action[0], other, venv.action_space))
            seen, _, dones, _ = venv.step(action)
            if dones[0]:
                playing.begin(0)
                exported.begin()
        return largest
    finally:
        venv.close()


def _raw(venv: VecEnv, seen: VecEnvObs) -> VecEnvObs:
    """The observations before the normalisation, which is the outermost layer."""
    return venv.get_original_obs() if isinstance(venv, VecNormalize) else seen


def _apart(one: np.ndarray, other: np.ndarray, space: spaces.Space[Observation]) -> float:
    if isinstance(space, spaces.Box):
        half = np.maximum((space.high - space.low) / 2.0, 1e-12)
        return float(np.abs((one - other) / half).max())
    return float(np.any(one != other))


def to_json(made: Exported) -> JsonObject:
    """For programs."""
    return {**asdict(made), "folder": str(made.folder)}
