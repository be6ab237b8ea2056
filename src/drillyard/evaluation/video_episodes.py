"""Episodes of trained policies as videos: which ones, and how they are looked at.

Where the simulator renders (``rgb_array``) they are mp4 and gif, elsewhere a picture of states,
actions and rewards over time. What fails here is said, and costs no result.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from drillyard.agents.base import LoadedPolicy
from drillyard.evaluation import video_files
from drillyard.evaluation.episodes import Planned, Played, run_episodes
from drillyard.simulators.make import make_env
from drillyard.spec.learning import SimulatorSpec

FPS = 30
FOLDER = "videos"
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Take:
    """An episode that was looked at."""

    episode_return: float
    frames: list[np.ndarray]
    """Empty where the simulator does not render."""
    rows: list[dict[str, float]]
    """Of its trajectory."""


@dataclass
class Videos:
    """What came of it.

    Attributes:
        files: Name -> content.
        problems: What went wrong, in words.
    """

    files: dict[str, bytes] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)

    def add(self, what: str, make: Callable[[], dict[str, bytes]]) -> None:
        """Make files, or note why there are none."""
        try:
            self.files |= make()
        except Exception as error:
            self.problems.append(f"no video of {what}: {type(error).__name__}: {error}")
            log.warning("%s", self.problems[-1])


class EpisodeRecorder:
    """Videos episodes of one simulator.

    Args:
        simulator: The world.
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
        """Play an episode and look at it."""
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
            takes: By title; the titles are written on them where there are several.
        """
        if self.fps is None:
            return {f"{stem}.png": video_files.plot({title: t.rows for title, t in takes.items()})}
        share = max(1, video_files.MAX_FRAMES // len(takes))
        frames = [
            video_files.titled(frame, title) if len(takes) > 1 else frame
            for title, take in takes.items()
            for frame in take.frames[:: -(-len(take.frames) // share)]
        ]
        return {f"{stem}.{end}": data for end, data in video_files.both(frames, self.fps).items()}


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
        simulator: The world.
        policy: Whose episodes they are.
        deterministic: As in the evaluation.
        planned: All of its episodes.
        played: How they ended.
        earlier: Gives policies of the same training, oldest first, by what they are called.

    Returns:
        Files below ``videos/``, and what went wrong.
    """
    made = Videos()
    try:
        studio = EpisodeRecorder(simulator, deterministic)
    except Exception as error:
        made.problems.append(f"no video: {type(error).__name__}: {error}")
        return made
    for word, index in _chosen(played).items():
        stem = (
            f"{FOLDER}/{word}-episode-{index}-return-{played.episodes[index].episode_return:.6g}"
        )
        made.add(
            f"the {word} episode",
            lambda stem=stem, index=index: studio.files(  # type: ignore[misc]
                stem, {"": studio.take(policy, planned[index])}
            ),
        )
    made.add("the checkpoints", lambda: _montage(studio, {**earlier(), "": policy}, planned[0]))
    return made


def _montage(
    studio: EpisodeRecorder, policies: dict[str, LoadedPolicy], planned: Planned
) -> dict[str, bytes]:
    """The same episode by each policy; nothing where there is one only."""
    if len(policies) < 2:
        return {}
    takes = {}
    for title, policy in policies.items():
        take = studio.take(policy, planned)
        shown = title or f"{policy.name.rpartition(':')[2]} policy"
        takes[f"{shown}: return {take.episode_return:.6g}"] = take
    return studio.files(f"{FOLDER}/checkpoints", takes)


def _chosen(played: Played) -> dict[str, int]:
    order = sorted(played.episodes, key=lambda e: (e.episode_return, e.episode))
    places = {"best": -1, "median": (len(order) - 1) // 2, "worst": 0}
    return {word: order[place].episode for word, place in places.items()}


def _fps(simulator: SimulatorSpec) -> int | None:
    """Frames a second, None where it does not render."""
    env = make_env(simulator, training=False)
    try:
        metadata = getattr(env.unwrapped, "metadata", None) or {}
        if "rgb_array" not in metadata.get("render_modes", ()):
            return None
        return int(metadata.get("render_fps") or FPS)
    finally:
        env.close()


class _Camera:
    """A ``BatchPolicy`` that looks before it acts."""

    def __init__(self, inner: Any, looks: bool) -> None:
        self._inner, self._looks, self._venv = inner, looks, None
        self.frames: list[np.ndarray] = []

    def bind(self, venv: Any) -> None:
        self._venv = venv
        if hasattr(self._inner, "bind"):
            self._inner.bind(venv)

    def begin(self, copy: int, seed: int, options: dict[str, Any]) -> None:
        if hasattr(self._inner, "begin"):
            self._inner.begin(copy, seed, options)

    def act(self, observations: Any) -> np.ndarray:
        if self._looks and self._venv is not None and len(self.frames) < video_files.MAX_FRAMES:
            self.frames.append(np.asarray(self._venv.get_images()[0], np.uint8))
        inner = self._inner
        return np.asarray(
            inner.act(observations) if hasattr(inner, "act") else inner(observations)
        )
