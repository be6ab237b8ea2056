"""Today's controller of the room: the heat pump in proportion to what is missing to 21 °C."""


class Thermostat:
    """The building's own controller, as its service simulates it without an input."""

    def reset(self, seed, options):
        """Nothing to begin."""

    def act_named(self, states):
        """The share of the heat pump's power."""
        return {"pump": min(max((294.15 - states["room"]) * 0.5, 0.0), 1.0)}
