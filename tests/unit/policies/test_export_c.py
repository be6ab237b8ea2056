"""A policy as a C program: compiled strictly, it acts as the network does."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import gymnasium as gym
import numpy as np
import onnxruntime
import pytest
from gymnasium import spaces
from sb3_contrib import ARS, QRDQN, TQC, CrossQ, MaskablePPO, RecurrentPPO
from stable_baselines3 import DQN, PPO, SAC, TD3
from torch import nn

from drillyard.agents.spaces import space_to_json
from drillyard.agents.trained import trained
from drillyard.cli.main import main
from drillyard.errors import RunFailed, UserError
from drillyard.policies import c_loader
from drillyard.policies.act import Policy
from drillyard.policies.c_code import _number, c_files
from drillyard.policies.c_loader import CompiledPolicy
from drillyard.policies.channels import plant_of
from drillyard.policies.export import _plant, export, to_onnx
from drillyard.policies.network import Plain
from drillyard.spec.algorithms.signatures import ACTIVATIONS
from drillyard.spec.learning import SimulatorSpec
from tests.helpers.processes import run_process
from tests.unit.policies.test_export import CASES, trained_run

pytestmark = pytest.mark.heavy

compiler = c_loader.compiler()
if compiler is None:
    pytest.skip("no C compiler on this machine", allow_module_level=True)
STRICT = ("-std=c99", "-pedantic", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC")


class EachActivation(nn.Module):
    """The sum of all functions that an experiment may name as ``activation_fn``."""

    def __init__(self):
        super().__init__()
        self.parts = nn.ModuleList(getattr(nn, kind)() for kind in ACTIVATIONS.values())

    def forward(self, seen):
        return sum(part(4 * seen) for part in self.parts)


BOX = spaces.Box(-1, 1, (4,), np.float32)
ACTION = spaces.Box(np.array([-2.0, 0.0]), np.array([3.0, 9.0]), dtype=np.float64)
CHOICE = spaces.Discrete(4)
TWO = {"n_lstm_layers": 2, "lstm_hidden_size": 8, "net_arch": [8]}
NETWORKS = {
    "gaussian": (PPO, BOX, ACTION, {"net_arch": [16, 16]}),
    "each activation": (PPO, BOX, ACTION, {"net_arch": [16], "activation_fn": EachActivation}),
    "categorical": (PPO, BOX, CHOICE, {}),
    "several choices": (PPO, BOX, spaces.MultiDiscrete([3, 4]), {}),
    "switches": (PPO, BOX, spaces.MultiBinary(3), {}),
    "a numbered state": (PPO, spaces.Discrete(6), ACTION, {}),
    "numbered states": (PPO, spaces.MultiDiscrete([3, 5]), ACTION, {}),
    "named parts": (PPO, spaces.Dict({"a": BOX, "b": spaces.Discrete(3)}), ACTION, {}),
    "masks": (MaskablePPO, BOX, CHOICE, {}),
    "memory": (RecurrentPPO, BOX, ACTION, TWO),
    "linear": (ARS, BOX, ACTION, {}),
    "dqn": (DQN, BOX, CHOICE, {"net_arch": [16]}),
    "quantiles": (QRDQN, BOX, CHOICE, {"net_arch": [16]}),
    "squashed": (SAC, BOX, ACTION, {"net_arch": [16]}),
    "deterministic": (TD3, BOX, ACTION, {"net_arch": [16]}),
    "truncated quantiles": (TQC, BOX, ACTION, {"net_arch": [16]}),
    "batch norm": (CrossQ, BOX, ACTION, {"net_arch": [16]}),
}
POLICIES = {RecurrentPPO: "MlpLstmPolicy", ARS: "LinearPolicy"}


class Fake(gym.Env):
    def __init__(self, observation, action):
        self.observation_space, self.action_space = observation, action

    def reset(self, **_: Any):
        return self.observation_space.sample(), {}

    def action_masks(self):
        return np.ones(4, bool)


def plain(kind: str) -> Plain:
    algorithm, observation, action, more = NETWORKS[kind]
    named = "MultiInputPolicy" if isinstance(observation, spaces.Dict) else "MlpPolicy"
    name = POLICIES.get(algorithm, named)
    model = algorithm(name, Fake(observation, action), policy_kwargs=more, seed=1)
    rng = np.random.default_rng(1)
    statistics = {"epsilon": np.array([1e-8]), "clip_obs": np.array([1.0])}
    statistics |= {"obs_mean": rng.normal(size=4), "obs_var": rng.uniform(0.1, 2, 4)}
    return Plain(model.policy, statistics if observation is BOX else None)


def described(network: Plain) -> Any:
    policy, signature = network.policy, network.signature
    named = {"observation": policy.observation_space, "action": policy.action_space}
    channels = {
        kind: [
            {"name": f"{kind} {i}", "unit": "m³", "low": None, "high": None, "values": None}
            for i in range(
                spaces.flatdim(space) if isinstance(space, spaces.Box) else _size(space)
            )
        ]
        for kind, space in named.items()
    }
    both = {kind: space_to_json(space) for kind, space in named.items()}
    return {**both, "channels": channels, "memory": signature.memory, "masks": signature.masks}


def _size(space: Any) -> int:
    if isinstance(space, spaces.Dict):
        return sum(_size(part) for part in space.values())
    return int(np.prod(space.shape)) if space.shape else 1


@pytest.mark.parametrize("kind", NETWORKS)
def test_a_network_acts_the_same_in_c(kind, tmp_path):
    network = plain(kind)
    facts, model = described(network), to_onnx(network)
    for name, data in c_files(model, facts, "A test.").items():
        Path(tmp_path, name).write_bytes(data)
    Path(tmp_path, "policy.onnx").write_bytes(model)
    noise = network.signature.noise
    facts["noise"] = noise and {"kind": noise, "size": network.signature.noise_size}
    Path(tmp_path, "spaces.json").write_text(json.dumps(facts))
    expected, rng = Policy(tmp_path), np.random.default_rng(2)
    programs = []
    for level in ("-O0", "-O3"):
        folder = tmp_path / level
        folder.mkdir()
        for name in ("policy.c", "policy.h"):
            (folder / name).write_bytes((tmp_path / name).read_bytes())
        programs.append(CompiledPolicy(folder, facts, compiler, (*STRICT, level)))
    network.policy.observation_space.seed(3)
    for step in range(200):
        if step % 50 == 0:
            for policy in (expected, *programs):
                policy.begin()
        observation = network.policy.observation_space.sample()
        masks = rng.permutation(np.arange(4) < rng.integers(1, 4)) if facts["masks"] else None
        action = expected.act(observation, masks=masks)
        for program in programs:
            assert np.allclose(program.act(observation, masks), action, rtol=0, atol=5e-6)


@pytest.mark.parametrize("algorithm", ["ppo", "dqn"])
def test_an_export_to_c_is_compared_and_has_test_vectors(algorithm, tmp_path):
    run = trained_run(tmp_path / "store", algorithm, *CASES[algorithm])
    with trained(run.mailbox, run.run) as policy:
        made = export(policy, "c", tmp_path / "bundle")
    assert made.c_difference is not None and made.c_difference < 1e-6
    bundled = Policy(tmp_path / "bundle")
    with open(tmp_path / "bundle/test_vectors.csv") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 100 and rows[0].pop("begin") == "1"
    names = [c["name"] for c in bundled.spaces["channels"]["action"]]
    for row in rows:
        row.pop("begin", None)
        action = {name: float(row.pop(name)) for name in names}
        states = {name: float(text) for name, text in row.items()}
        assert bundled.act_named(states) == pytest.approx(action, abs=1e-4)
    card = (tmp_path / "bundle/README.md").read_text()
    assert "act_named({" in card and "**Fallback**" in card and "policy.c" in card


@pytest.mark.parametrize("wrong", ["action->Tc_adjust += 0.001", "action->Tc_adjust = NAN"])
def test_a_program_that_acts_otherwise_is_not_written(wrong, tmp_path, monkeypatch):
    def mistaken(*given: Any) -> dict[str, bytes]:
        files = c_files(*given)
        source = files["policy.c"].replace(
            b"return outside;", f"{wrong}; return outside;".encode()
        )
        return {**files, "policy.c": source}

    monkeypatch.setattr("drillyard.policies.c_code.c_files", mistaken)
    run = trained_run(tmp_path / "store", "ppo", *CASES["ppo"])
    with trained(run.mailbox, run.run) as policy, pytest.raises(RunFailed, match="differs by"):
        export(policy, "c", tmp_path / "bundle")
    assert not (tmp_path / "bundle").exists()


def test_what_is_not_a_number_or_outside_is_told_to_the_caller(tmp_path):
    run = trained_run(tmp_path / "store", "ppo", *CASES["ppo"])
    with trained(run.mailbox, run.run) as policy:
        export(policy, "c", tmp_path / "bundle")
    facts = json.loads((tmp_path / "bundle/spaces.json").read_text())
    program = CompiledPolicy(tmp_path / "bundle", facts, compiler)
    with pytest.raises(RunFailed, match="refuses observation 2"):
        program.act(np.array([0.5, np.nan, 0.2, 0.4]))
    given, out = np.array([300.0, 5.0, 2.0, 700.0]), np.array([99.0])  # Tc, K: -600 to 600
    assert program._act(given.ctypes, out.ctypes) == -4 and -10 <= out[0] <= 10
    header = (tmp_path / "bundle/policy.h").read_text()
    assert "double Tr; /* K; -600 to 600 */" in header


def program(folder, network, **action: float):
    facts = described(network)
    for channel in facts["channels"]["action"]:
        channel.update(action)
    for name, data in c_files(to_onnx(network), facts, "A test.").items():
        Path(folder, name).write_bytes(data)
    return CompiledPolicy(folder, facts, compiler)


def acted(made, values):
    """The code and the actions for an observation, as a controller calls the program."""
    given, out = np.array(values, float), np.array([99.0, 99.0])
    memory = [made._memory.ctypes] if made.spaces["memory"] else []
    return made._act(given.ctypes, out.ctypes, *memory), out.tolist()


def test_a_sensor_without_a_sound_value_commands_nothing_and_is_not_remembered(tmp_path):
    made, other = (program(tmp_path, plain("memory")) for _ in range(2))
    assert acted(made, [1e39, 0, -1e39, 0]) == (1, [99.0, 99.0])
    assert acted(made, [0, np.inf, 0, 0]) == (2, [99.0, 99.0])
    assert acted(made, [0.5, 0, 0, 0]) == acted(other, [0.5, 0, 0, 0])


def test_a_network_without_a_finite_answer_commands_nothing(tmp_path):
    model = PPO("MlpPolicy", Fake(BOX, ACTION), policy_kwargs={"activation_fn": nn.ReLU}, seed=1)
    for weights in model.policy.parameters():
        weights.data *= 100
    made = program(tmp_path, Plain(model.policy, None))
    assert acted(made, [3e38, -3e38, 3e38, 1]) == (5, [99.0, 99.0])
    assert acted(made, [1, 0, 0, 0])[0] == 0


def test_no_action_is_rounded_beyond_its_limits(tmp_path):
    model = PPO("MlpPolicy", Fake(BOX, spaces.Box(-1, 1, (2,))), seed=1)
    model.policy.action_net.bias.data[:] = 5
    made = program(tmp_path, Plain(model.policy, None), low=-5.0, high=-1.8)
    assert acted(made, [0, 0, 0, 0]) == (0, [-1.8, -1.8])


@pytest.mark.skipif(shutil.which("c++") is None, reason="no C++ compiler")
def test_a_program_in_c_plus_plus_calls_it(tmp_path):
    network = plain("gaussian")
    facts = described(network)
    facts["channels"]["observation"][0]["name"] = "new"
    for name, data in c_files(to_onnx(network), facts, "A test.").items():
        (tmp_path / name).write_bytes(data)
    calls = "policy_observation seen = {}; policy_action done; return policy_act(&seen, &done);"
    (tmp_path / "main.cpp").write_text(f'#include "policy.h"\nint main() {{ {calls} }}\n')
    run_process([compiler, "-c", "policy.c", "-o", "policy.o"], cwd=tmp_path, check=True)
    words = ["c++", "main.cpp", "policy.o", "-lm", "-o", "main"]
    done = run_process(words, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert run_process([tmp_path / "main"]).returncode == 0


def test_a_number_is_the_same_in_c():
    for value in (np.float32(0.1), float(np.float32(0.1)), 0.1, -3e-8, 1e30, 0.0):
        assert type(value)(_number(value)) == value


def test_images_cannot_be_exported_to_c():
    image = spaces.Box(0, 255, (3, 36, 36), np.uint8)
    network = Plain(PPO("CnnPolicy", Fake(image, ACTION)).policy, None)
    facts = described(network)
    with pytest.raises(UserError, match=r"images \(a convolution\) cannot be exported to C"):
        c_files(to_onnx(network), facts, "")
    facts["channels"]["observation"] = []  # as a simulator with 100 values has them, too
    with pytest.raises(UserError, match="more than 64 values without names"):
        c_files(b"", facts, "")


def test_the_command_says_where_there_is_no_compiler(tmp_path, monkeypatch, capsys):
    run = trained_run(tmp_path / "store", "ppo", *CASES["ppo"], evaluated=True)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path))
    place = [run.mailbox.experiment, "--store", str(tmp_path / "store/store")]
    assert main(["export", *place, "--to", "c", "--out", "b"]) == 0
    assert "there is no C compiler here: use test_vectors.csv" in capsys.readouterr().out
    assert (tmp_path / "b/policy.c").is_file()
    onnxruntime.InferenceSession(str(tmp_path / "b/policy.onnx"))


class Tank:
    step_seconds = 15

    def reset(self, config):
        return {"level": 0.5}

    def step(self, actions):
        return {"level": actions["inflow"]}

    def terminated(self):
        return False

    def truncated(self):
        return False


def test_the_time_between_two_actions_is_the_simulator_s():
    agent = {"observes": {"level": {"min": 0, "max": 1}}, "acts": {"inflow": {"min": 0, "max": 1}}}
    world = {"id": f"{__name__}:Tank", "agent": {**agent, "reward": {"level": "level"}}}
    assert plant_of(SimulatorSpec.model_validate(world)) == {"step_s": 15.0, "hold": None}
    building = plant_of(SimulatorSpec(id="building"))
    assert building == {"step_s": 900.0, "hold": [0.0, 0.0]}


def test_an_idle_action_of_other_actions_is_left_out():
    world: Any = SimpleNamespace(spec=SimpleNamespace(simulator=SimulatorSpec(id="building")))
    one: Any = {"channels": {"action": [{"name": "both"}]}}  # as a wrapper may change them
    assert _plant(world, one) == {"step_s": 900.0, "hold": None}
