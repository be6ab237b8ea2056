"""``learner.args`` of RLlib's learners: RLlib's names and defaults, as a table without Ray.

``tests/contract/test_rllib.py`` compares it with the installed configurations.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from drillyard.documents.json_types import Json, JsonObject
from drillyard.errors import ConfigError, ConfigErrors
from drillyard.spec.algorithms.argument_rules import FLAG, Check, number, one_of, whole, widths

NETWORK: JsonObject = {
    "fcnet_hiddens": [256, 256],
    "fcnet_activation": "tanh",
    "vf_share_layers": True,
}
"""Arguments of the network, which RLlib keeps in its model configuration."""
WORKERS = ("num_env_runners", "rollout_fragment_length")
"""Arguments of the workers that play."""
_IMPALA: JsonObject = {
    "lr": 5e-4,
    "gamma": 0.99,
    "grad_clip": 40.0,
    "vf_loss_coeff": 0.5,
    "entropy_coeff": 0.01,
    "train_batch_size_per_learner": 500,
    "rollout_fragment_length": 50,
    "broadcast_interval": 1,
    "vtrace_clip_rho_threshold": 1.0,
    "vtrace_clip_pg_rho_threshold": 1.0,
    "learner_queue_size": 3,
    "num_env_runners": 2,
    **NETWORK,
}
ARGUMENTS: dict[str, JsonObject] = {
    "impala": _IMPALA,
    "appo": {
        **_IMPALA,
        "learner_queue_size": 16,
        "clip_param": 0.4,
        "use_kl_loss": False,
        "kl_coeff": 1.0,
        "kl_target": 0.01,
        "tau": 1.0,
        "target_network_update_freq": 2,
        "circular_buffer_num_batches": 8,
        "circular_buffer_iterations_per_batch": 2,
    },
}
"""Algorithm -> argument -> default."""
ACTIVATIONS = ("tanh", "relu", "silu", "swish", "linear")
_MAY_BE_0 = frozenset({"entropy_coeff", "vf_loss_coeff"})


def validate(algorithm: str, args: Mapping[str, Json]) -> None:
    """Check the arguments.

    Args:
        algorithm: A key of ``ARGUMENTS``.
        args: As written in the file.

    Raises:
        ConfigErrors: Every argument that cannot work.
    """
    errors = [e for name, value in args.items() for e in _problem(algorithm, name, value)]
    if errors:
        raise ConfigErrors(errors)


def _problem(algorithm: str, name: str, value: Json) -> Iterator[ConfigError]:
    field, known = f"learner.args.{name}", ARGUMENTS[algorithm]
    if name not in known:
        yield ConfigError(
            f"{algorithm} has no such argument",
            field=field,
            value=value,
            keys=sorted(known),
        )
        return
    if value == [] and isinstance(known[name], list):
        yield ConfigError("has no layer", field=field, value=value, allowed="[64, 64]")
    yield from _check_of(name, known[name])(field, value)


def _check_of(name: str, default: Json) -> Check:
    """Returns the check of an argument whose default has the right type."""
    if name == "fcnet_activation":
        return one_of(*ACTIVATIONS)
    if isinstance(default, bool):
        return FLAG.check
    if isinstance(default, list):
        return widths
    if isinstance(default, int):
        return whole(1).check
    share = name in ("gamma", "tau")
    return number(0, 1 if share else None, open_low=name not in _MAY_BE_0).check
