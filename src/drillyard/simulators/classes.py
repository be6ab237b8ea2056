"""From ``simulator.id`` to the class behind it."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import TypeAlias

import gymnasium as gym

from drillyard.errors import ConfigError, SimulatorError
from drillyard.registry import load, names, nearest
from drillyard.simulators import register_gymnasium
from drillyard.simulators.plain import PlainSimulator
from drillyard.simulators.types import Env
from drillyard.spec.learning import SimulatorSpec

Simulator: TypeAlias = Env | PlainSimulator


def simulator_class(spec: SimulatorSpec) -> Callable[..., Simulator] | None:
    """The class behind ``simulator.id``; None for a Gymnasium id.

    Raises:
        ConfigError: The id is unknown; suggests the nearest names.
        PluginError: The module or attribute does not exist.
        SimulatorError: It is not a ``gymnasium.Env`` class, or has no ``agent:``.
    """
    register_gymnasium()
    if ":" in spec.id:
        return _must_be_simulator(spec, load("simulators", spec.id))
    if spec.id in names("simulators"):
        return _must_be_simulator(spec, load("simulators", spec.id))
    _register_foreign(spec.id)
    try:
        gym.spec(spec.id)
    except gym.error.Error as error:
        known = [*names("simulators"), *sorted(gym.registry)]
        raise ConfigError(
            f"unknown simulator: {error}",
            field="simulator.id",
            value=spec.id,
            allowed=f"{', '.join(names('simulators'))}, a Gymnasium id, or module:Class",
            hint=nearest(spec.id, known)
            if nearest(spec.id, known).startswith("did")
            else "`module:Class` names a class of your own",
        ) from error
    return None


_FOREIGN = {
    "Eplus-": (
        "sinergym",
        "'sinergym>=3.6' (Python 3.12 or newer) and EnergyPlus, which it drives",
    )
}
"""Beginning of Gymnasium ids -> package whose import registers them; what is to be installed."""


def _register_foreign(id_: str) -> None:
    """Import the package of an id.

    Raises:
        ConfigError: It is not installed.
    """
    for beginning, (package, wanted) in _FOREIGN.items():
        if not id_.startswith(beginning):
            continue
        try:
            importlib.import_module(package)
        except Exception as error:  # foreign code: what it needs may be missing in any way
            raise ConfigError(
                f"is one of {package}'s, which cannot be imported: {type(error).__name__}: "
                f"{error}",
                field="simulator.id",
                value=id_,
                allowed=", ".join(names("simulators")),
                hint=f"pip install {wanted}; and name it in `requirements:`, so that "
                "workers have it",
            ) from error


def _must_be_simulator(
    spec: SimulatorSpec, found: Callable[..., Simulator]
) -> Callable[..., Simulator]:
    is_env = isinstance(found, type) and issubclass(found, gym.Env)
    if is_env and spec.agent is not None:
        raise ConfigError(
            "is only for simulators that are not a gymnasium.Env, and this one is",
            field="simulator.agent",
            value=spec.id,
            allowed="none here",
            hint="delete `agent:`",
        )
    if is_env or (isinstance(found, type) and spec.agent is not None):
        return found
    if isinstance(found, type) and all(
        callable(getattr(found, m, None)) for m in ("reset", "step", "terminated", "truncated")
    ):
        raise SimulatorError(
            "is a plain simulator: what does the agent see, do and earn?",
            field="simulator.agent",
            value=spec.id,
            allowed="a table with observes, acts and reward, or module:Class",
            hint="drillyard new simulator NAME --from FILE.py writes one",
        )
    what = (
        f"the class {found.__module__}.{found.__qualname__}"
        if isinstance(found, type)
        else (f"a {type(found).__name__}")
    )
    raise SimulatorError(
        f"is {what}, not a subclass of gymnasium.Env",
        field="simulator.id",
        value=spec.id,
        allowed=f"{', '.join(names('simulators'))}, a Gymnasium id, or module:Class of a "
        "gymnasium.Env or a plain simulator",
        hint="modules are looked for beside the experiment file and among installed packages",
    )
