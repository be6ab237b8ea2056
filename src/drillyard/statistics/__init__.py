"""Intervals of scores, and comparisons of them."""

from drillyard.statistics.champions import RAREST, Tail, obstacles, tail
from drillyard.statistics.comparing import (
    Paired,
    above,
    paired,
    probability_of_improvement,
)
from drillyard.statistics.failures import needed, remark, shows
from drillyard.statistics.intervals import (
    METHOD,
    MIN_VALUES,
    Ends,
    mean_interval,
    strata_interval,
    together,
)
from drillyard.statistics.scores import AGGREGATES, Estimate, aggregates, iqm
from drillyard.statistics.shares import Profile, Strata, performance_profile
from drillyard.statistics.verdicts import (
    ERROR,
    Fixed,
    Verdict,
    against,
    apart,
    places,
    verdicts,
    welch,
)

__all__ = [
    "AGGREGATES",
    "ERROR",
    "METHOD",
    "MIN_VALUES",
    "RAREST",
    "Ends",
    "Estimate",
    "Fixed",
    "Paired",
    "Profile",
    "Strata",
    "Tail",
    "Verdict",
    "above",
    "against",
    "aggregates",
    "apart",
    "iqm",
    "mean_interval",
    "needed",
    "obstacles",
    "paired",
    "performance_profile",
    "places",
    "probability_of_improvement",
    "remark",
    "shows",
    "strata_interval",
    "tail",
    "together",
    "verdicts",
    "welch",
]
