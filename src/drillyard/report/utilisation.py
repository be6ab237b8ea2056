"""What runs used of their machines while they trained: a table, a picture, and what is wrong."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from drillyard.errors import CorruptObject
from drillyard.mailbox import Mailbox
from drillyard.mailbox.store import ObjectMissing
from drillyard.metrics.streams import read_stream
from drillyard.report.picture_style import BLUE, WIDTH_IN, Picture, render, subplots
from drillyard.report.simulator_sections import shown
from drillyard.report.training_pictures import short
from drillyard.results import ExperimentResults, formatting
from drillyard.results.csv_tables import to_csv
from drillyard.results.table import Grid
from drillyard.system.utilisation import UsageSample
from drillyard.system.utilisation.monitor import FULL_PERCENT, IDLE_PERCENT, IDLE_S
from drillyard.system.utilisation.sampler import PREFIX

if TYPE_CHECKING:
    from markupsafe import Markup
    from matplotlib.figure import Figure

MOST_RUNS = 100
"""Runs that are read; a study has more."""
CPU, MEMORY = f"{PREFIX}cpu_utilization_percentage", f"{PREFIX}system_memory_usage_percentage"
GPU, GPU_MEMORY = "_utilization_percentage", "_memory_usage_percentage"
_PANELS = ("processors", "memory", "GPU", "GPU memory")


@dataclass(frozen=True, slots=True)
class RunUsage:
    """The samples of a run, oldest first."""

    run: str
    samples: tuple[UsageSample, ...]

    def values(self, panel: str) -> list[tuple[int, float]]:
        """(step, percent) of what a panel shows; of several GPUs the mean, or the fullest."""
        found = []
        for sample in self.samples:
            one = _percents(sample["metrics"], panel)
            if one:
                value = max(one) if panel == "GPU memory" else sum(one) / len(one)
                found.append((sample["step"], value))
        return found

    @property
    def seconds(self) -> float:
        """From the first to the last sample."""
        return self.samples[-1]["time"] - self.samples[0]["time"] if self.samples else 0.0


def _percents(metrics: Mapping[str, float], panel: str) -> list[float]:
    if panel in ("processors", "memory"):
        name = CPU if panel == "processors" else MEMORY
        return [metrics[name]] if name in metrics else []
    ending = GPU if panel == "GPU" else GPU_MEMORY
    return [v for k, v in metrics.items() if k.startswith(f"{PREFIX}gpu_") and k.endswith(ending)]


def collect(mailbox: Mailbox, results: ExperimentResults, warnings: list[str]) -> list[RunUsage]:
    """The samples of each run that has some.

    Args:
        mailbox: The experiment.
        results: Its runs.
        warnings: Gets a sentence for each run whose samples cannot be read.
    """
    found = []
    for run in results.runs[:MOST_RUNS]:
        try:
            lines = read_stream(mailbox, run.run, "timing")
        except (CorruptObject, ObjectMissing, ValueError, KeyError) as error:
            warnings.append(f"{run.run}: the use of its machine cannot be read: {error}")
            continue
        if samples := tuple(s for line in lines for s in line.get("usage", ())):
            found.append(RunUsage(run.run, samples))
    return found


def grid(found: Sequence[RunUsage]) -> Grid:
    """One line a run: means, and peaks where a peak is what ends a process."""
    rows = []
    for usage in found:
        last = usage.samples[-1]["metrics"]
        cells = [usage.run, formatting.duration(usage.seconds)]
        for panel in _PANELS:
            values = [v for _, v in usage.values(panel)]
            peak = "memory" in panel
            number = (max(values) if peak else sum(values) / len(values)) if values else None
            cells.append(formatting.NOTHING if number is None else f"{number:.0f} %")
        for way in ("receive", "transmit"):
            size = last.get(f"{PREFIX}network_{way}_megabytes")
            cells.append(formatting.NOTHING if size is None else f"{size:,.0f} MB")
        rows.append(tuple(cells))
    header = ("run", "over", "processors", "memory, peak", "GPU", "GPU memory, peak")
    return Grid("use", (*header, "received", "sent"), tuple(rows), frozenset(range(1, 8)))


def notes(found: Sequence[RunUsage]) -> list[str]:
    """What is wrong with the use of machines, in sentences."""
    said = []
    for usage in found:
        gpu = [v for _, v in usage.values("GPU")]
        if gpu and usage.seconds >= IDLE_S and sum(gpu) / len(gpu) < IDLE_PERCENT:
            said.append(
                f"{usage.run}: its GPU was in use {sum(gpu) / len(gpu):.0f} % of the time. More "
                "copies of the simulator, larger batches, several runs on a GPU or no GPU cost "
                "less."
            )
        full = max((v for _, v in usage.values("memory")), default=0.0)
        if full >= FULL_PERCENT:
            said.append(f"{usage.run}: {full:.0f} % of the memory of its machine were in use.")
    return said


def section(
    name: str, found: Sequence[RunUsage], pictures: Mapping[str, Picture], markup: type[Markup]
) -> dict[str, Any]:
    """What the page shows of it.

    Args:
        name: The name of the experiment.
        found: The samples.
        pictures: With ``utilisation``.
        markup: What marks text as safe.
    """
    drawn = shown(
        "Use of the machines",
        pictures["utilisation"],
        f"Use of the machines of {name} in percent, over environment steps.",
        "A sample every 10 s, a line a run: processors and memory of the machine or of its "
        "container, and its GPUs.",
        "utilisation",
        markup,
    )
    return {"grid": grid(found), "notes": notes(found), "picture": drawn}


def csv(found: Sequence[RunUsage]) -> str:
    """Long form: one line a run, sample and metric."""
    rows = [
        (usage.run, s["step"], s["time"], name, value)
        for usage in found
        for s in usage.samples
        for name, value in s["metrics"].items()
    ]
    return to_csv(("run", "step", "time", "metric", "value"), rows)


def picture(found: Sequence[RunUsage]) -> Picture:
    """Small multiples over environment steps, as wide as the learning curves: a line a run."""
    panels = [p for p in _PANELS if any(usage.values(p) for usage in found)]

    def draw() -> Figure:
        from matplotlib.ticker import FuncFormatter, MaxNLocator

        figure, axes = subplots(
            1,
            len(panels),
            figsize=(WIDTH_IN, 2.2),
            pads=(0.04, 0.12),
            sharey=True,
            squeeze=False,
        )
        for axis, panel in zip(axes[0], panels, strict=True):
            for usage in found:
                steps, values = zip(*(usage.values(panel) or [(0, float("nan"))]), strict=True)
                axis.plot(steps, values, color=BLUE, linewidth=0.9, alpha=0.6)
            axis.set_title(panel, pad=4)
            axis.set_xlabel("environment steps")
            axis.set_ylim(0, 100)
            axis.xaxis.set_major_locator(MaxNLocator(3))
            axis.xaxis.set_major_formatter(FuncFormatter(lambda x, _: short(x)))
            axis.xaxis.grid(False)
        axes[0][0].set_ylabel("percent in use")
        return figure

    return render(draw, "us")
