"""A picture of a simulator before any training: an episode under two policies."""

from __future__ import annotations

from drillyard.evaluation.episodes import Planned, run_baseline
from drillyard.report import training_pictures
from drillyard.report.data import episode_of
from drillyard.report.picture_style import Picture
from drillyard.spec.learning import SimulatorSpec
from drillyard.spec.simulator.lessons import draw_in_order

_SEED = 1


def trial_picture(spec: SimulatorSpec, baseline: str) -> Picture:
    """The same episode under a baseline and at random.

    Args:
        spec: The simulator part of an experiment.
        baseline: What is drawn in colour; ``random`` is grey.

    Raises:
        UserError: The simulator, or the baseline, cannot be used.
        RunFailed: Something is not finite.
    """
    planned = [Planned(0, _SEED, draw_in_order(spec.lesson_of_stage(-1), _SEED, 0))]
    names = dict.fromkeys((baseline, "random"))
    played = {name: run_baseline(name, spec, planned, trajectory=True) for name in names}
    metadata = played[baseline].metadata
    meta = {"units": metadata.get("units", {}), "reference": metadata.get("reference", {})}
    columns = {
        name: {
            column: [row.get(column, float("nan")) for row in play.trajectory]
            for column in play.trajectory[0]
        }
        for name, play in played.items()
    }
    world = "" if spec.wrappers else spec.id
    return training_pictures.episode(episode_of(columns, meta, {}, simulator=world))
