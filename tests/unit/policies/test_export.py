"""Exported policies act as the trained ones did, with numpy and onnxruntime alone."""

import json
import os
import re
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch

from drillyard.agents.base import LoadedPolicy, load_policy
from drillyard.agents.trained import trained
from drillyard.cli.main import main
from drillyard.errors import CorruptObject, RunFailed, UserError
from drillyard.learners.rllib.network import Network
from drillyard.learners.sb3 import Rebuilt
from drillyard.mailbox.records import Phase
from drillyard.policies import bundles
from drillyard.policies.act import Policy
from drillyard.policies.export import TOLERANCE, export
from drillyard.spec.algorithms.argument_table import ARGUMENTS
from drillyard.spec.algorithms.signatures import ACTION_SPACES
from tests.helpers.processes import run_process
from tests.helpers.specs import small, submitted

pytestmark = pytest.mark.heavy

SMALL = {"policy_kwargs": {"net_arch": [16]}}
REPLAY = {**SMALL, "learning_starts": 32, "buffer_size": 200, "batch_size": 16}
ROLLOUT = {**SMALL, "n_steps": 32, "batch_size": 32}
CASES = {
    "ppo": ("cstr", ROLLOUT, ["normalize"]),
    "a2c": ("building", SMALL, [{"name": "frame_stack", "args": {"n": 2}}, "normalize"]),
    "sac": ("Pendulum-v1", REPLAY, []),
    "tqc": ("Pendulum-v1", {**REPLAY, "use_sde": True}, ["normalize"]),
    "td3": ("Pendulum-v1", REPLAY, []),
    "crossq": ("Pendulum-v1", REPLAY, []),
    "dqn": ("CartPole-v1", REPLAY, []),
    "qr-dqn": ("CartPole-v1", REPLAY, ["normalize"]),
    "trpo": ("simple-adder", {**SMALL, "n_steps": 32, "batch_size": 32}, []),
    "ars": ("Pendulum-v1", {"n_delta": 1}, []),
    "recurrent-ppo": (
        "Pendulum-v1",
        {"n_steps": 32, "batch_size": 32, "policy_kwargs": {"lstm_hidden_size": 8}},
        ["normalize"],
    ),
    "maskable-ppo": ("tests.helpers.resume_worlds:Masked", ROLLOUT, []),
}


def trained_run(folder, algorithm, simulator, args, wrappers, evaluated=False, seed=3, **more):
    learner = {"algorithm": algorithm, "args": args}
    world = {"id": simulator, "wrappers": wrappers}
    run = submitted(folder, small(world, learner=learner, seeds=[seed], name="export", **more))
    run.phase(Phase.TRAIN)
    if evaluated:
        run.phase(Phase.EVALUATE)
    return run


KINDS = {"ppo", "sac", "dqn", "recurrent-ppo", "maskable-ppo"}
"""One of each kind of network; the others run on demand."""


@pytest.mark.parametrize(
    "algorithm",
    [n if n in KINDS else pytest.param(n, marks=pytest.mark.slow) for n in ARGUMENTS],
)
def test_it_acts_as_the_trained_one(algorithm, tmp_path):
    usual = ("Pendulum-v1" if "Box" in ACTION_SPACES[algorithm] else "CartPole-v1", REPLAY, [])
    run = trained_run(tmp_path / "store", algorithm, *CASES.get(algorithm, usual))
    with trained(run.mailbox, run.run) as policy:
        made = export(policy, "onnx", tmp_path / "bundle")
    assert made.checked == 1000 and made.largest_difference < TOLERANCE
    index, files = bundles.read(tmp_path / "bundle")
    assert {"policy.onnx", "spaces.json", "act.py", "README.md", "learner.json"} <= set(files)
    described = json.loads(files["spaces.json"])
    assert ("test_vectors.csv" in files) == (b"test_vectors.csv" in files["README.md"])
    exported = Policy(tmp_path / "bundle")
    states = {c["name"]: 0.0 for c in described["channels"]["observation"]}
    if states:
        named = exported.act_named(states)
        assert list(named) == [c["name"] for c in described["channels"]["action"]]
        assert exported.act_named([states, states])[1].keys() == named.keys()
    assert index["algorithm"] == algorithm


def test_the_loader_refuses_what_cannot_be_meant(tmp_path):
    run = trained_run(tmp_path / "store", "ppo", *CASES["ppo"])
    with trained(run.mailbox, run.run) as policy:
        export(policy, "onnx", tmp_path / "bundle")
    policy = Policy(tmp_path / "bundle")
    good = {"Tr": 300.0, "Cr": 8.5, "Cref": 2.0, "Tc": 240.0}
    policy.act_named(good)
    nan, missing = {**good, "Cr": float("nan")}, {"Tr": 300.0, "Cref": 2.0, "Tc": 240.0}
    for states, words in (
        (nan, "Cr is nan: not a finite number"),
        ([good, nan], "Cr is nan: not a finite number"),
        ({**good, "Cr": float("inf")}, "Cr is inf"),
        ({**good, "Cr": "8.5"}, "Cr is '8.5'"),
        ({**good, "Cr": None}, "Cr is None"),
        ({**good, "Tx": 1.0}, "Tx is unknown; there are: Tr, Cr, Cref, Tc"),
        (missing, "Cr is missing; there are: Tr, Cr, Cref, Tc"),
    ):
        with pytest.raises(ValueError, match=re.escape(words)):
            policy.act_named(states)
    for bad in ([0.5, np.nan, 0.2, 0.4], [[0.0] * 4, [np.nan] * 4]):
        with pytest.raises(ValueError, match="the observation has NaN at index"):
            policy.act(np.array(bad, np.float32))


def test_a_bundle_needs_numpy_and_onnxruntime_only(tmp_path):
    run = trained_run(tmp_path / "store", "sac", "cstr", REPLAY, ["normalize"], evaluated=True)
    with trained(run.mailbox, run.run) as policy:
        export(policy, "onnx", tmp_path / "bundle")
        seen = np.array([0.5, 0.85, 0.2, 0.4], np.float32)
        statistics = policy.policy.normalisation
    scale = np.sqrt(statistics["obs_var"] + statistics["epsilon"][0])
    code = (
        "import sys, act; p = act.Policy('.')\n"
        "named = p.act_named({'Tr': 300.0, 'Cr': 8.5, 'Cref': 2.0, 'Tc': 240.0})\n"
        "raw = p.act([0.5, 0.85, 0.2, 0.4])\n"
        "import numpy; rng = numpy.random.default_rng(1)\n"
        "other = {float(p.act([0.5, 0.85, 0.2, 0.4], False, rng)[0]) for _ in range(5)}\n"
        "bad = {'torch', 'drillyard', 'stable_baselines3', 'gymnasium'} & set(sys.modules)\n"
        "assert not bad, bad\n"
        "print(named['Tc_adjust'], raw[0], len(other))\n"
    )
    command = [sys.executable, "-I", "-c", f"import sys; sys.path.insert(0, '.')\n{code}"]
    done = run_process(command, cwd=tmp_path / "bundle", check=True)
    named, raw, different = done.stdout.split()
    normal = ((seen - statistics["obs_mean"]) / scale).clip(-10, 10).astype(np.float32)
    expected = policy.policy(normal, True)[0]
    assert float(raw) == pytest.approx(expected, abs=1e-5)
    assert float(named) == pytest.approx(10 * expected, abs=1e-4)  # K, from -10 to 10
    assert different == "5"
    assert len((tmp_path / "bundle/act.py").read_text().splitlines()) < 150
    card = (tmp_path / "bundle/README.md").read_text()
    assert (
        "model-index" in card
        and "| this policy (seed 3) |" in card
        and "| action | Tc_adjust | K |" in card
    )


def test_another_network_is_found_by_the_comparison(tmp_path, monkeypatch):
    run = trained_run(tmp_path / "store", "sac", "Pendulum-v1", REPLAY, [])
    from drillyard.policies import export as module

    def wrong(plain):
        with_bias = plain.policy.actor.mu.bias.data
        with_bias += 0.5
        made = honest(plain)
        with_bias -= 0.5
        return made

    honest = module.to_onnx
    monkeypatch.setattr(module, "to_onnx", wrong)
    with trained(run.mailbox, run.run) as policy, pytest.raises(RunFailed, match="differs"):
        export(policy, "onnx", tmp_path / "bundle")
    assert not (tmp_path / "bundle").exists()


def test_what_cannot_be_exported_says_why(tmp_path):
    stacked = ["normalize", {"name": "frame_stack", "args": {"n": 2}}]
    run = trained_run(tmp_path / "store", "ppo", "cstr", ROLLOUT, stacked)
    with trained(run.mailbox, run.run) as policy:
        with pytest.raises(UserError, match="frames were stacked after"):
            export(policy, "onnx", tmp_path / "bundle")
        export(policy, "safetensors", tmp_path / "bundle")
        with pytest.raises(UserError, match="is there already"):
            export(policy, "safetensors", tmp_path / "bundle")
    _, files = bundles.read(tmp_path / "bundle")
    again = load_policy(files, "best" if "policy_best.safetensors" in files else "final")
    seen = np.zeros(8, np.float32)
    assert np.array_equal(again(seen), policy.policy(seen))


def test_what_is_no_module_of_torch_is_refused(tmp_path):
    run = trained_run(tmp_path / "store", "ppo", "CartPole-v1", ROLLOUT, [])
    layers = {"encoder.actor_encoder": (8, 4), "pi": (2, 8)}
    tensors = {"pi.log_std_clip_param_const": torch.tensor(20.0)}
    for part, shape in layers.items():
        tensors[f"{part}.net.mlp.0.weight"] = torch.zeros(shape)
        tensors[f"{part}.net.mlp.0.bias"] = torch.zeros(shape[0])
    with trained(run.mailbox, run.run) as policy:
        spaces = policy.policy.act.policy
        theirs = Network(spaces.observation_space, spaces.action_space, tensors, "tanh")
        loaded = LoadedPolicy(Rebuilt(theirs), None, "agent")
        with pytest.raises(UserError, match=r"ppo is not a torch module, and only"):
            export(replace(policy, policy=loaded), "onnx", tmp_path / "bundle")
        learner = json.dumps({"algorithm": "sac", "engine": "sbx"}).encode()
        jax = replace(policy, files={**policy.files, "learner.json": learner})
        with pytest.raises(UserError, match=r"sac is not a torch module \(engine: sbx\)"):
            export(jax, "onnx", tmp_path / "bundle")
    assert not (tmp_path / "bundle").exists()


def test_a_changed_bundle_is_not_read(tmp_path, monkeypatch, capsys):
    run = trained_run(tmp_path / "store", "ppo", "cstr", ROLLOUT, [], evaluated=True)
    monkeypatch.chdir(tmp_path)
    place = [run.mailbox.experiment, "--store", str(tmp_path / "store/store")]
    assert main(["export", *place, "--out", "b", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["checked"] == 1000 and "policy.onnx" in told["files"]
    model = tmp_path / "b/policy.onnx"
    model.write_bytes(model.read_bytes()[:-1] + b"x")
    with pytest.raises(CorruptObject, match="was changed"):
        bundles.read(tmp_path / "b")
    assert main(["export", *place, "--out", "nowhere/b"]) == 2


def test_weights_are_exported_where_onnx_is_missing(tmp_path):
    run = trained_run(tmp_path / "store", "ppo", *CASES["ppo"])
    start = "import sys; sys.modules.update(onnx=None, onnxruntime=None)\n"
    start += "from drillyard.cli.main import main; sys.exit(main(sys.argv[1:]))"
    place = [f"{run.mailbox.experiment}/{run.run}", "--store", str(tmp_path / "store/store")]
    for format_, code, words in (("safetensors", 0, ""), ("onnx", 2, "needs packages that are")):
        more = ["--format", format_, "--out", tmp_path / format_]
        done = run_process([sys.executable, "-c", start, "export", *place, *more])
        assert done.returncode == code and words in done.stderr, done.stderr


def test_the_loader_lets_onnxruntime_tell_nobody():
    """Its official builds for Linux send what they load to their maker unless told not to."""
    code = "import os, drillyard.policies.act; print(os.environ['ORT_DISABLE_TELEMETRY'])"
    environment = {k: v for k, v in os.environ.items() if k != "ORT_DISABLE_TELEMETRY"}
    told = run_process([sys.executable, "-c", code], env=environment, check=True)
    assert told.stdout.strip() == "1"
