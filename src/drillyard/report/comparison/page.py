"""The page of a comparison: one file without scripts, its pictures and its data."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import drillyard.report.comparison.pictures as pictures
import drillyard.report.comparison.tables as tables
from drillyard.report import location, on_this_machine
from drillyard.report.comparison.model import Candidate, Comparison
from drillyard.report.comparison.pairs import METHOD, pairs_grid
from drillyard.report.drawn import Drawn
from drillyard.report.html import BAD
from drillyard.report.templates import rendered
from drillyard.results import formatting
from drillyard.system.clock import SYSTEM, Clock
from drillyard.system.home import local_home
from drillyard.system.output_files import write_folder
from drillyard.system.safe_names import file_name

SECTIONS = {
    "evaluation": "Final evaluation",
    "learning": "Learning curves",
    "settings": "Settings that differ",
    "time": "Time and cost",
    "where": "Where they are",
    "method": "How they were compared",
}


def default_folder(comparison: Comparison) -> Path:
    """The folder of the page: the same for the same experiments."""
    digest = hashlib.sha256("\n".join(c.place for c in comparison.candidates).encode()).hexdigest()
    name = file_name("-".join(label.replace("/", "-") for label in comparison.labels), limit=60)
    return local_home() / "comparisons" / f"{name}-{digest[:8]}"


def build(comparison: Comparison, out: Path | None = None, *, clock: Clock = SYSTEM) -> Path:
    """Write the page and what lies beside it, over an older one.

    Args:
        comparison: The comparison.
        out: The folder; default one in ``~/.drillyard/comparisons``.
        clock: For the date on the page.

    Returns:
        The page.

    Raises:
        ConfigError, StoreUnavailable: The folder cannot be written.
        UserError: matplotlib is not installed.
    """
    folder = default_folder(comparison) if out is None else out
    write_folder(folder, render(comparison, made_at=clock.now()), "--out")
    return folder / "index.html"


def render(comparison: Comparison, *, made_at: float) -> dict[str, bytes]:
    """Every file of the page, name -> bytes; nothing is written.

    Args:
        comparison: The comparison.
        made_at: Epoch seconds, shown on the page.
    """
    curves = pictures.curves_of(comparison)
    learning = _curves(comparison, curves) if curves else None
    evaluation = _evaluation(comparison) if any(comparison.scores) else None
    files = {
        k: v for d in (learning, evaluation) if d is not None for k, v in d.contents().items()
    }
    document = json.dumps(tables.to_json(comparison), indent=2, ensure_ascii=False)
    page = _html(comparison, learning, evaluation, made_at)
    return {**files, "comparison.json": document.encode(), "index.html": page.encode()}


def _html(
    comparison: Comparison, learning: Drawn | None, evaluation: Drawn | None, made_at: float
) -> str:
    return rendered(
        "comparison.html.j2",
        name=" · ".join(comparison.labels),
        verdict=comparison.verdict,
        meta=_meta(comparison),
        notes=comparison.notes,
        warnings=comparison.warnings,
        sections=[item for item in SECTIONS.items() if item[0] != "learning" or learning],
        measure=comparison.measure,
        bad=BAD,
        evaluation=evaluation,
        scores=comparison.scores_table,
        reasons=[f"{label} is not tested: {why}." for label, why in comparison.untested.items()],
        pairs=pairs_grid(comparison.pairs),
        episodes=tables.episodes_grid(comparison),
        measures=tables.measures_grid(comparison),
        curves=learning,
        settings=tables.settings_grid(comparison),
        effort=tables.effort_grid(comparison),
        where=[(c.label, c.place, _link(c)) for c in comparison.candidates],
        mlflow=comparison.mlflow,
        method=method(comparison),
        made=formatting.moment(made_at),
    )


def _meta(comparison: Comparison) -> list[str]:
    runs = sum(len(c.results.runs) for c in comparison.candidates)
    return [
        f"{len(comparison.candidates)} compared",
        formatting.plural(runs, "run"),
        f"by {comparison.measure}",
        f"{formatting.plural(len(comparison.settings), 'setting')} differ"
        + ("s" if len(comparison.settings) == 1 else ""),
    ]


def _link(candidate: Candidate) -> str | None:
    """The report of a candidate, where a browser on this machine can open it."""
    if not on_this_machine(candidate.mailbox):
        return None
    path = Path(location(candidate.mailbox))
    return path.resolve().as_uri() if path.is_file() else None


def _evaluation(comparison: Comparison) -> Drawn:
    scores = [s for s in comparison.scores if s is not None]
    decimals = formatting.score_decimals(scores)
    each = "; ".join(f"{s.policy} {formatting.fixed(s.mean_return, decimals)}" for s in scores)
    caption = "Dot: mean. Bar: 95 % interval, all of them at once. Ticks below: each run."
    if any(s.interval is None and len(s.seeds) > 1 for s in scores):
        caption += " Thin line: range of the runs, where there is no interval."
    if any(s.baseline for s in pictures.evaluated(comparison)):
        caption += " Grey: baselines, which are not trained."
    alt = f"Mean {comparison.measure}: {each}."
    picture, table = pictures.evaluation(comparison), pictures.evaluation_csv(comparison)
    return Drawn("evaluation", "Final evaluation", alt, caption, picture, table)


def _curves(comparison: Comparison, curves: pictures.Curves) -> Drawn:
    kind = list(curves)[-1]
    ends = "; ".join(
        f"{label} ends at {formatting.number(curve.mean[-1])}"
        for label, curve in curves[kind].items()
        if curve.mean
    )
    bands = {c.band for by in curves.values() for c in by.values() if c.band}
    caption = "A line is the mean over the runs of one experiment, as far as all of them are."
    if any("interval" in band for band in bands):
        caption += " Band: 95 % interval at that step; the range of the runs where there are two."
    elif bands:
        caption += " Band: range of the runs."
    without = [
        label for label in comparison.labels if all(label not in by for by in curves.values())
    ]
    if without:
        caption += f" No curve yet: {', '.join(without)}."
    alt = f"Learning curves, return over environment steps: {ends}."
    picture, table = pictures.curves(curves, comparison.labels), pictures.curves_csv(curves)
    return Drawn("curves", "Learning curves", alt, caption, picture, table)


def method(comparison: Comparison) -> list[str]:
    """How the candidates were compared, in sentences; only what applies."""
    texts = []
    if comparison.pairs:
        texts.append(
            "Another training: the training runs of two experiments are compared by their mean. "
            "They are not paired, because another training of the one has nothing in common with "
            f"another training of the other. {METHOD} Two experiments with three runs each "
            "cannot be decided."
        )
        texts.append(
            "The probability of improvement is that of a run of the one being higher than a run "
            "of the other, ties one half. A place is what the decided pairs allow."
        )
    else:
        texts.append(
            "A test over trainings needs two experiments with three runs or more each, none of "
            "them chosen by its score. Below that the page shows the values of the runs."
        )
    if comparison.episode_pairs:
        texts.append(
            "The same episodes: both played evaluation episodes with the same seeds and start "
            "values, so their returns are compared episode by episode, each the mean over the "
            "runs. The intervals of all pairs hold at once. A pair is decided from eight "
            "episodes on, where its interval does not hold zero. This compares the policies that "
            "were trained; it does not say what another training would give."
        )
    if not comparison.measure.startswith("return on "):
        texts.append(
            "drillyard does not know whether more of this metric is better, so the page says "
            "higher and lower."
        )
    return texts
