"""Computes with rliable, SciPy and AdaStop what ``others.py`` asks for: no drillyard in here.

    ENV/bin/python foreign.py DATA.npz     JSON on stdout

Each is skipped with a reason where it is not installed.
"""

from __future__ import annotations

import json
import sys
import warnings
from contextlib import suppress

import numpy as np

REPS = 1_000
BY_RLIABLE, OF_RLIABLE, OF_ADASTOP = 500, 100, 100
"""Resamples, and data sets of each kind: rliable takes 0.3 s for a thousand resamples."""


def main() -> None:
    found, data = {}, np.load(sys.argv[1])
    for name, compute in (("rliable", rliable), ("scipy", scipy), ("adastop", adastop)):
        try:
            found[name] = compute(data)
        except ImportError as error:
            found[name] = {"skipped": f"{error}"}
    print(json.dumps(found))


def rliable(data):
    """Intervals of mean and interquartile mean: stratified bootstrap, percentiles."""
    from importlib.metadata import version

    from rliable import library, metrics

    warnings.simplefilter("ignore")
    intervals = {}
    for key in [k for k in data.files if k.startswith("mean")]:
        own = []
        for values in data[key][:OF_RLIABLE]:  # (tasks, runs)
            scores = {"x": values.T}
            _, ends = library.get_interval_estimates(
                scores,
                lambda x: np.array([metrics.aggregate_mean(x), metrics.aggregate_iqm(x)]),
                reps=BY_RLIABLE,
                random_state=np.random.RandomState(0),
            )
            own.append(ends["x"].T.tolist())
        intervals[key] = own
    better = {}
    for key in [k for k in data.files if k.startswith("better normal")]:
        own = []
        for values in data[key][: OF_RLIABLE // 4]:  # (candidates, runs)
            pairs = {
                f"{i},{j}": (values[i][:, None], values[j][:, None])
                for i in range(len(values))
                for j in range(i + 1, len(values))
            }
            _, ends = library.get_interval_estimates(
                pairs,
                metrics.probability_of_improvement,
                reps=BY_RLIABLE,
                random_state=np.random.RandomState(0),
            )
            own.append(any(e[0][0] > 0.5 or e[1][0] < 0.5 for e in ends.values()))
        better[key] = own
    return {"version": version("rliable"), "intervals": intervals, "better": better}


def scipy(data):
    """Intervals of the mean: BCa."""
    import scipy as package
    from scipy.stats import bootstrap

    warnings.simplefilter("ignore")
    intervals = {}
    for key in [k for k in data.files if k.startswith("mean") and data[k].shape[1] == 1]:
        own = []
        for (values,) in data[key]:
            ends = bootstrap(
                (values,), np.mean, n_resamples=REPS, method="BCa", rng=np.random.default_rng(0)
            ).confidence_interval
            own.append([float(ends.low), float(ends.high)])
        intervals[key] = own
    return {"version": package.__version__, "intervals": intervals}


def adastop(data):
    """Which are told apart: one look with all runs, at 5 %."""
    from importlib.metadata import version

    from adastop import MultipleAgentsComparator

    better = {}
    for key in [k for k in data.files if k.startswith("better")]:
        own = []
        for values in data[key][:OF_ADASTOP]:
            test = MultipleAgentsComparator(n=len(values[0]), K=1, B=500, alpha=0.05, seed=0)
            with suppress(AttributeError):  # 0.1.3 stumbles after its last decision, which stands
                test.partial_compare(
                    {str(i): list(v) for i, v in enumerate(values)}, verbose=False
                )
            own.append(any(d != "equal" for d in test.decisions.values()))
        better[key] = own
    return {"version": version("adastop"), "better": better}


if __name__ == "__main__":
    main()
