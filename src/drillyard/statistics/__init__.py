"""Intervals of scores, and comparisons of them."""

from drillyard.statistics.comparing import (
    Paired,
    above,
    paired,
    probability_of_improvement,
)
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
from drillyard.statistics.verdicts import ERROR, Verdict, places, verdicts, welch

__all__ = [
    "AGGREGATES",
    "ERROR",
    "METHOD",
    "MIN_VALUES",
    "Ends",
    "Estimate",
    "Paired",
    "Profile",
    "Strata",
    "Verdict",
    "above",
    "aggregates",
    "iqm",
    "mean_interval",
    "paired",
    "performance_profile",
    "places",
    "probability_of_improvement",
    "strata_interval",
    "together",
    "verdicts",
    "welch",
]
