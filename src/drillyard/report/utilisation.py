"""What runs used of their machines while they trained: a table, a picture, and what is wrong."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from drillyard.errors import CorruptObject
from drillyard.mailbox import Mailbox
from drillyard.mailbox.store import ObjectMissing
from drillyard.metrics.streams import read_stream
from drillyard.report.drawn import Drawn
from drillyard.report.picture_style import BLUE, Picture, over_steps, panels, render
from drillyard.results import ExperimentResults, formatting
from drillyard.system.tables import Grid, Table, to_csv
from drillyard.system.utilisation import UsageSample
from drillyard.system.utilisation.monitor import FULL_PERCENT, IDLE_PERCENT, IDLE_S
from drillyard.system.utilisation.sampler import PREFIX

if TYPE_CHECKING:
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
        series = []
        for sample in self.samples:
            percents = _percents(sample["metrics"], panel)
            if percents:
                value = max(percents) if panel == "GPU memory" else sum(percents) / len(percents)
                series.append((sample["step"], value))
        return series

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
    usages = []
    for run in results.runs[:MOST_RUNS]:
        try:
            lines = read_stream(mailbox, run.run, "timing")
        except (CorruptObject, ObjectMissing, ValueError, KeyError) as error:
            warnings.append(f"{run.run}: the use of its machine cannot be read: {error}")
            continue
        if samples := tuple(s for line in lines for s in line.get("usage", ())):
            usages.append(RunUsage(run.run, samples))
    return usages


def grid(usages: Sequence[RunUsage]) -> Grid:
    """One line a run: means, and peaks where a peak is what ends a process."""

    def percent(panel: str) -> Callable[[RunUsage], str | None]:
        def text(usage: RunUsage) -> str | None:
            values = [v for _, v in usage.values(panel)]
            if not values:
                return None
            return f"{max(values) if 'memory' in panel else sum(values) / len(values):.0f} %"

        return text

    def traffic(way: str) -> Callable[[RunUsage], str | None]:
        name = f"{PREFIX}network_{way}_megabytes"
        sizes = {u.run: u.samples[-1]["metrics"].get(name) for u in usages}
        return lambda u: None if (size := sizes[u.run]) is None else f"{size:,.0f} MB"

    table = Table("use", usages).text("run", lambda u: u.run)
    table.number("over", lambda u: formatting.duration(u.seconds))
    for panel in _PANELS:
        table.number(f"{panel}, peak" if "memory" in panel else panel, percent(panel))
    return table.number("received", traffic("receive")).number("sent", traffic("transmit"))


def notes(usages: Sequence[RunUsage]) -> list[str]:
    """What is wrong with the use of machines, in sentences."""
    lines = []
    for usage in usages:
        gpu = [v for _, v in usage.values("GPU")]
        if gpu and usage.seconds >= IDLE_S and sum(gpu) / len(gpu) < IDLE_PERCENT:
            lines.append(
                f"{usage.run}: its GPU was in use {sum(gpu) / len(gpu):.0f} % of the time. More "
                "copies of the simulator, larger batches, several runs on a GPU or no GPU cost "
                "less."
            )
        full = max((v for _, v in usage.values("memory")), default=0.0)
        if full >= FULL_PERCENT:
            lines.append(f"{usage.run}: {full:.0f} % of the memory of its machine were in use.")
    return lines


def section(
    mailbox: Mailbox, results: ExperimentResults, warnings: list[str]
) -> dict[str, Any] | None:
    """What the page shows of it; None without samples. See ``collect`` for the arguments."""
    usages = collect(mailbox, results, warnings)
    if not usages:
        return None
    drawn = Drawn(
        "utilisation",
        "Use of the machines",
        f"Use of the machines of {results.name} in percent, over environment steps.",
        "A sample every 10 s, a line a run: processors and memory of the machine or of its "
        "container, and its GPUs, with what other programs on it used.",
        picture(usages),
        csv(usages),
    )
    return {"grid": grid(usages), "notes": notes(usages), "picture": drawn}


def csv(usages: Sequence[RunUsage]) -> str:
    """Long form: one line a run, sample and metric."""
    rows = [
        (usage.run, s["step"], s["time"], name, value)
        for usage in usages
        for s in usage.samples
        for name, value in s["metrics"].items()
    ]
    return to_csv(("run", "step", "time", "metric", "value"), rows)


def picture(usages: Sequence[RunUsage]) -> Picture:
    """Small multiples over environment steps, as wide as the learning curves: a line a run."""
    drawn = [p for p in _PANELS if any(usage.values(p) for usage in usages)]

    def draw() -> Figure:
        figure, axes = panels(len(drawn), len(drawn), 2.2, pads=(0.04, 0.12), sharey=True)
        for axis, panel in zip(axes, drawn, strict=True):
            for usage in usages:
                steps, values = zip(*(usage.values(panel) or [(0, float("nan"))]), strict=True)
                axis.plot(steps, values, color=BLUE, linewidth=0.9, alpha=0.6)
            axis.set_title(panel, pad=4)
            axis.set_ylim(0, 100)
            over_steps(axis, 3)
        axes[0].set_ylabel("percent in use")
        return figure

    return render(draw, "us")
