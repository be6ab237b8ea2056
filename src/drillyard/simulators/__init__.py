"""Worlds to act in: built-ins, Gymnasium ids and ``module:Class``."""

from __future__ import annotations

GYMNASIUM_IDS = {
    "drillyard/Cstr-v0": "drillyard.simulators.cstr:CstrEnv",
    "drillyard/SimpleAdder-v0": "drillyard.simulators.simple_adder:SimpleAdderEnv",
    "drillyard/Building-v0": "drillyard.simulators.building:BuildingEnv",
}
"""Our built-ins as Gymnasium knows them."""


def register_gymnasium() -> None:
    """Make ``gymnasium.make("drillyard/Cstr-v0")`` work; safe to call again.

    ``drillyard.simulators.make`` calls it. In a script of your own, where Gymnasium looks for no
    plug-ins by itself, ``import drillyard.simulators.ids`` does.
    """
    import gymnasium

    for name, entry_point in GYMNASIUM_IDS.items():
        if name not in gymnasium.registry:
            gymnasium.register(id=name, entry_point=entry_point)
