"""Choosers, constraints, objectives and the memory of a study, without a driver."""

from __future__ import annotations

import itertools
import math
from pathlib import Path
from typing import Any

import pytest

from drillyard.errors import BadValue, ConfigError, ConfigErrors
from drillyard.mailbox import Mailbox, open_store
from drillyard.mailbox.records import TrialOutcome, TrialRecord
from drillyard.mailbox.status import Status
from drillyard.spec.constraints import parse
from drillyard.spec.load import Loaded, load
from drillyard.spec.study import BY_CHANCE, ObjectiveSpec
from drillyard.spec.tunables import Space
from drillyard.studies import optuna_space, views
from drillyard.studies.choosers import Chance, Choice, cells, key_of
from drillyard.studies.factory import checked, make_chooser
from drillyard.studies.memory import in_memory
from drillyard.studies.objectives import aggregate, dominates, over_seeds, reduce
from drillyard.studies.optuna_chooser import ModelChooser
from drillyard.studies.state import budgets_of, front_of, ranked, used_up
from tests.helpers.searches import frozen, space_of, study_file

SPACE = {
    "shape": {
        "params": {
            "level": {"type": "float", "range": [0.0, 1.0], "default": 0.5},
            "batch": {"type": "int", "range": [16, 256], "log": True, "default": 64},
            "kind": {"type": "categorical", "values": ["s", "m", "l"], "default": "m"},
        }
    },
    "server": {
        "cost": 5,
        "params": {
            "cache": {
                "type": "int",
                "range": [0, 100],
                "default": -1,
                "special": [-1],
                "special_weights": [0.5],
                "range_weight": 0.5,
            },
            "ratio": {"type": "float", "range": [0, 1], "bins": 5, "default": 0.5},
        },
    },
}


def study(folder: Path, **changes: Any) -> Loaded:
    tuned = {"tunables": SPACE, "tunable_params": ["shape", "server"]}
    chosen = {"chooser": "random", "trials": 5, **changes}
    return load(study_file(folder, chosen, parameters=tuned, mock=None))


@pytest.fixture
def space():
    return space_of(SPACE, "shape", "server")


# -- constraints ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "holds"),
    [
        ("batch % 16 == 0", True),
        ("batch * level < 10", False),
        ("0 < level <= 0.5", True),
        ("kind in ['s', 'm'] and not batch > 100", True),
        ("kind == 'l' or level ** 2 < 0.2", False),
        ("min(batch, 10) == 10 if kind == 'm' else level > 2", True),
        ("batch / 0 > 1", False),
    ],
)
def test_a_constraint_is_computed(text, holds):
    assert parse(text).holds({"batch": 64, "level": 0.5, "kind": "m"}) is holds


@pytest.mark.parametrize(
    "text",
    [
        "__import__('os').system('true')",
        "level.real > 0",
        "(lambda: 1)()",
        "[x for x in batch]",
        "level := 3",
        "open('f')",
        "batch[0] > 1",
        "1 < 2",
        "level >",
        "f'{level}' == ''",
        "getattr(level, 'x')",
        "x" * 600,
        "batch << 3 > 1",
        "",
    ],
)
def test_a_constraint_is_no_program(text):
    with pytest.raises(BadValue):
        parse(text)


def test_a_constraint_never_takes_for_ever():
    with pytest.raises(ConfigError, match="power"):
        parse("level < 9 ** 9 ** 9").holds({"level": 1.0})
    with pytest.raises(ConfigError, match="texts"):
        parse("kind * 99999 == ''").holds({"kind": "m"})


# -- what is refused ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"trials": None}, "never ends by itself"),
        ({"constraints": ["levle < 1"]}, "did you mean 'level'"),
        ({"constraints": ["level > 2"]}, "no assignment of 2,000 drawn"),
        ({"chooser": "grid", "grid": {"lvl": 3}}, "not an active tunable"),
        ({"chooser": "grid", "grid": {"kind": ["xl"]}}, "not one of its values"),
        ({"chooser": "grid", "trials": None, "grid": {"level": 100000, "batch": 200}}, "cells"),
        ({"chooser": "list"}, "needs `experiments:`"),
        ({"chooser": "manual", "cycles": [{"level": 2}]}, "out of range"),
        ({"chooser": "tpee"}, "tpe"),
        ({"storage": "mysql://x/y", "chooser": "tpe"}, "not a database for a study"),
        ({"storage": "sqlite:///x.db"}, "has nothing to store"),
        ({"objectives": []}, "needs an objective"),
        ({"grid": {"level": 3}}, "belongs to the chooser grid"),
        ({"only": [1]}, "belongs to the chooser list"),
        ({"objectives": [{"metric": "evaluate/scor"}]}, "did you mean 'evaluate/score'"),
        ({"pruner": {"type": "median"}}, "which this mock does not draw"),
    ],
)
def test_what_cannot_work_names_the_field_and_a_fix(tmp_path, changes, said):
    with pytest.raises((ConfigError, ConfigErrors)) as caught:
        study(tmp_path, **changes)
    text = f"{caught.value} {caught.value.hint}"
    assert said in text
    assert "study" in text
    assert "s.json" in text
    assert caught.value.hint


# -- choosers without a memory --------------------------------------------------------------------


def test_chance_repeats_itself_at_an_index_and_nothing_else(space):
    def drawn(seed: int) -> list[dict[str, Any]]:
        chooser = Chance(space, [parse("batch < 200")], seed, defaults_first=True)
        taken: list[dict[str, Any]] = []
        for index in range(1, 61):
            choice = chooser.ask(index, taken)
            taken.append(choice.assignment)
        return taken

    first = drawn(0)
    assert first == drawn(0)
    assert first != drawn(1)
    assert first[0] == space.defaults()
    assert len({key_of(a) for a in first}) == 60
    assert all(a["batch"] < 200 for a in first)
    assert 10 < sum(a["cache"] == -1 for a in first) < 50  # its weight is a half


def test_chance_ends_when_everything_was_tried():
    tiny = space_of(
        {"g": {"params": {"k": {"type": "categorical", "values": [1, 2, 3], "default": 1}}}}
    )
    chooser = Chance(tiny, [], 0, defaults_first=True)
    taken: list[dict[str, Any]] = []
    while (choice := chooser.ask(len(taken) + 1, taken)) is not None:
        taken.append(choice.assignment)
    assert sorted(a["k"] for a in taken) == [1, 2, 3]


def test_a_grid_has_all_cells_and_changes_the_dear_group_least(space):
    found = cells(space, {"level": 3, "batch": [16, 256], "cache": 2, "ratio": 2}, [])
    assert len(found) == 3 * 2 * 3 * 3 * 2
    assert len({key_of(a) for a in found}) == len(found)
    assert {a["level"] for a in found} == {0.0, 0.5, 1.0}
    assert {a["cache"] for a in found} == {-1, 0, 100}
    dear = [(a["cache"], a["ratio"]) for a in found]
    assert sum(a != b for a, b in itertools.pairwise(dear)) == 3 * 2 - 1
    less = cells(space, {"level": 3, "batch": [16, 256]}, [parse("level < 1 or kind == 's'")])
    assert all(a["level"] < 1 or a["kind"] == "s" for a in less)


def test_manual_cycles_go_round(tmp_path):
    loaded = study(tmp_path, chooser="manual", cycles=[{"level": 0}, {"level": 1}], trials=5)
    chooser = make_chooser(loaded.spec, Mailbox(open_store(str(tmp_path / "r")), "s"))
    found = [chooser.ask(i, ()) for i in range(1, 6)]
    assert [c.assignment["level"] for c in found if c] == [0.0, 1.0, 0.0, 1.0, 0.0]
    assert {c.assignment["batch"] for c in found if c} == {64}


# -- models ---------------------------------------------------------------------------------------


def test_lowering_goes_there_and_back(space):
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    memory = optuna.create_study()
    for index in range(40):
        from random import Random

        wanted = space.draw(Random(index))
        parameters, _ = optuna_space.params(space, wanted)
        memory.enqueue_trial(parameters)
        assert optuna_space.suggest(space, memory.ask()) == wanted


OBJECTIVE = [ObjectiveSpec(metric="score", direction="min")]


def memory_of(url: str | None, space: Space, kind: str = "tpe") -> ModelChooser:
    return ModelChooser(
        kind,
        space,
        OBJECTIVE,
        [parse("batch < 200")],
        url=url,
        name="s",
        seed=3,
        defaults_first=True,
    )


def outcome_of(record: TrialRecord, status: Status = Status.SUCCEEDED) -> TrialOutcome:
    value = (record.assignment["level"] - 0.3) ** 2 + record.assignment["batch"] / 1000
    return TrialOutcome(number=record.number, status=status, values={"score": value}, ended_at=1.0)


@pytest.mark.heavy
@pytest.mark.parametrize("kind", ["tpe", "cma-es", "gp", "nsga2"])
def test_every_model_searches_and_keeps_to_the_rules(space, kind):
    chooser = memory_of(None, space, kind)
    chooser.reconcile([], {})
    records: list[TrialRecord] = []
    for number in range(1, 26):
        choice = chooser.ask(number, [r.assignment for r in records])
        assert choice is not None
        record = frozen(number, choice)
        chooser.kept(record)
        chooser.tell(record, outcome_of(record))
        records.append(record)
    assert records[0].chooser == "defaults"
    assert [r.chooser for r in records].count(kind) >= 8
    assert len({key_of(r.assignment) for r in records}) == 25
    assert all(r.assignment["batch"] < 200 for r in records)
    for record in records:
        assert space.assign(record.assignment) == record.assignment


@pytest.mark.heavy
@pytest.mark.parametrize("kind", ["tpe", "gp", "nsga2"])
def test_no_result_changes_what_is_drawn_by_chance(space, kind):
    """Two studies with opposite results choose the same until then; the next trial differs."""
    chosen = []
    for sign in (1, -1):
        chooser = memory_of(None, space, kind)
        chooser.reconcile([], {})
        records: list[TrialRecord] = []
        for number in range(1, BY_CHANCE[kind] + 2):
            choice = chooser.ask(number, [r.assignment for r in records])
            records.append(frozen(number, choice))
            chooser.kept(records[-1])
            outcome = outcome_of(records[-1])
            values = {name: sign * value for name, value in outcome.values.items()}
            chooser.tell(records[-1], outcome.model_copy(update={"values": values}))
        chosen.append([key_of(r.assignment) for r in records])
    one, other = chosen
    assert one[:-1] == other[:-1]
    assert one[-1] != other[-1]


def test_the_memory_is_brought_in_line_after_a_kill(tmp_path, space):
    """Asked for and not frozen: closed. Frozen and not told: told. Unknown to it: added."""
    from optuna.trial import TrialState

    url = f"sqlite:///{tmp_path / 'memory.db'}"
    first = memory_of(url, space)
    first.reconcile([], {})
    records = []
    for number in range(1, 5):
        choice = first.ask(number, [r.assignment for r in records])
        records.append(frozen(number, choice))
        first.kept(records[-1])
    first.tell(records[0], outcome_of(records[0]))
    first.ask(5, [r.assignment for r in records])  # killed before it was frozen
    first._study.enqueue_trial({"level": 0.1})  # killed inside `_given`

    foreign = frozen(5, first._given(Choice(space.defaults() | {"level": 0.77}, "random")))
    foreign = foreign.model_copy(update={"memory": None, "number": 5})
    outcomes = {r.number: outcome_of(r) for r in [*records[:3], foreign]}
    again = memory_of(url, space)
    again.reconcile([*records, foreign], outcomes)
    states = [t.state for t in again._trials()]
    assert states.count(TrialState.COMPLETE) == 4  # 1 told before, 2 told now, 1 added
    assert states.count(TrialState.RUNNING) == 1  # the fourth is still at work
    assert states.count(TrialState.WAITING) == 0
    again.tell(records[3], outcome_of(records[3]))
    again.tell(records[3], outcome_of(records[3]))  # nothing is told twice
    third = memory_of(url, space)
    third.reconcile([*records, foreign], outcomes | {4: outcome_of(records[3])})
    told = [t for t in third._trials() if t.state is TrialState.COMPLETE]
    assert len(told) == 5
    assert [t.state for t in third._trials()].count(TrialState.RUNNING) == 0


def test_a_memory_that_was_lost_is_made_again(tmp_path, space):
    first = memory_of(None, space)
    first.reconcile([], {})
    records: list[TrialRecord] = []
    for number in range(1, 14):
        records.append(frozen(number, first.ask(number, [r.assignment for r in records])))
        first.kept(records[-1])
        first.tell(records[-1], outcome_of(records[-1]))
    outcomes = {r.number: outcome_of(r) for r in records}
    lost = memory_of(f"sqlite:///{tmp_path / 'new.db'}", space)
    lost.reconcile(records, outcomes)
    assert sorted(t.values[0] for t in lost._trials() if t.values) == pytest.approx(
        sorted(o.values["score"] for o in outcomes.values())
    )
    assert lost.ask(14, [r.assignment for r in records]) is not None


# -- objectives and budgets -----------------------------------------------------------------------


def test_reducers():
    curve = [(0, 4.0), (10, 1.0), (30, 3.0)]
    assert [reduce(curve, how) for how in ("last", "min", "max")] == [3.0, 1.0, 4.0]
    assert reduce(curve, "mean-of-last", 2) == 2.0
    assert reduce(curve, "auc") == pytest.approx((10 * 2.5 + 20 * 2.0) / 30)
    assert reduce([(5, 2.0)], "auc") == 2.0
    values = [1.0, 2.0, 3.0, 10.0]
    assert [over_seeds(values, how) for how in ("mean", "median", "min", "max", "iqm")] == [
        4.0,
        2.5,
        1.0,
        10.0,
        2.5,
    ]


def test_several_objectives_have_a_front():
    both = [ObjectiveSpec(metric="a", direction="max"), ObjectiveSpec(metric="b", direction="min")]
    assert dominates({"a": 2, "b": 1}, {"a": 1, "b": 1}, both)
    assert not dominates({"a": 2, "b": 2}, {"a": 1, "b": 1}, both)
    found = [
        TrialOutcome(number=n, status=Status.SUCCEEDED, values={"a": a, "b": b})
        for n, (a, b) in enumerate([(1, 1), (2, 2), (1.5, 3), (3, 3)], 1)
    ]
    assert front_of(found, both) == [1, 2, 4]
    values, single = aggregate({1: {"a": 1.0, "b": 0.0}, 2: {"a": 3.0, "b": 0.0}}, both)
    assert values == {"a": 2.0, "b": 0.0}
    assert single["a"] == {"1": 1.0, "2": 3.0}


def test_budgets_say_which_one_is_reached(tmp_path):
    loaded = study(tmp_path, trials=40, budget={"steps": 100, "plateau": {"trials": 3}})
    assert loaded.spec.study is not None
    records = [
        TrialRecord(number=n, chooser="random", seeds=[1], chosen_at=0) for n in range(1, 6)
    ]
    scores = [5.0, 2.0, 3.0, 2.0, 4.0]
    outcomes = {
        n: TrialOutcome(
            number=n,
            status=Status.SUCCEEDED,
            values={"evaluate/score": s},
            steps=10,
            ended_at=float(n),
        )
        for n, s in enumerate(scores, 1)
    }
    objectives = loaded.spec.study.objectives
    found = budgets_of(loaded.spec.study, 40, records, outcomes, objectives, hours=0.1, cost=0.0)
    assert found["trials"] == {"used": 5, "limit": 40}
    assert found["steps"] == {"used": 50, "limit": 100}
    assert found["plateau"] == {"used": 3, "limit": 3}
    assert "plateau" in str(used_up(found))
    assert [o.number for o in ranked(records, outcomes, objectives)] == [2, 4, 3, 5, 1]
    assert math.isclose(found["failures"]["limit"], 10)


def test_constraints_are_checked_against_the_space(tmp_path):
    loaded = study(tmp_path, constraints=["batch < 100", "kind != 'l'"])
    found, constraints = checked(loaded.spec)
    assert set(found.tunables) == {"level", "batch", "kind", "cache", "ratio"}
    assert [c.expression.text for c in constraints] == ["batch < 100", "kind != 'l'"]


def test_views_tell_the_best_and_its_confirmation(tmp_path):
    mailbox = Mailbox(open_store(str(tmp_path)), "v")
    scores = {1: 5.0, 2: 2.0, 3: 3.0}
    for number, score in scores.items():
        record = TrialRecord(
            number=number,
            chooser="random",
            assignment={"level": score / 10},
            seeds=[1, 2],
            chosen_at=0,
        )
        assert mailbox.choose(record)
        assert not mailbox.choose(record.model_copy(update={"chooser": "other"}))
        mailbox.end_trial(
            TrialOutcome(
                number=number,
                status=Status.SUCCEEDED,
                values={"score": score},
                by_seed={"score": {"1": score, "2": score}},
                ended_at=1.0,
            )
        )
    mailbox.choose(TrialRecord(number=4, chooser="confirm", of=2, seeds=[3], chosen_at=0))
    found = views.trials(mailbox)
    assert [v.status for v in found] == [Status.SUCCEEDED] * 3 + [Status.PENDING]
    assert [v.runs for v in found[1:3]] == [["t0002-s1", "t0002-s2"], ["t0003-s1", "t0003-s2"]]
    level = space_of({"g": {"params": {"level": SPACE["shape"]["params"]["level"]}}})
    plotted = in_memory(found, OBJECTIVE, level)
    assert plotted.best_trial.user_attrs == {"trial": 2}
    assert plotted.best_params == {"level": 0.2}
