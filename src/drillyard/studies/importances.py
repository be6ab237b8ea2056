"""How much each parameter of a study explains, by Optuna, in a process of its own.

Optuna imports scikit-learn and SciPy for it, which take 150 MiB that the process of a driver or of
a command would keep.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import TypeAdapter

from drillyard.documents.json_types import JsonObject
from drillyard.spec import ExperimentSpec
from drillyard.spec.study import ObjectiveSpec
from drillyard.studies.views import TrialView


class Unknown(Exception):
    """The importances cannot be told; the message says why."""


@dataclass(frozen=True)
class _Question:
    """What the other process is given."""

    views: Sequence[TrialView]
    objectives: Sequence[ObjectiveSpec]
    spec: Mapping[str, Any]
    quick: bool


_QUESTIONS = TypeAdapter(_Question)


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
    question = _Question(views, objectives, spec, quick)
    # -P: a file of the working directory must not take the place of a module.
    done = subprocess.run(
        [sys.executable, "-P", "-m", __name__],
        input=_QUESTIONS.dump_json(question, by_alias=True),
        capture_output=True,
        check=False,
    )
    if done.returncode:
        lines = done.stderr.decode(errors="replace").strip().splitlines()
        last = lines[-1:] or [f"exit code {done.returncode}"]
        raise Unknown(last[0])
    answer: dict[str, Any] = json.loads(done.stdout)
    if "why" in answer:
        raise Unknown(answer["why"])
    return dict(answer["importances"])


def _told(question: _Question) -> JsonObject:
    from optuna.importance import (
        FanovaImportanceEvaluator,
        PedAnovaImportanceEvaluator,
        get_param_importances,
    )

    from drillyard.spec.binding import space
    from drillyard.studies.memory import in_memory

    tunables = space(ExperimentSpec.model_validate(question.spec))
    memory = in_memory(question.views, question.objectives, tunables)
    how = PedAnovaImportanceEvaluator() if question.quick else FanovaImportanceEvaluator(seed=0)
    target = (lambda t: t.values[0]) if len(question.objectives) > 1 else None
    try:
        importance_of = get_param_importances(memory, evaluator=how, target=target)
    except (RuntimeError, ValueError) as error:
        return {"why": str(error)}
    return {"importances": [[name, float(value)] for name, value in importance_of.items()]}


if __name__ == "__main__":
    json.dump(_told(_QUESTIONS.validate_json(sys.stdin.buffer.read())), sys.stdout)
