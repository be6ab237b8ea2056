"""The contract of ``Learner``, as tests.

Use it from a plug-in's tests::

    from drillyard.testing.learner_suite import LearnerSuite

    class TestMyLearner(LearnerSuite):
        @pytest.fixture
        def spec(self): ...      # a small `rl` experiment with your learner, at least two
                                 # checkpoints long and done in seconds
"""

from __future__ import annotations

import json
import math
from collections.abc import Collection
from pathlib import Path

import numpy as np
import pytest

from drillyard.agents.base import Declares, LoadedPolicy, load_policy
from drillyard.agents.spaces import space_from_json
from drillyard.documents.json_types import JsonObject, as_integer, as_number, as_object
from drillyard.errors import Stopped, UserError
from drillyard.findings import Severity
from drillyard.learners.honours import ALWAYS, ARGUMENTS, EVERYTHING
from drillyard.mailbox.records import Phase
from drillyard.mailbox.status import Status
from drillyard.metrics.streams import canonical, read_stream
from drillyard.registry import load
from drillyard.runs.workload import PhaseOutcome
from drillyard.simulators.make import make_env
from drillyard.spec import ExperimentSpec
from drillyard.testing.phases import CountedStop, OneRun
from drillyard.workloads.rl import RlWorkload

_CHANGES: dict[str, dict[str, JsonObject]] = {
    "train.n_envs": {"train": {"n_envs": 2}},
    "evaluate.every.steps": {"evaluate": {"every": {"steps": 50, "episodes": 1}}},
    "simulator.wrappers.frame_stack": {
        "simulator": {"wrappers": [{"name": "frame_stack", "args": {"n": 2}}]}
    },
}
"""Field that a learner may declare -> what asks for it."""
Trained = tuple[OneRun, PhaseOutcome, dict[str, bytes]]
POLICY = "policy_final.safetensors"


class LearnerSuite:
    """Inherit, and supply the fixture ``spec``."""

    @pytest.fixture
    def trained(self, tmp_path: Path, spec: ExperimentSpec) -> Trained:
        """A run that was trained without an interruption."""
        run = OneRun(tmp_path / "whole", spec, RlWorkload())
        outcome = run.phase(Phase.TRAIN)
        return run, outcome, run.contents(outcome)

    def test_check_finds_no_error(self, spec: ExperimentSpec) -> None:
        """With the simulator of the fixture."""
        findings = RlWorkload().check(spec, None)
        bad = [f"{f.subject}: {f.message}" for f in findings if f.severity is Severity.ERROR]
        assert not bad, "\n".join(bad)

    def test_an_unknown_argument_is_refused_before_anything_runs(
        self, spec: ExperimentSpec
    ) -> None:
        """By its name."""
        assert spec.learner is not None
        args = {**spec.learner.args, "no_such_argument": 1}
        wrong = spec.model_copy(update={"learner": spec.learner.model_copy(update={"args": args})})
        try:
            findings = RlWorkload().check(wrong, None)
        except UserError as error:
            assert "no_such_argument" in str(error)
            return
        assert any(
            f.severity is Severity.ERROR and "no_such_argument" in f.subject + f.message
            for f in findings
        )

    def test_what_it_declares_are_fields_of_the_file(self, spec: ExperimentSpec) -> None:
        """A wrong name in ``honours`` would refuse a field that the learner honours."""
        names = [n for n in self.declared(spec) if not n.startswith(f"{ARGUMENTS}.")]
        assert set(names) <= {*ALWAYS, *EVERYTHING}

    @pytest.mark.parametrize("field", _CHANGES)
    def test_a_declared_field_has_its_effect(
        self, field: str, tmp_path: Path, spec: ExperimentSpec
    ) -> None:
        """In the training, in its result, and in the evaluation of that result."""
        if field not in self.declared(spec):
            pytest.skip(f"the learner does not declare {field}")
        changes = {
            section: getattr(spec, section).model_dump() | change
            for section, change in _CHANGES[field].items()
        }
        asked = ExperimentSpec.model_validate({**spec.model_dump(), **changes})
        try:
            RlWorkload().check(asked, None)
        except UserError as refused:
            pytest.skip(f"refused beside the rest of the file: {refused}")
        run = OneRun(tmp_path / "asked", asked, RlWorkload())
        files = run.contents(run.phase(Phase.TRAIN))
        run.phase(Phase.EVALUATE)
        seen = space_from_json(json.loads(files["spaces.json"])["observation"])
        episodes = read_stream(run.mailbox, run.run, "episodes")
        assert {
            "train.n_envs": {line["metrics"].get("env") for line in episodes} == {0, 1},
            "evaluate.every.steps": bool(read_stream(run.mailbox, run.run, "evaluation")),
            "simulator.wrappers.frame_stack": seen != self.observations(spec),
        }[field]

    def declared(self, spec: ExperimentSpec) -> Collection[str]:
        """What the learner says that it honours."""
        assert spec.learner is not None
        learner = load("learners", spec.learner.algorithm)()
        return learner.honours if isinstance(learner, Declares) else ()

    def observations(self, spec: ExperimentSpec) -> object:
        """The space of one copy, without the wrappers around all copies."""
        assert spec.simulator is not None
        env = make_env(spec.simulator)
        try:
            return env.observation_space
        finally:
            env.close()

    def test_training_leaves_a_whole_policy(self, trained: Trained, spec: ExperimentSpec) -> None:
        """Weights as safetensors, spaces and description as JSON, no pickle; steps counted."""
        _, outcome, files = trained
        assert outcome.status is Status.SUCCEEDED
        assert {"learner.json", "spaces.json", POLICY} <= set(files)
        assert not [n for n in files if n.endswith((".pkl", ".pickle", ".joblib"))]
        assert spec.train is not None and spec.train.steps is not None
        steps = as_integer(outcome.summary["steps"])
        assert steps is not None and steps >= spec.train.steps
        assert len(json.dumps(outcome.summary, allow_nan=False)) < 1 << 20

    def test_the_policy_is_rebuilt_from_its_files(self, trained: Trained) -> None:
        """It acts inside its space, on one observation and on batches, the same each time."""
        _, _, files = trained
        spaces = json.loads(files["spaces.json"])
        seen, acted = space_from_json(spaces["observation"]), space_from_json(spaces["action"])
        seen.seed(1)
        first_policy, other = (load_policy(files, "final") for _ in range(2))
        assert isinstance(first_policy, LoadedPolicy)
        observations = [seen.sample() for _ in range(8)]
        for observation in observations:
            action = np.asarray(first_policy(observation, True), acted.dtype)
            assert acted.contains(action if action.shape else action[()]), action
            assert np.array_equal(action, np.asarray(other(observation, True), acted.dtype))
        if isinstance(observations[0], np.ndarray):
            batch = np.asarray(first_policy(np.stack(observations), True))
            alone = np.stack([np.asarray(first_policy(o, True)) for o in observations])
            assert np.allclose(batch.reshape(alone.shape), alone, atol=1e-5)

    def test_the_curve_has_points(self, trained: Trained, spec: ExperimentSpec) -> None:
        """Steps rise and stay within the budget's last rollout; numbers are finite."""
        run, outcome, _ = trained
        lines = read_stream(run.mailbox, run.run, "train")
        steps = [line["step"] for line in lines]
        total = as_integer(outcome.summary["steps"])
        assert total is not None
        assert steps and steps == sorted(set(steps)) and steps[-1] <= total
        values = [line["metrics"].get("rollout/ep_rew_mean") for line in lines]
        assert any(isinstance(v, int | float) and math.isfinite(v) for v in values)

    def test_the_same_seed_gives_the_same_policy(
        self, trained: Trained, tmp_path: Path, spec: ExperimentSpec
    ) -> None:
        """To the last bit, in a separate store."""
        again = OneRun(tmp_path / "again", spec, RlWorkload())
        files = again.contents(again.phase(Phase.TRAIN))
        assert files[POLICY] == trained[2][POLICY]

    def test_evaluation_measures_the_policy(self, trained: Trained) -> None:
        """The evaluate phase reads the result of the training."""
        run, _, _ = trained
        policies = as_object(run.phase(Phase.EVALUATE).summary["policies"])
        agent = as_object(policies["agent"])
        mean_return, episodes = as_number(agent["mean_return"]), as_integer(agent["n_episodes"])
        assert mean_return is not None and math.isfinite(mean_return)
        assert episodes is not None and episodes > 0

    def test_a_stop_ends_the_training_early(self, tmp_path: Path, spec: ExperimentSpec) -> None:
        """At once, or at the end of the rollout in which it was heard."""
        count, stop = CountedStop(), CountedStop(at=1)
        OneRun(tmp_path / "whole", spec, RlWorkload()).phase(Phase.TRAIN, count)
        with pytest.raises(Stopped):
            OneRun(tmp_path / "stopped", spec, RlWorkload()).phase(Phase.TRAIN, stop)
        assert stop.looks < max(50, count.looks / 2)

    def test_a_resumed_run_is_that_of_one_go(self, tmp_path: Path, spec: ExperimentSpec) -> None:
        """Stopped at two thirds and resumed: the same policy and curve, without starting over."""
        whole, count = OneRun(tmp_path / "whole", spec, RlWorkload()), CountedStop()
        expected = whole.contents(whole.phase(Phase.TRAIN, count))
        assert count.looks > 3, "the learner never reads context.stop"
        run = OneRun(tmp_path / "cut", spec, RlWorkload())
        with pytest.raises(Stopped):
            run.phase(Phase.TRAIN, CountedStop(at=count.looks * 2 // 3))
        rest = CountedStop()
        files = run.contents(run.phase(Phase.TRAIN, rest))
        assert rest.looks < 0.9 * count.looks, "it started over: no checkpoint was used"
        assert files[POLICY] == expected[POLICY]
        assert self.curve(run) == self.curve(whole)

    def curve(self, run: OneRun) -> list[bytes]:
        """The training curve without wall-clock fields."""
        return [canonical(line) for line in read_stream(run.mailbox, run.run, "train")]
