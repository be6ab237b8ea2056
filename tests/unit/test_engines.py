"""``learner.engine``: what the other engine does not do is refused by name, unimported."""

import pytest

from drillyard.errors import ConfigError, ConfigErrors, DrillyardError
from drillyard.learners.sb3_build import jax_engine
from drillyard.spec import ExperimentSpec
from drillyard.spec.algorithms import engines
from drillyard.spec.load import load
from drillyard.workloads.rl import RlWorkload


def spec_of(algorithm="sac", simulator="Pendulum-v1", requirements=(), **learner):
    return ExperimentSpec.model_validate({
        "name": "x", "simulator": {"id": simulator}, "train": {"steps": 4096},
        "learner": {"algorithm": algorithm, "engine": "sbx", "preset": None, **learner},
        "requirements": list(requirements),
    })  # fmt: skip


@pytest.mark.parametrize(
    ("algorithm", "more", "field", "word"),
    [
        ("trpo", {}, "engine", "no trpo"),
        ("ppo", {"args": {"use_sde": True}}, "args.use_sde", "not used"),
        ("sac", {"args": {"target_update_interval": 2}}, "args.target_update_interval",
         "not used"),
        ("td3", {"args": {"learning_rate": "lin_1e-3"}}, "args.learning_rate", "sets its"),
        ("sac", {"policy": "CnnPolicy"}, "policy", "not offered"),
        ("sac", {"args": {"policy_kwargs": {"optimizer_class": "adamw"}}},
         "args.policy_kwargs.optimizer_class", "not offered"),
        ("dqn", {"args": {"policy_kwargs": {"net_arch": [64, 32]}}},
         "args.policy_kwargs.net_arch", "two layers"),
        ("ppo", {"args": {"policy_kwargs": {"activation_fn": "prelu"}}},
         "args.policy_kwargs.activation_fn", "not offered"),
    ],
)  # fmt: skip
def test_what_sbx_does_not_do_is_refused(algorithm, more, field, word):
    learner = spec_of(algorithm, **more).learner
    with pytest.raises((ConfigError, ConfigErrors)) as caught:
        engines.validate_engine(learner)
    (error,) = getattr(caught.value, "errors", [caught.value])
    assert error.field == f"learner.{field}" and word in str(error) and error.hint


def test_a_schedule_passes_where_it_is_used():
    engines.validate_engine(spec_of("sac", args={"learning_rate": "lin_1e-3"}).learner)


def test_without_sbx_the_line_that_installs_it_is_said(monkeypatch):
    monkeypatch.setattr(engines, "find_spec", lambda _: None)
    monkeypatch.setattr("drillyard.learners.sb3_build.find_spec", lambda _: None)
    with pytest.raises(ConfigError) as caught:
        RlWorkload().check(spec_of(), None)
    assert "pip install 'drillyard[sbx]'" in caught.value.hint
    with pytest.raises(ConfigError):
        jax_engine()
    RlWorkload().check(spec_of(requirements=["sbx-rl==0.28.0"]), None)  # it travels with the code


def test_an_older_experiment_has_the_identity_that_it_had():
    assert spec_of().learner.model_dump()["engine"] == "sbx"
    assert "engine" not in spec_of(engine="sb3").learner.model_dump()


@pytest.mark.parametrize("algorithm", ["impala", "somebody:Else"])
def test_an_engine_is_refused_for_learners_that_have_none(algorithm, tmp_path):
    file = tmp_path / "it.yaml"
    learner = f"learner: {{algorithm: '{algorithm}', preset: null, engine: sbx}}"
    file.write_text(f"name: it\nsimulator: {{id: CartPole-v1}}\ntrain: {{steps: 9}}\n{learner}\n")
    with pytest.raises(DrillyardError, match=f"SBX has no {algorithm}"):
        load(file)
