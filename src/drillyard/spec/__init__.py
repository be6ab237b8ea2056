"""The experiment file: ``experiment`` defines its shape, ``load`` reads it."""

from drillyard.spec.experiment import ExperimentSpec

__all__ = ["ExperimentSpec"]
