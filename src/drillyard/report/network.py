"""The policy's network, drawn from the shapes of its stored weights: PyTorch is not needed."""

from __future__ import annotations

import dataclasses
import math
import re
from dataclasses import dataclass
from operator import itemgetter
from typing import TYPE_CHECKING

from drillyard.errors import CorruptObject
from drillyard.mailbox import Mailbox
from drillyard.mailbox.records import Phase
from drillyard.mailbox.store import ObjectMissing
from drillyard.report.drawn import Drawn
from drillyard.report.picture_style import BLUE, INK, MUTED, WIDTH_IN, Picture, render, subplots
from drillyard.results.fingerprint import safetensors
from drillyard.results.model import ExperimentResults
from drillyard.system.tables import to_csv

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FILES = ("policy_best.safetensors", "policy_final.safetensors")
MAX_BYTES = 64 << 20
_HEADS = {
    "mlp_extractor.policy_net": "action_net",
    "mlp_extractor.value_net": "value_net",
    "actor.latent_pi": "actor.mu",
}
"""Stable-Baselines3's names of layers -> of the one that follows them."""
_WEIGHT = re.compile(r"(?P<part>.+?)(\.(?P<number>\d+))?\.weight\Z")


@dataclass(frozen=True, slots=True)
class Layer:
    """A layer with weights.

    Attributes:
        name: As the policy names it.
        inputs: Values, or channels of an image, that go in.
        outputs: That come out.
        parameters: Weights, without the bias.
        kernel: Size of a convolution's kernel, for example ``8x8``; empty for a dense layer.
    """

    name: str
    inputs: int
    outputs: int
    parameters: int
    kernel: str


def section(mailbox: Mailbox, results: ExperimentResults, warnings: list[str]) -> Drawn | None:
    """The network of the first policy that can be read; None without one.

    Args:
        mailbox: The experiment.
        results: Its runs.
        warnings: Gets a sentence about a network that cannot be drawn.
    """
    for run in results.runs if results.learns else ():
        try:
            rows = _of_run(mailbox, run.run)
        except (CorruptObject, ObjectMissing, ValueError) as error:
            warnings.append(f"{run.run}: its network cannot be drawn: {error}")
            return None
        if rows:
            return Drawn(
                "network",
                "Network of the policy",
                "The layers of the policy's network, and how many values each of them gives to "
                "the next.",
                "How many values go into each layer and come out of it; in brackets: a "
                "convolution.",
                picture(rows),
                csv(rows),
            )
    return None


def _of_run(mailbox: Mailbox, run: str) -> dict[str, list[Layer]]:
    """The network of a run's policy; {} where no weights are stored as safetensors."""
    accepted = mailbox.accepted(run, Phase.TRAIN)
    if accepted is not None:
        manifest = mailbox.manifest(accepted)
        for name in FILES:
            if name in manifest.files and manifest.files[name].size <= MAX_BYTES:
                return layers(mailbox.read_file(manifest, name))
    return {}


def layers(data: bytes) -> dict[str, list[Layer]]:
    """Each row of layers by its name, in the order of the data through it.

    Args:
        data: A safetensors file.

    Raises:
        CorruptObject: It is another file.
    """
    shapes = {name: entry["shape"] for name, entry in safetensors(data)[0].items()}
    parts: dict[str, list[tuple[int, Layer]]] = {}
    for name, shape in shapes.items():
        match = _WEIGHT.match(name)
        if match is None or len(shape) not in (2, 4) or "target" in name:
            continue
        kernel = "x".join(map(str, shape[2:]))
        name = name.removesuffix(".weight")
        layer = Layer(name, shape[1], shape[0], math.prod(shape), kernel)
        parts.setdefault(match["part"], []).append((int(match["number"] or 0), layer))
    rows = {
        part: [layer for _, layer in sorted(numbered, key=itemgetter(0))]
        for part, numbered in parts.items()
    }
    for part, head in _HEADS.items():
        if part in rows and head in rows:
            rows[part] += rows.pop(head)
    return rows


def picture(rows: dict[str, list[Layer]]) -> Picture:
    """A line of boxes for each row of layers, with the number of values between them.

    Args:
        rows: From ``layers``; not empty.
    """

    def draw() -> Figure:
        longest = max(len(row) for row in rows.values())
        figure, axis = subplots(figsize=(WIDTH_IN, 0.3 + 0.75 * len(rows)))
        for y, (part, row) in enumerate(rows.items()):
            axis.text(-0.4, y - 0.42, part, color=MUTED, fontsize=8.5, va="center")
            for x, size in enumerate([row[0].inputs, *(layer.outputs for layer in row)]):
                layer = row[x - 1] if x else None
                text = f"{size:,}" + (f" ({layer.kernel})" if layer and layer.kernel else "")
                axis.text(
                    x,
                    y,
                    text,
                    ha="center",
                    va="center",
                    color=INK,
                    bbox={
                        "boxstyle": "round,pad=0.4",
                        "facecolor": "none",
                        "edgecolor": BLUE if x else MUTED,
                    },
                )
                if x:
                    axis.annotate(
                        "",
                        (x - 0.28, y),
                        (x - 0.72, y),
                        arrowprops={"arrowstyle": "->", "color": MUTED},
                    )
        axis.set_xlim(-0.5, longest + 0.5)
        axis.set_ylim(len(rows) - 0.5, -0.75)
        axis.axis("off")
        return figure

    return render(draw, "nn")


def csv(rows: dict[str, list[Layer]]) -> str:
    """One line a layer."""
    return to_csv(
        ("row", "layer", "inputs", "outputs", "weights", "kernel"),
        [(part, *dataclasses.astuple(layer)) for part, row in rows.items() for layer in row],
    )
