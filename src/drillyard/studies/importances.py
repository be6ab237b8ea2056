"""How much each parameter of a study explains, by Optuna, in a process of its own.

Optuna imports scikit-learn and SciPy for it, which take 150 MiB that the process of a driver or of
a command would keep.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from drillyard.documents.json_types import JsonObject
from drillyard.mailbox.records import TrialOutcome, TrialRecord
from drillyard.mailbox.status import Status
from drillyard.spec import ExperimentSpec
from drillyard.spec.study import ObjectiveSpec
from drillyard.studies.views import TrialView


class Unknown(Exception):
    """The importances cannot be told; the message says why."""


def importances(
    views: Sequence[TrialView],
    objectives: Sequence[ObjectiveSpec],
    spec: Mapping[str, Any],
    quick: bool,
) -> dict[str, float]:
    """Parameter -> importance, most first.

    Args:
        views: The trials.
        objectives: The objectives; the first counts.
        spec: The experiment, as JSON.
        quick: By PED-ANOVA instead of fANOVA.

    Raises:
        Unknown: Optuna cannot tell them.
    """
    asked = {
        "views": [_written(view) for view in views],
        "objectives": [o.model_dump(mode="json", by_alias=True) for o in objectives],
        "spec": spec,
        "quick": quick,
    }
    # -P: a file of the working directory must not take the place of a module.
    done = subprocess.run(
        [sys.executable, "-P", "-m", __name__],
        input=json.dumps(asked),
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        last = done.stderr.strip().splitlines()[-1:] or [f"exit code {done.returncode}"]
        raise Unknown(last[0])
    answer: dict[str, Any] = json.loads(done.stdout)
    if "why" in answer:
        raise Unknown(answer["why"])
    return dict(answer["importances"])


def _written(view: TrialView) -> JsonObject:
    return {
        "record": view.record.model_dump(mode="json"),
        "status": view.status.value,
        "outcome": None if view.outcome is None else view.outcome.model_dump(mode="json"),
        "seeds": [*view.seeds],
    }


def _read(written: Mapping[str, Any]) -> TrialView:
    outcome = written["outcome"]
    return TrialView(
        TrialRecord.model_validate(written["record"]),
        Status(written["status"]),
        None if outcome is None else TrialOutcome.model_validate(outcome),
        written["seeds"],
    )


def _told(asked: Mapping[str, Any]) -> JsonObject:
    from optuna.importance import (
        FanovaImportanceEvaluator,
        PedAnovaImportanceEvaluator,
        get_param_importances,
    )

    from drillyard.spec.binding import space
    from drillyard.studies.memory import in_memory

    objectives = [ObjectiveSpec.model_validate(o) for o in asked["objectives"]]
    tunables = space(ExperimentSpec.model_validate(asked["spec"]))
    memory = in_memory([_read(view) for view in asked["views"]], objectives, tunables)
    how = PedAnovaImportanceEvaluator() if asked["quick"] else FanovaImportanceEvaluator(seed=0)
    target = (lambda t: t.values[0]) if len(objectives) > 1 else None
    try:
        found = get_param_importances(memory, evaluator=how, target=target)
    except (RuntimeError, ValueError) as error:
        return {"why": str(error)}
    return {"importances": [[name, float(value)] for name, value in found.items()]}


if __name__ == "__main__":
    json.dump(_told(json.load(sys.stdin)), sys.stdout)
