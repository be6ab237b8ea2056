"""What the values of Gymnasium's observations are, which no simulator of it says by itself.

From the tables "Observation Space" of https://gymnasium.farama.org/environments/, and, where a
page has none (LunarLander, BipedalWalker), from the order in the source of Gymnasium 1.4. Units
are those of the page; Box2D scales its values, so they have none.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

Named = Sequence[tuple[str, str]]
"""Name and unit of each value, in order; "" for a number without one."""

_CAR: Named = (("position", "m"), ("velocity", ""))
_LANDER: Named = tuple(
    (name, "")
    for name in (
        "x",
        "y",
        "velocity in x",
        "velocity in y",
        "angle",
        "angular velocity",
        "left leg touches",
        "right leg touches",
    )
)
_LEGS = [
    (f"{part} of leg {leg}", "")
    for leg in (1, 2)
    for part in ("hip angle", "hip speed", "knee angle", "knee speed", "contact")
]
NAMES: Mapping[str, Named] = {
    "CartPole": (
        ("cart position", ""),
        ("cart velocity", ""),
        ("pole angle", "rad"),
        ("pole angular velocity", ""),
    ),
    "Pendulum": (("cos of the angle", ""), ("sin of the angle", "1"), ("angular velocity", "1")),
    "Acrobot": (
        ("cos of angle 1", ""),
        ("sin of angle 1", ""),
        ("cos of angle 2", ""),
        ("sin of angle 2", ""),
        ("angular velocity 1", "rad/s"),
        ("angular velocity 2", "rad/s"),
    ),
    "MountainCar": _CAR,
    "MountainCarContinuous": _CAR,
    "LunarLander": _LANDER,
    "LunarLanderContinuous": _LANDER,
    "BipedalWalker": (
        ("hull angle", ""),
        ("hull angular velocity", ""),
        ("velocity in x", ""),
        ("velocity in y", ""),
        *_LEGS,
        *((f"lidar {number}", "") for number in range(1, 11)),
    ),
    "InvertedPendulum": (
        ("cart position", "m"),
        ("pole angle", "rad"),
        ("cart velocity", "m/s"),
        ("pole angular velocity", "rad/s"),
    ),
}
"""Id without its version -> its observation."""


def named(simulator: str, values: int) -> Named:
    """Returns name and unit of each value of an observation.

    Args:
        simulator: Id, as of ``gymnasium.make``.
        values: How many values were seen; arguments and wrappers can change them.

    Returns:
        Nothing for a simulator that is not known, or of another size.
    """
    named_values = NAMES.get(simulator.rpartition("-v")[0], ())
    return named_values if len(named_values) == values else ()
