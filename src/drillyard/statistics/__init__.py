"""How sure a score is, and how two of them compare."""

from drillyard.statistics.comparing import (
    Paired,
    paired,
    probability_of_improvement,
)
from drillyard.statistics.intervals import (
    MIN_SEEDS_BOOTSTRAP,
    MIN_SEEDS_T,
    RESAMPLES,
    Interval,
    Method,
    iqm,
    over_seeds,
    resample,
    stratified_bootstrap,
    student_t,
    t_interval,
)
from drillyard.statistics.scores import (
    AGGREGATES,
    Estimate,
    Profile,
    Strata,
    aggregates,
    performance_profile,
)

__all__ = [
    "AGGREGATES",
    "MIN_SEEDS_BOOTSTRAP",
    "MIN_SEEDS_T",
    "RESAMPLES",
    "Estimate",
    "Interval",
    "Method",
    "Paired",
    "Profile",
    "Strata",
    "aggregates",
    "iqm",
    "over_seeds",
    "paired",
    "performance_profile",
    "probability_of_improvement",
    "resample",
    "stratified_bootstrap",
    "student_t",
    "t_interval",
]
