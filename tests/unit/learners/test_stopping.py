"""Early stopping, the k best policies, and trainings that begin from an earlier policy."""

import shutil

import numpy as np
import pytest
from safetensors.numpy import load as load_tensors

from drillyard.agents.trained import trained
from drillyard.errors import ConfigError, NotFound, SpaceMismatch, Stopped
from drillyard.learners.episode_ends import EarlyStopping
from drillyard.mailbox.records import Phase
from drillyard.policies.export import export
from drillyard.spec.learning import StopSpec, TrainSpec
from drillyard.testing.phases import CountedStop, OneRun
from drillyard.workloads.rl import RlWorkload
from tests.helpers.specs import small
from tests.unit.policies.test_export import ROLLOUT, trained_run


def fed(returns, **spec):
    stopping = EarlyStopping(TrainSpec(steps=1, stop=spec))
    for number, value in enumerate(returns, 1):
        stopping.record(np.array([False, True]), [{}, {"episode": {"r": value, "l": 1}}])
        if stopping.reason:
            return number, stopping.reason
    return None, None


def test_patience_counts_epochs_without_improvement():
    # Epochs of 2: means 1.5, 3, 2.5, 3: the third and fourth do not beat 3.
    returns = [1, 2, 3, 3, 2, 3, 3, 3, 9, 9]
    assert fed(returns, patience=2, epoch=2) == (8, "patience")
    assert fed(returns, patience=3, epoch=2) == (None, None)  # the fifth improves
    # The last episode of each: 2, 3, 3, 3.
    assert fed(returns, patience=1, epoch=2, by="last") == (6, "patience")
    # 3 is not enough better than 1.5, so that the second epoch has not improved.
    assert fed(returns, patience=1, epoch=2, min_improvement=2) == (4, "patience")
    assert fed(returns, mean_return=2.5, epoch=2) == (4, "mean_return")


def test_it_goes_on_from_its_state():
    returns = [1, 2, 3, 3, 2, 3, 3, 3]
    stopping = EarlyStopping(TrainSpec(steps=1, stop={"patience": 2, "epoch": 2}))
    for value in returns:
        stopping.record([True], [{"episode": {"r": value, "l": 1}}])
        state = stopping.state()
        stopping = EarlyStopping(TrainSpec(steps=1, stop={"patience": 2, "epoch": 2}))
        stopping.load_state(state)
    assert stopping.reason == "patience"


def experiment(simulator="cstr", args=None, algorithm="ppo", wrappers=("normalize",), **parts):
    world = {"id": simulator, "wrappers": list(wrappers)}
    learner = {"algorithm": algorithm, "args": args or ROLLOUT, **parts.pop("learner", {})}
    train = {"steps": 960, **parts.pop("train", {})}
    evaluate = {"episodes": 1, **parts.pop("evaluate", {})}
    return small(world, learner=learner, train=train, evaluate=evaluate, seeds=[3], **parts)


@pytest.mark.heavy
def test_a_training_ends_early_and_says_why(tmp_path):
    spec = experiment(train={"stop": {"patience": 1, "epoch": 1, "min_improvement": 1e9}})
    done = OneRun(tmp_path, spec, RlWorkload()).phase(Phase.TRAIN).summary
    assert done["ended_by"] == "patience" and done["steps"] < 960
    # The first epoch improves on nothing, the second does not improve.
    assert done["episodes"] == 2


@pytest.mark.heavy
def test_the_k_best_are_kept_over_a_resume(tmp_path):
    more = {"keep_best": 3, "every": {"steps": 96, "episodes": 1}}
    spec = experiment(evaluate=more, train={"checkpoint_every": 192})
    whole, count = OneRun(tmp_path / "whole", spec, RlWorkload()), CountedStop()
    outcome = whole.phase(Phase.TRAIN, count)
    kept = outcome.summary["top"]
    assert len(kept) == 3 and kept[0] == outcome.summary["best"]
    returns = [one["mean_return"] for one in kept]
    assert returns == sorted(returns, reverse=True)
    files = whole.contents(outcome)
    names = [f"policy/top/step-{k['step']}-return-{k['mean_return']:.6g}" for k in kept]
    assert {n.rpartition(".")[0] for n in files if n.startswith("policy/top/")} == set(names)
    assert files[f"{names[0]}.safetensors"] == files["policy_best.safetensors"]
    cut = OneRun(tmp_path / "cut", spec, RlWorkload())
    with pytest.raises(Stopped):
        cut.phase(Phase.TRAIN, CountedStop(at=count.looks * 2 // 3))
    again = cut.contents(cut.phase(Phase.TRAIN))
    tops = {n: d for n, d in files.items() if n.startswith("policy/top/")}
    assert {n: d for n, d in again.items() if n.startswith("policy/top/")} == tops


@pytest.mark.heavy
def test_a_training_begins_with_an_earlier_policy(tmp_path, monkeypatch):
    first = trained_run(tmp_path, "ppo", "cstr", ROLLOUT, ["normalize"])
    with trained(first.mailbox, first.run) as policy:
        export(policy, "safetensors", tmp_path / "bundle")
    files = policy.files
    store = first.mailbox.store.url
    shutil.rmtree(tmp_path / "scratch-train-1")  # the next one works in the same store
    monkeypatch.chdir(tmp_path)
    lazy = {**ROLLOUT, "learning_rate": 1e-12}
    sources = [f"run:export/{first.run}", "bundle", f"file://{store}/export/{first.run}"]
    for number, source in enumerate(sources):
        spec = experiment(args=lazy, learner={"init_from": source}, train={"steps": 32})
        run = OneRun(tmp_path / (str(number) if number else "."), spec, RlWorkload())
        if number:
            RlWorkload().check(spec, None)
        outcome = run.phase(Phase.TRAIN)
        made = run.contents(outcome)
        before, after = (load_tensors(f["policy_final.safetensors"]) for f in (files, made))
        assert all(np.allclose(before[n], after[n], atol=1e-6) for n in before), source
        assert outcome.summary["init_from"] == source
        from drillyard.agents.packing import npz_arrays

        then, now = (npz_arrays(f["normalisation_final.npz"])["obs_count"] for f in (files, made))
        assert now > then  # the same statistics, gone on
    other = experiment(simulator="building", learner={"init_from": "bundle"})
    with pytest.raises(SpaceMismatch, match=r"the earlier policy has the action space"):
        RlWorkload().check(other, None)
    with pytest.raises(SpaceMismatch, match=r"observation space Box.*\(4,\).*\(10,\)"):
        OneRun(tmp_path / "b", other, RlWorkload()).phase(Phase.TRAIN)
    with pytest.raises(SpaceMismatch, match="was normalised, and this simulator is not"):
        bare = experiment(wrappers=(), learner={"init_from": "bundle"})
        OneRun(tmp_path / "c", bare, RlWorkload()).phase(Phase.TRAIN)
    with pytest.raises(ConfigError, match=r"another network: .*is .* in it, and"):
        wide = {**ROLLOUT, "policy_kwargs": {"net_arch": [17]}}
        spec = experiment(args=wide, learner={"init_from": "bundle"})
        OneRun(tmp_path / "d", spec, RlWorkload()).phase(Phase.TRAIN)


@pytest.mark.parametrize(
    ("source", "error", "words"),
    [
        ("run:nonsense", ConfigError, "does not name a run"),
        ("nowhere", NotFound, "no folder nowhere"),
        ("gs://bucket", ConfigError, "does not name a run in a store"),
    ],
)
def test_sources_that_cannot_be_are_refused_before_anything_runs(source, error, words):
    with pytest.raises(error, match=words):
        RlWorkload().check(experiment(learner={"init_from": source}), None)


def test_a_stop_without_a_reason_is_refused():
    with pytest.raises(ValueError, match="has no condition to stop"):
        StopSpec()
