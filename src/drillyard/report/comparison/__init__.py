"""Experiments, trials and runs side by side: ``drillyard compare``.

comparison/index.html                the page; it fetches nothing from any network
comparison/curves.{svg,png,csv}      learning curves together
comparison/evaluation.{svg,png,csv}  final evaluations
comparison/comparison.json           everything that the page shows
"""

from drillyard.report.comparison.model import (
    Candidate,
    Comparison,
    EpisodePair,
    Pair,
    Setting,
)
from drillyard.report.comparison.page import build, default_folder
from drillyard.report.comparison.side_by_side import compare, sentence
from drillyard.report.comparison.tables import scores_grid, to_json

__all__ = [
    "Candidate",
    "Comparison",
    "EpisodePair",
    "Pair",
    "Setting",
    "build",
    "compare",
    "default_folder",
    "scores_grid",
    "sentence",
    "to_json",
]
