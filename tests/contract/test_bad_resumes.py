"""The rows of the catalogue about a run that exists already: refused, and nothing is changed.

One real training, killed by its own world, leaves two checkpoints; each case spoils a copy of its
store with hashes that are right, so that only the content can give it away.
"""

from __future__ import annotations

import hashlib
import io
import json
import shutil
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import drillyard
from drillyard.cli.main import main
from drillyard.errors import CheckpointRefused, RunFailed, SpaceMismatch
from drillyard.mailbox import Mailbox, open_store
from drillyard.mailbox.driver_lock import DriverLock, host
from drillyard.runs.checkpoint_formats import examine
from drillyard.runs.checkpoints import Checkpoint, CheckpointMeta

WORLD = """
import gymnasium as gym
import numpy as np


class Fails(gym.Env):
    observation_space = gym.spaces.Box(-1, 1, (2,), np.float32)
    action_space = gym.spaces.Box(-1, 1, (1,), np.float32)
    steps = 0

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return np.zeros(2, np.float32), {}

    def step(self, action):
        self.steps += 1
        if self.steps > 200:
            raise RuntimeError("the pump is dry")
        return np.zeros(2, np.float32), 0.0, self.steps % 20 == 0, False, {}
"""
FILE = """\
name: broken
simulator: {id: "dry_world:Fails"}
learner:
  algorithm: ppo
  args: {n_steps: 64, batch_size: 64, gamma: 0.9}
train: {steps: 512, checkpoint_every: 64}
evaluate: {episodes: 1}
tracking: {mlflow: null, tensorboard: false}
"""
DONE = "name: done\nworkload: mock\ntracking: {mlflow: null, tensorboard: false}\n"
RUN = "t0001-s1"


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A folder with a failed and a finished experiment."""
    folder = tmp_path_factory.mktemp("resumes")
    (folder / "dry_world.py").write_text(WORLD)
    (folder / "exp.yaml").write_text(FILE)
    (folder / "done.yaml").write_text(DONE)
    with pytest.raises(RunFailed, match=r"t0001-s1\.train: RuntimeError: the pump is dry"):
        drillyard.run(folder / "exp.yaml", store=folder / "store", report=False, flow=False)
    drillyard.run(folder / "done.yaml", store=folder / "store", report=False, flow=False)
    yield folder
    sys.modules.pop("dry_world", None)


@pytest.fixture
def place(made, tmp_path, monkeypatch):
    """A copy of it, as the working folder."""
    folder = tmp_path / "work"
    shutil.copytree(made, folder)
    monkeypatch.chdir(folder)
    monkeypatch.setenv("DRILLYARD_STORE", str(folder / "store"))
    return folder


def contents(folder: Path) -> dict[str, bytes]:
    files = (p for p in sorted(folder.rglob("*")) if p.is_file())
    return {str(p.relative_to(folder)): p.read_bytes() for p in files if p.suffix != ".pyc"}


def refused(place: Path, capsys: pytest.CaptureFixture[str], *words: str) -> str:
    before = contents(place)
    assert main(list(words)) == 2
    both = capsys.readouterr()
    assert contents(place) == before
    text = both.out + both.err
    assert "Traceback" not in text
    assert "fix:" in text or "next:" in text
    return text


def newest(place: Path) -> Path:
    found = sorted((place / "store/broken/runs" / RUN).glob("attempts/*/checkpoints/*"))
    assert [int(p.name) for p in found] == [64, 128, 192]
    return found[-1]


def spoil(place: Path, name: str, data: bytes) -> None:
    """Another content, with a manifest that vouches for it."""
    (newest(place) / name).write_bytes(data)
    manifest = newest(place) / "manifest.json"
    meta = json.loads(manifest.read_text())
    meta["files"][name] |= {"sha256": hashlib.sha256(data).hexdigest(), "size": len(data)}
    manifest.write_text(json.dumps(meta))


def npz(members: dict[str, bytes], compression: int = zipfile.ZIP_STORED) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", compression) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return file.getvalue()


def with_nan(place: Path) -> bytes:
    from safetensors.numpy import load, save

    tensors = load((newest(place) / "tensors.safetensors").read_bytes())
    # Read in any order. Those of the optimizer have the same shapes, and come after the policy's.
    name = min(n for n, t in tensors.items() if t.shape == (64, 2))
    tensors[name] = tensors[name].copy()
    tensors[name][0, 0] = np.nan
    return save(tensors)


def objects() -> bytes:
    file = io.BytesIO()
    np.savez(file, a00000=np.array([{"a": 1}], dtype=object))
    return file.getvalue()


Spoilt = Callable[[Path], bytes]
CASES: list[tuple[int, str, Spoilt, list[str]]] = [
    (
        71,
        "tensors.safetensors",
        lambda p: (newest(p) / "tensors.safetensors").read_bytes()[:-9],
        ["is not a safetensors file", "ends at byte"],
    ),
    (
        71,
        "tensors.safetensors",
        lambda _: b"<!DOCTYPE html><html>log in</html>",
        ["it is an HTML page"],
    ),
    (71, "arrays.npz", lambda _: b"not a zip", ["is not an .npz file", "not a zip"]),
    (71, "state.json", lambda _: b"{", ["is not JSON"]),
    (72, "tensors.safetensors", lambda _: b"\x80\x04\x95evil", ["holds a pickle"]),
    (72, "arrays.npz", lambda _: objects(), ["a00000.npy holds Python objects"]),
    (
        73,
        "arrays.npz",
        lambda _: npz({"a.npy": b"0" * 10**7}, zipfile.ZIP_DEFLATED),
        ["unpacks to 10,000,000 bytes"],
    ),
    (
        73,
        "arrays.npz",
        lambda _: npz({f"a{i}.npy": b"" for i in range(10_001)}),
        ["10,001 members"],
    ),
    (73, "arrays.npz", lambda _: npz({"../../evil.npy": b""}), ["'../../evil.npy'"]),
    (
        74,
        "tensors.safetensors",
        with_nan,
        ["not finite", "shape (64, 2)", "model.modules.policy."],
    ),
]


@pytest.mark.parametrize(("number", "name", "data", "words"), CASES)
def test_a_checkpoint_that_must_not_be_read(place, capsys, number, name, data, words):
    spoil(place, name, data(place))
    text = refused(place, capsys, "resume", "broken")
    for word in (*words, f"the checkpoint of {RUN} at step 192: {name}", "delete the folder"):
        assert word in text
    # What it says to delete, once deleted, is no obstacle any more.
    shutil.rmtree(newest(place))
    answer = main(["run", "exp.yaml", "--set", "learner.args.gamma=0.5", "--json"])
    assert answer == 2 and "IdentityChanged" in capsys.readouterr().out


def loaded(place: Path) -> Checkpoint:
    """The newest checkpoint as a worker gets it."""
    meta = CheckpointMeta.model_validate_json((newest(place) / "manifest.json").read_text())
    return Checkpoint(meta, {n: (newest(place) / n).read_bytes() for n in meta.files})


def model(observations: int) -> Any:
    import gymnasium
    import stable_baselines3 as sb3
    from gymnasium.wrappers import TransformObservation

    box = gymnasium.spaces.Box(-1, 1, (observations,), np.float32)
    env = TransformObservation(gymnasium.make("Pendulum-v1"), lambda o: o[:observations], box)
    env.action_space = gymnasium.spaces.Box(-1, 1, (1,), np.float32)
    return sb3.PPO("MlpPolicy", env, n_steps=64, batch_size=64, device="cpu")


def narrower(place: Path) -> bytes:
    from safetensors.numpy import load, save

    tensors = load((newest(place) / "tensors.safetensors").read_bytes())
    # Read in any order. Those of the optimizer have the same shapes, and come after the policy's.
    name = min(n for n, t in tensors.items() if t.shape == (64, 2))
    return save({**tensors, name: tensors[name][:, :1].copy()})


def test_tensors_of_other_shapes(place, capsys):
    """Row 74: which tensor, its shape and the one that the model has."""
    spoil(place, "tensors.safetensors", narrower(place))
    text = refused(place, capsys, "resume", "broken")
    for word in (
        f"the checkpoint of {RUN} at step 192: tensors.safetensors",
        "0.weight",
        "[64, 1]",
        "[64, 2]",
        "delete the folder",
    ):
        assert word in text


def test_another_network_that_was_allowed(place, capsys):
    """Row 74: a change that ``--allow-change`` cannot make true."""
    network = "learner.args.policy_kwargs={net_arch: [32, 32]}"
    text = refused(place, capsys, "run", "exp.yaml", "--set", network, "--allow-change")
    for word in ("policy_net.0.weight", "[64, 2]", "[32, 2]"):
        assert word in text


def test_a_simulator_with_other_spaces_is_refused_at_a_resume(place, capsys, monkeypatch):
    """Row 75: both spaces, and where the world is named."""
    (place / "dry_world.py").write_text(
        WORLD.replace("(2,)", "(3,)").replace("np.zeros(2", "np.zeros(3")
    )
    monkeypatch.delitem(sys.modules, "dry_world", raising=False)
    text = refused(place, capsys, "run", "exp.yaml", "--allow-change")
    for word in ("the observation space", "(2,)", "(3,)", "simulator.id", f"checkpoint of {RUN}"):
        assert word in text
    monkeypatch.delitem(sys.modules, "dry_world", raising=False)


def test_a_worker_refuses_them_too(place):
    """Rows 74 and 75 where the driver's machine could not tell; it is not tried again."""
    from drillyard.learners.resumable import restore, tree_of

    whole = loaded(place)
    assert not list(examine(whole.files))
    with pytest.raises(SpaceMismatch) as caught:
        tree_of(whole, model(3))
    assert "(2,)" in str(caught.value) and "(3,)" in str(caught.value)
    older = CheckpointMeta(**{**whole.meta.model_dump(), "info": {}})
    tree = tree_of(Checkpoint(older, whole.files), model(3))
    with pytest.raises(CheckpointRefused) as refusal:
        restore(whole, model(3), tree, observations=False)
    assert "policy_net.0.weight" in str(refusal.value)
    assert "[64, 2]" in str(refusal.value) and "[64, 3]" in str(refusal.value)
    assert not refusal.value.retryable
    same = model(2)
    same._setup_learn(64)
    restore(whole, same, tree_of(whole, same), observations=False)
    assert same.num_timesteps == 192


def test_other_major_versions(place, capsys):
    """Row 69."""
    record = place / "store/broken/experiment.json"
    whole = json.loads(record.read_text())
    whole["versions"] |= {"torch": "1.13.1", "numpy": whole["versions"]["numpy"]}
    record.write_text(json.dumps(whole))
    text = refused(place, capsys, "resume", "broken")
    assert "torch: 1.13.1 -> 2." in text and "numpy" not in text
    assert "--allow-change" in text


def test_changed_settings_are_shown_with_their_lines(place, capsys):
    """Row 68."""
    file = place / "exp.yaml"
    file.write_text(FILE.replace("gamma: 0.9", "gamma: 0.8"))
    text = refused(place, capsys, "run", "exp.yaml")
    assert "learner.args.gamma: 0.9 -> 0.8  (exp.yaml:5)" in text
    assert "--allow-change" in text


def test_an_unknown_name(place, capsys):
    """Row 67."""
    text = refused(place, capsys, "resume", "brokn")
    assert "'brokn'" in text and "did you mean 'broken'" in text


def test_what_is_finished_is_said_with_its_results(place, capsys):
    """Row 70: no error, because the same command again is how one asks."""
    queue = contents(place / "store/done/queue")
    assert main(["resume", "done"]) == 0
    text = capsys.readouterr()
    assert "nothing to do: every run of done is finished" in text.out + text.err
    assert "store/done/report/index.html" in text.out
    assert contents(place / "store/done/queue") == queue
    assert not list((place / "store/done/leases").glob("*/rented.json"))[1:]


def test_a_name_that_is_driven(place, capsys):
    """Rows 44 and 89: two commands on one folder of results; the owner is named."""
    lock = DriverLock(Mailbox(open_store(str(place / "store")), "broken"))
    taken = lock.take(["a", "test"])
    try:
        text = refused(place, capsys, "run", "exp.yaml")
        assert f"process {taken.pid} on {host()}" in text
        for command in (
            "`drillyard status broken`",
            "`drillyard cancel broken`",
            "--name broken-2",
        ):
            assert command in text
        refused(place, capsys, "resume", "broken")
    finally:
        lock.release("done")
