"""``learner.init_from``: a training that starts with the weights of an earlier policy."""

from __future__ import annotations

import json
import os
import re
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from drillyard.agents.base import LEARNER_FILE, SPACES_FILE
from drillyard.documents.space_text import space_text
from drillyard.errors import ConfigError, NotFound, SpaceMismatch
from drillyard.mailbox import Mailbox, open_store
from drillyard.mailbox.command_hints import DEFAULT_STORE
from drillyard.mailbox.store import Store

if TYPE_CHECKING:
    from stable_baselines3.common.base_class import BaseAlgorithm
    from stable_baselines3.common.vec_env import VecEnv

    from drillyard.learners.types import Space, SpaceKind

FIELD = "learner.init_from"
_RUN = re.compile(r"(?:(?P<name>[^/]+)/)?(?P<run>t\d+-s\d+)\Z")
_ALLOWED = (
    "run:NAME/t0001-s1, a bundle's folder, models:/NAME@champion, or scheme://…/NAME/t0001-s1"
)


def find(source: str, own: Mailbox | None) -> dict[str, bytes]:
    """The files of an earlier policy.

    Args:
        source: ``learner.init_from``.
        own: The experiment with this setting: ``run:`` is searched for in its store, first in the
            experiment itself. None if it is not known yet.

    Returns:
        The files by the names of ``policy_file_names``; empty if ``own`` is needed and not known.

    Raises:
        ConfigError: The text has none of the allowed forms.
        NotFound: There is no such policy.
        CorruptObject: The policy is damaged.
    """
    from drillyard.agents.trained import policy_files

    if source.startswith("${"):
        return {}  # what another stage gives, when this one begins
    if source.startswith("run:"):
        match = _RUN.match(source.removeprefix("run:"))
        if match is None:
            raise ConfigError(
                "does not name a run",
                field=FIELD,
                value=source,
                allowed=_ALLOWED,
                hint="`drillyard status NAME` lists runs",
            )
        if own is None:
            return {}
        return policy_files(
            _experiment(own.store, match["name"] or own.experiment), match["run"], "best"
        )[0]
    if source.startswith("models:/"):
        return _registered(source)
    if "://" in source:
        place, _, run = source.rpartition("/")
        store, _, name = place.rpartition("/")
        if _RUN.match(run) is None or not name:
            raise ConfigError(
                "does not name a run in a store",
                field=FIELD,
                value=source,
                allowed=_ALLOWED,
                hint="end it with NAME/t0001-s1",
            )
        return policy_files(_experiment(open_store(store), name), run, "best")[0]
    return _bundle(source)


def _experiment(store: Store, name: str) -> Mailbox:
    if store.stat(f"{name}/experiment.json") is None:
        raise NotFound(
            f"{FIELD}: no experiment {name!r} in {store.url}",
            hint="`drillyard list experiments` shows what is there",
        )
    return Mailbox(store, name)


def _bundle(source: str) -> dict[str, bytes]:
    # Beside the experiment file: it is part of the user's code, which is on the path.
    places = (
        [Path(source)]
        if Path(source).is_absolute()
        else [Path(p) / source for p in ("", *sys.path)]
    )
    folder = next((p for p in places if p.is_dir()), None)
    if folder is None:
        raise NotFound(
            f"{FIELD}: there is no folder {source}",
            hint=f"give {_ALLOWED}; `drillyard export` makes a bundle",
        )
    return _weights(folder, source)


def _registered(source: str) -> dict[str, bytes]:
    """A bundle from MLflow's registry, at the tracking URI of the environment."""
    from drillyard.policies.promotion import fetch
    from drillyard.tracking.uris import AUTO, resolve_uri

    uri = resolve_uri(AUTO, os.environ.get("DRILLYARD_STORE", DEFAULT_STORE))
    if uri is None:
        raise ConfigError(
            "no model registry is configured",
            field=FIELD,
            value=source,
            allowed=_ALLOWED,
            hint="set MLFLOW_TRACKING_URI",
        )
    with tempfile.TemporaryDirectory(prefix="drillyard-model-") as scratch:
        return _weights(fetch(source, uri, Path(scratch)), source)


def _weights(folder: Path, source: str) -> dict[str, bytes]:
    from drillyard.policies import bundles

    files = bundles.read(folder)[1]
    if LEARNER_FILE not in files:
        raise ConfigError(
            "is a bundle without weights that can be trained",
            field=FIELD,
            value=source,
            allowed=_ALLOWED,
            hint="export it again",
        )
    return files


def must_have(files: Mapping[str, bytes], kind: SpaceKind, now: Space) -> None:
    """Refuse a policy of another simulator.

    Args:
        files: The files from ``find``.
        kind: Which of its spaces.
        now: The space of the network that will be trained.

    Raises:
        SpaceMismatch: The spaces differ; names both.
    """
    from drillyard.agents.spaces import space_from_json, space_to_json

    recorded = json.loads(files[SPACES_FILE])[kind]
    if recorded != space_to_json(now):
        then = space_text(space_from_json(recorded))
        raise SpaceMismatch(
            f"the earlier policy has the {kind} space {then}, and this simulator has "
            f"{space_text(now)}",
            field=FIELD,
            allowed=then,
            hint="take a policy of the same simulator with the same wrappers",
        )


def apply(files: Mapping[str, bytes], model: BaseAlgorithm, venv: VecEnv) -> None:
    """Put weights and normalisation into a model that has not learned yet.

    Args:
        files: The files from ``find``.
        model: The SB3 algorithm.
        venv: Its simulators.

    Raises:
        SpaceMismatch: The policy belongs to another simulator, or only one of the two is
            normalised.
        ConfigError: Its network has other tensors; names them.
    """
    import torch
    from safetensors.torch import load as load_tensors

    from drillyard.agents.packing import npz_arrays
    from drillyard.learners.sb3_state import other_shapes
    from drillyard.simulators.vec_state import load_normalisation, normalisation

    must_have(files, "observation", model.observation_space)
    must_have(files, "action", model.action_space)
    statistics = next((npz_arrays(d) for n, d in files.items() if n.startswith("normal")), None)
    if (statistics is None) != (normalisation(venv) is None):
        normalised = ("was", "is not") if statistics is not None else ("was not", "is")
        raise SpaceMismatch(
            f"the earlier policy {normalised[0]} normalised, and this simulator {normalised[1]}",
            field=FIELD,
            allowed="the same wrappers",
            hint="add `normalize` to simulator.wrappers"
            if statistics is not None
            else "remove `normalize` from simulator.wrappers",
        )
    tensors = load_tensors(next(d for n, d in files.items() if n.startswith("policy_")))
    if others := other_shapes(model.policy.state_dict(), tensors):
        name, now, then = others[0]
        raise ConfigError(
            f"the earlier policy has another network: {name} is {then} in it, and {now} here "
            f"({len(others)} such tensors)",
            field=FIELD,
            allowed="the same algorithm, policy and policy_kwargs",
            hint="write the same learner.algorithm and learner.args.policy_kwargs",
        )
    model.policy.load_state_dict(tensors)
    if hasattr(model, "weights"):  # ARS changes a vector of them
        model.weights = torch.nn.utils.parameters_to_vector(model.policy.parameters()).detach()
    if statistics is not None:
        load_normalisation(venv, statistics)
