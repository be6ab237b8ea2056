"""The controller of today of the two tanks: PI on the lower level, tuned by hand."""


class PI:
    """Its sum stops while the pump is at a limit, so it does not wind up."""

    gain, rate, steady = 10.0, 0.4, 4.2  # V/m, V/m for each step, V

    def reset(self, seed, options):
        """An episode begins."""
        self.sum = 0.0

    def act_named(self, states):
        """The voltage of the pump."""
        error = states["wanted"] - states["lower"]
        voltage = self.steady + self.gain * error + self.rate * (self.sum + error)
        limited = min(max(voltage, 0.0), 10.0)
        if voltage == limited or error * (voltage - limited) < 0:
            self.sum += error
        return {"pump": limited}
