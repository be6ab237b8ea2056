"""What an experiment reached: collected from its folder, shown as tables, JSON and CSV."""

from drillyard.results.collect import accepted_file, collect, run_curves
from drillyard.results.csv_tables import metrics_csv, policies_csv, runs_csv
from drillyard.results.formatting import verdict
from drillyard.results.model import ExperimentResults, RunResult
from drillyard.results.table import metrics_grid, policies_grid, runs_grid

__all__ = [
    "ExperimentResults",
    "RunResult",
    "accepted_file",
    "collect",
    "metrics_csv",
    "metrics_grid",
    "policies_csv",
    "policies_grid",
    "run_curves",
    "runs_csv",
    "runs_grid",
    "verdict",
]
