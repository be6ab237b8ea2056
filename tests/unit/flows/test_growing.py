"""What a schedule with ``--continue`` asks for: what is there, and more once that is finished."""

from __future__ import annotations

from pathlib import Path

import pytest

from drillyard.errors import ConfigError
from drillyard.mailbox.records import StudyState
from drillyard.spec.load import load
from drillyard_flows.growing import amounts, grown
from drillyard_flows.request import Request
from tests.helpers.fixtures_store import write_experiment

FILE = """\
schema: 1
name: cstr-ppo
simulator: {id: cstr}
learner: {algorithm: ppo}
train: {steps: 100}
seeds: [7]
budget: {max_hours: 2}
"""
TUNED = "ppo, args: {learning_rate: {tune: [1.0e-4, 1.0e-2], log: true}}}"
STUDY = FILE.replace("ppo}", TUNED) + "study: {trials: 4}\n"


def request(folder: Path, text: str = FILE) -> Request:
    path = folder / "mine.yaml"
    path.write_text(text)
    return Request(file=str(path), store=str(folder / "store"), sets=["train.n_envs=2"])


def test_what_is_not_there_yet_is_run_as_the_file_says(tmp_path):
    asked = request(tmp_path)
    assert grown(asked, ["seeds=1"]) == asked
    assert grown(asked, []) is asked


def test_a_finished_experiment_gets_more_than_there_is_and_not_than_the_file_says(tmp_path):
    box = write_experiment(tmp_path / "store", seeds=(1, 4))
    steps = box.experiment_record().spec["train"]["steps"]
    found = grown(request(tmp_path), ["seeds=2", "steps=50000"])
    assert found.sets == ["train.n_envs=2", "seeds=[1, 4, 5, 6]", f"train.steps={steps + 50_000}"]


def test_what_is_open_is_finished_first(tmp_path):
    """Also by a flow run that is repeated after it was killed."""
    write_experiment(tmp_path / "store", seeds=(1, 4), finished=1)
    assert grown(request(tmp_path), ["seeds=2"]).sets == ["train.n_envs=2", "seeds=[1, 4]"]


def test_a_flow_run_that_is_repeated_after_all_was_finished_adds_nothing_again(tmp_path):
    """It was killed in its teardown, or while it waited for MLflow, and repeated."""
    box = write_experiment(tmp_path / "store", seeds=(1, 4))
    asked, first = request(tmp_path), "first-flow-run"
    more = grown(asked, ["seeds=1"], first)
    assert more.sets[-1] == "seeds=[1, 4, 5]"
    assert grown(asked, ["seeds=1"], first) == more  # killed before anything was done
    record = box.experiment_record()
    spec = {**record.spec, "seeds": [1, 4, 5, 6]}  # another one added a seed since then
    box.write("experiment.json", record.model_copy(update={"spec": spec}))
    assert grown(asked, ["seeds=1"], first).sets[-1] == "seeds=[1, 4, 5, 6]"
    assert grown(asked, ["seeds=1"], "next-flow-run").sets[-1] == "seeds=[1, 4, 5, 6, 7]"


def test_a_study_gets_trials(tmp_path):
    box = write_experiment(
        tmp_path / "store", study={"trials": 9}, budget={"max_hours": 1.5, "max_cost": None}
    )
    asked = request(tmp_path, STUDY)
    assert grown(asked, ["trials=3"]).sets[-1] == "study.trials=9"
    box.write_study_state(StudyState(phase="over"))
    assert grown(asked, ["trials=3", "hours=0.5"]).sets[1:] == [
        "study.trials=12",
        "budget.max_hours=2",
    ]


@pytest.mark.parametrize(
    ("text", "more", "words"),
    [
        (FILE, "weeks=1", "weeks cannot be added"),
        (FILE, "trials=1", "trials cannot be added"),
        (STUDY, "seeds=1", "seeds cannot be added"),
        (FILE, "seeds=0", "not a number above zero"),
        (FILE, "seeds=1.5", "not a number above zero"),
        (FILE, "steps=many", "not a number above zero"),
        (FILE, "cost=5", "no budget.max_cost"),
        (FILE, "seeds", "is not name=value"),
    ],
)
def test_what_cannot_grow_is_refused_with_what_can(tmp_path, text, more, words):
    (tmp_path / "mine.yaml").write_text(text)
    with pytest.raises(ConfigError, match=words) as refused:
        amounts([more], load(tmp_path / "mine.yaml").spec)
    assert refused.value.hint and refused.value.allowed
