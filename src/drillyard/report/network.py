"""The policy's network, drawn from the shapes of its stored weights: PyTorch is not needed."""

from __future__ import annotations

import dataclasses
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from drillyard.mailbox import Mailbox
from drillyard.mailbox.records import Phase
from drillyard.report.picture_style import BLUE, INK, MUTED, WIDTH_IN, Picture, render, subplots
from drillyard.results.fingerprint import safetensors
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


def of_run(mailbox: Mailbox, run: str) -> dict[str, list[Layer]]:
    """The network of a run's policy; {} where no weights are stored as safetensors.

    Args:
        mailbox: The experiment.
        run: The run.
    """
    accepted = mailbox.accepted(run, Phase.TRAIN)
    manifest = None if accepted is None else mailbox.manifest(accepted)
    for name in FILES if manifest is not None else ():
        entry = manifest.files.get(name) if manifest is not None else None
        if manifest is not None and entry is not None and entry.size <= MAX_BYTES:
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
    found: dict[str, list[tuple[int, Layer]]] = {}
    for name, shape in shapes.items():
        match = _WEIGHT.match(name)
        if match is None or len(shape) not in (2, 4) or "target" in name:
            continue
        kernel = "x".join(map(str, shape[2:]))
        parameters = 1
        for size in shape:
            parameters *= size
        layer = Layer(name.removesuffix(".weight"), shape[1], shape[0], parameters, kernel)
        found.setdefault(match["part"], []).append((int(match["number"] or 0), layer))
    rows = {part: [one for _, one in sorted(own, key=_order)] for part, own in found.items()}
    for part, head in _HEADS.items():
        if part in rows and head in rows:
            rows[part] += rows.pop(head)
    return rows


def _order(numbered: tuple[int, Layer]) -> int:
    return numbered[0]


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
