"""Today's rule of the warehouse: order up to a level."""


class Reorder:
    """Orders what is missing to five days of demand."""

    def reset(self, seed, options):
        """Nothing to begin."""

    def act_named(self, states):
        """The order of the day."""
        missing = 5 * states["demand"] - states["stock"] - states["coming"]
        return {"order": min(max(missing, 0.0), 60.0)}
