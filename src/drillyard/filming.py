"""Videos of the best, the median and the worst episode of an evaluation.

Where the simulator renders (``rgb_array``) they are mp4 and gif, elsewhere a picture of states,
actions and rewards over time. Whatever fails here is said, and costs no result.
"""

from __future__ import annotations

import io
import logging
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from drillyard.episodes import Planned, Played, run_episodes
from drillyard.learners.base import LoadedPolicy
from drillyard.simulators.make import make_env
from drillyard.spec.learning import SimulatorSpec

MAX_FRAMES = 1000
FPS = 30
log = logging.getLogger(__name__)


def film(
    simulator: SimulatorSpec, policy: LoadedPolicy, deterministic: bool,
    planned: Sequence[Planned], played: Played,
) -> tuple[dict[str, bytes], list[str]]:  # fmt: skip
    """Play three episodes of an evaluation again, and keep what they look like.

    Args:
        simulator: The world.
        policy: Whose episodes they are.
        deterministic: As in the evaluation.
        planned: All of its episodes.
        played: How they ended.

    Returns:
        (name -> content below ``videos/``, what went wrong).
    """
    files: dict[str, bytes] = {}
    problems: list[str] = []
    try:
        fps = _renders(simulator)
    except Exception as error:
        return {}, [f"no video: {type(error).__name__}: {error}"]
    for word, index in _chosen(played).items():
        stem = f"videos/{word}-episode-{index}-return-{played.episodes[index].episode_return:.6g}"
        try:
            files |= _one(simulator, policy, deterministic, planned[index], stem, fps)
        except Exception as error:
            problems.append(f"no video of the {word} episode: {type(error).__name__}: {error}")
    for problem in problems:
        log.warning("%s", problem)
    return files, problems


def _chosen(played: Played) -> dict[str, int]:
    order = sorted(played.episodes, key=lambda e: (e.episode_return, e.episode))
    places = {"best": -1, "median": (len(order) - 1) // 2, "worst": 0}
    return {word: order[place].episode for word, place in places.items()}


def _renders(simulator: SimulatorSpec) -> int | None:
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

    def __init__(self, inner: Any) -> None:
        self._inner, self._venv = inner, None
        self.frames: list[np.ndarray] = []

    def bind(self, venv: Any) -> None:
        self._venv = venv
        if hasattr(self._inner, "bind"):
            self._inner.bind(venv)

    def begin(self, copy: int, seed: int, options: dict[str, Any]) -> None:
        if hasattr(self._inner, "begin"):
            self._inner.begin(copy, seed, options)

    def act(self, observations: Any) -> np.ndarray:
        if self._venv is not None and len(self.frames) < MAX_FRAMES:
            self.frames.append(np.asarray(self._venv.get_images()[0], np.uint8))
        inner = self._inner
        return np.asarray(
            inner.act(observations) if hasattr(inner, "act") else inner(observations)
        )


def _one(
    simulator: SimulatorSpec, policy: LoadedPolicy, deterministic: bool, planned: Planned,
    stem: str, fps: int | None,
) -> dict[str, bytes]:  # fmt: skip
    playing = policy.playing(deterministic)
    if fps is None:
        played = run_episodes(
            simulator, playing, [planned], normalisation=policy.normalisation, trajectory=True
        )
        return {f"{stem}.png": _picture(played.trajectory)}
    args = {**simulator.args, "render_mode": "rgb_array"}
    camera = _Camera(playing)
    run_episodes(
        simulator.model_copy(update={"args": args}), camera, [planned],
        normalisation=policy.normalisation,
    )  # fmt: skip
    return {f"{stem}.mp4": _mp4(camera.frames, fps), f"{stem}.gif": _gif(camera.frames, fps)}


def _mp4(frames: list[np.ndarray], fps: int) -> bytes:
    import imageio_ffmpeg

    height, width = frames[0].shape[:2]
    with tempfile.TemporaryDirectory(prefix="drillyard-video-") as folder:
        path = Path(folder, "video.mp4")
        writer = imageio_ffmpeg.write_frames(str(path), (width, height), fps=fps)
        writer.send(None)
        for frame in frames:
            writer.send(np.ascontiguousarray(frame))
        writer.close()
        return path.read_bytes()


def _gif(frames: list[np.ndarray], fps: int) -> bytes:
    from PIL import Image

    every = max(1, fps // 15)  # half as smooth, and a fraction of the size
    pictures = []
    for frame in frames[::every]:
        picture = Image.fromarray(frame)
        picture.thumbnail((320, 320))
        pictures.append(picture)
    file = io.BytesIO()
    pictures[0].save(file, "GIF", save_all=True, append_images=pictures[1:], loop=0,
                     duration=int(1000 * every / fps))  # fmt: skip
    return file.getvalue()


def _picture(rows: list[dict[str, float]]) -> bytes:
    from matplotlib.figure import Figure

    columns = list(dict.fromkeys(c for row in rows for c in row if c != "t"))
    groups = [g for p in ("state_", "action_", "reward")
              if (g := [c for c in columns if c.startswith(p)])]  # fmt: skip
    figure = Figure(figsize=(8, 2.2 * len(groups)), layout="constrained")
    axes = figure.subplots(len(groups), 1, sharex=True, squeeze=False)[:, 0]
    for axis, group in zip(axes, groups, strict=True):
        for column in group[:8]:
            axis.plot([r["t"] for r in rows], [r.get(column, np.nan) for r in rows], label=column)
        axis.legend(fontsize=7, loc="upper right")
        axis.grid(alpha=0.3)
    axes[-1].set_xlabel("step")
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=100)
    return file.getvalue()
