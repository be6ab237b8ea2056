"""A heat pump that heats the floor of a house, in plain Python, and its controller of today."""

from __future__ import annotations

import math
from typing import Any

STEP_H = 0.5
HEATER_KW = 2.5
"""Electric power of the compressor at full speed."""


class HeatPump:
    """A house with one room, a heavy floor, and electricity that costs more at some hours.

    Args:
        loss: Heat that the house loses, in kW for each kelvin between room and outdoor air.
    """

    def __init__(self, loss: float = 0.18) -> None:
        self.loss = loss
        self.room, self.floor, self.mean, self.steps = 20.5, 24.0, 0.0, 0
        self.power, self.cost = 0.0, 0.0

    def reset(self, config: dict[str, Any]) -> dict[str, float]:
        """Begin at midnight with the room and the mean outdoor temperature of ``config``."""
        self.room, self.mean = config.get("room", 20.5), config.get("mean", 0.0)
        self.floor, self.steps = self.room + 3.5, 0
        self.power, self.cost = 0.0, 0.0
        return self.states()

    def step(self, actions: dict[str, float]) -> dict[str, float]:
        """Half an hour with the compressor at ``speed``, from 0 to 1."""
        self.power = HEATER_KW * actions["speed"]
        self.cost = self.price() * self.power * STEP_H
        supply = self.floor + 5.0  # °C, of the water
        outdoor = self.outdoor()
        efficiency = 0.45 * (supply + 273.15) / max(supply - outdoor, 10.0)
        for _ in range(6):  # five minutes each
            to_room = 1.2 * (self.floor - self.room)
            lost = self.loss * (self.room - outdoor)
            self.floor += (efficiency * self.power - to_room) / 6.0 / 12.0
            self.room += (to_room + self.sun() - lost) / 3.0 / 12.0
        self.steps += 1
        return self.states()

    def hour(self) -> float:
        """Hour of the day, from 0 to 24."""
        return self.steps * STEP_H % 24.0

    def outdoor(self) -> float:
        """Outdoor temperature: it is warmest at 15 h."""
        return self.mean + 4.0 * math.cos((self.hour() - 15.0) / 24.0 * 2.0 * math.pi)

    def sun(self) -> float:
        """Heat of the sun in the room, in kW."""
        return max(0.0, 1.5 * math.sin((self.hour() - 8.0) / 9.0 * math.pi))

    def price(self) -> float:
        """Price of electricity, in €/kWh."""
        hour = self.hour()
        if hour < 6.0:
            return 0.14
        return 0.46 if 7.0 <= hour < 10.0 or 17.0 <= hour < 21.0 else 0.3

    def states(self) -> dict[str, float]:
        """All there is to know; ``price`` is that of the step that begins now."""
        return {
            "room": self.room,
            "floor": self.floor,
            "outdoor": self.outdoor(),
            "hour": self.hour(),
            "price": self.price(),
            "power": self.power,
            "cost": self.cost,
        }

    def terminated(self) -> bool:
        """It goes on."""
        return False

    def truncated(self) -> bool:
        """Three days are over."""
        return self.steps * STEP_H >= 72.0

    def state(self) -> dict[str, float]:
        """What the next step depends on."""
        names = ("room", "floor", "mean", "steps", "power", "cost")
        return {name: getattr(self, name) for name in names}

    def load_state(self, state: dict[str, float]) -> None:
        """Go on from there."""
        self.__dict__.update(state, steps=int(state["steps"]))


class Thermostat:
    """The controller of today: full speed below 20.3 °C in the room, off above 20.9 °C."""

    def reset(self, seed: int, options: dict[str, Any]) -> None:
        """Begin an episode."""
        self.on = True

    def act_named(self, states: dict[str, float]) -> dict[str, float]:
        """The speed of the compressor."""
        if states["room"] < 20.3 or states["room"] > 20.9:
            self.on = states["room"] < 20.3
        return {"speed": float(self.on)}
