"""Curricula and metrics of the simulator."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from drillyard.errors import ConfigError, RunFailed
from drillyard.evaluation.episodes import plan
from drillyard.learners.episode_ends import Curriculum
from drillyard.learners.evaluator import Score
from drillyard.simulators.make import make_env
from drillyard.simulators.make_copies import can_vectorise, make_vec
from drillyard.simulators.vec_state import set_lesson
from drillyard.spec.curriculum import CurriculumSpec
from drillyard.spec.learning import SimulatorSpec
from tests.helpers.specs import small
from tests.helpers.steady_world import Steady

STAGES: list[dict[str, Any]] = [
    {"lesson": {"start": {"min": 45, "max": 55}}, "promote": {"mean_return": -20, "episodes": 3}},
    {
        "lesson": {"start": {"min": 20, "max": 80}},
        "promote": {"success_rate": 0.5, "episodes": 2},
        "demote": {"mean_return": -100, "episodes": 2},
    },
    {"promote": {"steps": 100}},
    {"lesson": {"start": {"values": [0, 100]}}},
]


def curriculum(stages: Any = STAGES) -> CurriculumSpec:
    return CurriculumSpec.model_validate({"stages": stages})


def adder(**more: Any) -> SimulatorSpec:
    return SimulatorSpec.model_validate({"id": "simple-adder", **more})


def test_stages_go_up_and_down_by_their_own_episodes():
    at = Curriculum(curriculum())

    def record(step: int, *returns: float, success: bool = False) -> int:
        for value in returns:
            at.record(step, value, success)
        return at.stage

    assert record(10, -30, -30, -16, -15) == 0  # of the last three: below -20
    assert record(20, -25, -20, -10) == 1
    assert record(30, 0) == 1
    assert at.record(40, 0, True)
    assert at.stage == 2
    assert record(139, 0) == 2
    assert record(140, -999) == 3
    assert record(900, *[999.0] * 50) == 3  # the last stage is the upper bound
    assert at.lesson({"start": 1, "other": 2}) == {"start": {"values": [0, 100]}, "other": 2}

    at = Curriculum(curriculum())
    record(1, 0, 0, 0)
    other = Curriculum(curriculum())
    other.load_state(at.state())
    for one in (at, other):
        assert one.stage == 1
        assert not one.record(5, -150, False)
        assert one.record(6, -50, False)  # on average at the threshold: back
        assert one.stage == 0
    assert at.state() == other.state()


@pytest.mark.heavy
@pytest.mark.parametrize("how", ["one-by-one", "vectorised", "processes"])
def test_the_lesson_of_a_stage_is_drawn_from_the_next_episode_on(how):
    spec = adder(curriculum={"stages": STAGES})
    venv = make_vec(spec, 3, 1, how=how)
    first = venv.reset()["value"]
    assert ((first >= 45) & (first <= 55)).all()
    set_lesson(venv, spec.lesson_of_stage(-1))
    for _ in range(10):
        seen, _, dones, infos = venv.step(np.full(3, 10))
    assert dones.all()
    assert all(45 <= info["lesson"]["start"] <= 55 for info in infos)
    assert set(seen["value"].ravel()) <= {0.0, 100.0}
    venv.close()


def test_an_evaluation_is_on_the_last_stage():
    world = {"id": "simple-adder", "curriculum": {"stages": STAGES}}
    spec = small(world, evaluate={"episodes": 4})
    assert [p.options["start"] for p in plan(spec)] == [0, 100, 0, 100]


@pytest.mark.parametrize(
    ("stages", "words"),
    [
        (STAGES[:1], ["at least two"]),
        ([{"lesson": {}}, {}], ["stage 0", "no `promote`"]),
        ([STAGES[0], STAGES[0]], ["stage 1", "the last"]),
        ([{**STAGES[0], "demote": {"mean_return": -50}}, {}], ["the first"]),
        (
            [STAGES[0], {"promote": {"mean_return": 1}, "demote": {"mean_return": 2}}, {}],
            ["demotes at 2"],
        ),
        ([STAGES[0], {"demote": {"steps": 5}}], ["steps alone"]),
        ([{"promote": {"steps": 5, "mean_return": 1}}, {}], ["exactly one"]),
    ],
)
def test_stages_that_make_no_sense_are_refused(stages, words):
    with pytest.raises(ValidationError) as caught:
        curriculum(stages)
    for word in words:
        assert word in str(caught.value)


def test_lessons_of_stages_are_checked_by_name(tmp_path):
    bad = [{**STAGES[0], "lesson": {"strat": 5}}, {}]
    with pytest.raises(ConfigError, match=r"stages\[0\]\.lesson\.strat"):
        make_env(adder(curriculum={"stages": bad}))


class Gauge(Steady):
    """Its gauge reads 1, 2, 3, 4; then the episode is over."""

    length = 4

    def step(self, action: Any) -> Any:
        return *super().step(action)[:4], {"gauge": self.n, "name": "x"}

    def state(self) -> dict[str, Any]:
        return {"n": self.n}

    def load_state(self, state: dict[str, Any]) -> None:
        self.n = state["n"]


@pytest.mark.parametrize(
    ("how", "value"), [("mean", 2.5), ("sum", 10), ("min", 1), ("max", 4), ("last", 4)]
)
def test_keys_of_info_become_metrics_of_an_episode(how, value):
    spec = SimulatorSpec.model_validate({"id": f"{__name__}:Gauge", "metrics": {"gauge": how}})
    env, other = make_env(spec), make_env(spec)
    for _ in range(2):  # an episode begins anew
        env.reset()
        env.step(0)
        env.step(0)
        from drillyard.testing.simulator_suite import load, save

        other.reset()
        states = save(env)
        assert states is not None
        load(other, states)
        for one in (env, other):
            one.step(0)
            assert one.step(0)[4]["metrics"] == {"gauge": value}
    assert not can_vectorise(adder(metrics={"state_value": "mean"}))


def test_a_key_that_is_not_there_is_said():
    for key, words in (("guage", "'gauge'"), ("name", "finite number")):
        env = make_env(
            SimulatorSpec.model_validate({"id": f"{__name__}:Gauge", "metrics": {key: "mean"}})
        )
        env.reset()
        with pytest.raises(RunFailed) as caught:
            env.step(0)
        assert words in f"{caught.value} {caught.value.hint}"


def test_an_evaluation_while_training_has_them():
    score = Score([1.0, 3.0], [5, 5], [{"gauge": 2.0}, {"gauge": 4.0}])
    assert score.metrics()["eval/gauge"] == 3.0
