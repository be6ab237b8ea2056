"""The evaluate phase: the same episodes for all, files that say what was seen."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest

from drillyard.agents.baselines import check_baselines
from drillyard.errors import NotFound, RunFailed, Stopped
from drillyard.evaluation.episodes import Episode, Planned, plan, run_baseline, run_episodes
from drillyard.evaluation.summary import summarise
from drillyard.mailbox import Mailbox, open_store
from drillyard.mailbox.records import Phase, RunRecord
from drillyard.mailbox.status import Cause
from drillyard.registry import load
from drillyard.runs.workload import PhaseOutcome, RunContext
from drillyard.simulators.make import make_env
from drillyard.simulators.simple_adder import SimpleAdderEnv
from drillyard.spec.experiment import ExperimentSpec
from drillyard.statistics import METHOD
from drillyard.workloads.evaluate_phase import evaluate_phase
from tests.helpers.records import context_of, result_of


def experiment(**changes: Any) -> ExperimentSpec:
    return ExperimentSpec.model_validate(
        {
            "name": "x",
            "simulator": {
                "id": "cstr",
                "wrappers": ["normalize"],
                "lesson": {
                    "Cref_signal": {"values": [1, 2]},
                    "noise_percentage": {"min": 0, "max": 5},
                },
            },
            "learner": {"algorithm": "ppo", "args": {"n_steps": 128, "batch_size": 64}},
            "train": {"steps": 256, "checkpoint_every": 256},
            "evaluate": {"episodes": 6},
            "seeds": [3, 4],
            "baselines": ["hold", "p-controller"],
            **changes,
        }
    )


def context(mailbox: Mailbox, spec: ExperimentSpec, seed: int, phase: Phase, scratch: Path) -> Any:
    choices = load("workloads", "rl")().freeze(spec, seed) if phase is Phase.TRAIN else {}
    record = RunRecord(run=f"t0001-s{seed}", experiment=spec.name, seed=seed, choices=choices)
    return context_of(mailbox, spec, record, phase, scratch)


def accept(ctx: RunContext, outcome: PhaseOutcome) -> None:
    result = result_of(ctx.mailbox, ctx.run.run, ctx.phase, outcome.files)
    ctx.mailbox.accept(ctx.claim, result)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Two seeds really trained, briefly."""
    folder = tmp_path_factory.mktemp("evaluation")
    spec, mailbox = experiment(), Mailbox(open_store(str(folder / "store")), "x")
    for seed in spec.seeds:
        ctx = context(mailbox, spec, seed, Phase.TRAIN, folder / f"scratch-{seed}")
        ctx.scratch.mkdir()
        accept(ctx, load("workloads", "rl")().train(ctx))
    return mailbox, spec


def table(data: bytes) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(data.decode())))


@pytest.mark.heavy
def test_the_phase_writes_what_readers_expect(trained, tmp_path):
    mailbox, spec = trained
    ctx = context(mailbox, spec, 3, Phase.EVALUATE, tmp_path)
    seen: list[dict[str, Any]] = []
    ctx.progress = lambda **values: seen.append(values)
    outcome = evaluate_phase(ctx)

    def read(name: str) -> bytes:
        return mailbox.read_file(outcome.files, name)

    assert set(outcome.files.files) == {
        "evaluation/episodes.json",
        "evaluation/episodes.csv",
        "trajectories/meta.json",
        "trajectories/agent.csv",
        "trajectories/hold.csv",
        "trajectories/p-controller.csv",
    }
    episodes = json.loads(read("evaluation/episodes.json"))
    by_policy = {
        name: [e for e in episodes if e["policy"] == name]
        for name in ("agent", "hold", "p-controller")
    }
    for own in by_policy.values():
        assert [e["episode"] for e in own] == list(range(6))
        assert [e["options"]["Cref_signal"] for e in own] == [1, 2, 1, 2, 1, 2]
        assert all(e["terminated"] != e["truncated"] for e in own)
        assert all(e["metrics"]["kpi_rms_conc_error"] > 0 for e in own)
        # The same seeds and options for every policy.
        assert [(e["seed"], e["options"]) for e in own] == [
            (e["seed"], e["options"]) for e in by_policy["agent"]
        ]
    flat = table(read("evaluation/episodes.csv"))
    assert len(flat) == 18
    assert float(flat[0]["return"]) == episodes[0]["return"]
    assert flat[1]["option_Cref_signal"] == "2"

    for name, own in by_policy.items():
        rows = table(read(f"trajectories/{name}.csv"))
        assert [int(r["t"]) for r in rows] == list(range(1, own[0]["length"] + 1))
        assert list(rows[0]) == [
            "t",
            "state_Tr",
            "state_Cr",
            "state_Cref",
            "state_Tc",
            "state_Tc_adjust",
            "action_Tc_adjust",
            "reward",
        ]
        # Rewards come through float32 of the vectorised simulator.
        assert sum(float(r["reward"]) for r in rows) == pytest.approx(own[0]["return"], rel=1e-5)
        summary = outcome.summary["policies"][name]
        assert summary["mean_return"] == pytest.approx(np.mean([e["return"] for e in own]))
        assert summary["n_episodes"] == 6
        assert summary["ci95"][0] < summary["mean_return"] < summary["ci95"][1]
        assert summary["by_option"]["Cref_signal"]["2"] == pytest.approx(
            np.mean([e["return"] for e in own[1::2]])
        )
    meta = json.loads(read("trajectories/meta.json"))
    assert meta["agent"]["options"] == episodes[0]["options"]
    assert meta["units"]["state_Tr"] == "K"
    assert meta["reference"] == {"state_Cr": "state_Cref"}
    assert outcome.summary["policy_used"] == "final"  # no evaluation while training: no best
    assert seen[-1]["total"] == 18
    assert [s["step"] for s in seen] == sorted(s["step"] for s in seen)


@pytest.mark.heavy
def test_conditions_are_played_too_and_as_by_the_command(trained, tmp_path):
    from drillyard.evaluation.assessment import Request, play

    mailbox, spec = trained
    given: list[dict[str, Any]] = [{"Cref_signal": 4}, {"Cref_signal": 1, "noise_percentage": 5}]
    evaluate = spec.evaluate.model_copy(update={"conditions": given})
    more = spec.model_copy(update={"evaluate": evaluate})
    outcome = evaluate_phase(context(mailbox, more, 3, Phase.EVALUATE, tmp_path))
    for name in ("agent", "hold", "p-controller"):
        rows = table(mailbox.read_file(outcome.files, f"assessment/{name}.csv"))
        steps = table(mailbox.read_file(outcome.files, f"assessment/{name}_logs.csv"))
        assert [row["config_Cref_signal"] for row in rows] == ["4", "1"]
        assert len(steps) == sum(int(row["length"]) for row in rows)
        assert outcome.summary["assessment"][name]["episodes"] == 2
    own = table(mailbox.read_file(outcome.files, "assessment/agent.csv"))
    request = Request(
        spec.simulator.model_dump(mode="json"),
        given[:1],
        store=mailbox.store.url,
        experiment="x",
        run="t0001-s3",
        seed=7,
        folder=str(tmp_path),
    )
    (played,) = play(request)
    # No noise, no seed; only the size of the network's batch is another one.
    assert played.row["episode_return"] == pytest.approx(float(own[0]["episode_return"]), rel=1e-5)


@pytest.mark.heavy
def test_the_agent_is_given_the_normalisation_it_was_trained_with(trained, tmp_path):
    mailbox, spec = trained
    own = context(mailbox, spec, 3, Phase.EVALUATE, tmp_path)
    outcome = evaluate_phase(own)
    episodes = json.loads(mailbox.read_file(outcome.files, "evaluation/episodes.json"))
    returns = [e["return"] for e in episodes if e["policy"] == "agent"]
    # By hand, one copy, no VecNormalize: observation -> (o - mean) / sd -> policy.
    from drillyard.agents.base import load_policy
    from drillyard.agents.trained import policy_files

    policy = load_policy(*policy_files(mailbox, "t0001-s3", "best"))
    stats = policy.normalisation
    assert stats is not None
    env = make_env(spec.simulator, training=False)
    for planned, expected in zip(plan(spec, streams=own.run.streams), returns, strict=True):
        observation, _ = env.reset(seed=planned.seed, options=planned.options)
        total, done = 0.0, False
        while not done:
            scaled = (observation - stats["obs_mean"]) / np.sqrt(
                stats["obs_var"] + stats["epsilon"]
            )
            action = policy(np.clip(scaled, -10, 10).astype(np.float32)[None])[0]
            observation, reward, terminated, truncated, _ = env.step(action)
            total, done = total + float(reward), terminated or truncated
        assert total == pytest.approx(expected, abs=1e-3)


@pytest.mark.heavy
def test_only_the_first_seed_evaluates_baselines(trained, tmp_path):
    mailbox, spec = trained
    outcome = evaluate_phase(context(mailbox, spec, 4, Phase.EVALUATE, tmp_path))
    assert set(outcome.summary["policies"]) == {"agent"}


@pytest.mark.heavy
def test_a_stop_is_heard(trained, tmp_path):
    mailbox, spec = trained
    ctx = context(mailbox, spec, 3, Phase.EVALUATE, tmp_path)
    ctx.stop.set(Cause.CANCELLED, "enough")
    with pytest.raises(Stopped, match="enough"):
        evaluate_phase(ctx)


def test_without_a_training_there_is_nothing_to_evaluate(tmp_path):
    mailbox = Mailbox(open_store(str(tmp_path / "store")), "x")
    with pytest.raises(NotFound, match="t0001-s3"):
        evaluate_phase(context(mailbox, experiment(), 3, Phase.EVALUATE, tmp_path))


def test_fixed_episodes_do_not_depend_on_training_seeds_or_their_number():
    few, many = experiment(), experiment(seeds=[9], evaluate={"episodes": 50})
    assert plan(few) == plan(many)[:6]
    assert len({p.seed for p in plan(many)}) == 50
    own = experiment(evaluate={"episodes": 5, "seeds": [7, 8], "lesson": {"Cref_signal": 5}})
    assert [p.seed for p in plan(own)][:2] == [7, 8]
    assert len({p.seed for p in plan(own)}) == 5
    assert all(p.options == {"Cref_signal": 5} for p in plan(own))


def test_the_number_of_copies_changes_nothing():
    spec = experiment()
    raw = spec.simulator.model_copy(update={"wrappers": []})

    def act(observations: np.ndarray) -> np.ndarray:
        return np.clip(20 * (observations[:, 1:2] - observations[:, 2:3]), -1, 1)

    plans = plan(spec)
    one, three, eight = (run_episodes(raw, act, plans, copies=n).episodes for n in (1, 3, 8))
    assert one == three == eight
    assert [e.seed for e in one] == [p.seed for p in plans]


def test_global_generators_are_left_alone():
    spec = experiment()
    np.random.seed(1)
    before = np.random.get_state()[1].tolist()  # type: ignore[union-attr]
    assert spec.simulator is not None
    run_baseline("random", spec.simulator, plan(spec))
    assert np.random.get_state()[1].tolist() == before  # type: ignore[union-attr]


class NanAtThree(SimpleAdderEnv):
    """Breaks in the third step of an episode that starts at 30."""

    def step(self, action: Any) -> Any:
        observation, reward, *rest = super().step(action)
        broken = self._steps == 3 and self._start_value == 30
        return (observation, float("nan") if broken else reward, *rest)

    def reset(self, *, seed: int | None = None, options: dict | None = None) -> Any:
        result = super().reset(seed=seed, options=options)
        self._start_value = self._value
        return result


def test_what_is_not_finite_is_named_with_step_copy_and_seed():
    spec = experiment(simulator={"id": f"{__name__}:NanAtThree"}, baselines=[])
    assert spec.simulator is not None
    plans = [Planned(0, 11, {"start": 10}), Planned(1, 12, {"start": 30})]
    with pytest.raises(RunFailed, match=r"nan as reward, at step 3 of .*copy 1, .*seed 12"):
        run_baseline("hold", spec.simulator, plans)
    with pytest.raises(RunFailed, match="action of the policy is nan"):
        run_episodes(
            experiment().simulator, lambda o: np.full((1, 1), np.nan), plan(experiment())[:1]
        )


def test_observations_are_the_states_where_a_simulator_logs_none():
    spec = experiment(simulator={"id": "CartPole-v1"}, baselines=[])
    assert spec.simulator is not None
    played = run_baseline("hold", spec.simulator, plan(spec)[:1], trajectory=True)
    assert list(played.trajectory[0]) == [
        "t",
        "state_0",
        "state_1",
        "state_2",
        "state_3",
        "action_0",
        "reward",
    ]
    env = gym.make("CartPole-v1")
    env.reset(seed=plan(spec)[0].seed)
    last = [env.step(0)[0] for _ in played.trajectory][-1]
    # The last row is the state in which the episode ended, not that of the next one.
    assert [played.trajectory[-1][f"state_{i}"] for i in range(4)] == pytest.approx(last.tolist())


def test_one_episode_has_no_interval():
    spec = experiment()
    assert spec.simulator is not None
    played = run_baseline("hold", spec.simulator, plan(spec)[:1])
    assert summarise(played.episodes, {})["ci95"] is None


def test_baselines_and_lesson_are_checked_before_anything_runs():
    from drillyard.errors import ConfigError, SpaceMismatch

    env = make_env(experiment().simulator)
    assert "can act" in check_baselines(experiment(), env)[0].message
    with pytest.raises(ConfigError, match=r"evaluate\.lesson\.Cref_sig"):
        check_baselines(experiment(evaluate={"lesson": {"Cref_sig": 1}}), env)
    cartpole = experiment(simulator={"id": "CartPole-v1"})
    with pytest.raises(SpaceMismatch, match="p-controller"):
        check_baselines(cartpole, make_env(cartpole.simulator))


class Wrong:
    """A baseline with the mistake that a subclass makes."""

    def __init__(self, env: Any) -> None:
        pass

    def reset(self, seed: int, options: dict[str, Any]) -> None:
        pass


class Forgets(Wrong):
    def act(self, observation: Any) -> Any:
        observation[0] + 1


class TwoNumbers(Wrong):
    def act(self, observation: Any) -> Any:
        return [0.0, 0.0]


class NotANumber(Wrong):
    def act(self, observation: Any) -> Any:
        return [float("nan")]


class Misspelt(Wrong):
    def act(self, observation: Any) -> Any:
        return [self.gain * observation[0]]  # type: ignore[attr-defined]


class NoEnvironment:
    def __init__(self) -> None:
        pass


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("Forgets", r"act\(\) returned None"),
        ("TwoNumbers", r"act\(\) returned 2 numbers instead of 1"),
        ("NotANumber", "not finite"),
        ("Misspelt", r"raised at the first observation.*gain.*test_evaluation\.py:\d+"),
        ("Unknown", r"has no 'Unknown'"),
        ("NoEnvironment", r"cannot be created.*takes 1 positional argument"),
    ],
)
def test_a_baselines_mistake_is_found_before_the_training(kind, said):
    from drillyard.errors import ConfigError

    env = make_env(experiment().simulator)
    with pytest.raises(ConfigError, match=rf"baselines\[1\].*{said}"):
        check_baselines(experiment(baselines=["hold", f"{__name__}:{kind}"]), env)


def test_what_the_values_of_a_lesson_do_does_not_widen_the_interval():
    def episode(number: int, value: int, found: float) -> Episode:
        return Episode("agent", number, number, {"level": value}, found, 10, True, False)

    rng = np.random.default_rng(0)
    played = [episode(i, i % 4, 20.0 * (i % 4) + rng.normal()) for i in range(40)]
    lesson = {"level": {"values": [0, 1, 2, 3]}}
    low, high = summarise(played, lesson)["ci95"]
    assert high - low < 1
    # Values that are drawn by chance are chance.
    low, high = summarise(played, {})["ci95"]
    assert high - low > 10 and summarise(played, {})["ci95_method"] == METHOD
    few = summarise(played[:4], lesson)["ci95"]
    assert few[1] - few[0] > 10


@pytest.mark.parametrize("given", ["fixed", [7, 8, 9]])
def test_the_winners_second_run_plays_other_episodes(given):
    spec = experiment()
    evaluate = spec.evaluate.model_copy(update={"episodes": 5, "seeds": given})
    spec = spec.model_copy(update={"evaluate": evaluate})
    first, again = plan(spec), plan(spec, again=True)
    assert {p.seed for p in first}.isdisjoint(p.seed for p in again)
    assert len({p.seed for p in again}) == 5
    assert plan(spec, again=True) == again
