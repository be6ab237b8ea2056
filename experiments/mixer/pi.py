"""Today's controller of the mixer: a PI controller of the temperature, with anti-windup."""


class PI:
    """Its gains were tuned by hand on the server."""

    gain, rate = 12.0, 0.6  # kW/K, kW/K for each step of 10 s

    def reset(self, seed, options):
        """An episode begins."""
        self.sum = 0.0

    def act_named(self, states):
        """The power of the heater in kW; its sum stops while the heater is at a limit."""
        error = states["setpoint"] - states["temperature"]
        power = self.gain * error + self.rate * (self.sum + error)
        limited = min(max(power, 0.0), 120.0)
        if power == limited or error * (power - limited) < 0:
            self.sum += error
        return {"heater": limited}
