"""The settings of an experiment's backend, with the machines that its resources ask for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from drillyard.backend.capabilities import HasMachineTypes, PacksRuns
from drillyard.backend.hardware import Hardware, Packing
from drillyard.backend.settings.resolve import gather, resolve
from drillyard.documents.json_types import JsonObject
from drillyard.registry import load

if TYPE_CHECKING:
    from drillyard.spec.experiment import ExperimentSpec


def given(spec: ExperimentSpec) -> JsonObject:
    """Returns the settings that the experiment gives its backend.

    ``resources`` counts as the experiment's own setting: it goes before a machine type from a
    Prefect block, the environment or the settings file, but never replaces one in ``backends:``.

    Args:
        spec: The experiment.

    Raises:
        ConfigError: No machine type has what the experiment needs.
        PluginError: No such backend.
    """
    kind = spec.backend.partition("/")[0]
    settings_here: JsonObject = dict(spec.backends.get(kind, {}))
    need, factory = Hardware.of(spec.resources), load("backends", kind)
    if need is None or not isinstance(factory, HasMachineTypes):
        return settings_here
    resolved, _, _ = gather(spec.backend, settings_here)
    return {**settings_here, **factory.choose_machines(need, settings_here, resolved.values)}


def packing(spec: ExperimentSpec) -> Packing | None:
    """Returns how many runs share a machine; None if the backend does not say.

    Args:
        spec: The experiment.
    """
    factory = load("backends", spec.backend.partition("/")[0])
    if not isinstance(factory, PacksRuns):
        return None
    resolved, _, _ = gather(spec.backend, given(spec))
    return factory.packing(resolved.values)


def settings_of(spec: ExperimentSpec, kind: str) -> JsonObject:
    """Returns the settings in an experiment's order: enough to open the backend from anywhere.

    Args:
        spec: The experiment.
        kind: Kind of the backend in use (a test may have its own).
    """
    if spec.backend.partition("/")[0] != kind:
        return dict(spec.backends.get(kind, {}))
    return resolve(spec.backend, given(spec)).values


def unchecked(spec: ExperimentSpec) -> list[str]:
    """Returns the fields of ``resources`` that the backend does not look at.

    Args:
        spec: The experiment.
    """
    need, factory = Hardware.of(spec.resources), load("backends", spec.backend.partition("/")[0])
    if need is None or isinstance(factory, HasMachineTypes):
        return []
    names = ("gpu", "cpus", "memory_gb", "spot", "runs_per_machine", "runs_per_gpu")
    return [name for name in names if getattr(need, name) is not None]
