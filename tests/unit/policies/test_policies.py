"""Stored policies: evaluated, compared, promoted, imported."""

import io
import json
import pickle
import re
import shutil
import tracemalloc
import zipfile

import numpy as np
import pytest
import torch

from drillyard.agents.trained import trained
from drillyard.cli.main import main
from drillyard.errors import ConfigError, NotFound, SpaceMismatch
from drillyard.learners.import_sb3 import import_zip
from drillyard.mailbox.mailbox import sha256_hex
from drillyard.policies import assess, bundles
from drillyard.policies.export import export
from drillyard.policies.loaded import of_bundle, of_run
from drillyard.policies.promotion import champion, fetch, promote
from drillyard.spec.learning import SimulatorSpec
from tests.unit.policies.test_export import ROLLOUT, SMALL, trained_run

pytestmark = pytest.mark.heavy


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("policies")
    return trained_run(folder, "ppo", "cstr", ROLLOUT, ["normalize"], evaluated=True)


@pytest.fixture(scope="module")
def made(run, tmp_path_factory):
    folder = tmp_path_factory.mktemp("bundles")
    with trained(run.mailbox, run.run) as policy:
        for form in ("onnx", "safetensors"):
            export(policy, form, folder / form)
    return folder


def test_a_run_and_its_bundles_play_the_same(run, made):
    planned = assess.plan({"Cref_signal": {"values": [1, 2]}}, 4, 7)
    assert [p.options["Cref_signal"] for p in planned] == [1, 2, 1, 2]
    with trained(run.mailbox, run.run) as policy:
        own = [e.episode_return for e in assess.play(of_run(policy), planned).episodes]
    for form in ("onnx", "safetensors"):
        found = of_bundle(made / form)
        other = [e.episode_return for e in assess.play(found, planned).episodes]
        assert other == pytest.approx(own, abs=1e-2), form
    with pytest.raises(SpaceMismatch, match=r"\(4,\)"):
        assess.play(of_bundle(made / "onnx"), planned, SimulatorSpec(id="building"))


def test_the_command_evaluates_beside_baselines(made, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    words = ["evaluate", str(made / "onnx"), "--episodes", "3", "--baseline", "hold", "--json"]
    assert main(words) == 0
    told = json.loads(capsys.readouterr().out)
    assert set(told["policies"]) == {"agent", "hold"}
    assert all(p["n_episodes"] == 3 for p in told["policies"].values())
    assert main(words[:-1]) == 0
    assert "new episodes (seed 1)" in capsys.readouterr().out
    assert main(["evaluate", str(made / "onnx"), "--simulator", "building"]) == 2
    shutil.copytree(made / "onnx", tmp_path / "gone")
    (tmp_path / "gone/policy.onnx").unlink()
    assert main(["evaluate", "gone"]) == 1  # weights are missing: said, not played at random
    assert "policy.onnx is missing" in capsys.readouterr().err


def test_the_champion_changes_only_for_a_better_one(made, tmp_path, monkeypatch, capsys):
    import mlflow  # takes two seconds
    import pandas

    monkeypatch.chdir(tmp_path)
    uri = f"sqlite:///{tmp_path / 'registry.db'}"
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)  # the address alone must do
    settings = {"episodes": 8, "seed": 3, "margin": 0.0, "rarest": 0.4}
    first = promote(made / "onnx", "reactor", uri, **settings)
    assert first.promoted and first.champion is None and first.version == 1
    again = promote(made / "onnx", "reactor", uri, **settings)
    assert not again.promoted and again.champion == 1 and again.version == 1, "the same policy"
    # Another policy, that acts alike: no better than the champion, and better than it minus one.
    shutil.copytree(made / "onnx", tmp_path / "other")
    index, _ = bundles.read(made / "onnx")
    weights = tmp_path / "other/policy_final.safetensors"
    weights.write_bytes(weights.read_bytes() + b" ")
    index["files"][weights.name]["sha256"] = sha256_hex(weights.read_bytes())
    (tmp_path / "other/bundle.json").write_text(json.dumps(index))
    second = promote(tmp_path / "other", "reactor", uri, **settings)
    assert not second.promoted and second.champion == 1 and second.comparison.difference == 0
    client = mlflow.MlflowClient(uri)
    assert champion(client, "reactor") == 1
    better = promote(tmp_path / "other", "reactor", uri, **{**settings, "margin": -1.0})
    assert better.promoted and better.comparison.interval is None  # all alike
    assert champion(client, "reactor") == second.version == better.version == 2
    assert len(client.search_model_versions("name='reactor'")) == 2
    source = client.get_model_version("reactor", "2").run_id
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    decisions = [f.path for f in client.list_artifacts(source, "decisions")]
    told = [json.loads(mlflow.artifacts.load_text(f"runs:/{source}/{d}")) for d in decisions]
    assert json.loads(json.dumps(better.to_json())) in told
    assert not (tmp_path / "mlruns").exists(), "files lie beside the database"
    index, _ = bundles.read(fetch("models:/reactor@champion", uri, tmp_path / "got"))
    assert index["run"] == "t0001-s3"
    # The same model for `mlflow models serve` and endpoints: no pickle in it, named values.
    model = mlflow.pyfunc.load_model("models:/reactor@champion")
    states = pandas.DataFrame([{"Tr": 300.0, "Cr": 8.5, "Cref": 2.0, "Tc": 240.0}] * 2)
    assert [list(row) for row in model.predict(states)] == [["Tc_adjust"]] * 2
    assert not list((tmp_path / "got").rglob("*.pkl"))
    # It is evaluated and served by its name, too, and MLflow says nothing on the way.
    capsys.readouterr()
    assert main(["evaluate", "models:/reactor@champion", "--episodes", "2"]) == 0
    said = capsys.readouterr()
    assert "2 new episodes" in said.out and not said.err
    assert main(["serve", "models:/nobody@champion"]) == 2
    words = ["promote", str(made / "onnx"), "--name", "reactor", "--tracking", uri]
    assert main([*words, "--episodes", "5", "--margin", "-1"]) == 0
    said = capsys.readouterr().out
    assert "not promoted: 5 episodes show a failure of one in 50 with 10 % probability" in said
    assert "worst tenth of the episodes: " in said and "version 2 remains champion" in said
    # A training begins with the champion.
    from drillyard.learners.warm_start import find

    assert find("models:/reactor@champion", None) == bundles.read(tmp_path / "other")[1]
    with pytest.raises(NotFound, match="no model models:/nobody@champion"):
        find("models:/nobody@champion", None)


def zip_of(path, tensors, more=b""):
    data = io.BytesIO()
    torch.save(tensors, data)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("policy.pth", data.getvalue())
        archive.writestr("data", more)


def test_a_zip_becomes_a_bundle_and_runs_nothing(run, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)

    class Bomb:
        def __reduce__(self):
            return (open, (str(tmp_path / "exploded"), "w"))

    with trained(run.mailbox, run.run) as policy:
        network = policy.policy.act.policy
    zip_of(tmp_path / "model.zip", network.state_dict(), pickle.dumps(Bomb()))
    args = json.dumps(SMALL)
    words = ["import", "model.zip", "--algorithm", "ppo", "--simulator", "cstr"]
    assert main([*words, "--args", args, "--out", "imported"]) == 0, capsys.readouterr().err
    seen = np.zeros((1, 4), np.float32)
    playing = of_bundle(tmp_path / "imported").player(True)
    playing.bind(type("Copies", (), {"num_envs": 1})())
    assert np.array_equal(playing.act(seen)[0], policy.policy(seen[0]))
    assert main([*words, "--out", "other"]) == 2
    assert "has another network" in capsys.readouterr().err
    zip_of(tmp_path / "bomb.zip", {"weights": Bomb()})
    with pytest.raises(ConfigError, match=r"without running code.*pickles more than tensors"):
        import_zip(tmp_path / "bomb.zip", "ppo", SimulatorSpec(id="cstr"), SMALL, tmp_path / "b")
    assert not (tmp_path / "exploded").exists() and not (tmp_path / "b").exists()


@pytest.mark.parametrize(
    ("members", "words"),
    [
        ({"policy.pth": bytes(400_000_000)}, "unpacks to 400 MB"),
        ({"policy.pth": b"", "../../.bashrc": b""}, "the path '../../.bashrc' leads out of it"),
        ({"policy.pth": b"", "/etc/cron.d/x": b""}, "leads out of it"),
        ({"policy.pth": b"", "C:\\x": b""}, "leads out of it"),
        ({f"{n}": b"" for n in range(2000)}, "2,000 files"),
    ],
)
def test_a_zip_that_is_a_trap_is_refused_before_it_is_unpacked(tmp_path, members, words):
    path = tmp_path / "trap.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    tracemalloc.start()
    try:
        with pytest.raises(ConfigError, match=re.escape(words)):
            import_zip(path, "ppo", SimulatorSpec(id="cstr"), SMALL, tmp_path / "bundle")
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 20_000_000, "it was unpacked"
    assert not (tmp_path / "bundle").exists()


def test_a_trap_inside_the_tensors_is_refused(tmp_path):
    # policy.pth is a zip as well, which torch unpacks by itself.
    inner = io.BytesIO()
    with zipfile.ZipFile(inner, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data/0", bytes(400_000_000))
    with zipfile.ZipFile(tmp_path / "trap.zip", "w") as archive:
        archive.writestr("policy.pth", inner.getvalue())
    with pytest.raises(ConfigError, match=r"policy\.pth.*unpacks to 400 MB"):
        import_zip(tmp_path / "trap.zip", "ppo", SimulatorSpec(id="cstr"), SMALL, tmp_path / "b")
