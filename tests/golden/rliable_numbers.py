"""Makes rliable.json: what rliable computes on data that lie in the same file.

rliable 1.2.0 needs arch < 8, which does not import beside pandas 3; so it lives in an environment
of its own, and its numbers are kept:

    python -m venv rl
    rl/bin/pip install rliable==1.2.0 'pandas<3' 'numpy<2.3' 'scipy<1.17'
    rl/bin/python tests/golden/rliable_numbers.py
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from rliable import library, metrics

RUNS, TASKS = 7, 3
REPS = 20_000
TAUS = [-0.5, 0.0, 0.25, 0.5, 0.75, 1.0, 1.5]


def main() -> None:
    rng = np.random.default_rng(42)
    scores = {
        "a": rng.normal([0.8, 0.3, 1.1], 0.25, (RUNS, TASKS)).round(6),
        "b": rng.normal([0.6, 0.4, 0.7], 0.35, (RUNS - 2, TASKS)).round(6),
        # Ties, within and between, and a number of runs that four does not divide.
        "c": rng.integers(0, 4, (6, TASKS)) / 4.0,
    }

    def aggregates(x: np.ndarray) -> np.ndarray:
        return np.array(
            [
                metrics.aggregate_iqm(x),
                metrics.aggregate_mean(x),
                metrics.aggregate_median(x),
                metrics.aggregate_optimality_gap(x),
            ]
        )

    points, intervals = library.get_interval_estimates(
        scores, aggregates, reps=REPS, random_state=np.random.RandomState(1)
    )
    pairs = {f"{x},{y}": (scores[x], scores[y]) for x in scores for y in scores if x != y}
    better, better_intervals = library.get_interval_estimates(
        pairs,
        metrics.probability_of_improvement,
        reps=2_000,
        random_state=np.random.RandomState(2),
    )
    np.random.seed(3)
    profiles, bands = library.create_performance_profile(scores, np.array(TAUS), reps=2_000)
    found = {
        "scores": {k: v.tolist() for k, v in scores.items()},
        "names": ["iqm", "mean", "median", "optimality_gap"],
        "points": {k: v.tolist() for k, v in points.items()},
        "intervals": {k: v.tolist() for k, v in intervals.items()},
        "better": {k: float(v) for k, v in better.items()},
        "better_intervals": {k: np.ravel(v).tolist() for k, v in better_intervals.items()},
        "taus": TAUS,
        "profiles": {k: v.tolist() for k, v in profiles.items()},
        "bands": {k: v.tolist() for k, v in bands.items()},
    }
    Path(__file__).with_name("rliable.json").write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
