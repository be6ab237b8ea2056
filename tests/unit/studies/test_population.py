"""Population-based training: who goes on from whom, with which values, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from random import Random
from typing import Any

import pytest

from drillyard.errors import ConfigError, ConfigErrors, IdentityChanged
from drillyard.mailbox import Mailbox, open_store
from drillyard.mailbox.records import TrialOutcome, TrialRecord
from drillyard.mailbox.status import Status
from drillyard.spec.load import load
from drillyard.spec.study import ObjectiveSpec, PopulationSpec
from drillyard.spec.tunables import Tunable
from drillyard.studies.factory import make_chooser, refuse_changed
from drillyard.studies.population import Population, moved
from tests.helpers.searches import frozen, space_of

SPACE = {
    "net": {
        "params": {
            "lr": {"type": "float", "range": [1e-5, 1e-2], "log": True, "default": 1e-3},
            "batch": {"type": "int", "range": [16, 256], "default": 64},
        }
    },
}
MIN = ObjectiveSpec(metric="evaluate/score", direction="min")


def population(**changes: Any) -> Population:
    settings = PopulationSpec(members=4, generations=3, **changes)
    return Population(settings, space_of(SPACE), [], MIN, steps=1000, seed=7, defaults_first=True)


def next_trial(chooser: Population, records: list[TrialRecord]) -> TrialRecord:
    choice = chooser.ask(len(records) + 1, [r.assignment for r in records])
    record = frozen(len(records) + 1, choice)
    chooser.kept(record)
    records.append(record)
    return record


def ended(record: TrialRecord, value: float | None) -> TrialOutcome:
    return TrialOutcome(
        number=record.number,
        status=Status.FAILED if value is None else Status.SUCCEEDED,
        values={} if value is None else {MIN.name: value},
    )


def generation(
    chooser: Population, records: list[TrialRecord], values: list[float | None]
) -> list[TrialRecord]:
    made = [next_trial(chooser, records) for _ in values]
    for record, value in zip(made, values, strict=True):
        assert not chooser.ready(len(records) + 1)
        chooser.tell(record, ended(record, value))
    return made


def test_the_worst_goes_on_from_the_best_with_other_values():
    chooser = population()
    records: list[TrialRecord] = []
    first = generation(chooser, records, [3.0, 1.0, 2.0, 9.0])
    assert first[0].assignment == {"lr": 1e-3, "batch": 64}
    assert len({r.assignment["lr"] for r in first}) == 4
    second = [next_trial(chooser, records) for _ in range(4)]
    places = [(r.lineage.generation, r.lineage.parent) for r in second if r.lineage]
    assert places == [(2, 1), (2, 2), (2, 3), (2, 2)]  # less is better: trial 2 is, trial 4 is not
    assert [r.assignment for r in second[:3]] == [r.assignment for r in first[:3]]
    assert second[3].assignment != first[1].assignment
    assert [r.lineage.ends_at for r in (first[0], second[0]) if r.lineage] == [334, 667]
    assert second[3].label == "member 4 generation 2 from t0002"


def test_zero_is_a_score_and_who_failed_goes_on_from_somebody_else():
    chooser = population()
    records: list[TrialRecord] = []
    generation(chooser, records, [0.0, 1.0, None, 2.0])
    second = [next_trial(chooser, records) for _ in range(4)]
    assert [r.lineage.parent for r in second if r.lineage] == [1, 2, 1, 4]
    for record in second:
        chooser.tell(record, ended(record, None))
    assert chooser.ask(9, []) is None


def test_a_resume_chooses_what_would_have_been_chosen():
    whole, records = population(), list[TrialRecord]()
    values = [[3.0, 1.0, 2.0, 9.0], [5.0, 4.0, 8.0, 1.0], [1.0, 2.0, 3.0, 4.0]]
    for row in values:
        generation(whole, records, list(row))
    flat = [v for row in values for v in row]
    for cut in range(1, 12):
        again = population()
        before = records[:cut]
        again.reconcile(
            before, {r.number: ended(r, v) for r, v in zip(before, flat, strict=False)}
        )
        if not again.ready(cut + 1):
            continue
        rest = list(before)
        assert next_trial(again, rest) == records[cut]


@pytest.mark.parametrize(
    ("shape", "value", "allowed"),
    [
        ({"type": "float", "range": [0, 1], "default": 0.5}, 0.5, {0.4, 0.6}),
        ({"type": "float", "range": [0, 1], "default": 0.5}, 0.9, {0.72, 1.0}),
        ({"type": "float", "range": [-1, 1], "default": 0}, 0.0, {-0.4, 0.4}),
        ({"type": "int", "range": [1, 9], "default": 2}, 2, {1, 3}),
        ({"type": "int", "range": [1, 9], "default": 1}, 1, {1, 2}),
        ({"type": "categorical", "values": ["s", "m", "l"], "default": "m"}, "m", {"s", "l"}),
        ({"type": "categorical", "values": ["s"], "default": "s"}, "s", {"s"}),
        ({"type": "float", "range": [0, 1], "bins": 5, "default": 0.5}, 0.5, {0.25, 0.75}),
        ({"type": "int", "range": [1, 9], "special": [-1], "default": -1}, -1, {-1}),
    ],
)
def test_a_value_moves_a_little(shape, value, allowed):
    tunable = Tunable.model_validate(shape)
    found = {moved("x", tunable, value, Random(seed), [0.8, 1.2]) for seed in range(50)}
    assert {round(f, 9) if isinstance(f, float) else f for f in found} == allowed


def written(folder: Path, **changes: Any) -> Path:
    spec: dict[str, Any] = {
        "schema": 1,
        "name": "p",
        "simulator": {"id": "simple-adder"},
        "learner": {
            "algorithm": "ppo",
            "preset": None,
            "args": {"learning_rate": "$lr", "n_steps": 64, "batch_size": 64},
        },
        "train": {"steps": 1024},
        "evaluate": {"episodes": 2},
        "parameters": {"tunables": SPACE, "tunable_params": ["net"]},
        "study": {"chooser": "pbt", "population": {"members": 4, "generations": 2}},
    }
    for key, value in changes.items():
        spec[key] = {**spec[key], **value} if isinstance(value, dict) and key in spec else value
    whole = {key: value for key, value in spec.items() if value is not None}
    (folder / "p.json").write_text(json.dumps(whole))
    return folder / "p.json"


def made(folder: Path, **changes: Any) -> Population:
    spec = load(written(folder, **changes)).spec
    chooser = make_chooser(spec, Mailbox(open_store(str(folder / "runs")), "p"))
    assert isinstance(chooser, Population)
    return chooser


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"study": {"population": None}}, "needs `population:`"),
        ({"study": {"chooser": "random", "trials": 3}}, "belongs to the chooser pbt"),
        ({"study": {"trials": 8}}, "members x generations"),
        ({"study": {"confirm": 2}}, "has a policy as its winner"),
        ({"study": {"pruner": {"type": "median"}}}, "cannot have a pruner"),
        ({"seeds": "auto"}, "on their first seeds"),
        ({"study": {"population": {"members": 1, "generations": 2}}}, "members"),
        ({"study": {"population": {"members": 4, "generations": 20}}}, "shorter than a rollout"),
        ({"train": {"steps": None, "episodes": 9}}, "does not set a step at which a generation"),
        ({"learner": {"args": {"policy_kwargs": {"net_arch": ["$batch"]}}}}, "no member could"),
        ({"learner": {"algorithm": "dqn", "args": {"buffer_size": "$batch"}}}, "no member could"),
        ({"simulator": {"id": "simple-adder", "args": {"size": "$batch"}}}, "simulator.args.size"),
        (
            {
                **dict.fromkeys(("simulator", "learner", "train", "evaluate")),
                "workload": "script",
                "script": {"run": ["true"]},
                "study": {"objectives": [{"metric": "evaluate/x"}]},
            },
            "no state that another run",
        ),
    ],
)
def test_what_no_member_could_go_on_with_is_refused(tmp_path, changes, said):
    with pytest.raises((ConfigError, ConfigErrors)) as caught:
        made(tmp_path, **changes)
    text = f"{caught.value} {caught.value.hint}"
    assert said in text, text
    assert caught.value.hint or isinstance(caught.value, ConfigErrors)


def test_members_of_ppo_may_differ_in_the_length_of_a_rollout(tmp_path):
    made(tmp_path, learner={"args": {"n_steps": "$batch", "batch_size": 16}})


def test_generations_that_were_begun_may_not_change(tmp_path):
    spec = load(written(tmp_path)).spec
    record = next_trial(made(tmp_path), [])
    refuse_changed(spec, "p", [record])
    other = load(written(tmp_path, train={"steps": 2048})).spec
    with pytest.raises(IdentityChanged, match=r"study\.population"):
        refuse_changed(other, "p", [record])
