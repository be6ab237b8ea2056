"""Episodes of trained policies as videos: which episodes, and how they are recorded.

If the simulator renders (``rgb_array``), they are mp4 and gif, otherwise a picture of states,
actions and rewards over time. A failure here is reported, and does not affect the result.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from drillyard.agents.base import LoadedPolicy
from drillyard.documents.json_types import JsonObject
from drillyard.evaluation import video_encoding
from drillyard.evaluation.episodes import (
    Act,
    BatchPolicy,
    Observation,
    Planned,
    Played,
    batch_policy,
    run_episodes,
)
from drillyard.simulators.make import make_env
from drillyard.spec.learning import SimulatorSpec

if TYPE_CHECKING:
    from stable_baselines3.common.vec_env import VecEnv

FPS = 30
FOLDER = "videos"
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Take:
    """A recorded episode."""

    episode_return: float
    frames: list[np.ndarray]
    """Empty if the simulator does not render."""
    rows: list[dict[str, float]]
    """The rows of its trajectory."""


@dataclass
class Videos:
    """The resulting files.

    Attributes:
        files: Name -> content.
        problems: Errors for people.
    """

    files: dict[str, bytes] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)

    def add(self, what: str, make: Callable[[], dict[str, bytes]]) -> None:
        """Make files, or record why there are none."""
        try:
            self.files |= make()
        except Exception as error:
            self.problems.append(f"no video of {what}: {type(error).__name__}: {error}")
            log.warning("%s", self.problems[-1])


class EpisodeRecorder:
    """Records episodes of one simulator.

    Args:
        simulator: The simulator.
        deterministic: Act without exploration noise.
    """

    def __init__(self, simulator: SimulatorSpec, deterministic: bool) -> None:
        self._deterministic = deterministic
        self.fps = _fps(simulator)
        if self.fps is not None:
            args = {**simulator.args, "render_mode": "rgb_array"}
            simulator = simulator.model_copy(update={"args": args})
        self._simulator = simulator

    def take(self, policy: LoadedPolicy, planned: Planned) -> Take:
        """Play an episode and record it."""
        camera = _Camera(policy.playing(self._deterministic), looks=self.fps is not None)
        played = run_episodes(
            self._simulator,
            camera,
            [planned],
            normalisation=policy.normalisation,
            trajectory=True,
        )
        return Take(played.episodes[0].episode_return, camera.frames, played.trajectory)

    def files(self, stem: str, takes: dict[str, Take]) -> dict[str, bytes]:
        """One file, or two of different formats, with all takes one after the other.

        Args:
            stem: Their name without an ending.
            takes: Title -> take; if there are several, the titles are written on the frames.
        """
        if self.fps is None:
            return {
                f"{stem}.png": video_encoding.plot({title: t.rows for title, t in takes.items()})
            }
        share = max(1, video_encoding.MAX_FRAMES // len(takes))
        frames = [
            video_encoding.titled(frame, title) if len(takes) > 1 else frame
            for title, take in takes.items()
            for frame in take.frames[:: -(-len(take.frames) // share)]
        ]
        return {
            f"{stem}.{end}": data for end, data in video_encoding.both(frames, self.fps).items()
        }


def film(
    simulator: SimulatorSpec,
    policy: LoadedPolicy,
    deterministic: bool,
    planned: Sequence[Planned],
    played: Played,
    earlier: Callable[[], dict[str, LoadedPolicy]],
) -> Videos:
    """Play three episodes of an evaluation again, and the first with each earlier policy.

    Args:
        simulator: The simulator.
        policy: The policy that plays.
        deterministic: As in the evaluation.
        planned: All episodes of the evaluation.
        played: The results of these episodes.
        earlier: Returns earlier policies of the same training by name, oldest first.

    Returns:
        Files below ``videos/``, and problems.
    """
    videos = Videos()
    try:
        recorder = EpisodeRecorder(simulator, deterministic)
    except Exception as error:
        videos.problems.append(f"no video: {type(error).__name__}: {error}")
        return videos
    for rank, index in _chosen(played).items():
        episode_return = played.episodes[index].episode_return
        stem = f"{FOLDER}/{rank}-episode-{index}-return-{episode_return:.6g}"
        videos.add(f"the {rank} episode", partial(_single, recorder, policy, planned[index], stem))
    videos.add(
        "the checkpoints", lambda: _montage(recorder, {**earlier(), "": policy}, planned[0])
    )
    return videos


def _single(
    recorder: EpisodeRecorder, policy: LoadedPolicy, planned: Planned, stem: str
) -> dict[str, bytes]:
    return recorder.files(stem, {"": recorder.take(policy, planned)})


def _montage(
    recorder: EpisodeRecorder, policies: dict[str, LoadedPolicy], planned: Planned
) -> dict[str, bytes]:
    """The same episode by each policy; nothing if there is only one policy."""
    if len(policies) < 2:
        return {}
    takes = {}
    for title, policy in policies.items():
        take = recorder.take(policy, planned)
        label = title or f"{policy.name.rpartition(':')[2]} policy"
        takes[f"{label}: return {take.episode_return:.6g}"] = take
    return recorder.files(f"{FOLDER}/checkpoints", takes)


def _chosen(played: Played) -> dict[str, int]:
    order = sorted(played.episodes, key=lambda e: (e.episode_return, e.episode))
    places = {"best": -1, "median": (len(order) - 1) // 2, "worst": 0}
    return {rank: order[place].episode for rank, place in places.items()}


def _fps(simulator: SimulatorSpec) -> int | None:
    """Frames per second, None if the simulator does not render."""
    env = make_env(simulator, training=False)
    try:
        metadata = getattr(env.unwrapped, "metadata", None) or {}
        if "rgb_array" not in metadata.get("render_modes", ()):
            return None
        return int(metadata.get("render_fps") or FPS)
    finally:
        env.close()


class _Camera:
    """A ``BatchPolicy`` that records a frame before each action."""

    def __init__(self, inner: BatchPolicy | Act, looks: bool) -> None:
        self._inner, self._looks = batch_policy(inner), looks
        self._venv: VecEnv | None = None
        self.frames: list[np.ndarray] = []

    def bind(self, venv: VecEnv) -> None:
        self._venv = venv
        self._inner.bind(venv)

    def begin(self, copy: int, seed: int, options: JsonObject) -> None:
        self._inner.begin(copy, seed, options)

    def act(self, observations: Observation) -> np.ndarray:
        if self._looks and self._venv is not None and len(self.frames) < video_encoding.MAX_FRAMES:
            self.frames.append(np.asarray(self._venv.get_images()[0], np.uint8))
        return self._inner.act(observations)
