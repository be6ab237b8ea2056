"""Writes frames as mp4 and gif, and steps as a plot."""

from __future__ import annotations

import io
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

MAX_FRAMES = 1000
_GIF_PIXELS, _GIF_FPS = 320, 15
_PREFIXES = ("state_", "action_", "reward")
_MOST_CURVES = 8

Row = Mapping[str, float]


def both(frames: Sequence[np.ndarray], fps: int) -> dict[str, bytes]:
    """A video in two formats for browsers and pages.

    Args:
        frames: ``(height, width, 3)`` each, bytes.
        fps: Frames per second.

    Returns:
        Ending of the file -> content.
    """
    return {"mp4": mp4(frames, fps), "gif": gif(frames, fps)}


def mp4(frames: Sequence[np.ndarray], fps: int) -> bytes:
    """A video in the format H.264."""
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


def gif(frames: Sequence[np.ndarray], fps: int) -> bytes:
    """A smaller and less smooth video, for pages that cannot play videos."""
    from PIL import Image

    every = max(1, fps // _GIF_FPS)
    pictures = []
    for frame in frames[::every]:
        picture = Image.fromarray(frame)
        picture.thumbnail((_GIF_PIXELS, _GIF_PIXELS))
        pictures.append(picture)
    file = io.BytesIO()
    pictures[0].save(
        file,
        "GIF",
        save_all=True,
        append_images=pictures[1:],
        loop=0,
        duration=int(1000 * every / fps),
    )
    return file.getvalue()


def titled(frame: np.ndarray, title: str) -> np.ndarray:
    """A frame with a line of text in its upper left corner."""
    from PIL import Image, ImageDraw, ImageFont

    picture = Image.fromarray(frame)
    draw = ImageDraw.Draw(picture)
    font = ImageFont.load_default(max(10, frame.shape[0] // 20))
    draw.text((5, 3), title, fill="white", stroke_width=1, stroke_fill="black", font=font)
    return np.asarray(picture)


def plot(episodes: Mapping[str, Sequence[Row]]) -> bytes:
    """States, actions and rewards over steps as PNG, with a column for each episode.

    Args:
        episodes: Title -> rows of a trajectory.
    """
    from matplotlib.figure import Figure

    columns = list(dict.fromkeys(c for rows in episodes.values() for r in rows for c in r))
    groups = [g for p in _PREFIXES if (g := [c for c in columns if c.startswith(p)])]
    figure = Figure(figsize=(max(8, 5 * len(episodes)), 2.2 * len(groups)), layout="constrained")
    grid = figure.subplots(len(groups), len(episodes), sharex="col", sharey="row", squeeze=False)
    for column, (title, rows) in enumerate(episodes.items()):
        for axis, group in zip(grid[:, column], groups, strict=True):
            for name in group[:_MOST_CURVES]:
                axis.plot([r["t"] for r in rows], [r.get(name, np.nan) for r in rows], label=name)
            axis.grid(alpha=0.3)
        grid[0, column].set_title(title, fontsize=9)
        grid[-1, column].set_xlabel("step")
    for axis in grid[:, 0]:
        axis.legend(fontsize=7, loc="upper right")
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=100)
    return file.getvalue()
