"""Today's controller of the small office: the heating schedule in its model, HTGSETP_SCH."""


class Schedule:
    """21 °C in working hours, 15.6 °C otherwise."""

    def reset(self, seed, options):
        """Nothing to begin."""

    def act_named(self, states):
        """The setpoint of the step that begins now."""
        ends = {1: 0, 7: 18}.get(int(states["day_of_week"]), 22)  # 1 is Sunday
        return {"heating": 21.0 if 6 <= states["hour"] < ends else 15.6}
