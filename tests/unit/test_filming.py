"""Videos of evaluation episodes; a failed one costs no result."""

import csv
import io

import imageio_ffmpeg
import pytest
from PIL import Image

from drillyard.mailbox.records import Phase
from drillyard.spec import ExperimentSpec
from drillyard.testing.phases import OneRun
from drillyard.workloads.rl import RlWorkload
from tests.unit.test_export import ROLLOUT


def evaluated(folder, simulator, episodes=3):
    spec = ExperimentSpec.model_validate({
        "name": "film", "simulator": {"id": simulator}, "train": {"steps": 64},
        "learner": {"algorithm": "ppo", "args": ROLLOUT, "preset": None}, "seeds": [1],
        "evaluate": {"episodes": episodes, "videos": True}, "tracking": {"tensorboard": False},
    })  # fmt: skip
    run = OneRun(folder, spec, RlWorkload())
    run.phase(Phase.TRAIN)
    outcome = run.phase(Phase.EVALUATE)
    return outcome, run.contents(outcome)


def videos(files):
    return {n.split("/")[1]: d for n, d in files.items() if n.startswith("videos/")}


def test_best_median_and_worst_as_mp4_and_gif(tmp_path):
    outcome, files = evaluated(tmp_path, "CartPole-v1")
    found = videos(files)
    assert sorted(n.split("-")[0] for n in found if n.endswith(".mp4")) == [
        "best", "median", "worst"]  # fmt: skip
    assert "problems" not in outcome.summary
    rows = csv.DictReader(io.StringIO(files["evaluation/episodes.csv"].decode()))
    lengths = {int(r["episode"]): int(r["length"]) for r in rows if r["policy"] == "agent"}
    for name, data in found.items():
        episode = int(name.split("-")[2])
        if name.endswith(".gif"):
            assert Image.open(io.BytesIO(data)).n_frames > 1
            continue
        path = tmp_path / name
        path.write_bytes(data)
        assert imageio_ffmpeg.count_frames_and_secs(str(path))[0] == lengths[episode]


def test_a_simulator_that_does_not_render_is_plotted(tmp_path):
    _, files = evaluated(tmp_path, "cstr")
    found = videos(files)
    assert len(found) == 3 and all(n.endswith(".png") for n in found)
    assert all(Image.open(io.BytesIO(d)).size[0] > 500 for d in found.values())


def test_a_failed_video_fails_no_run(tmp_path, monkeypatch):
    def broken(*_):
        raise OSError("no codec")

    monkeypatch.setattr("drillyard.filming._mp4", broken)
    outcome, files = evaluated(tmp_path, "CartPole-v1")
    assert not videos(files) and "evaluation/episodes.json" in files
    assert len(outcome.summary["problems"]) == 3
    assert outcome.summary["problems"][0] == "no video of the best episode: OSError: no codec"


@pytest.mark.parametrize("videos_", [True, False])
def test_without_videos_an_experiment_is_what_it_was(videos_):
    from drillyard.spec.learning import EvaluateSpec

    assert ("videos" in EvaluateSpec(videos=videos_).model_dump()) is videos_
