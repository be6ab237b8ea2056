"""``learner.init_from``: a training that begins with the weights of an earlier policy."""

from __future__ import annotations

import json
import os
import re
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from drillyard.agents.base import LEARNER_FILE, SPACES_FILE
from drillyard.errors import ConfigError, NotFound, SpaceMismatch
from drillyard.mailbox import Mailbox, open_store
from drillyard.mailbox.command_hints import DEFAULT_STORE
from drillyard.mailbox.store import Store

FIELD = "learner.init_from"
_RUN = re.compile(r"(?:(?P<name>[^/]+)/)?(?P<run>t\d+-s\d+)\Z")
_ALLOWED = (
    "run:NAME/t0001-s1, a bundle's folder, models:/NAME@champion, or scheme://…/NAME/t0001-s1"
)


def find(source: str, own: Mailbox | None) -> dict[str, bytes]:
    """The files of an earlier policy.

    Args:
        source: ``learner.init_from``.
        own: The experiment that asks: ``run:`` is looked for in its store, first in itself. None
            where that is not known yet.

    Returns:
        As ``policy_file_names`` has them; empty where ``own`` would have to be known.

    Raises:
        ConfigError: No such form.
        NotFound: There is no such policy.
        CorruptObject: It is damaged.
    """
    from drillyard.agents.trained import policy_files

    if source.startswith("run:"):
        match = _RUN.match(source.removeprefix("run:"))
        if match is None:
            raise ConfigError(
                "names no run",
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
                "names no run in a store",
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
    # Beside the experiment file: it travels with the user's code, which is on the path.
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
    """A bundle of MLflow's registry, at the tracking URI that the environment names."""
    from drillyard.policies.promotion import fetch
    from drillyard.tracking.uris import AUTO, resolve_uri

    uri = resolve_uri(AUTO, os.environ.get("DRILLYARD_STORE", DEFAULT_STORE))
    if uri is None:
        raise ConfigError(
            "there is no registry to look in",
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
            "is a bundle without weights to train on",
            field=FIELD,
            value=source,
            allowed=_ALLOWED,
            hint="export it again",
        )
    return files


def must_have(
    files: Mapping[str, bytes], what: Literal["observation", "action"], now: Any
) -> None:
    """Refuse a policy of another world.

    Args:
        files: Of ``find``.
        what: Which of its spaces.
        now: What the network that is trained will see, or may do.

    Raises:
        SpaceMismatch: With both spaces.
    """
    from drillyard.agents.spaces import space_from_json, space_to_json

    recorded = json.loads(files[SPACES_FILE])[what]
    if recorded != space_to_json(now):
        then = space_from_json(recorded)
        raise SpaceMismatch(
            f"the earlier policy has the {what} space {then}, and this simulator has {now}",
            field=FIELD,
            allowed=str(then),
            hint="take a policy of the same simulator with the same wrappers",
        )


def apply(files: Mapping[str, bytes], model: Any, venv: Any) -> dict[str, Any]:
    """Put weights and normalisation into a model that has learned nothing yet.

    Args:
        files: Of ``find``.
        model: The SB3 algorithm.
        venv: Its simulators.

    Returns:
        Algorithm of the earlier policy, for the summary.

    Raises:
        SpaceMismatch: It is of another world, or was normalised and this one is not.
        ConfigError: Its network has other tensors; names them.
    """
    import torch
    from safetensors.torch import load as load_tensors

    from drillyard.agents.packing import npz_arrays
    from drillyard.simulators.vec_state import load_normalisation, normalisation

    must_have(files, "observation", model.observation_space)
    must_have(files, "action", model.action_space)
    statistics = next((npz_arrays(d) for n, d in files.items() if n.startswith("normal")), None)
    if (statistics is None) != (normalisation(venv) is None):
        has = "was normalised" if statistics is not None else "was not normalised"
        raise SpaceMismatch(
            f"the earlier policy {has}, and this simulator is otherwise",
            field=FIELD,
            allowed="the same wrappers",
            hint="add `normalize` to simulator.wrappers"
            if statistics is not None
            else "take `normalize` out of simulator.wrappers",
        )
    tensors = load_tensors(next(d for n, d in files.items() if n.startswith("policy_")))
    now = {n: tuple(t.shape) for n, t in model.policy.state_dict().items()}
    then = {n: tuple(t.shape) for n, t in tensors.items()}
    other = [n for n in sorted({*now, *then}) if now.get(n) != then.get(n)]
    if other:
        name = other[0]
        raise ConfigError(
            f"the earlier policy has another network: {name} is {then.get(name, 'not there')} in "
            f"it, and {now.get(name, 'not there')} here ({len(other)} such tensors)",
            field=FIELD,
            allowed="the same algorithm, policy and policy_kwargs",
            hint="write the same learner.algorithm and learner.args.policy_kwargs",
        )
    model.policy.load_state_dict(tensors)
    if hasattr(model, "weights"):  # ARS moves a vector of them
        model.weights = torch.nn.utils.parameters_to_vector(model.policy.parameters()).detach()
    if statistics is not None:
        load_normalisation(venv, statistics)
    return {"algorithm": json.loads(files[LEARNER_FILE])["algorithm"]}
