"""``learner.args`` of RLlib's learners: RLlib's names and defaults, as a table without Ray.

``tests/contract/test_rllib.py`` compares it with the installed configurations.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping

from drillyard.documents.json_types import Json, JsonObject, as_number
from drillyard.errors import ConfigError, ConfigErrors
from drillyard.registry import nearest

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
            allowed=", ".join(sorted(known)),
            hint=nearest(name, list(known)),
        )
        return
    allowed = _wrong(name, known[name], value)
    if allowed:
        yield ConfigError("cannot be used", field=field, value=value, allowed=allowed)


def _wrong(name: str, default: Json, value: Json) -> str | None:
    """Describes the allowed values, None if the value is one of them."""
    number = as_number(value) if isinstance(value, int | float) else None
    if name == "fcnet_activation":
        return None if value in ACTIVATIONS else ", ".join(ACTIVATIONS)
    if isinstance(default, bool):
        return None if isinstance(value, bool) else "true, false"
    if isinstance(default, list):
        widths = (
            isinstance(value, list)
            and value
            and all(
                isinstance(w, int) and not isinstance(w, bool) and 0 < w <= 65_536 for w in value
            )
        )
        return None if widths else "a list of widths, for example [64, 64]"
    if isinstance(default, int):
        return (
            None
            if number is not None and number >= 1 and number == int(number)
            else "a whole number from 1"
        )
    low = 0.0 if name in _MAY_BE_0 else math.ulp(0.0)
    top = 1.0 if name in ("gamma", "tau") else math.inf
    good = number is not None and math.isfinite(number) and low <= number <= top
    return (
        None
        if good
        else f"a finite number {'from' if low == 0.0 else 'above'} 0"
        + (" to 1" if top == 1.0 else "")
    )
