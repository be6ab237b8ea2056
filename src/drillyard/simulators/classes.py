"""From ``simulator.id`` to the class behind it."""

from __future__ import annotations

import functools
import importlib
from collections.abc import Callable
from types import FunctionType
from typing import Any, TypeAlias

import gymnasium as gym
from gymnasium.envs.registration import EnvSpec

from drillyard.errors import ConfigError, SimulatorError, nearest
from drillyard.registry import load, names
from drillyard.simulators import register_gymnasium
from drillyard.simulators.energyplus.sinergym import offer_dictionary
from drillyard.simulators.fmu.fmu import fmu_class
from drillyard.simulators.functional.gymnax_worlds import gymnax_class, is_gymnax
from drillyard.simulators.plain import PlainSimulator
from drillyard.simulators.types import Env
from drillyard.spec.learning import SimulatorSpec
from drillyard.system.optional_packages import must_have
from drillyard.system.user_code import described

Simulator: TypeAlias = Env | PlainSimulator
PLANTS = {
    "energyplus": (
        "energyplus",
        "drillyard.simulators.energyplus.plant:EnergyPlus",
        "see experiments/office; `drillyard list points MODEL` shows all names",
    ),
    "opcua": (
        "opcua",
        "drillyard.simulators.opcua.plant:OpcUa",
        "see experiments/mixer; `drillyard list points FILE` shows all names",
    ),
    "boptest": (
        "",
        "drillyard.simulators.boptest:Boptest",
        "see experiments/boptest; `drillyard list points FILE` shows all names",
    ),
}
"""Plants that know their names: the extra that they need, their class, and a hint."""


def simulator_class(spec: SimulatorSpec) -> Callable[..., Simulator] | None:
    """The class or function behind ``simulator.id``; None for a Gymnasium id.

    A Gymnasium id may name the package that registers it: ``minigrid:MiniGrid-Empty-5x5-v0``.

    Raises:
        ConfigError: The id is unknown; suggests the nearest names.
        PluginError: The module or attribute does not exist.
        SimulatorError: It is not a ``gymnasium.Env`` class or a function, or has no ``agent:``.
    """
    register_gymnasium()
    fmu = fmu_class(spec)
    if fmu is not None:
        return fmu
    if spec.id in PLANTS:
        return _plant(spec)
    if is_gymnax(spec.id):
        return gymnax_class(spec.id)
    if is_package_id(spec.id):
        _must_be_registered(spec.id)
        return None
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


def _plant(spec: SimulatorSpec) -> Callable[..., Any]:
    extra, place, hint = PLANTS[spec.id]
    if extra:
        must_have(extra, f"the simulator {spec.id}")
    if spec.agent is None:
        raise SimulatorError(
            "is missing: a model does not say what the agent observes, does and is rewarded for",
            field="simulator.agent",
            allowed="a table with observes, acts and reward, or module:Class",
            hint=hint,
        )
    module, _, name = place.partition(":")
    found: Callable[..., Any] = getattr(importlib.import_module(module), name)
    return found


def is_package_id(id_: str) -> bool:
    """Returns whether a text is ``package:Id-v0``, Gymnasium's form for ids of a package.

    The name of an attribute of a module has no hyphen.
    """
    module, colon, name = id_.partition(":")
    return bool(colon and module) and "-" in name


def registered(id_: str) -> EnvSpec:
    """Returns what is registered under an id, whose package was imported already.

    Args:
        id_: ``Id-v0`` or ``package:Id-v0``; ``gymnasium.spec`` takes only the first.

    Raises:
        gymnasium.error.Error: Nothing is registered.
    """
    return gym.spec(id_.partition(":")[2] if is_package_id(id_) else id_)


def _must_be_registered(id_: str) -> None:
    """Imports the package of an id, which registers it.

    Raises:
        ConfigError: No such package, or it does not register this id.
    """
    package, _, name = id_.partition(":")
    try:
        importlib.import_module(package)
    except Exception as error:  # foreign code: what it needs may be missing in any way
        missing = isinstance(error, ModuleNotFoundError)
        raise ConfigError(
            f"the package {package!r} cannot be imported: {described(error)}",
            field="simulator.id",
            value=id_,
            allowed="package:Id-v0 of a package that is installed",
            hint=f"install the package that has the module {package}, and name it in "
            "`requirements:` so that workers have it"
            if missing
            else "fix the line above",
        ) from error
    try:
        registered(id_)
    except gym.error.Error as error:
        close = nearest(name, sorted(gym.registry))
        raise ConfigError(
            f"{package} does not register it: {error}",
            field="simulator.id",
            value=id_,
            allowed="an id that the package registers with Gymnasium",
            hint=close if close.startswith("did") else "look at the documents of the package",
        ) from error


_FOREIGN = {
    "Eplus-": (
        "sinergym",
        "'sinergym>=3.6' (Python 3.12 or newer) and 'drillyard[energyplus]', which it drives",
    )
}
"""Beginning of Gymnasium ids -> package whose import registers them; what is to be installed."""


def _register_foreign(id_: str) -> None:
    """Import the package of an id.

    Raises:
        ConfigError: It is not installed.
    """
    for beginning, (package, packages) in _FOREIGN.items():
        if not id_.startswith(beginning):
            continue
        offer_dictionary()
        try:
            importlib.import_module(package)
        except Exception as error:  # foreign code: what it needs may be missing in any way
            raise ConfigError(
                f"is one of {package}'s, which cannot be imported: {type(error).__name__}: "
                f"{error}",
                field="simulator.id",
                value=id_,
                allowed=", ".join(names("simulators")),
                hint=f"pip install {packages}; and name it in `requirements:`, so that "
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
    if isinstance(found, FunctionType | functools.partial) and spec.agent is None:
        return found  # what it returns is looked at when it is called
    if isinstance(found, type) and all(
        callable(getattr(found, m, None)) for m in ("reset", "step", "terminated", "truncated")
    ):
        raise SimulatorError(
            f"is missing: {spec.id} is a plain simulator, so this field must name what the agent "
            "observes, what it does and its reward",
            field="simulator.agent",
            allowed="a table with observes, acts and reward, or module:Class",
            hint="`drillyard new simulator NAME --from FILE.py` writes one",
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
        "gymnasium.Env or a plain simulator, or a function that returns one",
        hint="modules are looked for beside the experiment file and among installed packages",
    )
