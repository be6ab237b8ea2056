"""Where a training computes, and how: chosen once, kept, and refused where it cannot be."""

from __future__ import annotations

import os
import sys
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from drillyard.errors import UserError
from drillyard.findings import Severity
from drillyard.learners import determinism, devices, sb3_build
from drillyard.learners.algorithms import CLASSES
from drillyard.learners.barriers import Marks
from drillyard.learners.exactness import exactness
from drillyard.mailbox.records import Phase
from drillyard.simulators.make_copies import make_vec
from drillyard.spec.algorithms.argument_table import ARGUMENTS
from drillyard.spec.algorithms.signatures import ACTION_SPACES, FROM_EPISODES, NOT_MIXED
from drillyard.spec.experiment import ExperimentSpec
from drillyard.spec.learning import LearnerSpec, SimulatorSpec
from drillyard.spec.semantics import problems_of
from drillyard.testing.phases import OneRun
from drillyard.workloads.rl import RlWorkload
from tests.helpers.processes import run_process
from tests.helpers.specs import small

SMALL = {"batch_size": 8, "policy_kwargs": {"net_arch": [8]}}
SOON = {"learning_starts": 4}
BEAR_IT = sorted(set(ARGUMENTS) - set(NOT_MIXED))


def experiment(resources: dict[str, Any], **learner: Any) -> ExperimentSpec:
    learner = {"args": {"n_steps": 8, **SMALL}, **learner}
    train = {"steps": 16, "checkpoint_every": 8}
    return small(learner=learner, train=train, resources=resources)


class Machine:
    """One with a GPU, as far as devices.py can tell."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.there = True
        self.built: list[str] = []
        monkeypatch.setattr(devices, "usable", lambda: self.there)
        build = sb3_build.build

        def noted(*args: Any) -> Any:
            self.built.append(args[5])
            return build(*args[:5], "cpu", *args[6:])

        monkeypatch.setattr(sb3_build, "build", noted)

    def why(self, one: OneRun) -> Any:
        return one.phase(Phase.TRAIN).summary["parameters"]["device_because"]


def one_run(folder: Any, resources: dict[str, Any], **learner: Any) -> OneRun:
    return OneRun(folder, experiment(resources, **learner), RlWorkload())


WIDE = {"batch_size": 4096, "policy_kwargs": {"net_arch": [256, 256]}}


@pytest.mark.parametrize(
    ("learner", "gpus", "device", "why"),
    [
        ({}, 0, "cpu", "581,824 multiplications a minibatch, less than 33,554,432"),
        ({"args": WIDE}, 0, "cuda", "at least 33,554,432"),
        ({"algorithm": "a2c"}, 0, "cpu", "45,455 multiplications"),
        ({"algorithm": "sac"}, 0, "cuda", "at least"),
        ({"algorithm": "ars"}, 1, "cpu", "ars computes no gradients"),
        ({"engine": "jax", "args": WIDE}, 0, "cpu", "resources.gpus, with engine: jax"),
        ({"engine": "jax"}, 1, "cuda", "resources.gpus, with engine: jax"),
    ],
)
def test_auto_follows_the_table_whatever_the_machine_does(learner, gpus, device, why):
    venv = make_vec(SimulatorSpec(id="cstr"), 1, 0)
    before = torch.get_rng_state()
    given = LearnerSpec.model_validate({"algorithm": "ppo", **learner})
    found = devices.by_table(given, venv, bool(gpus))
    assert found[0] == device and why in found[1]
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.parametrize(
    ("resources", "learner", "field", "said"),
    [
        ({"gpu": "T4"}, {}, "resources.gpu", "auto would train on the CPU, and the GPU would be"),
        ({"gpus": 1, "device": "cuda"}, {}, "resources.gpus", "slower than the CPU"),
        ({"gpus": 1}, {"engine": "jax"}, "resources.gpus", "slower than the CPU"),
        ({"gpus": 1}, {"algorithm": "ars", "args": {}}, "resources.gpus", "no gradients"),
        ({"device": "cuda"}, {}, "resources.device", "multiplications a minibatch, less than"),
        ({"gpus": 1}, {"args": {**WIDE, "n_steps": 4096}}, None, ""),
        ({"gpus": 1}, {"algorithm": "sac", "args": SOON}, None, ""),
        ({}, {}, None, ""),
    ],
)
def test_a_gpu_that_would_be_slower_is_said_before_it_is_rented(
    resources, learner, field, said, tmp_path
):
    spec = experiment(resources, **learner)
    found = [f for f in RlWorkload().check(spec, tmp_path) if "GPU" in f.message]
    assert [f.subject for f in found] == ([field] if field else [])
    assert all(said in f.message and f.severity is Severity.WARNING for f in found)


def test_images_are_for_the_gpu():
    world = {"id": "tests.contract.spaces_world:AnySpaces", "args": {"observation": "image"}}
    venv = make_vec(SimulatorSpec.model_validate(world), 1, 0)
    found = devices.by_table(LearnerSpec(algorithm="ppo"), venv, False)
    assert found == ("cuda", "the observations have images")


@pytest.mark.heavy
def test_a_resumed_training_stays_where_it_was(tmp_path, monkeypatch):
    machine = Machine(monkeypatch)
    machine.there = False
    one = one_run(tmp_path, {})
    assert machine.why(one) == "torch finds no GPU here"
    machine.there = True
    assert machine.why(one) == "where it began"
    assert machine.built == ["cpu", "cpu"]


@pytest.mark.heavy
def test_the_reason_is_among_the_parameters(tmp_path, monkeypatch):
    machine = Machine(monkeypatch)
    ars = {"algorithm": "ars", "args": {"n_delta": 2}}
    assert machine.why(one_run(tmp_path / "a", {}, **ars)) == "ars computes no gradients"
    two = one_run(tmp_path / "d", {"threads": 2}).phase(Phase.TRAIN).summary["parameters"]
    assert isinstance(two, dict) and two["threads_because"] == "as the experiment says"
    assert (two["engine"], two["engine_because"]) == ("sb3", "the fixed default")
    assert (two["precision"], two["precision_because"]) == ("full", "the fixed default")
    assert machine.why(one_run(tmp_path / "b", {"device": "cuda"})) == "as the experiment says"
    assert "multiplications" in machine.why(one_run(tmp_path / "c", {}))
    assert machine.built == ["cpu", "cpu", "cuda", "cpu"]


def test_a_gpu_that_is_not_there_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(devices, "usable", lambda: False)
    with pytest.raises(UserError, match=r"resources.device is cuda, and ") as caught:
        one_run(tmp_path, {"device": "cuda"}).phase(Phase.TRAIN)
    assert "device to auto" in str(caught.value.hint)


@pytest.mark.heavy
@pytest.mark.parametrize("algorithm", sorted(set(ARGUMENTS) - FROM_EPISODES))
def test_the_work_of_every_algorithm_can_be_counted(algorithm):
    world = "CartPole-v1" if "Box" not in ACTION_SPACES[algorithm] else "Pendulum-v1"
    venv = make_vec(SimulatorSpec(id=world), 2, 0)
    assert devices.multiplications(LearnerSpec(algorithm=algorithm), venv) > 0


@pytest.mark.heavy
@pytest.mark.parametrize("algorithm", BEAR_IT)
def test_mixed_precision_computes_in_short_and_keeps_weights_whole(algorithm):
    world = "CartPole-v1" if "Box" not in ACTION_SPACES[algorithm] else "Pendulum-v1"
    venv = make_vec(SimulatorSpec(id=world), 1, 0)
    args = {**SMALL, "learning_starts": 8, "train_freq": 1, "target_update_interval": 1}
    args = {n: v for n, v in args.items() if n in ARGUMENTS[algorithm]}
    model = sb3_build.build(algorithm, None, args, venv, 0, "cpu", "sb3", "mixed")
    seen, playing = [], []

    def look(_module: Any, _given: Any, out: torch.Tensor) -> None:
        (seen if torch.is_autocast_enabled("cpu") else playing).append(out.dtype)

    for module in model.policy.modules():
        if isinstance(module, torch.nn.Linear):
            module.register_forward_hook(look)
    before = {name: tensor.clone() for name, tensor in model.policy.state_dict().items()}
    model.learn(24)
    after = model.policy.state_dict()
    assert set(seen) == {torch.bfloat16}
    assert set(playing) <= {torch.float32}
    assert {tensor.dtype for tensor in after.values()} == {torch.float32}
    assert all(torch.isfinite(tensor).all() for tensor in after.values())
    assert any(not torch.equal(before[name], after[name]) for name in after)
    assert sb3_build.describe(algorithm, model)["precision"] == "mixed"


def test_a_weight_is_not_remembered_in_short_over_two_steps():
    """Autocast's own memory would show the second step of an update the weights of the first."""

    class Two:
        device = torch.device("cpu")
        seen: list[float]

        def train(self) -> None:
            layer = torch.nn.Linear(1, 1, bias=False)
            self.seen = []
            for value in (1.0, 2.0):
                with torch.no_grad():
                    layer.weight.fill_(value)
                self.seen.append(float(layer(torch.ones(1)).detach()))

    found = determinism.mixed(Two)()
    found.train()
    assert found.seen == [1.0, 2.0]


@pytest.mark.parametrize(
    ("resources", "learner", "field", "words"),
    [
        ({"precision": "mixed"}, {"algorithm": "dqn", "args": SOON}, "precision", "on a GPU only"),
        ({"precision": "mixed", "device": "cuda"}, {}, "precision", "noted while playing"),
        (
            {"precision": "mixed", "device": "cuda"},
            {"algorithm": "td3", "engine": "sbx", "args": SOON},
            "precision",
            "not offered for td3",
        ),
        (
            {"deterministic": True},
            {"algorithm": "sac", "engine": "sbx", "args": SOON},
            "deterministic",
            "not offered for sac",
        ),
    ],
)
def test_what_cannot_be_had_is_refused_with_the_reason(resources, learner, field, words):
    (problem,) = problems_of(experiment(resources, **learner))
    assert problem.field == f"resources.{field}"
    assert words in str(problem) and problem.hint


def test_what_can_be_had_passes():
    assert problems_of(experiment({"deterministic": True})) == []
    fine = experiment({"precision": "mixed", "device": "cuda"}, algorithm="td3", args=SOON)
    assert problems_of(fine) == []


@pytest.mark.heavy
def test_deterministic_operations_are_asked_for_while_it_trains(tmp_path, monkeypatch):
    asked = []
    choose = devices.choose

    def noted(*args: Any) -> Any:
        asked.append(torch.are_deterministic_algorithms_enabled())
        return choose(*args)

    monkeypatch.setattr(devices, "choose", noted)
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG", raising=False)
    one_run(tmp_path, {"deterministic": True}).phase(Phase.TRAIN)
    one_run(tmp_path / "b", {}).phase(Phase.TRAIN)
    assert asked == [True, False]


def test_a_gpu_is_exact_only_where_it_was_asked_to_be():
    def promised(device: str, deterministic: bool) -> str:
        marks = Marks()
        context = SimpleNamespace(spec=experiment({"deterministic": deterministic}))
        training: Any = SimpleNamespace(marks=marks, silent=[], context=context)
        return exactness(training, SimpleNamespace(max_time_s=None), device)  # type: ignore[arg-type]

    assert promised("cpu", False) == promised("cuda", True) == "exact"
    assert "without resources.deterministic" in promised("cuda", False)


def test_the_classes_of_both_precisions_have_one_name():
    assert determinism.mixed(CLASSES["dqn"]).__name__ == "DQN"


@pytest.mark.heavy
def test_no_folder_of_the_compiler_stays_behind(tmp_path):
    code = """
import os, sys, tempfile
from gymnasium import spaces
from drillyard.learners.sb3_build import untrained_policy
assert "torch._dynamo" not in sys.modules
untrained_policy("ppo", "MlpPolicy", {}, spaces.Box(0, 1, (2,)), spaces.Discrete(2))
assert "torch._dynamo" in sys.modules
print(os.listdir(tempfile.gettempdir()), os.environ.get("TORCHINDUCTOR_CACHE_DIR"))
"""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("TORCHINDUCTOR")}
    done = run_process(
        [sys.executable, "-c", code], env={**environment, "TMPDIR": str(tmp_path)}, check=True
    )
    assert done.stdout.strip() == "[] None"
