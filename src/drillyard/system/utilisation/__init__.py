"""How much of a machine is in use: processors, memory, GPUs, disk and network.

The names and units are those of MLflow's system metrics, so that MLflow
shows them under *System metrics*. In a container, processors and memory are counted against the
limits of its control group, which are what ends a process, and not against the machine.
"""

from drillyard.system.utilisation.monitor import EVERY_S, Monitor, UsageSample
from drillyard.system.utilisation.sampler import Sampler, Usage, in_words

__all__ = ["EVERY_S", "Monitor", "Sampler", "Usage", "UsageSample", "in_words"]
