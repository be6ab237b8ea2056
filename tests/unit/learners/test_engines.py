"""``learner.engine``: what the other engine does not do is refused by name, unimported."""

from types import SimpleNamespace

import pytest
from gymnasium import spaces

from drillyard.errors import ConfigError, DrillyardError
from drillyard.learners.check import check_learner
from drillyard.learners.sb3_build import build, library
from drillyard.spec.algorithms import engines
from drillyard.spec.load import load
from drillyard.workloads.rl import RlWorkload
from tests.contract.spaces_world import OBSERVATIONS
from tests.helpers.refusals import refusals
from tests.helpers.specs import small

FLAT = spaces.Box(-1, 1, (3,))


def spec_of(algorithm="sac", simulator="Pendulum-v1", requirements=(), engine="sbx", **learner):
    learner = {"algorithm": algorithm, "engine": engine, **learner}
    return small(
        simulator, learner=learner, train={"steps": 4096}, requirements=list(requirements)
    )


@pytest.mark.parametrize(
    ("algorithm", "more", "field", "word"),
    [
        ("trpo", {}, "engine", "no trpo"),
        ("ppo", {"args": {"use_sde": True}}, "args.use_sde", "not offered"),
        (
            "sac",
            {"args": {"target_update_interval": 2}},
            "args.target_update_interval",
            "not offered",
        ),
        ("td3", {"args": {"learning_rate": "lin_1e-3"}}, "args.learning_rate", "sets its"),
        ("sac", {"policy": "CnnPolicy"}, "policy", "not offered"),
        (
            "sac",
            {"args": {"policy_kwargs": {"optimizer_class": "adamw"}}},
            "args.policy_kwargs.optimizer_class",
            "not offered",
        ),
        (
            "dqn",
            {"args": {"policy_kwargs": {"net_arch": [64, 32]}}},
            "args.policy_kwargs.net_arch",
            "two layers",
        ),
        (
            "ppo",
            {"args": {"policy_kwargs": {"activation_fn": "prelu"}}},
            "args.policy_kwargs.activation_fn",
            "not offered",
        ),
    ],
)
def test_what_sbx_does_not_do_is_refused(algorithm, more, field, word):
    learner = spec_of(algorithm, **more).learner
    (error,) = refusals(engines.validate_engine, learner)
    assert error.field == f"learner.{field}" and word in str(error) and error.hint


def test_a_schedule_passes_where_it_is_used():
    engines.validate_engine(spec_of("sac", args={"learning_rate": "lin_1e-3"}).learner)


@pytest.mark.parametrize(
    ("engine", "package"), [("sbx", "sbx-rl==0.28.0"), ("jax", "jax==0.10.2")]
)
def test_without_its_package_the_line_that_installs_it_is_said(engine, package, monkeypatch):
    monkeypatch.setattr(engines, "find_spec", lambda _: None)
    monkeypatch.setattr("drillyard.learners.sb3_build.find_spec", lambda _: None)
    with pytest.raises(ConfigError) as caught:
        RlWorkload().check(spec_of("ppo", engine=engine), None)
    assert f"pip install 'drillyard[{engine}]'" in caught.value.hint
    assert package in caught.value.hint
    with pytest.raises(ConfigError):
        library(engine)
    # It travels with the code.
    RlWorkload().check(spec_of("ppo", engine=engine, requirements=[package]), None)


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


@pytest.mark.parametrize(
    ("given", "field", "word"),
    [
        ({"algorithm": "sac"}, "engine", "no sac"),
        ({"args": {"use_sde": True}}, "args.use_sde", "not offered"),
        ({"args": {"sde_sample_freq": 4}}, "args.sde_sample_freq", "not offered"),
        ({"policy": "CnnPolicy"}, "policy", "not offered"),
        ({"policy": "some.module:Policy"}, "policy", "not offered"),
        *(
            (
                {"args": {"policy_kwargs": {name: value}}},
                f"args.policy_kwargs.{where}",
                "not offered",
            )
            for name, value, where in (
                ("activation_fn", "prelu", "activation_fn"),
                ("activation_fn", "a:B", "activation_fn"),
                ("optimizer_class", "sgd", "optimizer_class"),
                ("optimizer_kwargs", {"amsgrad": True}, "optimizer_kwargs.amsgrad"),
                ("squash_output", True, "squash_output"),
                ("share_features_extractor", False, "share_features_extractor"),
                ("features_extractor_class", "nature_cnn", "features_extractor_class"),
            )
        ),
    ],
)
def test_what_the_compiled_learner_does_not_do_is_refused_by_name(given, field, word):
    learner = spec_of(**{"algorithm": "ppo", **given}, engine="jax").learner
    (error,) = refusals(engines.validate_engine, learner)
    assert error.field == f"learner.{field}" and word in str(error)
    assert "delete `engine:" in error.hint
    assert error.allowed and error.allowed != "False"  # as it is written in the file


def test_images_are_refused_alone_and_in_mappings():
    image = OBSERVATIONS["image"]
    assert engines.sees_images(image)
    assert engines.sees_images(spaces.Dict({"a": OBSERVATIONS["flat"], "b": image}))
    assert not any(
        engines.sees_images(space) for name, space in OBSERVATIONS.items() if name != "image"
    )
    world = {"id": "tests.contract.spaces_world:AnySpaces", "args": {"observation": "image"}}
    spec = small(world, learner={"engine": "jax"}, train={"steps": 4096})
    with pytest.raises(ConfigError, match="flat observations and mappings of them only"):
        RlWorkload().check(spec, None)


def test_a_mistake_that_every_engine_refuses_is_said_once(tmp_path):
    file = tmp_path / "it.yaml"
    file.write_text(
        "name: it\nsimulator: {id: CartPole-v1}\ntrain: {steps: 9}\nlearner:\n"
        "  algorithm: ppo\n  engine: jax\n  args:\n    use_sde: 3\n    policy_kwargs:\n"
        "      activation_fn: rleu\n      net_arhc: [3]\n"
        "      optimizer_kwargs: {lr: 1, amsgrad: true, eps: small}\n"
    )
    errors = refusals(load, file)
    network = "learner.args.policy_kwargs"
    found = {e.field: (e.line, e.hint) for e in errors}
    assert len(found) == len(errors)
    assert {field: line for field, (line, _) in found.items()} == {
        "learner.args.use_sde": 8,
        f"{network}.activation_fn": 10,
        f"{network}.net_arhc": 11,
        **dict.fromkeys((f"{network}.optimizer_kwargs.{n}" for n in ("lr", "amsgrad", "eps")), 12),
    }
    assert "'relu'" in found[f"{network}.activation_fn"][1]
    assert "'net_arch'" in found[f"{network}.net_arhc"][1]
    assert "learning_rate" in found[f"{network}.optimizer_kwargs.lr"][1]


@pytest.mark.parametrize(
    ("steps", "learner", "observation", "told"),
    [
        (200_000, {}, FLAT, True),
        (100_000, {}, FLAT, False),
        (200_000, {"engine": "jax"}, FLAT, False),
        (200_000, {"args": {"use_sde": True}}, FLAT, False),
        (200_000, {"algorithm": "sac"}, FLAT, False),
        (200_000, {}, spaces.Box(0, 255, (36, 36, 3), "uint8"), False),
    ],
    ids=["long", "short", "jax already", "refused by it", "not offered", "images"],
)
def test_a_long_training_is_told_of_the_faster_engine(steps, learner, observation, told):
    spec = spec_of(**{"algorithm": "ppo", "engine": "sb3", **learner})
    found = check_learner(spec, observation, spaces.Box(-1, 1, (1,)), steps)
    hints = [each.fix or "" for each in found if each.subject == "learner"]
    assert any("engine: jax" in hint for hint in hints) is told


@pytest.mark.parametrize("engine", ["jax", "sbx"])
def test_an_experiment_that_was_not_checked_is_told_about_its_images_too(engine):
    """Found by training without `check`: the engine failed at a product of matrices."""
    copies = SimpleNamespace(
        observation_space=OBSERVATIONS["image"], action_space=spaces.Discrete(2)
    )
    with pytest.raises(ConfigError, match=f"{engine} is offered for flat observations"):
        build("ppo", None, {}, copies, 1, "cpu", engine)
