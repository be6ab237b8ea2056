"""Values that trials vary: what they are, which are allowed, how they are drawn.

    Group    a covariant group: parameters that change together, at a cost
    Tunable  int, float or categorical; range or values, special values, weights, log, bins
    Space    the active groups of an experiment: assigns, draws, tells what changed and its cost

Nothing here knows a file or an optimiser; studies translate a ``Space`` into theirs.
"""

from drillyard.spec.tunables.distribution import Distribution
from drillyard.spec.tunables.space import NAME, Group, Space
from drillyard.spec.tunables.tunable import MAX_BINS, Tunable

__all__ = ["MAX_BINS", "NAME", "Distribution", "Group", "Space", "Tunable"]
