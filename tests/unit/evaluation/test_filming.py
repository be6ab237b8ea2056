"""Videos of evaluation episodes; a failed one costs no result."""

import csv
import io
from itertools import pairwise

import imageio_ffmpeg
import pytest
from PIL import Image

from drillyard.mailbox.records import Phase
from drillyard.testing.phases import OneRun
from drillyard.workloads.rl import RlWorkload
from tests.helpers.specs import small
from tests.unit.policies.test_export import ROLLOUT


def evaluated(folder, simulator, episodes=3, videos=True, steps=64, **train):
    spec = small(
        simulator,
        train={"steps": steps, **train},
        learner={"args": ROLLOUT},
        evaluate={"episodes": episodes, "videos": videos},
    )
    run = OneRun(folder, spec, RlWorkload())
    trained = run.phase(Phase.TRAIN)
    outcome = run.phase(Phase.EVALUATE)
    return outcome, {**run.contents(trained), **run.contents(outcome)}


def frames(data, folder):
    path = folder / "some.mp4"
    path.write_bytes(data)
    return imageio_ffmpeg.count_frames_and_secs(str(path))[0]


def videos(files):
    """Of the evaluation's three episodes."""
    found = {n.removeprefix("videos/"): d for n, d in files.items() if n.startswith("videos/")}
    return {n: d for n, d in found.items() if "/" not in n and not n.startswith("checkpoints.")}


@pytest.mark.heavy
def test_best_median_and_worst_as_mp4_and_gif(tmp_path):
    outcome, files = evaluated(tmp_path, "CartPole-v1")
    found = videos(files)
    assert sorted(n.split("-")[0] for n in found if n.endswith(".mp4")) == [
        "best",
        "median",
        "worst",
    ]
    assert "problems" not in outcome.summary
    rows = csv.DictReader(io.StringIO(files["evaluation/episodes.csv"].decode()))
    lengths = {int(r["episode"]): int(r["length"]) for r in rows if r["policy"] == "agent"}
    for name, data in found.items():
        episode = int(name.split("-")[2])
        if name.endswith(".gif"):
            assert Image.open(io.BytesIO(data)).n_frames > 1
            continue
        assert frames(data, tmp_path) == lengths[episode]


@pytest.mark.heavy
def test_a_simulator_that_does_not_render_is_plotted(tmp_path):
    _, files = evaluated(tmp_path, "cstr")
    found = videos(files)
    assert len(found) == 3 and all(n.endswith(".png") for n in found)
    assert Image.open(io.BytesIO(files["videos/checkpoints.png"])).size[0] >= 1000
    assert all(Image.open(io.BytesIO(d)).size[0] > 500 for d in found.values())


@pytest.mark.heavy
def test_a_failed_video_fails_no_run(tmp_path, monkeypatch):
    def broken(*_):
        raise OSError("no codec")

    monkeypatch.setattr("drillyard.evaluation.video_encoding.mp4", broken)
    outcome, files = evaluated(tmp_path, "CartPole-v1", videos={"every": 2}, checkpoint_every=32)
    assert not any(n.startswith("videos/") for n in files) and "policy_final.safetensors" in files
    assert [p.partition(":")[0] for p in outcome.summary["problems"]] == [
        *(f"no video of the {word} episode" for word in ("best", "median", "worst")),
        "no video of the checkpoints",
    ]
    assert outcome.summary["problems"][0] == "no video of the best episode: OSError: no codec"


@pytest.mark.heavy
def test_every_so_many_training_episodes_and_at_each_checkpoint(tmp_path):
    steps = {"steps": 192, "checkpoint_every": 64}
    outcome, files = evaluated(tmp_path / "a", "CartPole-v1", videos={"every": 2}, **steps)
    assert "problems" not in outcome.summary
    found = [n.split("/")[2].split("-") for n in files if n.startswith("videos/training/")]
    films = sorted({(int(n[1]), int(n[3])) for n in found})
    assert len(films) >= 2 and len(found) == 2 * len(films), "mp4 and gif each"
    assert all(b[0] > a[0] and b[1] > a[1] for a, b in pairwise(films))
    assert all(step % 32 == 0 for step, _ in films), "between two rollouts"
    montage = frames(files["videos/checkpoints.mp4"], tmp_path)
    assert Image.open(io.BytesIO(files["videos/checkpoints.gif"])).n_frames > 1
    # One after the other: more than the longest of them.
    single = max(
        frames(d, tmp_path)
        for n, d in files.items()
        if n.startswith("videos/best") and n.endswith(".mp4")
    )
    assert montage > single
    # Nobody looked at the other one: it learned the same.
    _, unseen = evaluated(tmp_path / "b", "CartPole-v1", videos=False, **steps)
    assert unseen["policy_final.safetensors"] == files["policy_final.safetensors"]


@pytest.mark.parametrize("given", [True, False, {"every": 50}])
def test_videos_are_recorded_as_they_are_written(given):
    from drillyard.spec.learning import EvaluateSpec

    spec = EvaluateSpec(videos=given)
    assert spec.model_dump(mode="json").get("videos", False) == given
    assert EvaluateSpec.model_validate(spec.model_dump()) == spec
