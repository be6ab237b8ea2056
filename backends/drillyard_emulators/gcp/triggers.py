"""What can happen to a machine of the emulated Google Cloud."""

from __future__ import annotations

from drillyard_emulators.gcp.compute.world import World


def happen(world: World, what: str, name: str) -> None:
    """Applies an event to a machine as soon as the scheduler is free.

    Raises:
        KeyError: No such machine.
        ValueError: Nothing of that name can happen.
    """
    instance = world.machine(name)
    if instance is None:
        raise KeyError(f"no machine {name!r}")
    deeds = {
        "preempt": lambda: world.instances.preempt(instance),
        "cut": lambda: world.instances.preempt(instance, notice=False),
        "crash": lambda: world.instances.crash(instance),
        "abandon": lambda: world.groups.abandon(instance),
        "hang": lambda: instance.machine.freeze() if instance.machine else None,
    }
    if what not in deeds:
        raise ValueError(f"{what!r}: what can happen is {', '.join(deeds)}")
    world.scheduler.after(0.0, deeds[what])
