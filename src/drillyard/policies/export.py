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
from drillyard.policies.channels import channels_of, plant_of
from drillyard.policies.compared import Compared, compare
from drillyard.policies.loaded import of_run
from drillyard.policies.network import Plain
from drillyard.results.model import ExperimentResults
from drillyard.simulators.types import Observation
from drillyard.spec.algorithms.engines import SBX
from drillyard.system.optional_packages import install
from drillyard.system.version import VERSION

Format = Literal["onnx", "c", "safetensors"]
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
    c_difference: float | None = None
    """The same for the C program; None if there is none, or no compiler here."""


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
        format_: ``onnx`` (normalisation and action scaling are in it), ``c`` (the same, and a C99
            program), or ``safetensors`` (the weights as they are, for drillyard and torch).
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
    compared = Compared()
    if format_ != "safetensors":
        _must_have_onnx()
        described |= _plant(trained, described)
        plain = Plain(_network(trained), trained.policy.normalisation)
        described |= {
            "noise": plain.signature.noise
            and {"kind": plain.signature.noise, "size": plain.signature.noise_size},
            "memory": plain.signature.memory,
            "masks": plain.signature.masks,
        }
        loader = Path(__file__).with_name("act.py").read_bytes()
        files |= {"policy.onnx": to_onnx(plain), "act.py": loader}
    if format_ == "c":
        from drillyard.policies.c_code import c_files

        files |= c_files(files["policy.onnx"], described, _about(trained))
    files[SPACES_FILE] = json.dumps(described, indent=1, ensure_ascii=False).encode()
    if format_ != "safetensors":
        compared = compare(trained, files, described)
        if not compared.largest < TOLERANCE:
            raise RunFailed(
                f"the exported policy differs by {compared.largest:.2g} of half the action's "
                f"range on {compared.checked:,} observations, where {TOLERANCE:g} is allowed",
                hint="use --format safetensors, and report this as a bug",
            )
        if vectors := compared.csv(described):
            files["test_vectors.csv"] = vectors
    facts: Facts = {
        "format": "onnx" if format_ == "c" else format_,
        "drillyard": VERSION,
        "experiment": trained.experiment,
        "run": trained.run,
        "policy": trained.which,
        "step": trained.step,
        "algorithm": trained.algorithm,
        "seed": trained.seed,
        "checked": compared.checked,
        "largest_difference": compared.onnx,
        "seen": compared.ranges(described),
        "lesson": dict(lesson_of(trained.spec)),
        "simulator": trained.spec.simulator.model_dump(mode="json"),
    }
    if format_ == "c":
        facts["c_difference"] = compared.c
    if chosen is not None and chosen.of > 1:
        facts["chosen"] = {"of": chosen.of, "fresh": _on_fresh_episodes(trained)}
    files["README.md"] = model_card(trained, facts, described, results).encode()
    bundles.write(folder, files, facts)
    names = sorted([*files, bundles.INDEX])
    return Exported(folder, names, compared.checked, compared.onnx, compared.c)


def _about(trained: Trained) -> str:
    return (
        f"{trained.algorithm} of the experiment {trained.experiment}, run {trained.run}, "
        f"{trained.which} policy after {trained.step:,} steps."
    )


def _described(trained: Trained) -> Described:
    """The spaces of a policy, with the names and units of their values."""
    assert trained.spec.simulator is not None
    stored: Described = json.loads(trained.files[SPACES_FILE])
    channels = channels_of(trained.spec.simulator, space_from_json(stored["observation"]))
    named = {kind: [c.to_json() for c in listed] for kind, listed in channels.items()}
    return {**stored, "schema_version": 2, "channels": named}


def _plant(trained: Trained, described: Described) -> Described:
    from drillyard.policies.c_loader import units

    assert trained.spec.simulator is not None
    plant = plant_of(trained.spec.simulator)
    hold = plant["hold"]
    if hold is not None:
        same = len(hold) == len(described["channels"]["action"])  # a wrapper may change actions
        hold = units(np.array(hold), described, "action").tolist() if same else None
    return {"step_s": plant["step_s"], "hold": hold}


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


def to_json(made: Exported) -> JsonObject:
    """For programs."""
    return {**asdict(made), "folder": str(made.folder)}
