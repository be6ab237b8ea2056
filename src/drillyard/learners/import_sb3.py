"""``drillyard import``: a zip of Stable-Baselines3 as a bundle, without loading its pickles.

Such a zip has its tensors in ``policy.pth`` and everything else pickled in ``data``. Only the
tensors are read, by torch's own reader of plain tensors; the user states algorithm, network and
simulator.
"""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import save as save_tensors

from drillyard.agents.base import LEARNER_FILE, SPACES_FILE
from drillyard.documents.files import beside
from drillyard.documents.json_types import Json
from drillyard.errors import ConfigError, NotFound
from drillyard.learners import sb3_build
from drillyard.learners.resumable import spaces_of
from drillyard.learners.sb3_state import other_shapes
from drillyard.policies import bundles
from drillyard.policies.channels import channels_of
from drillyard.simulators.make_copies import make_vec
from drillyard.spec.algorithms.arguments import Sizes, validate_arguments
from drillyard.spec.algorithms.networks import auto_policy, check_spaces
from drillyard.spec.learning import SimulatorSpec
from drillyard.system.version import VERSION

_TENSORS = "policy.pth"
MAX_MEMBERS = 1000
"""Files in a zip; Stable-Baselines3 writes fewer than ten, and torch one a tensor."""
MAX_BYTES = 2 * 10**9
"""Unpacked size of a zip."""
MAX_RATIO = 20
"""Unpacked size by size on disk. Both libraries store without compression; weights are nearly
random, so that another program's compression gains little."""


def import_zip(
    path: Path, algorithm: str, simulator: SimulatorSpec, args: Mapping[str, Json], folder: Path
) -> None:
    """Write a safetensors bundle.

    Args:
        path: The zip.
        algorithm: The algorithm that trained it.
        simulator: The simulator that it acts in, with its wrappers.
        args: ``learner.args``; its ``policy_kwargs`` describe the network.
        folder: The folder to create.

    Raises:
        NotFound: There is no file.
        UserError: The folder already exists, or cannot be created.
        ConfigError: It is not such a zip, or has another network; names the first tensor.
        SpaceMismatch: The algorithm cannot act in this simulator.
    """
    bundles.must_be_new(folder)
    tensors = _tensors(path)
    validate_arguments(algorithm, args, Sizes(1))
    venv = make_vec(simulator, 1, 0, training=False)
    try:
        observation, action = venv.observation_space, venv.action_space
        check_spaces(algorithm, None, args, observation, action)
        model = sb3_build.build(algorithm, None, args, venv, None, "cpu")
    finally:
        venv.close()
    for name, now, then in other_shapes(model.policy.state_dict(), tensors):
        raise ConfigError(
            f"has another network: {name} is {then} in the file, and {now} in {algorithm} on "
            f"{simulator.id}",
            file=str(path),
            allowed="the algorithm, simulator and policy_kwargs that it was trained with",
            hint="name them with --algorithm, --simulator and --args '{policy_kwargs: {…}}'",
        )
    channels = channels_of(simulator, model.observation_space)
    spaces = {
        "schema_version": 1,
        **spaces_of(model),
        "channels": {kind: [c.to_json() for c in listed] for kind, listed in channels.items()},
    }
    described = {
        "schema_version": 1,
        "library": "stable-baselines3",
        "algorithm": algorithm,
        "policy": auto_policy(observation, algorithm),
        "args": dict(args),
    }
    files = {
        LEARNER_FILE: json.dumps(described, indent=1).encode(),
        SPACES_FILE: json.dumps(spaces, indent=1, ensure_ascii=False).encode(),
        "policy_final.safetensors": save_tensors(
            {n: t.contiguous().clone() for n, t in tensors.items()}
        ),
    }
    bundles.write(folder, files, _facts(path.stem, algorithm, simulator))


def _facts(run: str, algorithm: str, simulator: SimulatorSpec) -> bundles.Facts:
    return {
        "format": "safetensors",
        "drillyard": VERSION,
        "experiment": "imported",
        "run": run,
        "policy": "final",
        "step": 0,
        "algorithm": algorithm,
        "seed": None,
        "simulator": simulator.model_dump(mode="json"),
        "lesson": {},
    }


def _tensors(path: Path) -> dict[str, torch.Tensor]:
    if not path.is_file():
        raise NotFound(f"there is no file {path}", hint=beside(path, str(path)))
    try:
        with zipfile.ZipFile(path) as archive:
            _must_be_bounded(archive, path.stat().st_size, path, "")
            data = archive.read(_TENSORS)
        # It is a zip as well, which torch unpacks without a limit.
        with zipfile.ZipFile(io.BytesIO(data)) as inner:
            _must_be_bounded(inner, len(data), path, f"{_TENSORS} ")
        tensors = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except ConfigError:
        raise
    except (zipfile.BadZipFile, KeyError, RuntimeError, ValueError) as error:
        raise _refused(path, error) from error
    except Exception as error:
        # Torch's own message advises to load the pickles in it.
        raise _refused(path, f"{_TENSORS} is damaged, or pickles more than tensors") from error
    if not isinstance(tensors, dict) or not all(
        isinstance(t, torch.Tensor) for t in tensors.values()
    ):
        raise _refused(path, "not a mapping of tensors")
    return tensors


def _must_be_bounded(archive: zipfile.ZipFile, packed: int, path: Path, what: str) -> None:
    """Raises ConfigError for a zip that unpacks to far more than it is, before it does."""
    members = archive.infolist()
    unpacked = sum(member.file_size for member in members)
    outside = next((m.filename for m in members if not _is_inside(m.filename)), None)
    problem = None
    if len(members) > MAX_MEMBERS:
        problem = f"has {len(members):,} files, where {MAX_MEMBERS:,} are allowed"
    elif outside is not None:
        problem = f"the path {outside!r} leads out of it"
    elif unpacked > min(MAX_BYTES, MAX_RATIO * packed + 2**20):
        problem = (
            f"unpacks to {unpacked / 1e6:,.0f} MB from {packed / 1e6:,.1f} MB, where at most "
            f"{MAX_RATIO} times its size and {MAX_BYTES / 1e6:,.0f} MB are allowed"
        )
    if problem is not None:
        hint = "import files only from sources that you trust; save it again with model.save(…)"
        raise _invalid(path, f"{what}{problem}", hint)


def _is_inside(name: str) -> bool:
    return not (
        name.startswith("/")
        or ".." in name.split("/")
        or any(c in name for c in ("\\", ":", "\0"))
    )


def _refused(path: Path, why: Exception | str) -> ConfigError:
    text = f"holds no tensors that can be read without running code: {str(why)[:200]}"
    return _invalid(path, text, "save it with model.save(…)")


def _invalid(path: Path, what: str, hint: str) -> ConfigError:
    allowed = f"a zip of Stable-Baselines3, with {_TENSORS}"
    return ConfigError(what, file=str(path), allowed=allowed, hint=hint)
