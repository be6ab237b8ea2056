"""What a tracking server receives about a run besides its curves: parameters, tags, end values.

Pure functions of the mailbox's records; nothing here knows MLflow.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping

from drillyard.documents.json_types import JsonView
from drillyard.mailbox.records import Accepted, ExperimentRecord, RunRecord, TrialRecord
from drillyard.mailbox.summaries import TrainSummary, metric_values, policy_scores
from drillyard.spec.binding import bound_tree
from drillyard.system.redaction import MASK, is_secret_key, redact
from drillyard.tracking.points import Point, numbers, safe_name
from drillyard.tracking.uris import mask

RUN_TAG = "drillyard.run"
"""`<store>/<experiment>/<run>`, and without the run for the parent."""
MAILBOX_TAG = "drillyard.mailbox"
NAME_TAG = "drillyard.name"
PARENT_TAG = "mlflow.parentRunId"

_NOT_PARAMETERS = {
    "schema",
    "name",
    "seeds",
    "backends",
    "tracking",
    "store",
    "report",
    "parameters",
}


def flat(value: JsonView, prefix: str = "") -> Iterator[tuple[str, str]]:
    """Nested values as dotted names and texts; lists as JSON, secrets hidden."""
    if isinstance(value, Mapping) and value:
        for name, inner in value.items():
            yield from flat(inner, f"{prefix}.{name}" if prefix else str(name))
    elif is_secret_key(prefix.rpartition(".")[2]) and isinstance(value, str):
        yield safe_name(prefix), MASK
    else:
        yield safe_name(prefix), redact(_text(value))


def _text(value: JsonView) -> str:
    if isinstance(value, str):
        return value
    return json.dumps(value, sort_keys=True, default=str)


def experiment_params(record: ExperimentRecord) -> dict[str, str]:
    """The resolved experiment, flattened: what its runs share."""
    spec = _parts(record.spec, _NOT_PARAMETERS)
    return {**dict(flat(spec)), "seeds": _text(record.spec.get("seeds", []))}


def _parts(spec: Mapping[str, JsonView], leave_out: set[str]) -> dict[str, JsonView]:
    """The parts of an experiment that its workload has; children by their names."""
    parts = {
        k: v for k, v in spec.items() if k not in leave_out and not (k in _OF_A_WORKLOAD and not v)
    }
    if spec.get("workload", "rl") in ("script", "mock", "composite"):
        parts.pop("evaluate", None)
        parts.pop("baselines", None)
    children = parts.pop("children", None)
    if isinstance(children, list) and children:
        parts["children"] = {
            str(child["name"]): _parts(child, {"schema", "name"})
            for child in children
            if isinstance(child, Mapping)
        }
    return parts


_OF_A_WORKLOAD = ("simulator", "learner", "train", "script", "mock", "children")


def run_params(
    record: ExperimentRecord, run: RunRecord, trained: Accepted | None
) -> dict[str, str]:
    """The parameters of a run.

    Resolved values have dotted names; once training is accepted, the values of the built model are
    added under their plain names.

    Args:
        record: The experiment.
        run: The run.
        trained: The accepted result of training, or None.
    """
    params = experiment_params(record.model_copy(update={"spec": bound_tree(record.spec, run)}))
    params.pop("seeds")
    params.update(flat(run.parameters, "parameters") if run.parameters else ())
    params.update(flat(run.choices, "choices") if run.choices else ())
    params.update(seed=str(run.seed), trial=str(run.trial), threads=str(run.threads))
    if run.device != "auto":  # otherwise it is sent once it is measured: nothing here can change
        params["device"] = run.device
    built = TrainSummary.of(trained).parameters
    for name, value in flat(built) if built else ():
        params.setdefault(name, value)
    return params


def trial_params(trial: TrialRecord) -> dict[str, str]:
    """The parameters of a trial: what was chosen for it, under the names that its runs use."""
    params = {"trial": str(trial.number), "chooser": trial.chooser}
    params.update(flat(trial.assignment, "parameters") if trial.assignment else ())
    params.update(flat(trial.parts) if trial.parts else ())
    return params


def experiment_tags(record: ExperimentRecord, store_url: str, below: str = "") -> dict[str, str]:
    """Where an experiment, or a part of it, came from: identity, code, versions.

    Args:
        record: The experiment.
        store_url: Where it is.
        below: The run or trial in it.
    """
    tags = {
        RUN_TAG: mask("/".join(filter(None, (store_url, record.name, below)))),
        "drillyard.experiment": record.name,
        "drillyard.identity": record.identity,
        "drillyard.backend": str(record.spec.get("backend", "")),
        "drillyard.workload": str(record.spec.get("workload", "")),
        "mlflow.source.name": "drillyard",
        "mlflow.source.type": "LOCAL",
    }
    if record.code:
        tags["drillyard.code"] = record.code
    if record.git_commit:
        tags["mlflow.source.git.commit"] = record.git_commit
        tags["drillyard.git_commit"] = record.git_commit
    if record.git_dirty is not None:
        tags["drillyard.git_dirty"] = str(record.git_dirty).lower()
    if record.command:
        tags["drillyard.command"] = redact(" ".join(record.command))
    for package, version in record.versions.items():
        tags[safe_name(f"version.{package}")] = version
    return tags


def run_tags(record: ExperimentRecord, run: RunRecord, store_url: str) -> dict[str, str]:
    """The tags of a run: those of its experiment, and which one it is."""
    return {
        **experiment_tags(record, store_url, run.run),
        "drillyard.seed": str(run.seed),
        "drillyard.trial": str(run.trial),
    }


def platform_tags(platform: Mapping[str, JsonView]) -> dict[str, str]:
    """``platform.json`` as tags."""
    return {f"platform.{k}": v for k, v in flat(dict(platform)) if k} if platform else {}


def train_points(trained: Accepted) -> list[Point]:
    """The end values of training, at its last step."""
    # Metrics belong to the evaluation, and are sent once.
    summary = {k: v for k, v in trained.summary.items() if k not in ("parameters", "metrics")}
    step, stamp = TrainSummary.of(trained).steps or 0, round(trained.ended_at * 1000)
    return [Point(safe_name(f"run/{k}"), v, stamp, step) for k, v in numbers(summary)]


def evaluation_points(evaluated: Accepted, step: int) -> list[Point]:
    """The final evaluation of every policy, and metrics, at the last training step."""
    stamp = round(evaluated.ended_at * 1000)
    measured = [
        Point(safe_name(f"evaluate/{name}"), value, stamp, step)
        for name, value in numbers(metric_values(evaluated))
    ]
    return measured + [
        Point(safe_name(f"evaluate/{policy}/{name}"), value, stamp, step)
        for policy, scores in policy_scores(evaluated).items()
        for name, value in numbers(_with_interval(scores))
    ]


def end_points(trained: Accepted | None, evaluated: Accepted | None) -> list[Point]:
    """The end values of a run: those of its training, then those of its evaluation."""
    points = [] if trained is None else train_points(trained)
    if evaluated is not None:
        points += evaluation_points(evaluated, TrainSummary.of(trained).steps or 0)
    return points


def _with_interval(scores: Mapping[str, JsonView]) -> dict[str, JsonView]:
    flat_scores = {k: v for k, v in scores.items() if k not in ("ci95", "by_option")}
    interval = scores.get("ci95")
    if isinstance(interval, list | tuple) and len(interval) == 2:
        flat_scores["ci95_low"], flat_scores["ci95_high"] = interval
    return flat_scores


def parent_points(evaluated: Iterable[Accepted]) -> list[Point]:
    """Means over seeds of the final evaluation; the x-axis is how many seeds they stand for."""
    values: dict[str, list[float]] = {}
    stamp, seeds = 0, 0
    for accepted in evaluated:
        seeds, stamp = seeds + 1, max(stamp, round(accepted.ended_at * 1000))
        for name, value in numbers(metric_values(accepted)):
            values.setdefault(f"evaluate/{name}", []).append(value)
        for policy, scores in policy_scores(accepted).items():
            mean = scores.get("mean_return")
            if isinstance(mean, int | float):
                values.setdefault(f"evaluate/{policy}/mean_return", []).append(float(mean))
    return [
        Point(safe_name(key), sum(measured) / len(measured), stamp, seeds)
        for key, measured in values.items()
    ]
