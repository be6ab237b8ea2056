"""What a person writes: ``experiment`` is the shape, ``load`` gets there from a file."""

from drillyard.spec.experiment import ExperimentSpec

__all__ = ["ExperimentSpec"]
