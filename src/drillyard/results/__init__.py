"""What an experiment reached: collected from its folder, shown as tables, JSON and CSV."""

from drillyard.results.collect import accepted_file, collect, overall, run_curves
from drillyard.results.csv_tables import metrics_csv, policies_csv, runs_csv
from drillyard.results.formatting import verdict
from drillyard.results.model import (
    ExperimentResults,
    Interval,
    LeaseCost,
    MetricScore,
    PhaseTime,
    PolicyScore,
    RunCurves,
    RunResult,
)
from drillyard.results.table import metrics_grid, policies_grid, runs_grid, score_grids

__all__ = [
    "ExperimentResults",
    "Interval",
    "LeaseCost",
    "MetricScore",
    "PhaseTime",
    "PolicyScore",
    "RunCurves",
    "RunResult",
    "accepted_file",
    "collect",
    "metrics_csv",
    "metrics_grid",
    "overall",
    "policies_csv",
    "policies_grid",
    "run_curves",
    "runs_csv",
    "runs_grid",
    "score_grids",
    "verdict",
]
